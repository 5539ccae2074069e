//! A server drains: it deregisters, sends goaway, finishes running calls, and ends by its drain timeout.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Code, Discovery as _, frame::FrameType};
use rpc_registry::Memory;
use rpc_server::{Server, ServerConfig};
use tests::{
    Task, in_time,
    probe::{Event, Probe, ProbingClient},
    scripted::{Scripted, head, request},
    serving::{PROBE, Serving},
    until_ok,
};
use tokio::net::TcpStream;

use crate::caller;

/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(50);

fn client() -> ProbingClient<Client> {
    ProbingClient::new(caller())
}

#[tokio::test]
async fn drain_finishes_running_calls_and_ends_server() {
    let probe = Probe::default();
    let mut serving = Serving::probe(&probe, ServerConfig::default()).await;
    let client = client();
    let held: Vec<_> =
        (0..10).map(|key| Task::begin(client.hold(key).address(serving.address()).timeout(LONG))).collect();
    probe.until_all(&(0..10).map(Event::Began).collect::<Vec<_>>()).await;
    let mut idle = Scripted::connect(serving.address()).await;
    assert_eq!(idle.ping(1).await.expect("the server accepts the connection").header.frame_type, FrameType::Pong);

    serving.stop();
    let (reason, _) = head(idle.receive_type(FrameType::Goaway).await);
    assert_eq!(reason.status.code(), Code::Unavailable);
    assert_eq!(probe.count(|event| matches!(event, Event::Ended(_) | Event::Dropped(_))), 0);
    probe.release_all();
    for (key, call) in (0..10).zip(held) {
        assert_eq!(call.end().await.expect("the call succeeds"), key);
    }
    serving.ended().await.expect("the server shuts down gracefully");
    assert_eq!(idle.receive().await, None);
}

#[tokio::test]
async fn drain_serves_calls_that_cross_the_goaway() {
    let probe = Probe::default();
    let mut serving = Serving::probe(&probe, ServerConfig::default()).await;
    let mut caller = Scripted::connect(serving.address()).await;
    assert_eq!(caller.ping(1).await.expect("the server accepts the connection").header.frame_type, FrameType::Pong);
    serving.stop();
    caller.receive_type(FrameType::Goaway).await;
    // The caller sends these requests as if it had not read the goaway yet.
    caller.send(&request(1, "test.Probe:1.0/echo", LONG, &"x")).await;
    assert_eq!(head(caller.receive_type(FrameType::Response).await).0.status.code(), Code::Ok);
    caller.send(&request(2, "test.Probe:1.0/hold", LONG, &2_u64)).await;
    probe.until(Event::Began(2)).await;
    probe.release(2);
    assert_eq!(head(caller.receive_type(FrameType::Response).await).0.status.code(), Code::Ok);
    serving.ended().await.expect("the server shuts down gracefully");
}

#[tokio::test]
async fn draining_server_refuses_new_connections() {
    let probe = Probe::default();
    let mut serving = Serving::probe(&probe, ServerConfig::default()).await;
    let address = serving.address();
    let mut caller = Scripted::connect(address).await;
    assert_eq!(caller.ping(1).await.expect("the server accepts the connection").header.frame_type, FrameType::Pong);
    serving.stop();
    caller.receive_type(FrameType::Goaway).await;
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    serving.ended().await.expect("the server shuts down gracefully");
}

#[tokio::test]
async fn drain_without_callers_ends_at_once() {
    let mut serving = Serving::probe(&Probe::default(), ServerConfig::default()).await;
    serving.stop();
    serving.ended().await.expect("the server shuts down gracefully");
}

#[tokio::test]
async fn drain_timeout_drops_running_handlers() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_drain_timeout(Duration::from_millis(200));
    let mut serving = Serving::probe(&probe, config).await;
    let client = client();
    let held = Task::begin(client.hold(1).address(serving.address()).timeout(LONG));
    probe.until(Event::Began(1)).await;
    serving.stop();
    serving.ended().await.expect("the server ends at its drain timeout");
    // The handler ends before the server does.
    assert_eq!(probe.count(|event| *event == Event::Dropped(1)), 1);
    assert_eq!(held.end().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn dropping_server_drops_its_handlers() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let client = client();
    let held = Task::begin(client.hold(1).address(serving.address()).timeout(LONG));
    probe.until(Event::Began(1)).await;
    serving.kill().await;
    probe.until(Event::Dropped(1)).await;
    assert_eq!(held.end().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn server_deregisters_before_it_sends_goaway() {
    let registry = Arc::new(Memory::named("deregistration"));
    let probe = Probe::default();
    let config = ServerConfig::default().with_drain_notice(Duration::from_millis(50));
    let server = Server::builder().service(probe.server()).registry(Arc::clone(&registry) as _).config(config);
    let mut serving = Serving::start(server).await;
    let mut list = registry.watch(&PROBE);
    let is_listed = |count: usize| {
        let mut list = list.clone();
        async move {
            let listed = list.wait_for(|list| list.as_ref().is_some_and(|list| list.len() == count));
            drop(in_time(listed).await.expect("the registry exists"));
        }
    };
    is_listed(1).await;
    let mut caller = Scripted::connect(serving.address()).await;
    assert_eq!(caller.ping(1).await.expect("the server accepts the connection").header.frame_type, FrameType::Pong);
    serving.stop();
    caller.receive_type(FrameType::Goaway).await;
    assert_eq!(list.borrow_and_update().as_ref().map(|list| list.len()), Some(0));
    serving.ended().await.expect("the server shuts down gracefully");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rolling_restart_fails_no_call() {
    let registry = Arc::new(Memory::named("rolling-restart"));
    let (one, other) = (Probe::default(), Probe::default());
    let config = ServerConfig::default().with_drain_notice(Duration::from_millis(50));
    let server = |probe: &Probe| {
        Server::builder().service(probe.server()).registry(Arc::clone(&registry) as _).config(config.clone())
    };
    let mut first = Serving::start(server(&one)).await;
    let _second = Serving::start(server(&other)).await;
    let client = Client::builder().registry(Arc::clone(&registry) as _).config(ClientConfig::default());
    let client = ProbingClient::new(client.build().expect("the config is valid"));
    until_ok(async || client.echo("first".to_owned()).await).await;

    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (client, stop, calls) = (client.clone(), Arc::clone(&stop), Arc::clone(&calls));
            Task::begin(async move {
                while !stop.load(Ordering::Relaxed) {
                    // Not idempotent: the client does not retry a call that may have executed.
                    client.echo("x".to_owned()).await?;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, rpc_core::Error>(())
            })
        })
        .collect();
    let served = |probe: &Probe, more: usize| {
        let (probe, before) = (probe.clone(), probe.events().len());
        async move { probe.until_true(|events| events.len() >= before + more).await }
    };
    for _ in 0..3 {
        served(&one, 200).await;
        served(&other, 200).await;
        let address = first.address();
        first.stop();
        first.ended().await.expect("the server shuts down gracefully");
        served(&other, 200).await;
        first = Serving::start_on(server(&one), address).await;
    }
    served(&one, 200).await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        if let Err(error) = caller.end().await {
            panic!("{error:?} after {} calls", calls.load(Ordering::Relaxed));
        }
    }
}

#[tokio::test]
async fn server_stops_before_its_registration_completes() {
    let registry = Arc::new(Memory::named("stopped-early"));
    let server = Server::builder().service(Probe::default().server()).registry(Arc::clone(&registry) as _);
    let server = server.config(ServerConfig::default().with_drain_notice(Duration::ZERO));
    let server = server.bind("127.0.0.1:0").await.expect("the server binds");
    in_time(server.run_until(std::future::ready(()))).await.expect("the server shuts down gracefully");
    assert_eq!(registry.watch(&PROBE).borrow().as_ref().map(|list| list.len()), Some(0));
}
