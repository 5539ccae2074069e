//! Isolation of peers: a peer that reads slowly or calls much leaves capacity for others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rpc_client::Client;
use rpc_core::{Codec, Compression, Token, Tokens, rpc_service};
use rpc_server::{Server, ServerConfig};
use serde::{Deserialize, Serialize, Serializer};
use tests::{
    Task, in_time,
    occupied_thread::OccupiedThread,
    probe::{Event, Probe, ProbingClient},
    raw_peer::{RawFrame, RawHead, RawPeer},
    scripted::{Scripted, request},
    serving::Serving,
    wire::Listening,
};

use crate::caller;

/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(50);

const OK: u8 = 0;
const DEADLINE_EXCEEDED: u8 = 4;

/// Calls of [`Slow`] on one connection; their results exceed the buffers of the outbox and of the sockets.
const CALLS: u32 = 32;

#[rpc_service(name = "test.Slow", version = "1.0")]
trait Slow {
    /// Returns a mebibyte after its first poll.
    async fn mebibyte(&self) -> Bytes;
    /// As [`mebibyte`](Slow::mebibyte), as a once call.
    #[rpc(once)]
    async fn mebibyte_once(&self) -> Bytes;
    /// As [`mebibyte`](Slow::mebibyte), as a value that counts how often it is encoded.
    async fn counted(&self) -> Counted;
    /// Blocks the thread of its connection for 50 ms.
    async fn block(&self);
}

/// A mebibyte that counts how often it is encoded.
#[derive(Deserialize)]
struct Counted {
    #[serde(skip)]
    encoded: Arc<AtomicUsize>,
}

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encoded.fetch_add(1, Ordering::SeqCst);
        serializer.serialize_str(&"7".repeat(1 << 20))
    }
}

#[derive(Clone, Default)]
struct Slowly {
    /// The number of executions of `block`.
    blocked: Arc<AtomicUsize>,
    /// The number of results of `counted` that were encoded.
    encoded: Arc<AtomicUsize>,
}

impl Slow for Slowly {
    async fn mebibyte(&self) -> Bytes {
        tokio::task::yield_now().await;
        vec![7; 1 << 20].into()
    }

    async fn mebibyte_once(&self) -> Bytes {
        self.mebibyte().await
    }

    async fn counted(&self) -> Counted {
        tokio::task::yield_now().await;
        Counted { encoded: Arc::clone(&self.encoded) }
    }

    async fn block(&self) {
        self.blocked.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn call(id: u32, method: &str, timeout: u32) -> RawFrame {
    let head = RawHead::route(&format!("test.Slow:1.0/{method}")).with(RawHead::TIMEOUT, timeout.to_be_bytes());
    RawFrame::request(id, &head, "{}")
}

/// Returns a once call of [`Slow`] whose key is its id.
fn once(id: u32) -> Vec<u8> {
    let head = RawHead::route("test.Slow:1.0/mebibyte_once")
        .with(RawHead::TIMEOUT, 3_600_000_u32.to_be_bytes())
        .with(RawHead::IDEMPOTENCY_KEY, u128::from(id).to_be_bytes());
    // bincode: JSON writes a byte as a number, which takes seconds.
    RawFrame::request(id, &head, "").with_codec(Codec::Bincode as u8).to_bytes()
}

/// Returns a config for connections whose peer reads nothing for any time.
fn unread() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.transport.write_stall = Duration::MAX;
    config
}

async fn slow(config: ServerConfig) -> (Slowly, Serving) {
    let slow = Slowly::default();
    (slow.clone(), Serving::start(Server::builder().service(SlowServer::new(slow)).config(config)).await)
}

/// Reads the answers to [`CALLS`] calls.
async fn read_all(peer: &mut RawPeer) {
    for _ in 0..CALLS {
        assert_eq!(peer.receive().await.status().0, OK);
    }
}

#[tokio::test]
async fn unsent_results_hold_no_permit() {
    let (_, serving) = slow(unread().with_max_running(2 * CALLS as usize).with_max_queued(CALLS as usize)).await;
    let mut reader = RawPeer::connect(serving.address()).await;
    let calls = (1..=CALLS).flat_map(|id| call(id, "mebibyte", 3_600_000).to_bytes());
    reader.send(calls.collect::<Vec<_>>()).await;
    // All handlers have ended; most results wait for the peer to read.
    serving.until_counted(|counts| counts.running == 0 && counts.unsent > 0).await;
    let mut other = RawPeer::connect(serving.address()).await;
    assert_eq!(other.ask(&call(1, "mebibyte", 50_000)).await.status().0, OK);
    read_all(&mut reader).await;
    serving.until_counted(|counts| (counts.running, counts.unsent, counts.overloaded) == (0, 0, 0)).await;
}

#[tokio::test]
async fn results_that_wait_are_not_encoded() {
    let (slow, serving) = slow(unread()).await;
    let mut reader = RawPeer::connect(serving.address()).await;
    let calls = (1..=CALLS).flat_map(|id| call(id, "counted", 3_600_000).to_bytes());
    reader.send(calls.collect::<Vec<_>>()).await;
    let encoded = || slow.encoded.load(Ordering::SeqCst);
    let most = CALLS as usize / 2;
    // The results in the outbox, and as many that wait encoded as the outbox permits.
    serving.until_counted(|counts| counts.running == 0 && counts.unsent > most && encoded() < most).await;
    read_all(&mut reader).await;
    assert_eq!(encoded(), CALLS as usize);
}

/// The only thread for blocking work does not compress until the test permits it.
#[test]
fn long_results_wait_for_their_compression_as_values() {
    /// The number of results of a connection that are encoded and wait.
    const PLACES: usize = 16;
    OccupiedThread::run(async |thread| {
        let (slow, serving) = slow(unread()).await;
        let mut peer = RawPeer::connect(serving.address()).await;
        let head = RawHead::route("test.Slow:1.0/counted").with(RawHead::TIMEOUT, 3_600_000_u32.to_be_bytes());
        let head = head.with(RawHead::RESPONSE_COMPRESSION, [Compression::Gzip as u8]);
        let calls = (1..=CALLS).flat_map(|id| RawFrame::request(id, &head, "{}").to_bytes());
        peer.send(calls.collect::<Vec<_>>()).await;
        let (calls, encoded) = (CALLS as usize, || slow.encoded.load(Ordering::SeqCst));
        // Their length is known when they are encoded; only some are kept so.
        serving.until_counted(|counts| counts.unsent == calls && encoded() == calls).await;
        assert_eq!(peer.ask(&call(CALLS + 1, "mebibyte", 50_000)).await.status().0, OK, "other results pass");
        let mut other = RawPeer::connect(serving.address()).await;
        other.send(RawFrame::request(1, &head, "{}").to_bytes()).await;
        // The results of another connection of the peer have places of their own: it is kept as encoded.
        serving.until_counted(|counts| counts.unsent == calls + 1 && encoded() == calls + 1).await;
        thread.release().await;
        read_all(&mut peer).await;
        assert_eq!(other.receive().await.status().0, OK);
        assert_eq!(encoded(), calls + calls - PLACES + 1);
    });
}

#[tokio::test]
async fn once_answers_wait_for_the_outbox() {
    let (_, serving) = slow(unread()).await;
    let mut reader = RawPeer::connect(serving.address()).await;
    reader.send((1..=CALLS).flat_map(once).collect::<Vec<_>>()).await;
    serving.until_counted(|counts| counts.running == 0 && counts.unsent > CALLS as usize / 2).await;
    read_all(&mut reader).await;
    serving.until_counted(|counts| counts.unsent == 0).await;
}

#[tokio::test]
async fn address_leaves_permits_for_others() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default().with_max_running(90).with_queue_time(LONG)).await;
    let mut hog = Scripted::connect_from("127.0.0.2", serving.address()).await;
    for key in 1..=100_u64 {
        hog.send(&request(key as u32, "test.Probe:1.0/hold", LONG, &key)).await;
    }
    serving.until_counted(|counts| (counts.running, counts.queued) == (76, 24)).await;
    let call = Task::begin(ProbingClient::new(caller()).hold(1000).address(serving.address()).timeout(LONG));
    probe.until(Event::Began(1000)).await;
    probe.release_all();
    assert_eq!(call.end().await.expect("the call succeeds"), 1000);
    probe.until_all(&(1..=100).map(Event::Ended).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn identity_leaves_permits_for_others() {
    let (probe, ann, bob) = (Probe::default(), "the secret of ann, the caller", "the secret of bob, the caller");
    let tokens = Tokens::new().with("ann", ann).unwrap().with("bob", bob).unwrap();
    let config = ServerConfig::default().with_max_running(90).with_max_queued(0);
    let serving = Serving::start(Server::builder().service(probe.server()).require_token(tokens).config(config)).await;
    let client = |name, secret| {
        let client = Client::builder().token(Token::new(name, secret).unwrap()).build().unwrap();
        ProbingClient::new(client)
    };
    let hold =
        |client: &ProbingClient<Client>, key| Task::begin(client.hold(key).address(serving.address()).timeout(LONG));
    let hog = client("ann", ann);
    let held: Vec<_> = (1..=100).map(|key| hold(&hog, key)).collect();
    serving.until_counted(|counts| counts.running == 76 && counts.overloaded >= 24).await;
    // The same address, another identity.
    let call = hold(&client("bob", bob), 1000);
    probe.until(Event::Began(1000)).await;
    probe.release_all();
    assert_eq!(call.end().await.expect("the call succeeds"), 1000);
    drop(held);
}

#[tokio::test]
async fn server_limits_timeouts_of_callers() {
    let server = Listening::start(ServerConfig::default().with_max_timeout(Duration::from_secs(60))).await;
    let mut peer = RawPeer::connect(server.address()).await;
    let with = |method: &str, timeout: u32| {
        let head = RawHead::route(&format!("test.Wire:1.0/{method}")).with(RawHead::TIMEOUT, timeout.to_be_bytes());
        RawFrame::request(1, &head, "{}")
    };
    let remaining: u32 = peer.ask(&with("remaining", u32::MAX)).await.text().parse().unwrap();
    assert!((1..=60_000).contains(&remaining), "{remaining}");
    let server = Listening::start(ServerConfig::default().with_max_timeout(Duration::from_millis(20))).await;
    let mut peer = RawPeer::connect(server.address()).await;
    assert_eq!(peer.ask(&with("wait", u32::MAX)).await.status().0, DEADLINE_EXCEEDED);
}

#[tokio::test]
async fn only_once_keys_limit_timeouts_of_unattended_calls() {
    let config = ServerConfig::default().with_max_unattended(Duration::from_secs(60));
    let server = Listening::start(config).await;
    let mut peer = RawPeer::connect(server.address()).await;
    let head = RawHead::route("test.Wire:1.0/remaining")
        .with(RawHead::TIMEOUT, 600_000_u32.to_be_bytes())
        .with(RawHead::IDEMPOTENCY_KEY, [7; 16]);
    let remaining: u32 = peer.ask(&RawFrame::request(1, &head, "{}")).await.text().parse().unwrap();
    assert!((60_001..=600_000).contains(&remaining), "the method is not a once method: {remaining}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_handler_starts_after_its_deadline() {
    let (slow, serving) = slow(ServerConfig::default()).await;
    let mut peer = RawPeer::connect(serving.address()).await;
    // One write: the connection reads all of them in one turn, or in two if TCP divides it.
    peer.send((1..=20).flat_map(|id| call(id, "block", 100).to_bytes()).collect::<Vec<_>>()).await;
    for _ in 0..20 {
        peer.receive().await;
    }
    // Each handler blocks its thread for at least 50 ms, so that two of a turn start within their 100 ms.
    let executed = slow.blocked.load(Ordering::SeqCst);
    assert!(executed <= 2 * 2, "{executed} handlers started");
    serving.until_counted(|counts| counts.late as usize == 20 - executed).await;
}

#[tokio::test]
async fn unlimited_times_serve_calls() {
    let mut transport = rpc_core::transport::TransportConfig::default();
    (transport.frame_time, transport.write_stall) = (Duration::MAX, Duration::MAX);
    let config = ServerConfig::default()
        .with_read_idle(Duration::MAX)
        .with_default_timeout(Duration::MAX)
        .with_max_timeout(Duration::MAX)
        .with_queue_time(Duration::MAX)
        .with_max_unattended(Duration::MAX)
        .with_handshake_time(Duration::MAX)
        .with_once_kept(Duration::MAX)
        .with_drain_timeout(Duration::MAX)
        .with_max_running(1)
        .with_transport(transport);
    let (probe, secret) = (Probe::default(), "the secret of ann, the caller");
    let tokens = Tokens::new().with("ann", secret).unwrap();
    let server = Server::builder().service(probe.server()).require_token(tokens).config(config);
    let mut serving = Serving::start(server).await;
    let client = Client::builder().token(Token::new("ann", secret).unwrap()).build().unwrap();
    let client = ProbingClient::new(client);
    let held = Task::begin(client.hold(1).address(serving.address()).timeout(LONG));
    probe.until(Event::Began(1)).await;
    let once = Task::begin(client.hold_once(2).address(serving.address()).timeout(LONG));
    serving.until_counted(|counts| counts.queued == 1).await;
    client.tell("x".to_owned()).address(serving.address()).await.unwrap();
    probe.release_all();
    assert_eq!((held.end().await.unwrap(), once.end().await.unwrap()), (1, 2));
    probe.until(Event::Received("x".to_owned())).await;
    // Without a timeout, the call has the longest time.
    let mut idle = ServerConfig::default();
    idle.default_timeout = Duration::MAX;
    let bare = Listening::start(idle.with_max_timeout(Duration::MAX)).await;
    let mut peer = RawPeer::connect(bare.address()).await;
    let remaining = RawFrame::request(1, &RawHead::route("test.Wire:1.0/remaining"), "{}");
    assert!(peer.ask(&remaining).await.text().parse::<u64>().unwrap() > u64::from(u32::MAX));
    drop(client);
    serving.stop();
    in_time(serving.ended()).await.unwrap();
}
