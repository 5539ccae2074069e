//! Overload: excess calls wait in a short queue, or the server rejects them before they execute.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_client::Client;
use rpc_core::{Code, Delivery, rpc_service};
use rpc_server::{Server, ServerConfig};
use tests::{
    Task, in_time,
    probe::{Event, Probe, ProbingClient},
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
    wire::{Listening, WireClient},
};
use tokio::time::{Instant, sleep};

use crate::caller;

/// The number of calls in a flood.
const CALLS: u32 = 600;
/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(50);

fn config(running: usize, queued: usize) -> ServerConfig {
    ServerConfig::default().with_max_running(running).with_max_queued(queued).with_queue_time(LONG)
}

fn client() -> ProbingClient<Client> {
    ProbingClient::new(caller())
}

/// Starts calls of `hold`, each on its own connection, and waits until their handlers execute.
async fn running(probe: &Probe, serving: &Serving, keys: std::ops::Range<u64>) -> Vec<Held> {
    let held = keys.clone().map(|key| hold(serving, key)).collect();
    probe.until_all(&keys.map(Event::Began).collect::<Vec<_>>()).await;
    held
}

type Held = Task<Result<u64, rpc_core::Error>>;

fn hold(serving: &Serving, key: u64) -> Held {
    Task::begin(client().hold(key).address(serving.address()).timeout(LONG))
}

#[tokio::test]
async fn server_limits_running_and_queued_calls() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, config(2, 1)).await;
    let held = running(&probe, &serving, 0..2).await;
    let waiting = hold(&serving, 2);
    serving.until_counted(|counts| (counts.running, counts.queued) == (2, 1)).await;

    // One above the limit: the server rejects even a call whose handler would return immediately.
    let error = client().echo("x".to_owned()).address(serving.address()).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{error:?}");
    assert!(error.is_retryable() && error.retry_after().is_some_and(|wait| !wait.is_zero()), "{error:?}");
    assert_eq!(probe.events(), [Event::Began(0), Event::Began(1)], "no other call executed");

    probe.release(0);
    probe.until(Event::Began(2)).await;
    probe.release_all();
    for (key, held) in (0..).zip(held.into_iter().chain([waiting])) {
        assert_eq!(held.end().await.expect("the call succeeds"), key);
    }
    serving.until_counted(|counts| (counts.running, counts.queued, counts.overloaded) == (0, 0, 1)).await;
}

#[tokio::test]
async fn immediate_handlers_need_no_permit() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, config(1, 0)).await;
    let client = client();
    let calls: Vec<_> = (0..500)
        .map(|number| Task::begin(client.echo(number.to_string()).address(serving.address()).timeout(LONG)))
        .collect();
    for call in calls {
        call.end().await.expect("the call succeeds");
    }
    assert_eq!(serving.handle().counts().overloaded, 0);
}

#[tokio::test]
async fn queue_drops_call_at_its_deadline() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, config(1, 2)).await;
    let _held = running(&probe, &serving, 0..1).await;
    let error = client().hold(1).address(serving.address()).timeout(Duration::from_millis(50)).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    serving.until_counted(|counts| counts.queued == 0).await;
    probe.release_all();
    assert_eq!(hold(&serving, 2).end().await.expect("capacity is free again"), 2);
    assert_eq!(probe.count(|event| *event == Event::Began(1)), 0);
}

#[tokio::test]
async fn queue_drops_once_call_at_its_deadline() {
    let probe = Probe::default();
    // The queue time is so long that only the deadline can end the wait.
    let serving = Serving::probe(&probe, config(1, 1).with_queue_time(Duration::from_secs(3600))).await;
    let _held = running(&probe, &serving, 0..1).await;
    let error = client().hold_once(1).address(serving.address()).timeout(Duration::from_millis(50)).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    serving.until_counted(|counts| (counts.queued, counts.late, counts.overloaded) == (0, 1, 0)).await;
    probe.release_all();
    assert_eq!(hold(&serving, 2).end().await.expect("capacity is free again"), 2);
    assert_eq!(probe.count(|event| *event == Event::Began(1)), 0);
}

#[tokio::test]
async fn queue_drops_cancelled_call() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, config(1, 1)).await;
    let _held = running(&probe, &serving, 0..1).await;
    // The client outlives the call, because the server still answers a peer that has only closed its sending side.
    let client = client();
    let waiting = Task::begin(client.hold(1).address(serving.address()).timeout(LONG));
    serving.until_counted(|counts| counts.queued == 1).await;
    waiting.abort().await;
    serving.until_counted(|counts| counts.queued == 0).await;
    // The queue has capacity for another call.
    let other = hold(&serving, 2);
    serving.until_counted(|counts| counts.queued == 1).await;
    probe.release_all();
    assert_eq!(other.end().await.expect("the call succeeds"), 2);
    assert_eq!(probe.count(|event| *event == Event::Began(1)), 0);
}

#[tokio::test]
async fn queue_time_rejects_call_as_retryable() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, config(1, 1).with_queue_time(Duration::from_millis(20))).await;
    let _held = running(&probe, &serving, 0..1).await;
    let error = client().hold(1).address(serving.address()).timeout(LONG).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(serving.handle().counts().queued, 0);
}

#[tokio::test]
async fn drain_serves_queued_calls() {
    let probe = Probe::default();
    let mut serving = Serving::probe(&probe, config(1, 1)).await;
    let held = running(&probe, &serving, 0..1).await;
    let waiting = hold(&serving, 1);
    serving.until_counted(|counts| counts.queued == 1).await;
    serving.stop();
    probe.release_all();
    for (key, held) in (0..).zip(held.into_iter().chain([waiting])) {
        assert_eq!(held.end().await.expect("the call succeeds"), key);
    }
    serving.ended().await.expect("the server shuts down gracefully");
}

#[tokio::test]
async fn cancelled_calls_hold_permits_until_handlers_end() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, config(3, 2)).await;
    let (mut reader, mut writer) = RawPeer::connect(serving.address()).await.into_split();
    let head = RawHead::route("test.Probe:1.0/hold").with(RawHead::TIMEOUT, 60_000_u32.to_be_bytes());
    let flood: Vec<u8> = (1..=CALLS)
        .flat_map(|id| {
            let call = RawFrame::request(id, &head, format!(r#"{{"key":{id}}}"#));
            [call.to_bytes(), RawFrame::empty(RawFrame::CANCEL, id).to_bytes()].concat()
        })
        .collect();
    let answers = async {
        let (mut cancelled, mut rejected) = (0, 0);
        for _ in 0..CALLS {
            match reader.receive().await.expect("the server answers each call").status().0 {
                code if code == Code::Cancelled as u8 => cancelled += 1,
                code if code == Code::ResourceExhausted as u8 => rejected += 1,
                code => panic!("unexpected status code {code}"),
            }
        }
        (cancelled, rejected)
    };
    let ((cancelled, rejected), sent) = tokio::join!(answers, writer.send(&flood));
    sent.expect("the server reads the whole flood");
    assert!(cancelled > 0 && rejected > 0, "{cancelled} calls cancelled, {rejected} rejected");
    serving.until_counted(|counts| (counts.running, counts.queued) == (0, 0)).await;
    let mut live = 0;
    for event in probe.events() {
        match event {
            Event::Began(_) => live += 1,
            _ => live -= 1,
        }
        assert!(live <= 3, "{live} handlers executed at the same time");
    }
    assert_eq!(live, 0);
}

#[tokio::test]
async fn overload_rejects_once_calls() {
    let listening = Listening::start(config(1, 0)).await;
    let (one, other) = (WireClient::new(caller()), WireClient::new(caller()));
    let held = Task::begin(one.once_released().address(listening.address()).timeout(LONG));
    listening.until_waiting(1).await;
    for error in [
        other.once_released().address(listening.address()).await.unwrap_err(),
        other.echo("x".to_owned()).address(listening.address()).await.unwrap_err(),
    ] {
        assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{error:?}");
        assert!(error.retry_after().is_some());
    }
    listening.release();
    assert_eq!(held.end().await.expect("the call succeeds"), "released");
    assert_eq!(other.once_released().address(listening.address()).await.expect("capacity is free"), "released");
}

#[tokio::test]
async fn server_limits_time_of_unattended_calls() {
    let (probe, limit) = (Probe::default(), Duration::from_millis(50));
    let serving = Serving::probe(&probe, ServerConfig::default().with_max_unattended(limit)).await;
    let mut peer = RawPeer::connect(serving.address()).await;
    let begun = Instant::now();
    let head = RawHead::route("test.Probe:1.0/hold")
        .with(RawHead::TIMEOUT, u32::MAX.to_be_bytes())
        .with(RawHead::CALL_FLAGS, [1]);
    peer.send(RawFrame::request(1, &head, r#"{"key":1}"#).to_bytes()).await;
    probe.until(Event::Began(1)).await;
    drop(peer);
    probe.until(Event::Dropped(1)).await;
    assert!(begun.elapsed() >= limit, "the server dropped the handler too early");
}

/// A service whose handler takes a millisecond.
#[rpc_service(name = "test.Slow", version = "1.0")]
trait Slow {
    async fn work(&self);
}

/// Counts its executions.
#[derive(Default)]
struct Worker {
    now: AtomicUsize,
    most: AtomicUsize,
    begun: AtomicUsize,
}

impl Slow for Arc<Worker> {
    async fn work(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        sleep(Duration::from_millis(1)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn overload_rejects_excess_calls_before_execution() {
    let worker = Arc::new(Worker::default());
    let server = Server::builder().service(SlowServer::new(Arc::clone(&worker))).config(config(4, 4));
    let serving = Serving::start(server).await;
    let callers: Vec<_> = (0..4)
        .flat_map(|_| {
            let client = SlowClient::new(caller());
            (0..16).map(move |_| client.clone())
        })
        .map(|client| {
            let address = serving.address();
            Task::begin(async move {
                let mut served = 0;
                for _ in 0..40 {
                    match client.work().address(address).timeout(LONG).await {
                        Ok(()) => served += 1,
                        Err(error) => {
                            assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
                            assert_eq!(error.delivery(), Delivery::NotExecuted, "{error:?}");
                        }
                    }
                }
                served
            })
        })
        .collect();
    let mut served = 0;
    for caller in callers {
        served += caller.end().await;
    }
    let begun = worker.begun.load(Ordering::SeqCst);
    assert_eq!(begun, served, "every executed call was answered");
    assert!((64..64 * 40).contains(&served), "the server answered {served} calls");
    assert!(worker.most.load(Ordering::SeqCst) <= 4);
    in_time(serving.until_counted(|counts| (counts.running, counts.queued) == (0, 0))).await;
}
