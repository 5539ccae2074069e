//! Attacks on all bounds at once, against a server with little memory, while a victim makes calls.
//!
//! The server survives, releases its memory afterwards, and serves every call of the victim. One test attacks over
//! accepted connections, one by HTTP and gRPC, and one attacks a server that requires TLS and a token. `MSNB_ATTACK_SECONDS` sets the
//! duration in seconds, 3 by default. The tests print their measurements (`--nocapture`).
#![cfg(target_os = "linux")]
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use rand::RngExt as _;
use rpc_client::{Client, ClientConfig};
use rpc_core::{Token, tls::ClientTls, transport::Io};
use rustix::process::Resource;
use tests::{
    besieged::Besieged,
    certificates::Authority,
    in_time,
    raw_peer::{RawFrame, RawHead},
    seeds,
    wire::WireClient,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, interval, timeout},
};
use tokio_rustls::client::TlsStream;

use super::http_attacks;

/// The actions of one attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Attack {
    /// Opens all connections that the server accepts.
    Connections,
    /// Makes more calls than `max_in_flight`, with a timeout of 49 days.
    InFlight,
    /// Requests large results and reads nothing.
    NeverReads,
    /// Requests many large results on 12 connections, with a timeout of 49 days, and reads them slowly.
    SlowReads,
    /// Sends frames byte by byte.
    SlowFrames,
    /// Sends the header of a long frame and none of its body.
    HeadersOnly,
    /// Sends frames over the limit.
    Overlong,
    /// Sends decompression bombs.
    Bombs,
    /// Sends 200 decompression bombs at once on two connections, once a second.
    ManyBombs,
    /// Sends small payloads that announce large values.
    Payloads,
    /// Sends the seeds of the fuzzers.
    BadFrames,
    /// Sends random bytes.
    Garbage,
    /// Sends pings.
    Pings,
    /// Makes calls and cancels them.
    Cancels,
    /// Makes once calls, whose answers the server stores.
    Once,
    /// Sends heads of HTTP byte by byte.
    SlowHeads,
    /// Announces long bodies of HTTP and sends parts of them.
    HalfBodies,
    /// Sends requests of HTTP that hide others.
    Smuggling,
    /// Resets requests of HTTP/2 at once.
    RapidResets,
    /// Sends pings of HTTP/2.
    Http2Pings,
    /// Announces long messages of gRPC and sends parts of them.
    HalfMessages,
    /// Sends long metadata of gRPC.
    LongMetadata,
    /// Starts TLS handshakes and does not complete them.
    Handshakes,
    /// Sends malformed TLS records.
    TlsGarbage,
    /// Sends plain text to a server that requires TLS.
    PlainText,
    /// Completes the TLS handshake and sends no proof of a token.
    NoProof,
    /// Sends calls, pings and headers of long frames before the proof of a token.
    BeforeProof,
    /// Sends invalid proofs.
    WrongTokens,
    /// Sends requests of HTTP without a token, and with an invalid one.
    HttpWithoutToken,
}

const ACCEPTED: [Attack; 15] = [
    Attack::Connections,
    Attack::InFlight,
    Attack::NeverReads,
    Attack::SlowReads,
    Attack::SlowFrames,
    Attack::HeadersOnly,
    Attack::Overlong,
    Attack::Bombs,
    Attack::ManyBombs,
    Attack::Payloads,
    Attack::BadFrames,
    Attack::Garbage,
    Attack::Pings,
    Attack::Cancels,
    Attack::Once,
];
const HTTP: [Attack; 8] = [
    Attack::Connections,
    Attack::SlowHeads,
    Attack::HalfBodies,
    Attack::Smuggling,
    Attack::RapidResets,
    Attack::Http2Pings,
    Attack::HalfMessages,
    Attack::LongMetadata,
];
const UNAUTHENTICATED: [Attack; 9] = [
    Attack::Connections,
    Attack::Garbage,
    Attack::Handshakes,
    Attack::TlsGarbage,
    Attack::PlainText,
    Attack::NoProof,
    Attack::BeforeProof,
    Attack::WrongTokens,
    Attack::HttpWithoutToken,
];
const SECRET: &str = "the secret of ann, the caller";

/// Frame limit of the attacked server in bytes.
const MAX_FRAME: u32 = 1 << 20;
const MEMORY: u64 = 256 << 20;
/// Interval between the rounds of an attacker: the attackers should reach every bound, not saturate the processors.
const PACE: Duration = Duration::from_millis(20);
/// Number of elements of a result that nobody reads: 60 results exceed an outbox of 1 MiB in all builds.
const LONG_RESULT: usize = if cfg!(debug_assertions) { 50_000 } else { 500_000 };
/// Number of calls on each connection of a slow reader. Each result takes a build without optimization more than 1 ms.
const SLOW_CALLS: u32 = if cfg!(debug_assertions) { 100 } else { 1000 };
/// Number of connections that an attacker holds; it exceeds the limit for one address.
const MAX_HELD: usize = 40;

static BOMBS: LazyLock<Vec<(u8, Vec<u8>)>> = LazyLock::new(seeds::bombs);
static PAYLOADS: LazyLock<Vec<(u8, Vec<u8>)>> = LazyLock::new(seeds::payloads);
static SESSIONS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds::caller_sessions(MAX_FRAME));

/// Attacks the server at `at` from the address `from` until the future is dropped.
async fn attack(kind: Attack, from: Ipv4Addr, at: SocketAddr, authority: Arc<Authority>) {
    let mut held: Vec<Box<dyn Io>> = Vec::new();
    let mut pace = interval(PACE);
    for round in 0_usize.. {
        pace.tick().await;
        if held.len() >= MAX_HELD {
            held.drain(..MAX_HELD / 2);
        }
        // Attacks should fail.
        let _ = timeout(Duration::from_secs(2), attack_once(kind, round, &mut held, from, at, &authority)).await;
    }
}

/// Executes one round of an attack.
async fn attack_once(
    kind: Attack,
    round: usize,
    held: &mut Vec<Box<dyn Io>>,
    from: Ipv4Addr,
    at: SocketAddr,
    authority: &Authority,
) -> io::Result<()> {
    let route = |method: &str| RawHead::route(&format!("test.Wire:1.0/{method}"));
    let with_timeout = |method: &str, time: u32| route(method).with(RawHead::TIMEOUT, time.to_be_bytes());
    match kind {
        Attack::Connections => held.push(Box::new(connect(from, at).await?)),
        Attack::InFlight => {
            let calls =
                (1..=200).flat_map(|id| RawFrame::request(id, &with_timeout("wait", u32::MAX), "{}").to_bytes());
            send_and_hold(held, from, at, &calls.collect::<Vec<u8>>()).await?;
        }
        Attack::NeverReads => {
            let arguments = format!(r#"{{"count":{LONG_RESULT}}}"#);
            let call = |id| RawFrame::request(id, &route("zeros"), &arguments).to_bytes();
            send_and_hold(held, from, at, &(1..=60).flat_map(call).collect::<Vec<u8>>()).await?;
        }
        Attack::SlowReads => {
            if held.len() < 12 {
                let head = with_timeout("later_zeros", u32::MAX);
                let call = |id| RawFrame::request(id, &head, r#"{"count":32000}"#).to_bytes();
                send_and_hold(held, from, at, &(1..=SLOW_CALLS).flat_map(call).collect::<Vec<u8>>()).await?;
            }
            for stream in &mut *held {
                stream.read_exact(&mut [0; 4 << 10]).await?;
            }
        }
        Attack::SlowFrames => {
            let frame = RawFrame::request(1, &route("echo"), r#"{"text":""}"#).to_bytes();
            send_slowly(held, from, at, frame[round % frame.len()]).await?;
        }
        Attack::SlowHeads => {
            let head = http_attacks::ENDLESS_HEAD;
            send_slowly(held, from, at, head.get(round).copied().unwrap_or(b'a')).await?;
        }
        Attack::HalfBodies => send_and_hold(held, from, at, &http_attacks::half_body()).await?,
        Attack::Smuggling => send_and_read(from, at, http_attacks::SMUGGLED).await?,
        // The parts of HTTP/2 cost a build without optimization milliseconds.
        Attack::RapidResets | Attack::Http2Pings | Attack::HalfMessages | Attack::LongMetadata
            if !round.is_multiple_of(10) => {}
        Attack::RapidResets => send_and_read(from, at, &http_attacks::rapid_resets()).await?,
        Attack::Http2Pings => send_and_read(from, at, &http_attacks::pings()).await?,
        Attack::HalfMessages => send_and_hold(held, from, at, &http_attacks::half_messages()).await?,
        Attack::LongMetadata => send_and_hold(held, from, at, &http_attacks::long_metadata()).await?,
        Attack::HeadersOnly => {
            let header = RawFrame::empty(RawFrame::REQUEST, 1).header(MAX_FRAME);
            send_and_hold(held, from, at, &header).await?;
        }
        Attack::Overlong => {
            let mut stream = connect(from, at).await?;
            stream.write_all(&RawFrame::empty(RawFrame::REQUEST, 1).header(4 * MAX_FRAME)).await?;
            for _ in 0..64 {
                stream.write_all(&[0; 64 << 10]).await?;
            }
        }
        Attack::Bombs => {
            let (compression, bomb) = &BOMBS[round % BOMBS.len()];
            let frame = RawFrame::request(1, &route("echo"), bomb).with_compression(*compression);
            send_and_read(from, at, &frame.to_bytes()).await?;
        }
        Attack::ManyBombs if round.is_multiple_of(50) => {
            let bomb = |id: u32| {
                let (compression, bomb) = &BOMBS[id as usize % BOMBS.len()];
                RawFrame::request(id, &route("echo"), bomb).with_compression(*compression).to_bytes()
            };
            let bombs: Vec<u8> = (1..=100).flat_map(bomb).collect();
            tokio::try_join!(send_and_read(from, at, &bombs), send_and_read(from, at, &bombs))?;
        }
        Attack::ManyBombs => {}
        Attack::Payloads => {
            let (codec, payload) = &PAYLOADS[round % PAYLOADS.len()];
            for method in ["numbers", "nothings", "map", "bytes", "nest"] {
                send_and_read(from, at, &RawFrame::request(1, &route(method), payload).with_codec(*codec).to_bytes())
                    .await?;
            }
        }
        Attack::BadFrames => {
            send_and_read(from, at, &SESSIONS[round % SESSIONS.len()]).await?;
        }
        Attack::Garbage => {
            let garbage: Vec<u8> = (0..1000).map(|_| rand::rng().random()).collect();
            send_and_read(from, at, &garbage).await?;
        }
        Attack::Pings => send_and_read(from, at, &RawFrame::empty(RawFrame::PING, 1).to_bytes().repeat(1000)).await?,
        Attack::Cancels => {
            let both = |id| {
                [
                    RawFrame::request(id, &route("wait"), "{}").to_bytes(),
                    RawFrame::empty(RawFrame::CANCEL, id).to_bytes(),
                ]
            };
            send_and_read(from, at, &(1..=500).flat_map(both).flatten().collect::<Vec<u8>>()).await?;
        }
        Attack::Once => {
            let call = |id| {
                let key: [u8; 16] = rand::rng().random();
                let head = with_timeout("once_released", 1_000).with(RawHead::IDEMPOTENCY_KEY, key);
                RawFrame::request(id, &head, "{}").to_bytes()
            };
            send_and_read(from, at, &(1..=60).flat_map(call).collect::<Vec<u8>>()).await?;
        }
        Attack::Handshakes => {
            // The announced length of this ClientHello exceeds the record.
            let hello = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff, 3, 3][..], &[0; 1000]].concat();
            send_and_hold(held, from, at, &hello).await?;
        }
        Attack::TlsGarbage => {
            let mut record: Vec<u8> = (0..1000).map(|_| rand::rng().random()).collect();
            record[..5].copy_from_slice(&[0x14 + (round % 6) as u8, 3, 3, 3, (round % 256) as u8]);
            send_and_read(from, at, &record).await?;
        }
        Attack::PlainText => send_and_read(from, at, &SESSIONS[round % SESSIONS.len()]).await?,
        Attack::NoProof => held.push(Box::new(connect_tls(from, at, authority).await?)),
        Attack::BeforeProof => {
            let mut stream = connect_tls(from, at, authority).await?;
            stream.write_all(&SESSIONS[round % SESSIONS.len()]).await?;
            stream.write_all(&RawFrame::empty(RawFrame::REQUEST, 1).header(MAX_FRAME)).await?;
            stream.flush().await?;
            held.push(Box::new(stream));
        }
        Attack::WrongTokens => {
            let mut stream = connect_tls(from, at, authority).await?;
            let proof: Vec<u8> = (0..64).map(|_| rand::rng().random()).chain(*b"ann").collect();
            stream.write_all(&RawFrame::empty(RawFrame::PROOF, 0).with_body(proof).to_bytes()).await?;
            stream.flush().await?;
            read_to_end(stream).await?;
        }
        Attack::HttpWithoutToken => {
            let mut stream = authority.connect(connect(from, at).await?, &["http/1.1"]).await?;
            let token = if round.is_multiple_of(2) { "authorization: Bearer a-secret\r\n" } else { "" };
            let request = format!("POST /test.Wire:1.0/echo HTTP/1.1\r\nhost: a\r\n{token}content-length: 0\r\n\r\n");
            stream.write_all(request.repeat(20).as_bytes()).await?;
            stream.flush().await?;
            held.push(Box::new(stream));
        }
    }
    Ok(())
}

/// Opens a connection and completes the TLS handshake.
async fn connect_tls(from: Ipv4Addr, at: SocketAddr, authority: &Authority) -> io::Result<TlsStream<TcpStream>> {
    authority.connect(connect(from, at).await?, &["msnb/1"]).await
}

async fn connect(from: Ipv4Addr, at: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(at).await
}

/// Sends one byte on each of 20 connections.
async fn send_slowly(held: &mut Vec<Box<dyn Io>>, from: Ipv4Addr, at: SocketAddr, byte: u8) -> io::Result<()> {
    if held.len() < 20 {
        held.push(Box::new(connect(from, at).await?));
    }
    for stream in &mut *held {
        stream.write_all(&[byte]).await?;
    }
    Ok(())
}

async fn send_and_hold(held: &mut Vec<Box<dyn Io>>, from: Ipv4Addr, at: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = connect(from, at).await?;
    stream.write_all(bytes).await?;
    held.push(Box::new(stream));
    Ok(())
}

/// Sends `bytes`, closes the sending side, and reads to the end.
async fn send_and_read(from: Ipv4Addr, at: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = connect(from, at).await?;
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    read_to_end(stream).await
}

async fn read_to_end(mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Returns the configuration of a victim. On a slow machine the attacks may delay its pongs longer than the default.
fn patient() -> ClientConfig {
    ClientConfig::default().with_pong_timeout(Duration::from_secs(30))
}

/// Makes calls for `time`, two at once, and returns their durations in ascending order.
async fn calls(wire: &WireClient<Client>, at: SocketAddr, time: Duration) -> Vec<Duration> {
    let caller = async || {
        let mut took = Vec::new();
        let (started, mut pace) = (Instant::now(), interval(Duration::from_millis(2)));
        while started.elapsed() < time {
            pace.tick().await;
            let call = Instant::now();
            let echoed = wire.echo("x".to_owned()).address(at).timeout(Duration::from_secs(30)).await;
            assert_eq!(echoed.unwrap_or_else(|error| panic!("{error:?}")), "x");
            took.push(call.elapsed());
        }
        took
    };
    let (one, other) = tokio::join!(caller(), caller());
    let mut took = [one, other].concat();
    took.sort_unstable();
    took
}

fn summary(took: &[Duration]) -> String {
    let at = |share: usize| took[(took.len() * share / 1000).min(took.len() - 1)];
    format!("{} calls, p50 {:?}, p99 {:?}, maximum {:?}", took.len(), at(500), at(990), at(999))
}

/// Measures calls without and with `attacks`, then waits until the server has released the attackers' resources.
async fn measure_attack(
    mut server: Besieged,
    attacks: &[Attack],
    authority: Authority,
    new_client: impl Fn() -> Client,
) {
    let seconds = std::env::var("MSNB_ATTACK_SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    let (time, authority) = (Duration::from_secs(seconds), Arc::new(authority));
    // Initialize the payloads before the measurements.
    assert!(!BOMBS.is_empty() && !PAYLOADS.is_empty() && !SESSIONS.is_empty());
    server.limit(Resource::Data, MEMORY);
    let at = server.address();
    let wire = WireClient::new(new_client());
    let baseline = calls(&wire, at, time).await;
    let before = server.memory();

    let mut attackers = JoinSet::new();
    for (number, kind) in (10..).zip(attacks) {
        attackers.spawn(attack(*kind, Ipv4Addr::new(127, 0, 0, number), at, Arc::clone(&authority)));
    }
    let attacked = calls(&wire, at, time).await;
    // The server also accepts a new client during the attack.
    let late = WireClient::new(new_client());
    assert_eq!(late.echo("x".to_owned()).address(at).timeout(Duration::from_secs(30)).await.unwrap(), "x");
    server.assert_running();
    let peak = server.peak_memory();
    assert!(peak < MEMORY, "peak memory is {} MiB, limit is {} MiB", peak >> 20, MEMORY >> 20);
    assert_eq!(attackers.len(), attacks.len());
    assert!(attackers.try_join_next().is_none(), "no attacker ended early");
    attackers.shutdown().await;

    let bound = before + (64 << 20);
    in_time(async {
        while server.memory() > bound || server.descriptors() > 32 {
            tokio::time::sleep(PACE).await;
            assert_eq!(wire.echo("x".to_owned()).address(at).await.unwrap(), "x");
        }
    })
    .await;
    server.assert_running();
    println!("without attack: {}", summary(&baseline));
    println!("under attack: {}", summary(&attacked));
    println!("memory: {} MiB before, {} MiB peak, {} MiB after", before >> 20, peak >> 20, server.memory() >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_serves_victim_during_attacks_on_all_bounds() {
    let server = Besieged::start(env!("CARGO_BIN_EXE_tests-besieged"), &[]).await;
    measure_attack(server, &ACCEPTED, Authority::new(), || Client::builder().config(patient()).build().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_serves_victim_during_attacks_by_http() {
    let server = Besieged::start_with_http(env!("CARGO_BIN_EXE_tests-besieged"), &[]).await;
    measure_attack(server, &HTTP, Authority::new(), || Client::builder().config(patient()).build().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_serves_victim_during_unauthenticated_attacks() {
    let authority = Authority::new();
    let issued = authority.issue("server", &["127.0.0.1"]);
    let tokens = authority.ca().with_file_name("tokens");
    fs::write(&tokens, format!("ann:{SECRET}\n")).unwrap();
    let files = [&*issued.certificate, &issued.key, &tokens];
    let server = Besieged::start_with_http(env!("CARGO_BIN_EXE_tests-besieged"), &files).await;
    let ca = authority.ca();
    let client =
        || Client::builder().config(patient()).tls(ClientTls::new(&ca)).token(Token::new("ann", SECRET).unwrap());
    measure_attack(server, &UNAUTHENTICATED, authority, || client().build().unwrap()).await;
}
