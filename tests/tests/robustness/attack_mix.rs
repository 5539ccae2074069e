//! One attacker for each bound, all at once, against a server in a small memory, while a victim calls: nothing is killed, memory
//! comes back, and every call of the victim succeeds. So it is for those who got in, and for those who try to, by TLS and a token.
//!
//! `MSNB_ATTACK_SECONDS` says for how long; what was measured is printed (`--nocapture`).
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use rand::RngExt as _;
use rpc_client::Client;
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

/// What an attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Attack {
    /// Takes every connection that there is.
    Connections,
    /// Keeps more calls in flight than may be, for 49 days.
    InFlight,
    /// Asks for much and reads nothing.
    NeverReads,
    /// Sends frames byte for byte.
    Drips,
    /// Says that a long frame comes, and sends none of it.
    Promises,
    /// Sends frames over the limit.
    Overlong,
    /// Sends payloads that grow.
    Bombs,
    /// Sends payloads that pretend.
    Payloads,
    /// Sends all that the tests of single frames send.
    BadFrames,
    /// Sends what is no frame.
    Garbage,
    /// Pings.
    Pings,
    /// Begins calls and gives them up.
    Cancels,
    /// Makes calls that are to be remembered.
    Once,
    /// Begins handshakes of TLS and does not end them.
    Handshakes,
    /// Says what is no TLS, and what is nearly some.
    TlsGarbage,
    /// Speaks plain text where TLS is spoken.
    PlainText,
    /// Ends its handshake and proves nothing.
    Silent,
    /// Calls, pings and promises long frames before it has proved anything.
    Forward,
    /// Proves what is wrong.
    WrongTokens,
}

const INSIDE: [Attack; 13] = [
    Attack::Connections,
    Attack::InFlight,
    Attack::NeverReads,
    Attack::Drips,
    Attack::Promises,
    Attack::Overlong,
    Attack::Bombs,
    Attack::Payloads,
    Attack::BadFrames,
    Attack::Garbage,
    Attack::Pings,
    Attack::Cancels,
    Attack::Once,
];
const OUTSIDE: [Attack; 8] = [
    Attack::Connections,
    Attack::Garbage,
    Attack::Handshakes,
    Attack::TlsGarbage,
    Attack::PlainText,
    Attack::Silent,
    Attack::Forward,
    Attack::WrongTokens,
];
const SECRET: &str = "the secret of ann, the caller";

/// The longest frame that the besieged server takes.
const MAX_FRAME: u32 = 1 << 20;
const MEMORY: u64 = 256 << 20;
/// Between two rounds of an attacker: they are to meet every bound, not to take the machine's processors.
const PACE: Duration = Duration::from_millis(20);
/// Connections that an attacker holds, more than one address may.
const HELD: usize = 40;

static BOMBS: LazyLock<Vec<(u8, Vec<u8>)>> = LazyLock::new(seeds::bombs);
static PAYLOADS: LazyLock<Vec<(u8, Vec<u8>)>> = LazyLock::new(seeds::payloads);
static SESSIONS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds::callers(MAX_FRAME));

/// Attacks `at` from an address of its own, until it is dropped.
async fn attack(kind: Attack, from: Ipv4Addr, at: SocketAddr, authority: Arc<Authority>) {
    let mut held: Vec<Box<dyn Io>> = Vec::new();
    let mut pace = interval(PACE);
    for round in 0_usize.. {
        pace.tick().await;
        if held.len() >= HELD {
            held.drain(..HELD / 2);
        }
        // What goes wrong is what should.
        let _ = timeout(Duration::from_secs(2), assail(kind, round, &mut held, from, at, &authority)).await;
    }
}

/// One round.
async fn assail(
    kind: Attack,
    round: usize,
    held: &mut Vec<Box<dyn Io>>,
    from: Ipv4Addr,
    at: SocketAddr,
    authority: &Authority,
) -> io::Result<()> {
    let route = |method: &str| RawHead::route(&format!("test.Wire:1.0/{method}"));
    let for_long = |method: &str, time: u32| route(method).with(RawHead::TIMEOUT, time.to_be_bytes());
    match kind {
        Attack::Connections => held.push(Box::new(connect(from, at).await?)),
        Attack::InFlight => {
            let calls = (1..=200).flat_map(|id| RawFrame::request(id, &for_long("wait", u32::MAX), "{}").to_bytes());
            send_and_hold(held, from, at, &calls.collect::<Vec<u8>>()).await?;
        }
        Attack::NeverReads => {
            let call = |id| RawFrame::request(id, &route("zeros"), r#"{"count":500000}"#).to_bytes();
            send_and_hold(held, from, at, &(1..=60).flat_map(call).collect::<Vec<u8>>()).await?;
        }
        Attack::Drips => {
            if held.len() < 20 {
                held.push(Box::new(connect(from, at).await?));
            }
            let frame = RawFrame::request(1, &route("echo"), r#"{"text":""}"#).to_bytes();
            for stream in &mut *held {
                stream.write_all(&frame[round % frame.len()..][..1]).await?;
            }
        }
        Attack::Promises => {
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
            tell(from, at, &frame.to_bytes()).await?;
        }
        Attack::Payloads => {
            let (codec, payload) = &PAYLOADS[round % PAYLOADS.len()];
            for method in ["numbers", "nothings", "map", "bytes", "nest"] {
                tell(from, at, &RawFrame::request(1, &route(method), payload).with_codec(*codec).to_bytes()).await?;
            }
        }
        Attack::BadFrames => {
            tell(from, at, &SESSIONS[round % SESSIONS.len()]).await?;
        }
        Attack::Garbage => {
            let garbage: Vec<u8> = (0..1000).map(|_| rand::rng().random()).collect();
            tell(from, at, &garbage).await?;
        }
        Attack::Pings => tell(from, at, &RawFrame::empty(RawFrame::PING, 1).to_bytes().repeat(1000)).await?,
        Attack::Cancels => {
            let both = |id| {
                [
                    RawFrame::request(id, &route("wait"), "{}").to_bytes(),
                    RawFrame::empty(RawFrame::CANCEL, id).to_bytes(),
                ]
            };
            tell(from, at, &(1..=500).flat_map(both).flatten().collect::<Vec<u8>>()).await?;
        }
        Attack::Once => {
            let call = |id| {
                let key: [u8; 16] = rand::rng().random();
                let head = for_long("once_released", 1_000).with(RawHead::IDEMPOTENCY_KEY, key);
                RawFrame::request(id, &head, "{}").to_bytes()
            };
            tell(from, at, &(1..=60).flat_map(call).collect::<Vec<u8>>()).await?;
        }
        Attack::Handshakes => {
            // A ClientHello that promises more than a record.
            let hello = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff, 3, 3][..], &[0; 1000]].concat();
            send_and_hold(held, from, at, &hello).await?;
        }
        Attack::TlsGarbage => {
            let mut record: Vec<u8> = (0..1000).map(|_| rand::rng().random()).collect();
            record[..5].copy_from_slice(&[0x14 + (round % 6) as u8, 3, 3, 3, (round % 256) as u8]);
            tell(from, at, &record).await?;
        }
        Attack::PlainText => tell(from, at, &SESSIONS[round % SESSIONS.len()]).await?,
        Attack::Silent => held.push(Box::new(secured(from, at, authority).await?)),
        Attack::Forward => {
            let mut stream = secured(from, at, authority).await?;
            stream.write_all(&SESSIONS[round % SESSIONS.len()]).await?;
            stream.write_all(&RawFrame::empty(RawFrame::REQUEST, 1).header(MAX_FRAME)).await?;
            stream.flush().await?;
            held.push(Box::new(stream));
        }
        Attack::WrongTokens => {
            let mut stream = secured(from, at, authority).await?;
            let proof: Vec<u8> = (0..64).map(|_| rand::rng().random()).chain(*b"ann").collect();
            stream.write_all(&RawFrame::empty(RawFrame::PROOF, 0).with_body(proof).to_bytes()).await?;
            stream.flush().await?;
            read_to_end(stream).await?;
        }
    }
    Ok(())
}

/// A connection whose handshake has ended.
async fn secured(from: Ipv4Addr, at: SocketAddr, authority: &Authority) -> io::Result<TlsStream<TcpStream>> {
    authority.connect(connect(from, at).await?, &["msnb/1"]).await
}

async fn connect(from: Ipv4Addr, at: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(at).await
}

async fn send_and_hold(held: &mut Vec<Box<dyn Io>>, from: Ipv4Addr, at: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = connect(from, at).await?;
    stream.write_all(bytes).await?;
    held.push(Box::new(stream));
    Ok(())
}

/// Says this, closes the sending side, and reads to the end.
async fn tell(from: Ipv4Addr, at: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = connect(from, at).await?;
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    read_to_end(stream).await
}

async fn read_to_end(mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut rest = vec![0; 64 << 10];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Calls for that long, two calls at a time; says how long each took, in order.
async fn calls(wire: &WireClient<Client>, at: SocketAddr, time: Duration) -> Vec<Duration> {
    let caller = async || {
        let mut took = Vec::new();
        let (began, mut pace) = (Instant::now(), interval(Duration::from_millis(2)));
        while began.elapsed() < time {
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

fn told(took: &[Duration]) -> String {
    let at = |share: usize| took[(took.len() * share / 1000).min(took.len() - 1)];
    format!("{} calls, p50 {:?}, p99 {:?}, longest {:?}", took.len(), at(500), at(990), at(999))
}

/// Calls in peace, and while all these attack; then all that they held is given back.
async fn besiege(mut server: Besieged, attacks: &[Attack], authority: Authority, new_client: impl Fn() -> Client) {
    let seconds = std::env::var("MSNB_ATTACK_SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    let (time, authority) = (Duration::from_secs(seconds), Arc::new(authority));
    // Made before anybody's time is taken.
    assert!(!BOMBS.is_empty() && !PAYLOADS.is_empty() && !SESSIONS.is_empty());
    server.limit(Resource::Data, MEMORY);
    let at = server.address();
    let wire = WireClient::new(new_client());
    let quiet = calls(&wire, at, time).await;
    let before = server.memory();

    let mut attackers = JoinSet::new();
    for (number, kind) in (10..).zip(attacks) {
        attackers.spawn(attack(*kind, Ipv4Addr::new(127, 0, 0, number), at, Arc::clone(&authority)));
    }
    let attacked = calls(&wire, at, time).await;
    // Who comes now is served as well.
    let late = WireClient::new(new_client());
    assert_eq!(late.echo("x".to_owned()).address(at).timeout(Duration::from_secs(30)).await.unwrap(), "x");
    server.assert_lives();
    let most = server.most_memory();
    assert!(most < MEMORY, "{} MiB", most >> 20);
    assert_eq!(attackers.len(), attacks.len());
    assert!(attackers.try_join_next().is_none(), "every attacker is at it to the end");
    attackers.shutdown().await;

    let bound = before + (64 << 20);
    in_time(async {
        while server.memory() > bound || server.descriptors() > 32 {
            tokio::time::sleep(PACE).await;
            assert_eq!(wire.echo("x".to_owned()).address(at).await.unwrap(), "x");
        }
    })
    .await;
    server.assert_lives();
    println!("quiet: {}", told(&quiet));
    println!("attacked: {}", told(&attacked));
    println!("memory: {} MiB before, {} MiB at most, {} MiB after", before >> 20, most >> 20, server.memory() >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_victim_is_served_while_every_bound_is_attacked() {
    let server = Besieged::start(env!("CARGO_BIN_EXE_tests-besieged"), &[]).await;
    besiege(server, &INSIDE, Authority::new(), || Client::builder().build().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_victim_is_served_while_others_try_to_get_in() {
    let authority = Authority::new();
    let issued = authority.issue("server", &["127.0.0.1"]);
    let tokens = authority.ca().with_file_name("tokens");
    fs::write(&tokens, format!("ann:{SECRET}\n")).unwrap();
    let files = [&*issued.certificate, &issued.key, &tokens];
    let server = Besieged::start(env!("CARGO_BIN_EXE_tests-besieged"), &files).await;
    let ca = authority.ca();
    let client = || Client::builder().tls(ClientTls::new(&ca)).token(Token::new("ann", SECRET).unwrap());
    besiege(server, &OUTSIDE, authority, || client().build().unwrap()).await;
}
