//! Checks of a server that reads arbitrary bytes as one connection.

use std::{collections::BTreeMap, future::pending, io, time::Duration};

use bytes::{BufMut, BytesMut};
use rpc_core::{
    Code, Token, Tokens,
    frame::{Frame, FrameType, HEADER_LEN},
    head::ResponseHead,
    proof::{Challenge, Proof},
    transport::{Credit, FrameReader, Inbound, TransportConfig},
};
use rpc_server::{Server, ServerConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::timeout,
};

use super::{
    expected::{Calls, Expected},
    filled::filled,
    listener::{ADDRESS, Connector, Listener},
    service::{Served, WireServer},
};

/// Sends the bytes to a server as one connection, in simulated time.
///
/// The first byte sets the buffer of the connection, whether the peer reads the answers, and whether the server
/// requires a token; the second byte sets the size of the pieces in which the remaining bytes are sent. Each `~~~~` in
/// them stands for 16 KiB.
///
/// # Panics
///
/// When a call has more than one answer, when a session that follows the protocol lacks an answer, when a stream of the
/// server has items before its acceptance, behind its end or without credit, or when another connection is not served
/// in the meantime and afterwards.
pub fn server_session(input: &[u8]) {
    let Some((&[how, pieces], session)) = input.split_first_chunk::<2>() else { return };
    let session = &filled(session)[..];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("the runtime builds").block_on(async {
        let (connector, listener) = Listener::new();
        let guarded = how & 16 != 0;
        let mut server = Server::builder().service(WireServer::new(Served)).config(config());
        if guarded {
            server = server.require_token(Tokens::new().with(NAME, SECRET).expect("a valid token"));
        }
        let server = server.listen(listener).await.expect("the config is valid");
        let scene = async {
            tokio::join!(attack(&connector, how, pieces, session), bystander(&connector, guarded));
            bystander(&connector, guarded).await;
        };
        tokio::select! {
            ended = server.run_until(pending::<()>()) => panic!("the server ended: {ended:?}"),
            played = timeout(LONGER_THAN_A_CALL, scene) => played.expect("every connection ends"),
        }
    });
}

/// Low limits, so that short input reaches them.
fn config() -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport.max_frame = MAX_FRAME;
    transport.outbox = 4 << 10;
    ServerConfig::default().with_max_in_flight(8).with_max_decompressed(256 << 10).with_transport(transport)
}

async fn attack(connector: &Connector, how: u8, pieces: u8, session: &[u8]) {
    let (reads, guarded) = (how & 1 == 0, how & 16 != 0);
    let mut stream = connector.connect(ADDRESS, 64 << (how >> 1 & 7)).await;
    let proved_at = session.windows(PROOF.len()).position(|window| window == PROOF).filter(|_| guarded);
    let session = match proved_at {
        Some(at) => [&session[..at], &proof(&mut stream).await, &session[at + PROOF.len()..]].concat(),
        None => session.to_vec(),
    };
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sends = async {
        for piece in session.chunks(usize::from(pieces).max(1) * 16) {
            // The server has closed the connection.
            if writer.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = writer.shutdown().await;
    };
    let receives = async {
        let mut answers = Vec::new();
        if reads {
            reader.read_to_end(&mut answers).await.expect("the connection ends by an orderly close");
        }
        answers
    };
    let ((), answers) = tokio::join!(sends, receives);
    let received = Received::of(&answers, guarded);
    let expected = Expected::of(&session, MAX_FRAME);
    for (id, answers) in &received.answers {
        answers.check(*id, expected.calls(*id).unwrap_or(&Calls::default()));
    }
    assert!(!received.served || !guarded || proved_at.is_some(), "the server serves a peer without a token proof");
    // Frames before the token proof have limits of their own.
    let is_admitted = !guarded || proved_at == Some(0);
    if let (true, true, Some(calls)) = (reads, is_admitted, expected.answered()) {
        let answered = calls.iter().all(|id| received.answers.get(id).is_some_and(|answers| answers.responses > 0));
        assert!(answered, "calls {calls:?} should be answered, received are {:?}", received.answers);
    }
}

/// Reads the challenge of a server that requires a token, and returns the frame that proves the token.
async fn proof(stream: &mut DuplexStream) -> Vec<u8> {
    let challenge = read_frame(stream, HEADER_LEN + 32).await.expect("the server sends a challenge first");
    let challenge = Challenge::read(&challenge[HEADER_LEN..]).expect("a challenge has 32 bytes");
    let token = Token::new(NAME, SECRET).expect("a valid token");
    let mut proof = BytesMut::new();
    Proof::new(&token, challenge, &[0; 32], [7; 32]).to_frame().write(&mut proof);
    proof.to_vec()
}

/// The frames that the server sent. All of them are well-formed.
#[derive(Default)]
struct Received {
    /// The answers by their id.
    answers: BTreeMap<u32, Answers>,
    /// Whether the server sent anything but rejections for a missing token proof.
    served: bool,
}

impl Received {
    fn of(bytes: &[u8], guarded: bool) -> Self {
        let mut received = Self::default();
        let mut reader = FrameReader::new(FrameReader::MAX_FRAME);
        reader.read_buffer().put_slice(bytes);
        while let Some(inbound) = reader.next_frame().expect("a server sends well-formed frames") {
            let Inbound::Frame(frame) = inbound else { panic!("a frame over the limit: {inbound:?}") };
            received.take(frame, guarded);
        }
        // An aborted connection may end within a frame, so the last one may be incomplete.
        received
    }

    fn take(&mut self, Frame { header, mut body }: Frame, guarded: bool) {
        assert!(header.full_length <= MAX_FRAME, "a frame of {} bytes", header.full_length);
        match header.frame_type {
            FrameType::Response => {
                let head = ResponseHead::take(&mut body).expect("a server sends well-formed heads");
                assert!(!head.status.message().contains("panicked"), "a handler panicked");
                let answers = self.answers.entry(header.id).or_default();
                answers.responses += 1;
                answers.accepted += usize::from(head.status.code() == Code::Ok);
                self.served |= head.status.code() != Code::Unauthenticated;
            }
            FrameType::CalleeItem => self.answers.entry(header.id).or_default().item(header.id, body.len()),
            FrameType::CalleeEnd => {
                let head = ResponseHead::take(&mut body).expect("a server sends well-formed heads");
                assert!(!head.status.message().contains("panicked"), "a handler panicked");
                let answers = self.answers.entry(header.id).or_default();
                answers.ends += 1;
                assert!(answers.ends <= answers.accepted, "an END without an acceptance of call {}", header.id);
            }
            FrameType::CalleeCredit => {
                let answers = self.answers.entry(header.id).or_default();
                let granted = u32::from_be_bytes(body[..].try_into().expect("credit is a u32"));
                assert!(granted > 0, "credit of 0");
                answers.has_credit = true;
            }
            FrameType::Ping | FrameType::Pong => {
                assert_eq!(header.full_length as usize, HEADER_LEN);
                self.served = true;
            }
            FrameType::Settings | FrameType::Ack | FrameType::Digests => {}
            FrameType::Challenge | FrameType::Goaway if guarded => {}
            other => panic!("unexpected frame from a server that does not drain: {other:?}"),
        }
    }
}

/// The frames that the server sent with one id.
#[derive(Debug, Default)]
struct Answers {
    responses: usize,
    /// The number of responses with code 0.
    accepted: usize,
    ends: usize,
    /// The cost of all items except the last one, which may exceed the credit.
    spent: u64,
    last_cost: u64,
    /// Whether the server granted credit.
    has_credit: bool,
}

impl Answers {
    fn item(&mut self, id: u32, length: usize) {
        assert!(self.accepted > self.ends, "an item before the acceptance or behind the end of call {id}");
        self.spent += self.last_cost;
        self.last_cost = Credit::cost(length);
    }

    fn check(&self, id: u32, calls: &Calls) {
        let (responses, requests) = (self.responses, calls.requests);
        assert!(responses <= requests, "{responses} answers to {requests} requests with id {id}");
        assert!(self.ends <= calls.expecting, "{} ENDs for {} streams with id {id}", self.ends, calls.expecting);
        assert!(!self.has_credit || calls.sends(), "credit for call {id}, which sends nothing");
        // A compressed item costs more. Each of several calls with the id has an initial credit and a last item.
        if calls.requests == 1 && self.last_cost > 0 {
            let credit = u64::from(Credit::INITIAL) + calls.granted;
            assert!(self.spent < credit, "items for {} bytes of a credit of {credit} for call {id}", self.spent);
        }
    }
}

/// A well-behaved client, which the server must serve during and after the attack.
async fn bystander(connector: &Connector, guarded: bool) {
    let mut stream = connector.connect(ADDRESS, 1024).await;
    if guarded {
        let proof = proof(&mut stream).await;
        stream.write_all(&proof).await.expect("the connection is open");
    }
    stream.write_all(ECHO).await.expect("the connection is open");
    let answer = timeout(Duration::from_secs(1), read_frame(&mut stream, ECHOED.len()))
        .await
        .expect("the call is answered in time");
    assert_eq!(answer.expect("the connection stays open"), ECHOED);
}

async fn read_frame(stream: &mut DuplexStream, length: usize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

const MAX_FRAME: u32 = 64 << 10;
/// The placeholder in the input for the frame of the token proof.
const PROOF: &[u8] = b"----";
const NAME: &str = "ann";
const SECRET: &str = "the secret of ann, the caller";
/// Longer than the longest call, which takes 49 days.
const LONGER_THAN_A_CALL: Duration = Duration::from_secs(60 * 24 * 3600);
/// A request of `echo` in JSON, and its response.
const ECHO: &[u8] = b"msnb\x01\0\0\0\x37\x01\x03\0\0\0\0\x01\0\x15\x01\0\x12test.Wire:1.0/echo{\"text\":\"still\"}";
const ECHOED: &[u8] = b"msnb\x01\0\0\0\x19\x02\x03\0\0\0\0\x01\0\0\"still\"";
