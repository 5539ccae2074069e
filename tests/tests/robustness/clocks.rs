//! Time bounds at their defaults, exact to the millisecond, in simulated time over connections in memory.

use std::{
    future::pending,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{
    BoxFuture, Instance, Peer, Registry as _, ServiceId, Token, Tokens,
    proof::{Challenge, Proof},
    transport::{Accept, Connect, Io},
};
use rpc_registry::Memory;
use rpc_server::{Server, ServerConfig};
use tests::{
    certificates::Authority,
    pipes::{PIPE, Pipes, pipes},
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
    wire::{WireClient, WireServer, Wired},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::{Instant, advance, sleep, timeout},
};

use crate::fuzz::rpc_server_fuzz::listener::{ADDRESS, Connector, Listener};

/// Runs `scene` with a server that has the default configuration.
async fn with_server(scene: impl AsyncFnOnce(Connector)) {
    let (connector, listener) = Listener::new();
    let server = Server::builder().service(WireServer::new(Wired::default())).config(ServerConfig::default());
    let server = server.listen(listener).await.unwrap();
    tokio::select! {
        ended = server.run_until(pending::<()>()) => panic!("the server ended: {ended:?}"),
        () = scene(connector) => {}
    }
}

fn echo(length: usize) -> Vec<u8> {
    let text = format!(r#"{{"text":"{}"}}"#, "x".repeat(length));
    RawFrame::request(1, &RawHead::route("test.Wire:1.0/echo"), text).to_bytes()
}

/// Returns the time until the server closes the connection, or `None` after one minute.
async fn closed_after(stream: &mut DuplexStream) -> Option<Duration> {
    let started = Instant::now();
    let closed = timeout(Duration::from_secs(60), tokio::io::copy(stream, &mut tokio::io::sink())).await;
    closed.is_ok().then(|| started.elapsed())
}

async fn expect_answer(stream: &mut DuplexStream) {
    assert!(stream.read_u8().await.is_ok(), "the server answers");
}

/// Asserts that `found` is at least `wanted` and at most 2 ms longer: timers have a resolution of 1 ms, and that of the
/// driver may fire 1 ms late.
fn assert_about(found: Option<Duration>, wanted: Duration) {
    let found = found.expect("the server closes the connection");
    assert!(found >= wanted && found <= wanted + Duration::from_millis(2), "{found:?} instead of {wanted:?}");
}

/// The default of `TransportConfig::min_write`.
const MIN_WRITE: usize = 16 << 10;
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn server_closes_connection_after_10_idle_seconds() {
    with_server(async |connector| {
        let mut peer = connector.connect(ADDRESS, 1 << 20).await;
        sleep(10 * SECOND - MILLISECOND).await;
        peer.write_all(&echo(1)).await.unwrap();
        expect_answer(&mut peer).await;
        assert_about(closed_after(&mut peer).await, 10 * SECOND);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn frame_must_complete_within_5_seconds() {
    with_server(async |connector| {
        let frame = echo(1);
        let mut peer = connector.connect(ADDRESS, 1 << 20).await;
        peer.write_all(&frame[..frame.len() - 1]).await.unwrap();
        sleep(5 * SECOND - MILLISECOND).await;
        peer.write_all(&frame[frame.len() - 1..]).await.unwrap();
        expect_answer(&mut peer).await;
        // The time does not depend on the progress of the frame.
        let mut peer = connector.connect(ADDRESS, 1 << 20).await;
        let started = Instant::now();
        let mut closed = None;
        for byte in &frame {
            if peer.write_all(&[*byte]).await.is_err() {
                closed = Some(started.elapsed());
                break;
            }
            sleep(SECOND / 4).await;
        }
        let closed = closed.expect("the server closes the connection during the slow frame");
        assert!(closed >= 5 * SECOND && closed <= 5 * SECOND + SECOND / 4, "{closed:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn frame_time_grows_by_1_second_per_64_kib() {
    with_server(async |connector| {
        let frame = echo(3 * 64 * 1024);
        for (after, served) in [(8 * SECOND - MILLISECOND, true), (8 * SECOND + MILLISECOND, false)] {
            let mut peer = connector.connect(ADDRESS, 1 << 20).await;
            peer.write_all(&frame[..frame.len() - 1]).await.unwrap();
            sleep(after).await;
            let rest = peer.write_all(&frame[frame.len() - 1..]).await;
            let answered = rest.is_ok() && peer.read_u8().await.is_ok();
            assert_eq!(answered, served, "after {after:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn write_must_progress_within_10_seconds() {
    with_server(async |connector| {
        // The connection cannot buffer the whole answer.
        let mut peer = connector.connect(ADDRESS, MIN_WRITE).await;
        let zeros = RawFrame::request(1, &RawHead::route("test.Wire:1.0/zeros"), r#"{"count":100000}"#);
        peer.write_all(&zeros.to_bytes()).await.unwrap();
        // Sufficient progress restarts the time; one byte less does not.
        for progress in [MIN_WRITE, MIN_WRITE, MIN_WRITE - 1] {
            sleep(10 * SECOND - MILLISECOND).await;
            peer.read_exact(&mut vec![0; progress]).await.unwrap();
            // Without it, the server would close the connection as idle.
            peer.write_all(&RawFrame::empty(RawFrame::PING, 1).to_bytes()).await.unwrap();
        }
        sleep(3 * MILLISECOND).await;
        // Only the buffered bytes arrive.
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() <= MIN_WRITE, "{} bytes", rest.len());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn encrypted_write_must_progress_within_10_seconds() {
    let (authority, (connector, listener)) = (Authority::new(), Listener::new());
    let server = Server::builder().service(WireServer::new(Wired::default()));
    let server = server.tls(authority.issue("server", &["127.0.0.1"]).server()).listen(listener).await.unwrap();
    let scene = async {
        let stream = connector.connect(ADDRESS, MIN_WRITE).await;
        let mut peer = authority.connect(stream, &["msnb/1"]).await.unwrap();
        // TLS accepts the rest of this answer before the socket does.
        let zeros = RawFrame::request(1, &RawHead::route("test.Wire:1.0/zeros"), r#"{"count":35000}"#);
        peer.write_all(&zeros.to_bytes()).await.unwrap();
        for progress in [MIN_WRITE, MIN_WRITE, MIN_WRITE - 1] {
            sleep(10 * SECOND - MILLISECOND).await;
            peer.get_mut().0.read_exact(&mut vec![0; progress]).await.unwrap();
            // Without it, the server would close the connection as idle.
            peer.write_all(&RawFrame::empty(RawFrame::PING, 1).to_bytes()).await.unwrap();
        }
        sleep(3 * MILLISECOND).await;
        // Only the buffered bytes arrive.
        let mut rest = Vec::new();
        peer.get_mut().0.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() <= MIN_WRITE, "{} bytes", rest.len());
    };
    tokio::select! {
        ended = server.run_until(pending::<()>()) => panic!("the server ended: {ended:?}"),
        () = scene => {}
    }
}

#[tokio::test(start_paused = true)]
async fn ping_101_within_a_second_closes_connection() {
    let pings =
        |count: u32| -> Vec<u8> { (0..count).flat_map(|id| RawFrame::empty(RawFrame::PING, id).to_bytes()).collect() };
    with_server(async |connector| {
        let mut peer = connector.connect(ADDRESS, 1 << 20).await;
        // Each second has its own count.
        for _ in 0..3 {
            peer.write_all(&pings(100)).await.unwrap();
            let mut pongs = [0; 1600];
            peer.read_exact(&mut pongs).await.unwrap();
            advance(SECOND).await;
        }
        peer.write_all(&pings(101)).await.unwrap();
        assert_eq!(closed_after(&mut peer).await, Some(Duration::ZERO));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn default_timeout_is_5_seconds() {
    with_server(async |connector| {
        let mut peer = connector.connect(ADDRESS, 1 << 20).await;
        let wait = RawFrame::request(1, &RawHead::route("test.Wire:1.0/wait"), "{}");
        peer.write_all(&wait.to_bytes()).await.unwrap();
        let started = Instant::now();
        expect_answer(&mut peer).await;
        // The server checks for expired calls every 5 ms.
        let ended = started.elapsed();
        assert!(ended >= 5 * SECOND && ended <= 5 * SECOND + 7 * MILLISECOND, "{ended:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn token_proof_must_arrive_within_2_seconds() {
    let (name, secret) = ("ann", "the secret of ann, the caller");
    let (connector, listener) = Listener::new();
    let tokens = Tokens::new().with(name, secret).unwrap();
    let server = Server::builder().service(WireServer::new(Wired::default())).require_token(tokens);
    let server = server.listen(listener).await.unwrap();
    let scene = async {
        for (after, is_accepted) in [(2 * SECOND - MILLISECOND, true), (2 * SECOND + MILLISECOND, false)] {
            let mut peer = RawPeer::through(connector.connect(ADDRESS, 1 << 20).await);
            let challenge = Challenge::read(&peer.receive().await.body).unwrap();
            sleep(after).await;
            let proof = Proof::new(&Token::new(name, secret).unwrap(), challenge, &[0; 32], [7; 32]);
            peer.send(RawFrame::empty(RawFrame::PROOF, 0).with_body(proof.to_frame().body).to_bytes()).await;
            let answer = peer.ask(&RawFrame::empty(RawFrame::PING, 1)).await;
            assert_eq!(answer.kind, if is_accepted { RawFrame::PONG } else { RawFrame::GOAWAY }, "after {after:?}");
        }
    };
    tokio::select! {
        ended = server.run() => panic!("the server ended: {ended:?}"),
        () = scene => {}
    }
}

/// Refuses every connection to [`REFUSED`] and records the times; others reach a server.
struct Refusing {
    times: Arc<Mutex<Vec<Instant>>>,
    others: Pipes,
}

impl Connect for Refusing {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        if address != REFUSED {
            return self.others.connect(address);
        }
        self.times.lock().unwrap().push(Instant::now());
        Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
    }
}

const REFUSED: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1));

#[tokio::test(start_paused = true)]
async fn evicted_address_is_not_retried_for_30_seconds() {
    let (registry, times) = (Arc::new(Memory::named("evicted")), Arc::<Mutex<Vec<Instant>>>::default());
    let (others, listener) = pipes();
    let _serving = Serving::listen(Server::builder().service(WireServer::new(Wired::default())), listener).await;
    let refusing = Refusing { times: Arc::clone(&times), others };
    // The client connects at once to evicted providers if fewer than half are usable, so the second one is healthy.
    for address in [REFUSED, PIPE] {
        registry.register(&ServiceId::new("test.Wire", "1.0").unwrap(), Instance::new(address)).await.unwrap();
    }
    let config = ClientConfig::default().with_cache_directory(None).with_seed(Some(1));
    let client = Client::builder().registry(registry).connector(refusing).config(config).build().unwrap();
    // Calls keep the other connection open: a pong that arrives at the simulated time of its ping does not count.
    for _ in 0..60 {
        WireClient::new(client.clone()).echo("x".to_owned()).wait_for_ready(true).await.unwrap();
        sleep(SECOND).await;
    }
    let times = times.lock().unwrap().clone();
    let took = times[11] - times[0];
    // The delays before attempts 2 to 12 total 16.4 s, of which half is random.
    assert!(took >= 8 * SECOND && took <= 17 * SECOND, "{took:?}");
    assert_about(Some(times[12] - times[11]), 30 * SECOND);
}

/// A listener whose `accept` fails.
struct Failing {
    kind: io::ErrorKind,
    attempts: Arc<AtomicUsize>,
    /// Number of failures before `accept` waits forever.
    times: usize,
}

impl Accept for Failing {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>> {
        Box::pin(async {
            if self.attempts.fetch_add(1, Ordering::Relaxed) < self.times {
                Err(self.kind.into())
            } else {
                pending().await
            }
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 1).into())
    }
}

async fn accepts_in_10_seconds(kind: io::ErrorKind) -> usize {
    let attempts = Arc::new(AtomicUsize::new(0));
    let listener = Failing { kind, attempts: Arc::clone(&attempts), times: 1000 };
    let server = Server::builder().service(WireServer::new(Wired::default())).listen(listener).await.unwrap();
    let over = timeout(10 * SECOND + SECOND / 20, server.run_until(pending::<()>())).await;
    assert!(over.is_err(), "the server still runs");
    attempts.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn accept_loop_pauses_only_on_resource_errors() {
    // `ErrorKind` has no stable variant for "too many open files".
    let slow = accepts_in_10_seconds(io::ErrorKind::Other).await;
    assert!((95..=101).contains(&slow), "an attempt every 100 ms, not {slow} attempts");
    assert_eq!(accepts_in_10_seconds(io::ErrorKind::ConnectionAborted).await, 1001);
}
