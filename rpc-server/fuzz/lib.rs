//! What the bytes of a whole connection may do to a server: nothing but be answered, be refused, or end that connection.
//!
//! The function takes any bytes and panics when something does not hold that must. `cargo fuzz` calls it with libFuzzer's input
//! (`fuzz_targets/`), and `tests/tests/robustness/fuzz.rs` with input of its own, on every toolchain.

mod expected;
pub mod listener;
mod service;

use std::{collections::BTreeMap, future::pending, io, time::Duration};

use bytes::{BufMut, BytesMut};
use rpc_core::{
    Code, Token, Tokens,
    frame::{Frame, FrameType, HEADER_LEN},
    head::ResponseHead,
    proof::{Challenge, Proof},
    transport::{FrameReader, Inbound, TransportConfig},
};
use rpc_server::{Server, ServerConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::timeout,
};

use self::{
    expected::Expected,
    listener::{ADDRESS, Door, Listener},
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
        let guarded = how & 16 != 0;
        let mut server = Server::builder().service(WireServer::new(Served)).config(config());
        if guarded {
            server = server.require_token(Tokens::new().with(NAME, SECRET).expect("a valid token"));
        }
        let server = server.listen(listener).await.expect("the config is valid");
        let scene = async {
            tokio::join!(attack(&door, how, pieces, session), bystander(&door, guarded));
            bystander(&door, guarded).await;
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
    let (reads, guarded) = (how & 1 == 0, how & 16 != 0);
    let mut stream = door.connect(ADDRESS, 64 << (how >> 1 & 7)).await;
    let proved_at = session.windows(PROOF.len()).position(|window| window == PROOF).filter(|_| guarded);
    let session = match proved_at {
        Some(at) => [&session[..at], &proof(&mut stream).await, &session[at + PROOF.len()..]].concat(),
        None => session.to_vec(),
    };
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
    let heard = Heard::of(&answers, guarded);
    let expected = Expected::of(&session, MAX_FRAME);
    for (id, count) in &heard.answers {
        let asked = expected.requests(*id);
        assert!(*count <= asked, "{count} answers to {asked} calls with id {id}");
    }
    assert!(!heard.served || !guarded || proved_at.is_some(), "somebody is served who has proved nothing");
    // What comes before a proof has bounds of its own.
    let is_let_in = !guarded || proved_at == Some(0);
    if let (true, true, Some(calls)) = (reads, is_let_in, expected.answered()) {
        let answered = calls.iter().all(|id| heard.answers.contains_key(id));
        assert!(answered, "calls {calls:?} should be answered, and are {:?}", heard.answers);
    }
}

/// Takes the challenge of a server that requires a token; gives the frame that proves it.
async fn proof(stream: &mut DuplexStream) -> Vec<u8> {
    let challenge = read_frame(stream, HEADER_LEN + 32).await.expect("the server asks for a token first");
    let challenge = Challenge::read(&challenge[HEADER_LEN..]).expect("a challenge has 32 bytes");
    let token = Token::new(NAME, SECRET).expect("a valid token");
    let mut proof = BytesMut::new();
    Proof::new(&token, challenge, &[0; 32], [7; 32]).to_frame().write(&mut proof);
    proof.to_vec()
}

/// What a server said. All of it is well-formed.
#[derive(Default)]
struct Heard {
    /// How many answers came to which id.
    answers: BTreeMap<u32, usize>,
    /// Whether anything but a refusal for want of a proof was among them.
    served: bool,
}

impl Heard {
    fn of(said: &[u8], guarded: bool) -> Self {
        let mut heard = Self::default();
        let mut reader = FrameReader::new(FrameReader::MAX_FRAME);
        reader.read_buffer().put_slice(said);
        while let Some(inbound) = reader.next_frame().expect("a server says frames") {
            let Inbound::Frame(frame) = inbound else { panic!("a frame over the limit: {inbound:?}") };
            heard.take(frame, guarded);
        }
        // A connection that breaks may do so within a frame.
        heard
    }

    fn take(&mut self, Frame { header, mut body }: Frame, guarded: bool) {
        assert!(header.full_length <= MAX_FRAME, "a frame of {} bytes", header.full_length);
        match header.frame_type {
            FrameType::Response => {
                let head = ResponseHead::take(&mut body).expect("a head is well-formed");
                assert!(!head.status.message().contains("panicked"), "no handler panics");
                *self.answers.entry(header.id).or_default() += 1;
                self.served |= head.status.code() != Code::Unauthenticated;
            }
            FrameType::Ping | FrameType::Pong => {
                assert_eq!(header.full_length as usize, HEADER_LEN);
                self.served = true;
            }
            FrameType::Challenge | FrameType::Goaway if guarded => {}
            other => panic!("a server that does not drain says no {other:?}"),
        }
    }
}

/// One who is served whatever others do.
async fn bystander(door: &Door, guarded: bool) {
    let mut stream = door.connect(ADDRESS, 1024).await;
    if guarded {
        let proof = proof(&mut stream).await;
        stream.write_all(&proof).await.expect("the connection is open");
    }
    stream.write_all(ECHO).await.expect("the connection is open");
    let answer =
        timeout(Duration::from_secs(1), read_frame(&mut stream, ECHOED.len())).await.expect("it is answered in time");
    assert_eq!(answer.expect("the connection stays open"), ECHOED);
}

async fn read_frame(stream: &mut DuplexStream, length: usize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

const MAX_FRAME: u32 = 64 << 10;
/// Stands for the proof of the token.
const PROOF: &[u8] = b"----";
const NAME: &str = "ann";
const SECRET: &str = "the secret of ann, the caller";
/// Longer than the 49 days that a call may take.
const LONG: Duration = Duration::from_secs(60 * 24 * 3600);
/// A call of `echo` in JSON, and its answer.
const ECHO: &[u8] = b"msnb\x01\0\0\0\x37\x01\x03\0\0\0\0\x01\0\x15\x01\0\x12test.Wire:1.0/echo{\"text\":\"still\"}";
const ECHOED: &[u8] = b"msnb\x01\0\0\0\x19\x02\x03\0\0\0\0\x01\0\0\"still\"";
