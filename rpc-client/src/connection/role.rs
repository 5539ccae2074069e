//! [`ClientRole`]: the client's role on a connection.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rpc_core::{
    Code, Digests, Error, Phase, Status, StatusAnswer, contained,
    frame::{Frame, FrameType, Header, Violation},
    head::ResponseHead,
    proof::{Challenge, Proof},
    settings::Settings,
    transport::{Activity, CloseReason, Outbox, PingWindow, QueueEnd, Role, TransportConfig, Turn, WireSink},
};
use tokio::time::Instant;
use tracing::debug;

use super::{channel::Channel, credentials::HandshakeCredentials, heartbeat::Heartbeat, in_flight::Outcome};
use crate::{changes::ChangeNotifier, config::ClientConfig};

/// The client's role on a connection: handles the peer's frames and keeps the connection alive.
#[derive(Debug)]
pub(crate) struct ClientRole {
    channel: Arc<Channel>,
    outbox: Arc<Outbox>,
    heartbeat: Heartbeat,
    pings: PingWindow,
    /// Notified when the channel starts or stops accepting calls.
    changes: Arc<ChangeNotifier>,
    /// Whether the peer has answered a call.
    answered: bool,
    /// The answer to the peer's challenge; used once.
    credentials: Option<HandshakeCredentials>,
    max_frame: usize,
    /// Whether the role has sent its settings and the first ping, whose pong proves the peer.
    greeted: bool,
    /// Answers that were read and not delivered yet: one lock of the in-flight table delivers many.
    answers: Vec<(u32, Outcome)>,
    last_read: Option<Instant>,
    /// When the last answer was read.
    answered_at: Instant,
}

impl ClientRole {
    pub(crate) fn new(
        channel: Arc<Channel>,
        outbox: Arc<Outbox>,
        config: &ClientConfig,
        changes: Arc<ChangeNotifier>,
        credentials: HandshakeCredentials,
    ) -> Self {
        let heartbeat = Heartbeat::new(config.ping_after, config.pong_timeout);
        let now = Instant::now();
        let pings = PingWindow::new(PingWindow::LIMIT, now);
        Self {
            channel,
            outbox,
            heartbeat,
            pings,
            changes,
            answered: false,
            credentials: Some(credentials),
            max_frame: config.transport.max_frame as usize,
            greeted: false,
            answers: Vec::new(),
            last_read: None,
            answered_at: now,
        }
    }

    fn queue_answer(&mut self, id: u32, outcome: Outcome, now: Instant) {
        self.answered_at = now;
        self.answers.push((id, outcome));
        if self.answers.len() == MAX_ANSWERS_PER_DELIVERY {
            self.deliver_answers();
        }
    }

    fn deliver_answers(&mut self) {
        if !self.answers.is_empty() {
            self.channel.deliver(std::mem::take(&mut self.answers), self.answered_at);
        }
    }

    fn prove_peer(&self) {
        if self.channel.prove() {
            self.changes.notify();
        }
    }

    /// Answers the challenge of a server that requires a token.
    ///
    /// The server answers no ping before it has accepted the proof, so the role sends another first ping behind it.
    fn handle_challenge(&mut self, body: &[u8]) {
        let Some(challenge) = Challenge::read(body) else { return };
        let Some(HandshakeCredentials { token, binding }) = self.credentials.take() else { return };
        let Some(token) = token else {
            return self.drain(Status::new(Code::Unauthenticated, NO_TOKEN));
        };
        let mut proof = BytesMut::new();
        Proof::new(&token, challenge, &binding, rand::random()).to_frame().write(&mut proof);
        // As in `send_empty`.
        let _ = self.outbox.push_control(|out| out.extend_from_slice(&proof));
        self.send_settings();
        self.ask_for_digests();
    }

    /// Sends a ping that asks for the digests of the peer's methods. A peer that does not know them answers the ping only.
    fn ask_for_digests(&self) {
        let _ = self.outbox.push_control(|out| Digests::question().write(out));
    }

    /// Sends what this end supports. The server answers with its own settings.
    fn send_settings(&self) {
        // As in `send_empty`.
        let _ = self.outbox.push_control(|out| Settings::OWN.to_frame().write(out));
    }

    fn handle_goaway(&self, mut body: Bytes) {
        let status = ResponseHead::take(&mut body).map(|head| head.status);
        self.drain(status.unwrap_or_else(|_| Status::new(Code::Unavailable, "")));
    }

    fn drain(&self, status: Status) {
        contained(|| debug!(peer = %self.channel.address(), %status, "connection drains"));
        self.channel.handle_goaway(status);
        self.changes.notify();
    }

    /// Rejects a request: the protocol lets either end call, and this end serves no methods.
    fn reject(&self, header: Header) -> Result<(), Violation> {
        if header.id == 0 {
            return Err(Violation::ZeroId);
        }
        let sink = WireSink::new(Arc::clone(&self.outbox), &header, self.max_frame);
        let status = Status::new(Code::Unimplemented, "client serves no methods");
        sink.answer_unclaimed(&StatusAnswer::rejection(status));
        Ok(())
    }
}

impl Role for ClientRole {
    fn backlog(config: &TransportConfig) -> usize {
        // A client continues to read while its own requests wait, which are at most `outbox` bytes and a frame: the
        // server may be unable to write until this end reads. The second `outbox` bounds the control frames that this
        // end owes the server.
        config.outbox + config.max_frame as usize + config.outbox
    }

    fn expects_more(&self, _read: bool) -> bool {
        // Callers that receive their answers soon make their next calls; a single caller has made its call already.
        self.channel.has_several_callers()
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let header = frame.header;
        match header.frame_type {
            FrameType::Response => {
                self.prove_peer();
                self.answered = true;
                self.channel.handle_response(&frame)?;
                self.queue_answer(header.id, Outcome::Response(frame), now);
            }
            FrameType::Pong => self.prove_peer(),
            FrameType::Ping => {
                self.pings.count(now)?;
                self.outbox.push_empty(FrameType::Pong, header.id);
            }
            FrameType::Goaway => self.handle_goaway(frame.body),
            FrameType::Challenge => self.handle_challenge(&frame.body),
            FrameType::Settings => self.outbox.apply(Settings::read(&frame.body)),
            FrameType::Request => self.reject(header)?,
            FrameType::CalleeItem => self.channel.handle_item(frame)?,
            FrameType::CalleeEnd => self.channel.handle_end(header.id, QueueEnd::Answered(frame))?,
            FrameType::CalleeCredit => self.channel.handle_credit(header.id, &frame.body)?,
            FrameType::CallerItem | FrameType::CallerEnd | FrameType::CallerCredit => self.channel.count_stray(),
            FrameType::Digests => self.channel.handle_digests(&frame.body),
            // The driver handles ACK.
            FrameType::Ack | FrameType::Cancel | FrameType::Proof | FrameType::Extension(_) => {}
        }
        Ok(())
    }

    fn handle_overlong(&mut self, header: Header, limit: u32) -> Result<(), Violation> {
        match header.frame_type {
            FrameType::Response => {
                self.channel.handle_overlong_response(header.id)?;
                self.queue_answer(header.id, Outcome::TooLong { length: header.full_length, limit }, Instant::now());
            }
            FrameType::Request => self.reject(header)?,
            FrameType::CalleeItem => self.channel.reject_overlong_item(header, limit),
            FrameType::CalleeEnd => self.channel.handle_end(header.id, QueueEnd::Lost(overlong_end(header, limit)))?,
            _ => self.channel.count_stray(),
        }
        Ok(())
    }

    fn handle_read(&mut self) {
        self.deliver_answers();
    }

    fn handle_turn(&mut self, activity: &Activity, now: Instant) -> Result<Turn, CloseReason> {
        if self.channel.is_drained() {
            return Ok(Turn { wake_at: None, finish: true });
        }
        if activity.peer_closed {
            return Err(CloseReason::PeerClosed);
        }
        if self.last_read.replace(activity.last_read) != Some(activity.last_read) && self.channel.mark_responsive() {
            self.changes.notify();
        }
        let expiry = self.channel.expire(now);
        let probe = self.channel.take_probe(activity.last_read);
        if probe {
            self.changes.notify();
        }
        // The first ping proves the peer: a process that accepts connections may be paused, or another program on the
        // port.
        let is_first = !std::mem::replace(&mut self.greeted, true);
        if is_first {
            self.send_settings();
        }
        let ping_now = probe | is_first;
        let beat = self.heartbeat.beat(activity, expiry.in_flight, ping_now, now)?;
        if beat.ping && is_first {
            self.ask_for_digests();
        } else if beat.ping {
            self.outbox.push_empty(FrameType::Ping, 0);
        }
        let wake_at = expiry.next_due.map_or(beat.wake_at, |at| at.min(beat.wake_at));
        Ok(Turn { wake_at: Some(wake_at), finish: false })
    }

    fn handle_close(&mut self, reason: &Arc<CloseReason>) {
        // Answers that were read before the close still count.
        self.deliver_answers();
        self.channel.close(reason, self.answered);
        self.changes.notify();
    }
}

/// Returns the error of a call whose END is longer than `limit`.
fn overlong_end(header: Header, limit: u32) -> Error {
    let message = format!("END frame is {} bytes, limit is {limit} (TransportConfig::max_frame)", header.full_length);
    Error::answered(Code::ResourceExhausted, message).with_phase(Phase::Decode)
}

/// The message of a client that a server challenges and that has no token.
const NO_TOKEN: &str = "server requires a token, client has none (ClientBuilder::token)";
/// The largest number of answers that one lock of the in-flight table delivers.
const MAX_ANSWERS_PER_DELIVERY: usize = 32;
