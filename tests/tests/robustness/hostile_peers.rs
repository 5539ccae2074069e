//! Hostile peers that follow the protocol: the server limits the resources that they occupy.

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
    Task, in_time, patient,
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
    wire::WireClient,
};
use tokio::sync::watch;

/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(50);

const OK: u8 = 0;
const CANCELLED: u8 = 1;
const RESOURCE_EXHAUSTED: u8 = 8;

#[rpc_service(name = "test.Counted", version = "1.0")]
trait Counting {
    /// Returns a text of `length` bytes immediately.
    async fn large(&self, length: usize) -> Counted;
    /// Never completes.
    async fn wait(&self);
    /// Blocks its thread until the test releases it, regardless of cancellation.
    async fn stubborn(&self);
}

/// A result that the server counts until it is dropped.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    text: String,
    #[serde(skip)]
    _guard: Option<CountGuard>,
}

#[derive(Debug)]
struct CountGuard(watch::Sender<Count>);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    now: usize,
    most: usize,
}

impl CountGuard {
    fn new(counts: &watch::Sender<Count>) -> Self {
        counts.send_modify(|count| {
            count.now += 1;
            count.most = count.most.max(count.now);
        });
        Self(counts.clone())
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| count.now -= 1);
    }
}

/// Implements [`Counting`]. Clones share their state.
#[derive(Clone, Default)]
struct Counter {
    results: watch::Sender<Count>,
    handlers: watch::Sender<Count>,
    released: Arc<(Mutex<bool>, Condvar)>,
}

impl Counting for Counter {
    async fn large(&self, length: usize) -> Counted {
        Counted { text: "x".repeat(length), _guard: Some(CountGuard::new(&self.results)) }
    }

    async fn wait(&self) {
        let _guard = CountGuard::new(&self.handlers);
        std::future::pending().await
    }

    async fn stubborn(&self) {
        tokio::task::yield_now().await;
        let _guard = CountGuard::new(&self.handlers);
        let (released, signal) = &*self.released;
        // Simulates a long computation; the timeout lets a failing test end.
        tokio::task::block_in_place(|| {
            drop(signal.wait_timeout_while(released.lock().unwrap(), 2 * LONG, |released| !*released).unwrap());
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
async fn unread_results_do_not_accumulate() {
    let mut transport = TransportConfig::default();
    transport.outbox = 64 << 10;
    let (counter, _serving, peer) = counter(ServerConfig::default().with_transport(transport)).await;
    let (mut reader, mut writer) = peer.into_split();
    let calls: Vec<u8> = (1..=400).flat_map(|id| call(id, "large", r#"{"length":65536}"#).to_bytes()).collect();
    writer.send(&calls).await.unwrap();
    counter.results.subscribe().wait_for(|count| count.most > 0).await.unwrap();
    // No answer is lost while the server waits.
    let mut answers = HashMap::new();
    for _ in 0..400 {
        let answer = reader.receive().await.unwrap();
        assert_eq!(answer.status().0, OK);
        *answers.entry(answer.id).or_insert(0) += 1;
    }
    assert_eq!(answers.len(), 400);
    let most = counter.results.borrow().most;
    assert!(most <= 2, "{most} results waited for outbox capacity at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn cancelled_call_keeps_permit_until_handler_ends() {
    let (counter, _serving, mut peer) = counter(ServerConfig::default().with_max_in_flight(1)).await;
    peer.send(call(1, "stubborn", "{}").to_bytes()).await;
    let mut handlers = counter.handlers.subscribe();
    in_time(handlers.wait_for(|count| count.now == 1)).await.unwrap();
    let cancelled = peer.ask(&RawFrame::empty(RawFrame::CANCEL, 1)).await;
    assert_eq!((cancelled.id, cancelled.status().0), (1, CANCELLED), "the caller receives the answer immediately");
    let rejected = peer.ask(&call(2, "large", r#"{"length":1}"#)).await;
    assert_eq!((rejected.id, rejected.status().0), (2, RESOURCE_EXHAUSTED), "the call still holds its permit");
    *counter.released.0.lock().unwrap() = true;
    counter.released.1.notify_all();
    in_time(async {
        while peer.ask(&call(3, "large", r#"{"length":1}"#)).await.status().0 != OK {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_flood_does_not_exceed_max_in_flight() {
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
    assert_eq!((answers.len(), answers.values().max()), (CALLS as usize, Some(&1)), "each call has one answer");
    let mut handlers = counter.handlers.subscribe();
    let most = in_time(handlers.wait_for(|count| count.now == 0)).await.unwrap().most;
    assert!((1..=8).contains(&most), "{most} handlers executed at once");
    drop(flood.end().await);
}

/// The server still answers a peer that closed only its sending side, and detects by pings that the peer vanished.
#[tokio::test]
async fn server_detects_vanished_half_closed_peer() {
    let config = ServerConfig::default().with_read_idle(Duration::from_millis(50));
    let (counter, _serving, mut peer) = counter(config).await;
    let head = RawHead::route("test.Counted:1.0/wait").with(RawHead::TIMEOUT, u32::MAX.to_be_bytes());
    peer.send(RawFrame::request(1, &head, "{}").to_bytes()).await;
    let mut handlers = counter.handlers.subscribe();
    in_time(handlers.wait_for(|count| count.now == 1)).await.unwrap();
    peer.finish_sending().await;
    for _ in 0..3 {
        assert_eq!(peer.receive().await, RawFrame::empty(RawFrame::PING, 0), "the server pings");
    }
    assert_eq!(handlers.borrow().now, 1, "the handler still executes");
    drop(peer);
    in_time(handlers.wait_for(|count| count.now == 0)).await.unwrap();
}

/// Both ends send more than the connection buffers, and neither may wait forever for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_calls_and_answers_do_not_block_each_other() {
    let server = Server::builder().service(tests::wire::WireServer::new(tests::wire::Wired::default()));
    let serving = Serving::start(server).await;
    let wire = WireClient::new(Client::builder().config(patient()).build().unwrap());
    let text = "x".repeat(4 << 20);
    let calls: Vec<_> =
        (0..32).map(|_| Task::begin(wire.echo(text.clone()).address(serving.address()).timeout(LONG))).collect();
    for call in calls {
        assert_eq!(call.end().await.unwrap().len(), text.len());
    }
}

/// The server keeps its connections while it has no file descriptor for a new one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn server_survives_exhausted_file_descriptors() {
    use rustix::process::Resource;
    use tests::besieged::Besieged;

    let mut server = Besieged::start(env!("CARGO_BIN_EXE_tests-besieged"), &[]).await;
    let mut inside = RawPeer::connect(server.address()).await;
    let ping = RawFrame::empty(RawFrame::PING, 1);
    assert_eq!(inside.ask(&ping).await.kind, RawFrame::PONG);
    // Two more connections, not three.
    server.limit(Resource::Nofile, server.descriptors() + 2);
    let mut last = Vec::new();
    for _ in 0..2 {
        let mut peer = RawPeer::connect(server.address()).await;
        assert_eq!(peer.ask(&ping).await.kind, RawFrame::PONG);
        last.push(peer);
    }
    let mut outside = RawPeer::connect(server.address()).await;
    outside.send(ping.to_bytes()).await;
    // The accept loop fails repeatedly; accepted connections are unaffected.
    for _ in 0..50 {
        assert_eq!(inside.ask(&ping).await.kind, RawFrame::PONG);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.assert_running();
    drop(last);
    assert_eq!(
        in_time(outside.receive()).await.kind,
        RawFrame::PONG,
        "the server accepts the connection after others close"
    );
}

/// The server reports the reason before it closes a connection over the limit, so the call certainly did not execute.
#[tokio::test]
async fn call_over_connection_limit_does_not_execute() {
    let (_counter, serving, mut inside) = counter(ServerConfig::default().with_max_connections(1)).await;
    assert_eq!(inside.ask(&RawFrame::empty(RawFrame::PING, 1)).await.kind, RawFrame::PONG);
    for _ in 0..20 {
        let client = CountingClient::new(Client::builder().config(patient()).build().unwrap());
        let error = client.large(1).address(serving.address()).await.unwrap_err();
        assert_eq!((error.code(), error.delivery()), (Code::Unavailable, rpc_core::Delivery::NotExecuted), "{error:?}");
    }
}
