//! [`run`]: TLS and the token proof, before a connection serves.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rpc_core::{
    AcceptedTokens, Code, Peer, ProvedToken, Status, deadline_after,
    frame::{Frame, FrameType, Violation},
    proof::{Binding, Challenge, NO_BINDING, Proof},
    transport::{FrameReader, Inbound, Io, SocketWrites, Traffic},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout, timeout_at},
};

use super::detect::{Detected, challenge_delay, detect};
use crate::{
    connection::{goaway, rejection},
    credentials::{Credentials, Proved},
    endpoint::EndpointHandler,
};

/// A connection after its handshake.
pub(crate) struct Established {
    pub(crate) io: Box<dyn Io>,
    pub(crate) peer: Peer,
    pub(crate) proved: Proved,
    /// Holds the bytes that the handshake has read beyond its own frames.
    pub(crate) reader: FrameReader,
    /// The bytes that the socket has accepted, if the connection is encrypted.
    pub(crate) socket_writes: Option<SocketWrites>,
}

/// The result of a handshake.
pub(crate) enum Handshake {
    Msnb(Established),
    /// A connection of an endpoint, whose callers present their tokens with their calls.
    Endpoint(Claimed),
}

/// A connection that an endpoint has claimed.
pub(crate) struct Claimed {
    pub(crate) handler: Arc<dyn EndpointHandler>,
    pub(crate) io: Box<dyn Io>,
    /// The bytes that were read to detect the protocol.
    pub(crate) start: Bytes,
    pub(crate) peer: Peer,
    pub(crate) proved: Proved,
    /// The ALPN protocol.
    pub(crate) protocol: Option<Vec<u8>>,
}

/// A connection after its TLS handshake, if the server requires TLS.
struct Secure {
    io: Box<dyn Io>,
    peer: Peer,
    binding: Binding,
    proved: Proved,
    socket_writes: Option<SocketWrites>,
    /// Whether the peer uses TLS for another protocol than msnb, and the name of that in ALPN.
    other: Option<Option<Vec<u8>>>,
}

/// The reason why a handshake failed. The server has sent it to the peer where that is possible.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The handshake did not finish within this time.
    Timeout(Duration),
    /// The certificate or the token is not accepted.
    Rejected(rpc_core::Error),
    /// The peer violated the protocol.
    Violation(Violation),
    /// The connection failed.
    Io(io::Error),
}

/// Runs the handshake within `time`, and adds the bytes that it reads and writes to `traffic`.
pub(crate) async fn run(
    credentials: &Credentials,
    io: Box<dyn Io>,
    peer: Peer,
    time: Duration,
    traffic: &Traffic,
    endpoints: &[Arc<dyn EndpointHandler>],
) -> Result<Handshake, HandshakeError> {
    let deadline = deadline_after(Instant::now(), time);
    let proved = credentials.nothing_proved();
    let secured = timeout_at(deadline, secure(credentials, io, peer, proved));
    let secured = secured.await.map_err(|_| HandshakeError::Timeout(time))??;
    let Secure { mut io, peer, binding, mut proved, socket_writes, other } = secured;
    let mut reader = FrameReader::new(MAX_HANDSHAKE_FRAME);
    // A connection with TLS has stated by ALPN that it is one of msnb.
    if let Some(protocol) = other {
        return claim(endpoints, io, peer, proved, protocol, deadline).await;
    }
    if !endpoints.is_empty() && !credentials.is_encrypted() {
        let until = Instant::now() + challenge_delay(time);
        let mut start = BytesMut::new();
        match detect(&mut io, &mut start, endpoints, until).await.map_err(HandshakeError::Io)? {
            Detected::Endpoint(handler) => {
                let start = start.freeze();
                return Ok(Handshake::Endpoint(Claimed { handler, io, start, peer, proved, protocol: None }));
            }
            Detected::Msnb | Detected::Silent => {
                traffic.add(start.len() as u64, 0);
                reader.read_buffer().extend_from_slice(&start);
            }
        }
    }
    let Some(tokens) = &credentials.tokens else {
        return Ok(Handshake::Msnb(Established { io, peer, proved, reader, socket_writes }));
    };
    let mut exchange = TokenExchange { io: &mut io, reader, traffic };
    let verified = timeout_at(deadline, exchange.verify(tokens, &binding));
    match verified.await.unwrap_or(Err(HandshakeError::Timeout(time))) {
        Ok(token) => {
            let reader = exchange.reader;
            let peer = peer.clone().with_identity(peer.identity().clone().with_token(token.name()));
            proved.token = Some(token);
            Ok(Handshake::Msnb(Established { io, peer, proved, reader, socket_writes }))
        }
        Err(error) => {
            // Limited separately, so that a peer that reads nothing does not hold its connection.
            let _ = timeout(LINGER, exchange.send_goaway(&error)).await;
            Err(error)
        }
    }
}

/// Finds the endpoint of a connection with TLS whose peer has not agreed on msnb.
async fn claim(
    endpoints: &[Arc<dyn EndpointHandler>],
    mut io: Box<dyn Io>,
    peer: Peer,
    proved: Proved,
    protocol: Option<Vec<u8>>,
    deadline: Instant,
) -> Result<Handshake, HandshakeError> {
    let mut start = BytesMut::new();
    let agreed = |name: &Vec<u8>| endpoints.iter().find(|endpoint| endpoint.protocols().contains(&&name[..]));
    let handler = match &protocol {
        Some(name) => agreed(name).map(Arc::clone),
        None => match detect(&mut io, &mut start, endpoints, deadline).await.map_err(HandshakeError::Io)? {
            Detected::Endpoint(handler) => Some(handler),
            Detected::Msnb | Detected::Silent => None,
        },
    };
    let Some(handler) = handler else {
        return Err(rejected("the peer uses TLS without an ALPN protocol of this server"));
    };
    Ok(Handshake::Endpoint(Claimed { handler, io, start: start.freeze(), peer, proved, protocol }))
}

#[cfg(feature = "tls")]
async fn secure(
    credentials: &Credentials,
    io: Box<dyn Io>,
    peer: Peer,
    mut proved: Proved,
) -> Result<Secure, HandshakeError> {
    let Some(tls) = &credentials.tls else { return Ok(Secure::plain(io, peer, proved)) };
    let secured = tls.accept(io).await.map_err(HandshakeError::Rejected)?;
    proved.certificate = secured.certificate;
    Ok(Secure {
        io: secured.io,
        peer: peer.with_identity(secured.identity),
        binding: secured.binding,
        proved,
        socket_writes: Some(secured.socket_writes),
        other: secured.is_other.then_some(secured.protocol),
    })
}

#[cfg(not(feature = "tls"))]
async fn secure(_: &Credentials, io: Box<dyn Io>, peer: Peer, proved: Proved) -> Result<Secure, HandshakeError> {
    Ok(Secure::plain(io, peer, proved))
}

impl Secure {
    fn plain(io: Box<dyn Io>, peer: Peer, proved: Proved) -> Self {
        Self { io, peer, binding: NO_BINDING, proved, socket_writes: None, other: None }
    }
}

impl HandshakeError {
    /// Returns whether the peer completed its part, and the server rejects what it presented.
    ///
    /// A peer that only closes its connection, such as a health check, is not rejected.
    pub(crate) fn is_rejection(&self) -> bool {
        let Self::Rejected(error) = self else { return false };
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.is_none_or(|cause| cause.kind() == io::ErrorKind::InvalidData)
    }
}

/// The exchange of a challenge and a token proof with a peer.
struct TokenExchange<'a> {
    io: &'a mut Box<dyn Io>,
    reader: FrameReader,
    traffic: &'a Traffic,
}

impl TokenExchange<'_> {
    /// Sends a challenge, and returns the token that the peer proves.
    async fn verify(&mut self, tokens: &AcceptedTokens, binding: &Binding) -> Result<ProvedToken, HandshakeError> {
        tokens.refresh().await;
        let challenge = Challenge::random();
        self.send(&challenge.to_frame()).await?;
        for _ in 0..MAX_HANDSHAKE_FRAMES {
            let frame = self.receive().await?;
            match frame.header.frame_type {
                FrameType::Proof => {
                    let token = Proof::read(&frame.body).and_then(|proof| proof.verify(tokens, challenge, binding));
                    return token.ok_or_else(|| rejected("the token is not accepted here"));
                }
                FrameType::Request if frame.header.id == 0 => return Err(HandshakeError::Violation(Violation::ZeroId)),
                FrameType::Request => {
                    let status =
                        Status::new(Code::Unauthenticated, "the connection must prove a token before it calls");
                    self.send(&rejection(frame.header, status)).await?;
                }
                // Pings receive no pong, because a pong proves to a client that the server serves its calls.
                _ => {}
            }
        }
        Err(rejected("too many frames arrived before the token proof"))
    }

    async fn receive(&mut self) -> Result<Frame, HandshakeError> {
        loop {
            match self.reader.next_frame().map_err(HandshakeError::Violation)? {
                Some(Inbound::Frame(frame)) => return Ok(frame),
                Some(Inbound::Overlong(header)) => {
                    let violation = Violation::TooLong { length: header.full_length, limit: MAX_HANDSHAKE_FRAME };
                    return Err(HandshakeError::Violation(violation));
                }
                None => {}
            }
            let count = self.io.read_buf(self.reader.read_buffer()).await.map_err(HandshakeError::Io)?;
            if count == 0 {
                return Err(HandshakeError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            self.reader.filled(count);
            self.traffic.add(count as u64, 0);
        }
    }

    async fn send(&mut self, frame: &Frame) -> Result<(), HandshakeError> {
        let mut bytes = BytesMut::new();
        frame.write(&mut bytes);
        self.io.write_all(&bytes).await.map_err(HandshakeError::Io)?;
        self.traffic.add(0, bytes.len() as u64);
        self.io.flush().await.map_err(HandshakeError::Io)
    }

    /// Sends the reason, and reads until the peer closes.
    ///
    /// Unread bytes would reset the connection before the peer has read GOAWAY.
    async fn send_goaway(&mut self, error: &HandshakeError) {
        let message = match error {
            HandshakeError::Timeout(time) => {
                format!("token proof did not arrive within {time:?} (ServerConfig::handshake_time)")
            }
            HandshakeError::Rejected(error) => error.message().to_owned(),
            HandshakeError::Violation(_) | HandshakeError::Io(_) => return,
        };
        if self.send(&goaway(Code::Unauthenticated, message)).await.is_ok() && self.io.shutdown().await.is_ok() {
            let mut discarded = [0; 1024];
            while self.io.read(&mut discarded).await.is_ok_and(|count| count > 0) {}
        }
    }
}

fn rejected(message: &'static str) -> HandshakeError {
    HandshakeError::Rejected(rpc_core::Error::not_executed(Code::Unauthenticated, message))
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(time) => write!(f, "not finished within {time:?} (ServerConfig::handshake_time)"),
            Self::Rejected(error) => f.write_str(error.message()),
            Self::Violation(violation) => write!(f, "protocol violation: {violation}"),
            Self::Io(error) => write!(f, "connection failed: {error}"),
        }
    }
}

/// The longest frame of a peer during the handshake, in bytes, header included.
const MAX_HANDSHAKE_FRAME: u32 = 4 << 10;
/// The maximum number of frames of a peer during the handshake.
const MAX_HANDSHAKE_FRAMES: usize = 16;
/// How long a rejected peer may take to read the reason.
const LINGER: Duration = Duration::from_secs(1);
