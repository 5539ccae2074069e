//! What the bytes of a whole connection may do to a server: nothing but be answered, be refused, or end that connection.
//!
//! The function takes any bytes and panics when something does not hold that must. `cargo fuzz` calls it with libFuzzer's input
//! (`fuzz_targets/`), and `tests/tests/fuzz.rs` with input of its own, on every toolchain.

mod expected;
mod listener;
mod service;

use std::{collections::BTreeMap, future::pending, io, time::Duration};

use bytes::{BufMut, BytesMut};
use rpc_core::{
    frame::{Frame, FrameType, HEADER_LEN},
    head::ResponseHead,
    transport::{FrameReader, Inbound, TransportConfig},
};
use rpc_server::{Server, ServerConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::timeout,
};

use self::{
    expected::Expected,
    listener::{Door, Listener},
    service::{Served, WireServer},
};

/// Plays the bytes to a server as one connection, in simulated time. The first byte says how much of an answer waits unread and
/// whether it is read at all, the second into which pieces the rest is split.
///
/// Whatever they are: no call has more than one answer, a session that keeps the protocol has one for each call, and others are
/// served meanwhile and afterwards.
pub fn server_session(input: &[u8]) {
    let Some((&[how, pieces], session)) = input.split_first_chunk::<2>() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be made").block_on(async {
        let (door, listener) = Listener::new();
        let server = Server::builder().service(WireServer::new(Served)).config(config());
        let server = server.listen(listener).await.expect("the config is valid");
        let scene = async {
            tokio::join!(attack(&door, how, pieces, session), bystander(&door));
            bystander(&door).await;
        };
        tokio::select! {
            ended = server.run_until(pending::<()>()) => panic!("the server ended: {ended:?}"),
            played = timeout(LONG, scene) => played.expect("every connection ends"),
        }
    });
}

/// Small numbers, so that small input meets them.
fn config() -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport.max_frame = MAX_FRAME;
    transport.outbox = 4 << 10;
    ServerConfig::default().with_max_in_flight(8).with_max_decompressed(256 << 10).with_transport(transport)
}

async fn attack(door: &Door, how: u8, pieces: u8, session: &[u8]) {
    let reads = how & 1 == 0;
    let stream = door.connect(64 << (how >> 1 & 7)).await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let says = async {
        for piece in session.chunks(usize::from(pieces).max(1) * 16) {
            // A connection that is closed takes no more.
            if writer.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = writer.shutdown().await;
    };
    let hears = async {
        let mut answers = Vec::new();
        if reads {
            reader.read_to_end(&mut answers).await.expect("the end is told in order");
        }
        answers
    };
    let ((), answers) = tokio::join!(says, hears);
    let heard = count(&answers);
    let expected = Expected::of(session, MAX_FRAME);
    for (id, count) in &heard {
        let asked = expected.requests(*id);
        assert!(*count <= asked, "{count} answers to {asked} calls with id {id}");
    }
    if let (true, Some(calls)) = (reads, expected.answered()) {
        assert!(calls.iter().all(|id| heard.contains_key(id)), "calls {calls:?} should be answered, and are {heard:?}");
    }
}

/// How many answers came to which id. All that a server says is well-formed.
fn count(answers: &[u8]) -> BTreeMap<u32, usize> {
    let mut heard = BTreeMap::new();
    let mut reader = FrameReader::new(FrameReader::MAX_FRAME);
    reader.read_buffer().put_slice(answers);
    while let Some(inbound) = reader.next_frame().expect("a server says frames") {
        let Inbound::Frame(Frame { header, mut body }) = inbound else { panic!("a frame over the limit: {inbound:?}") };
        assert!(header.full_length <= MAX_FRAME, "a frame of {} bytes", header.full_length);
        match header.frame_type {
            FrameType::Response => {
                let head = ResponseHead::take(&mut body).expect("a head is well-formed");
                assert!(!head.status.message().contains("panicked"), "no handler panics");
                *heard.entry(header.id).or_default() += 1;
            }
            FrameType::Ping | FrameType::Pong => assert_eq!(header.full_length as usize, HEADER_LEN),
            other => panic!("a server that does not drain says no {other:?}"),
        }
    }
    // A connection that breaks may do so within a frame.
    heard
}

/// One who is served whatever others do.
async fn bystander(door: &Door) {
    let mut stream = door.connect(1024).await;
    stream.write_all(ECHO).await.expect("the connection is open");
    let answer = timeout(Duration::from_secs(1), read_frame(&mut stream)).await.expect("it is answered in time");
    assert_eq!(answer.expect("the connection stays open"), ECHOED);
}

async fn read_frame(stream: &mut DuplexStream) -> io::Result<Vec<u8>> {
    let mut frame = BytesMut::zeroed(ECHOED.len());
    stream.read_exact(&mut frame).await?;
    Ok(frame.to_vec())
}

const MAX_FRAME: u32 = 64 << 10;
/// Longer than the 49 days that a call may take.
const LONG: Duration = Duration::from_secs(60 * 24 * 3600);
/// A call of `echo` in JSON, and its answer.
const ECHO: &[u8] = b"msnb\x01\0\0\0\x37\x01\x03\0\0\0\0\x01\0\x15\x01\0\x12test.Wire:1.0/echo{\"text\":\"still\"}";
const ECHOED: &[u8] = b"msnb\x01\0\0\0\x19\x02\x03\0\0\0\0\x01\0\0\"still\"";
