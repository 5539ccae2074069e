//! [`Entrance`]: what a connection goes through before it is served: TLS, and the proof of a token.

use std::{borrow::Cow, fmt, io, time::Duration};

use bytes::BytesMut;
use rpc_core::{
    AcceptedTokens, Code, Metadata, Peer, Status,
    frame::{Frame, FrameType, Header, Violation},
    head::ResponseHead,
    proof::{Binding, Challenge, PLAIN, Proof},
    transport::{FrameReader, Inbound, Io, Traffic},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout, timeout_at},
};

/// What a server asks of those who connect, before it serves them.
#[derive(Debug, Default)]
pub(crate) struct Entrance {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<rpc_core::tls::LoadedServerTls>,
    pub(crate) tokens: Option<AcceptedTokens>,
}

/// A connection that is to be served.
pub(crate) struct Entered {
    pub(crate) io: Box<dyn Io>,
    pub(crate) peer: Peer,
    /// What was read of it already.
    pub(crate) reader: FrameReader,
}

/// Why a connection is not served. The peer was told, where that is possible.
#[derive(Debug)]
pub(crate) enum TurnedAway {
    /// It did not prove itself in time.
    Late(Duration),
    /// It is not who may come in.
    Refused(rpc_core::Error),
    /// It broke the protocol.
    Violation(Violation),
    /// It was lost.
    Io(io::Error),
}

impl Entrance {
    /// Whether everybody is let in as they come.
    pub(crate) fn is_open(&self) -> bool {
        self.tokens.is_none() && !self.is_encrypted()
    }

    /// Whether plain text is not understood.
    pub(crate) fn is_encrypted(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Lets a connection in that proves itself within `time`. What is read and written meanwhile is added to `traffic`.
    pub(crate) async fn enter(
        &self,
        io: Box<dyn Io>,
        peer: Peer,
        time: Duration,
        traffic: &Traffic,
    ) -> Result<Entered, TurnedAway> {
        let deadline = Instant::now() + time;
        let secured = timeout_at(deadline, self.secure(io, peer));
        let (mut io, peer, binding) = secured.await.map_err(|_| TurnedAway::Late(time))??;
        let reader = FrameReader::new(MAX_UNPROVED);
        let Some(tokens) = &self.tokens else { return Ok(Entered { io, peer, reader }) };
        let mut visitor = Visitor { io: &mut io, reader, traffic };
        match timeout_at(deadline, visitor.prove(tokens, &binding)).await.unwrap_or(Err(TurnedAway::Late(time))) {
            Ok(name) => {
                let reader = visitor.reader;
                let identity = peer.identity().clone().with_token(name);
                Ok(Entered { io, peer: peer.with_identity(identity), reader })
            }
            Err(turned_away) => {
                // Told within a bound of its own: who reads nothing holds its place no longer.
                let _ = timeout(LINGER, visitor.say_goodbye(&turned_away)).await;
                Err(turned_away)
            }
        }
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, io: Box<dyn Io>, peer: Peer) -> Result<(Box<dyn Io>, Peer, Binding), TurnedAway> {
        let Some(tls) = &self.tls else { return Ok((io, peer, PLAIN)) };
        let secured = tls.accept(io).await.map_err(TurnedAway::Refused)?;
        Ok((secured.io, peer.with_identity(secured.identity), secured.binding))
    }

    #[cfg(not(feature = "tls"))]
    async fn secure(&self, io: Box<dyn Io>, peer: Peer) -> Result<(Box<dyn Io>, Peer, Binding), TurnedAway> {
        Ok((io, peer, PLAIN))
    }
}

/// Somebody who has not proved anything yet.
struct Visitor<'a> {
    io: &'a mut Box<dyn Io>,
    reader: FrameReader,
    traffic: &'a Traffic,
}

impl Visitor<'_> {
    /// Asks for the proof of a token; gives the name that was proved.
    async fn prove(&mut self, tokens: &AcceptedTokens, binding: &Binding) -> Result<String, TurnedAway> {
        tokens.refresh().await;
        let challenge = Challenge::random();
        self.send(&challenge.to_frame()).await?;
        for _ in 0..MAX_FRAMES_UNPROVED {
            let frame = self.receive().await?;
            match frame.header.frame_type {
                FrameType::Proof => {
                    let name = Proof::read(&frame.body).and_then(|proof| proof.verify(tokens, challenge, binding));
                    return name.ok_or_else(|| refused("the token is not accepted here"));
                }
                FrameType::Request if frame.header.id == 0 => return Err(TurnedAway::Violation(Violation::ZeroId)),
                FrameType::Request => self.send(&unauthenticated(frame.header)).await?,
                // A ping is not answered: whoever gets a pong takes it that calls are served.
                _ => {}
            }
        }
        Err(refused("other frames came instead of the proof"))
    }

    async fn receive(&mut self) -> Result<Frame, TurnedAway> {
        loop {
            match self.reader.next_frame().map_err(TurnedAway::Violation)? {
                Some(Inbound::Frame(frame)) => return Ok(frame),
                Some(Inbound::Overlong(header)) => {
                    let violation = Violation::TooLong { length: header.full_length, limit: MAX_UNPROVED };
                    return Err(TurnedAway::Violation(violation));
                }
                None => {}
            }
            let count = self.io.read_buf(self.reader.read_buffer()).await.map_err(TurnedAway::Io)?;
            if count == 0 {
                return Err(TurnedAway::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            self.reader.filled(count);
            self.traffic.add(count as u64, 0);
        }
    }

    async fn send(&mut self, frame: &Frame) -> Result<(), TurnedAway> {
        let mut bytes = BytesMut::new();
        frame.write(&mut bytes);
        self.io.write_all(&bytes).await.map_err(TurnedAway::Io)?;
        self.traffic.add(0, bytes.len() as u64);
        self.io.flush().await.map_err(TurnedAway::Io)
    }

    /// Says why, and waits until the peer has read it: bytes of its own that nobody reads would reset the connection.
    async fn say_goodbye(&mut self, why: &TurnedAway) {
        let message = match why {
            TurnedAway::Late(time) => format!("no proof of a token came within {time:?}"),
            TurnedAway::Refused(error) => error.message().to_owned(),
            TurnedAway::Violation(_) | TurnedAway::Io(_) => return,
        };
        if self.send(&goaway(Code::Unauthenticated, message)).await.is_ok() && self.io.shutdown().await.is_ok() {
            let mut discarded = [0; 1024];
            while self.io.read(&mut discarded).await.is_ok_and(|count| count > 0) {}
        }
    }
}

fn refused(message: &'static str) -> TurnedAway {
    TurnedAway::Refused(rpc_core::Error::not_executed(Code::Unauthenticated, message))
}

/// The answer to a call of somebody who has proved nothing.
fn unauthenticated(request: Header) -> Frame {
    let status = Status::new(Code::Unauthenticated, "a token has to be proved before calls are taken");
    status_frame(Header { codec: request.codec, ..Header::empty(FrameType::Response, request.id) }, status)
}

/// The frame that says: no new calls on this connection.
pub(crate) fn goaway(code: Code, message: impl Into<Cow<'static, str>>) -> Frame {
    status_frame(Header::empty(FrameType::Goaway, 0), Status::new(code, message))
}

fn status_frame(header: Header, status: Status) -> Frame {
    let mut body = BytesMut::new();
    ResponseHead { status, metadata: Metadata::default(), retry_after: None }.write(&mut body);
    Frame { header, body: body.freeze() }
}

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(time) => write!(f, "it did not prove itself within {time:?}"),
            Self::Refused(error) => f.write_str(error.message()),
            Self::Violation(violation) => write!(f, "it broke the protocol: {violation}"),
            Self::Io(error) => write!(f, "it was lost: {error}"),
        }
    }
}

/// The longest frame of a peer that has not proved itself, header included.
const MAX_UNPROVED: u32 = 4 << 10;
/// The most frames of such a peer.
const MAX_FRAMES_UNPROVED: usize = 16;
/// How long a peer that is turned away may take to read why.
const LINGER: Duration = Duration::from_secs(1);
