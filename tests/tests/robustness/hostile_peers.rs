//! Peers that keep the protocol and mean no good all the same: what they can make a server hold and run is bounded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use rpc_client::Client;
use rpc_core::{Code, rpc_service, transport::TransportConfig};
use rpc_server::{Server, ServerConfig};
use serde::{Deserialize, Serialize};
use tests::{
    Task, in_time,
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
    wire::WireClient,
};
use tokio::sync::watch;

/// More time than anything needs.
const LONG: Duration = Duration::from_secs(50);

const OK: u8 = 0;
const CANCELLED: u8 = 1;
const RESOURCE_EXHAUSTED: u8 = 8;

#[rpc_service(name = "test.Counted", version = "1.0")]
trait Counting {
    /// A result of this many bytes, at once.
    async fn large(&self, length: usize) -> Counted;
    /// Never ends.
    async fn wait(&self);
    /// Once begun, ends when it is let, and not when it is told to.
    async fn stubborn(&self);
}

/// Counts how many of them there are.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    text: String,
    #[serde(skip)]
    _one: Option<One>,
}

#[derive(Debug)]
struct One(watch::Sender<Count>);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    now: usize,
    most: usize,
}

impl One {
    fn new(counts: &watch::Sender<Count>) -> Self {
        counts.send_modify(|count| {
            count.now += 1;
            count.most = count.most.max(count.now);
        });
        Self(counts.clone())
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.send_modify(|count| count.now -= 1);
    }
}

/// Serves [`Counting`]. Clones are the same.
#[derive(Clone, Default)]
struct Counter {
    results: watch::Sender<Count>,
    handlers: watch::Sender<Count>,
    let_go: Arc<(Mutex<bool>, Condvar)>,
}

impl Counting for Counter {
    async fn large(&self, length: usize) -> Counted {
        Counted { text: "x".repeat(length), _one: Some(One::new(&self.results)) }
    }

    async fn wait(&self) {
        let _one = One::new(&self.handlers);
        std::future::pending().await
    }

    async fn stubborn(&self) {
        tokio::task::yield_now().await;
        let _one = One::new(&self.handlers);
        let (let_go, told) = &*self.let_go;
        // Computing for long, it looks at nothing else; but not for ever, or a test that fails would not end.
        tokio::task::block_in_place(|| {
            drop(told.wait_timeout_while(let_go.lock().unwrap(), 2 * LONG, |let_go| !*let_go).unwrap());
        });
    }
}

async fn counter(config: ServerConfig) -> (Counter, Serving, RawPeer) {
    let counter = Counter::default();
    let server = Server::builder().service(CountingServer::new(counter.clone())).config(config);
    let serving = Serving::start(server).await;
    let peer = RawPeer::connect(serving.address()).await;
    (counter, serving, peer)
}

fn call(id: u32, method: &str, arguments: &str) -> RawFrame {
    RawFrame::request(id, &RawHead::route(&format!("test.Counted:1.0/{method}")), arguments)
}

#[tokio::test]
async fn results_do_not_pile_up_for_a_peer_that_does_not_read() {
    let mut transport = TransportConfig::default();
    transport.outbox = 64 << 10;
    let (counter, _serving, peer) = counter(ServerConfig::default().with_transport(transport)).await;
    let (mut reader, mut writer) = peer.into_split();
    let calls: Vec<u8> = (1..=400).flat_map(|id| call(id, "large", r#"{"length":65536}"#).to_bytes()).collect();
    writer.send(&calls).await.unwrap();
    counter.results.subscribe().wait_for(|count| count.most > 0).await.unwrap();
    // None is lost by waiting.
    let mut answers = HashMap::new();
    for _ in 0..400 {
        let answer = reader.receive().await.unwrap();
        assert_eq!(answer.status().0, OK);
        *answers.entry(answer.id).or_insert(0) += 1;
    }
    assert_eq!(answers.len(), 400);
    let most = counter.results.borrow().most;
    assert!(most <= 2, "{most} results waited for room at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cancelled_call_holds_its_place_until_its_handler_has_really_ended() {
    let (counter, _serving, mut peer) = counter(ServerConfig::default().with_max_in_flight(1)).await;
    peer.send(call(1, "stubborn", "{}").to_bytes()).await;
    let mut handlers = counter.handlers.subscribe();
    in_time(handlers.wait_for(|count| count.now == 1)).await.unwrap();
    let cancelled = peer.ask(&RawFrame::empty(RawFrame::CANCEL, 1)).await;
    assert_eq!((cancelled.id, cancelled.status().0), (1, CANCELLED), "its caller is told at once");
    let refused = peer.ask(&call(2, "large", r#"{"length":1}"#)).await;
    assert_eq!((refused.id, refused.status().0), (2, RESOURCE_EXHAUSTED), "and its place is not free");
    *counter.let_go.0.lock().unwrap() = true;
    counter.let_go.1.notify_all();
    in_time(async {
        while peer.ask(&call(3, "large", r#"{"length":1}"#)).await.status().0 != OK {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_cancels_runs_no_more_than_may_run() {
    const CALLS: u32 = 5_000;
    let (counter, serving, peer) = counter(ServerConfig::default().with_max_in_flight(8)).await;
    let (mut reader, mut writer) = peer.into_split();
    let flood = Task::begin(async move {
        for id in 1..=CALLS {
            let both = [call(id, "wait", "{}").to_bytes(), RawFrame::empty(RawFrame::CANCEL, id).to_bytes()].concat();
            writer.send(&both).await.unwrap();
        }
        writer
    });
    let mut bystander = RawPeer::connect(serving.address()).await;
    let mut answers = HashMap::new();
    for _ in 0..CALLS {
        let answer = reader.receive().await.unwrap();
        let code = answer.status().0;
        assert!([CANCELLED, RESOURCE_EXHAUSTED].contains(&code), "{code}");
        *answers.entry(answer.id).or_insert(0) += 1;
        if answer.id % 100 == 0 {
            assert_eq!(bystander.ask(&call(answer.id, "large", r#"{"length":1}"#)).await.status().0, OK);
        }
    }
    assert_eq!((answers.len(), answers.values().max()), (CALLS as usize, Some(&1)), "one answer each");
    let mut handlers = counter.handlers.subscribe();
    let most = in_time(handlers.wait_for(|count| count.now == 0)).await.unwrap().most;
    assert!((1..=8).contains(&most), "{most} handlers ran at once");
    drop(flood.end().await);
}

/// One that closed its sending side is owed its answers; one that is gone is not, and says as little.
#[tokio::test]
async fn a_peer_that_is_gone_holds_no_connection_for_the_sake_of_its_calls() {
    let config = ServerConfig::default().with_read_idle(Duration::from_millis(50));
    let (counter, _serving, mut peer) = counter(config).await;
    let head = RawHead::route("test.Counted:1.0/wait").with(RawHead::TIMEOUT, u32::MAX.to_be_bytes());
    peer.send(RawFrame::request(1, &head, "{}").to_bytes()).await;
    let mut handlers = counter.handlers.subscribe();
    in_time(handlers.wait_for(|count| count.now == 1)).await.unwrap();
    peer.finish_sending().await;
    for _ in 0..3 {
        assert_eq!(peer.receive().await, RawFrame::empty(RawFrame::PING, 0), "the server asks whether it is there");
    }
    assert_eq!(handlers.borrow().now, 1, "and goes on with its call");
    drop(peer);
    in_time(handlers.wait_for(|count| count.now == 0)).await.unwrap();
}

/// Both ends have more to say than finds room on the way: neither may wait for the other for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_calls_and_answers_do_not_block_each_other() {
    let server = Server::builder().service(tests::wire::WireServer::new(tests::wire::Wired::default()));
    let serving = Serving::start(server).await;
    let wire = WireClient::new(Client::builder().build().unwrap());
    let text = "x".repeat(4 << 20);
    let calls: Vec<_> =
        (0..32).map(|_| Task::begin(wire.echo(text.clone()).address(serving.address()).timeout(LONG))).collect();
    for call in calls {
        assert_eq!(call.end().await.unwrap().len(), text.len());
    }
}

/// Of a server that is out of file descriptors.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_file_descriptors_a_server_lives_and_serves_whom_it_has() {
    use rustix::process::Resource;
    use tests::besieged::Besieged;

    let mut server = Besieged::start(env!("CARGO_BIN_EXE_tests-besieged"), &[]).await;
    let mut inside = RawPeer::connect(server.address()).await;
    let ping = RawFrame::empty(RawFrame::PING, 1);
    assert_eq!(inside.ask(&ping).await.kind, RawFrame::PONG);
    // Two more, and not a third.
    server.limit(Resource::Nofile, server.descriptors() + 2);
    let mut last = Vec::new();
    for _ in 0..2 {
        let mut peer = RawPeer::connect(server.address()).await;
        assert_eq!(peer.ask(&ping).await.kind, RawFrame::PONG);
        last.push(peer);
    }
    let mut outside = RawPeer::connect(server.address()).await;
    outside.send(ping.to_bytes()).await;
    // The loop fails again and again meanwhile; those whom it let in do not notice.
    for _ in 0..50 {
        assert_eq!(inside.ask(&ping).await.kind, RawFrame::PONG);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.assert_lives();
    drop(last);
    assert_eq!(in_time(outside.receive()).await.kind, RawFrame::PONG, "it had only to wait");
}

/// A peer over the limit learns why before it is closed, and sends no call that might have run.
#[tokio::test]
async fn a_client_over_the_connection_limit_knows_that_its_call_did_not_run() {
    let (_counter, serving, mut inside) = counter(ServerConfig::default().with_max_connections(1)).await;
    assert_eq!(inside.ask(&RawFrame::empty(RawFrame::PING, 1)).await.kind, RawFrame::PONG);
    for _ in 0..20 {
        let client = CountingClient::new(Client::builder().build().unwrap());
        let error = client.large(1).address(serving.address()).await.unwrap_err();
        assert_eq!((error.code(), error.delivery()), (Code::Unavailable, rpc_core::Delivery::NotExecuted), "{error:?}");
    }
}
