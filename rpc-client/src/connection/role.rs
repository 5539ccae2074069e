//! [`Connection`]: the client's part in a connection.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rpc_core::{
    Code, Status, WireSink,
    frame::{Frame, FrameType, Header, Violation},
    head::ResponseHead,
    proof::{Challenge, Proof},
    transport::{Activity, CloseReason, Outbox, PingWindow, Role, TransportConfig, Turn},
};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    changes::Changes, config::ClientConfig, connection::channel::Channel, connection::credentials::Papers,
    connection::heartbeat::Heartbeat, connection::in_flight::Outcome,
};

/// The client's part in a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Arc<Channel>,
    outbox: Arc<Outbox>,
    heartbeat: Heartbeat,
    pings: PingWindow,
    /// Told when the channel takes no new calls any more.
    changes: Arc<Changes>,
    /// What the peer is shown when it asks, once.
    papers: Option<Papers>,
    max_frame: usize,
    /// Whether the peer was asked for its first sign of life.
    greeted: bool,
    /// Answers that were read and not yet handed to their callers: a lock that callers share is taken once for many.
    answers: Vec<(u32, Outcome)>,
    last_read: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(
        channel: Arc<Channel>,
        outbox: Arc<Outbox>,
        config: &ClientConfig,
        changes: Arc<Changes>,
        papers: Papers,
    ) -> Self {
        let heartbeat = Heartbeat::new(config.ping_after, config.pong_timeout);
        let pings = PingWindow::new(PingWindow::LIMIT, Instant::now());
        Self {
            channel,
            outbox,
            heartbeat,
            pings,
            changes,
            papers: Some(papers),
            max_frame: config.transport.max_frame as usize,
            greeted: false,
            answers: Vec::new(),
            last_read: None,
        }
    }

    fn answer(&mut self, id: u32, outcome: Outcome) {
        self.answers.push((id, outcome));
        if self.answers.len() == ANSWERS_AT_ONCE {
            self.hand_out();
        }
    }

    fn hand_out(&mut self) {
        if !self.answers.is_empty() {
            self.channel.deliver(std::mem::take(&mut self.answers));
        }
    }

    fn say(&self, frame_type: FrameType, id: u32) {
        // On a connection that is over there is nobody to be told.
        let _ = self.outbox.push_control(|out| out.extend_from_slice(&Header::empty(frame_type, id).to_bytes()));
    }

    fn prove(&self) {
        if self.channel.prove() {
            self.changes.tell();
        }
    }

    /// The peer asks for a token. It answers no ping before it has one, so it is asked anew for its first sign of life.
    fn handle_challenge(&mut self, body: &[u8]) {
        let Some(challenge) = Challenge::read(body) else { return };
        let Some(Papers { token, binding }) = self.papers.take() else { return };
        let Some(token) = token else {
            return self.part(Status::new(Code::Unauthenticated, "it requires a token, and this client has none"));
        };
        let mut proof = BytesMut::new();
        Proof::new(&token, challenge, &binding, rand::random()).to_frame().write(&mut proof);
        // On a connection that is over there is nobody to be told.
        let _ = self.outbox.push_control(|out| out.extend_from_slice(&proof));
        self.say(FrameType::Ping, 0);
    }

    fn handle_goaway(&self, mut body: Bytes) {
        let status = ResponseHead::take(&mut body).map(|head| head.status);
        self.part(status.unwrap_or_else(|_| Status::new(Code::Unavailable, "")));
    }

    fn part(&self, why: Status) {
        debug!(peer = %self.channel.address(), %why, "goodbye");
        self.channel.drain(why);
        self.changes.tell();
    }

    /// The protocol lets either end call; this one serves nothing.
    fn refuse(&self, header: Header) -> Result<(), Violation> {
        if header.id == 0 {
            return Err(Violation::ZeroId);
        }
        let sink = WireSink {
            outbox: Arc::clone(&self.outbox),
            id: header.id,
            codec: header.codec,
            compression: header.compression,
            max_frame: self.max_frame,
        };
        sink.refuse(&Status::new(Code::Unimplemented, "this end serves nothing"), None);
        Ok(())
    }
}

impl Role for Connection {
    fn backlog(config: &TransportConfig) -> usize {
        // A client reads on while its calls wait, which are this many bytes at most: the server may only wait for its answers to be
        // read. What it says to frames of the server's own accord comes on top, and has a bound too.
        config.outbox + config.max_frame as usize + config.outbox
    }

    fn expects_more(&self, _read: bool) -> bool {
        // Callers who get their answers make their next calls; one alone has made its own.
        self.channel.has_several()
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let header = frame.header;
        match header.frame_type {
            FrameType::Response => {
                self.prove();
                self.answer(header.id, Outcome::Response(frame));
            }
            FrameType::Pong => self.prove(),
            FrameType::Ping => {
                self.pings.count(now)?;
                self.say(FrameType::Pong, header.id);
            }
            FrameType::Goaway => self.handle_goaway(frame.body),
            FrameType::Challenge => self.handle_challenge(&frame.body),
            FrameType::Request => self.refuse(header)?,
            FrameType::Item | FrameType::End | FrameType::Credit => self.channel.stray(),
            FrameType::Cancel | FrameType::Proof | FrameType::Extension(_) => {}
        }
        Ok(())
    }

    fn handle_overlong(&mut self, header: Header, limit: u32) -> Result<(), Violation> {
        match header.frame_type {
            FrameType::Response => {
                self.answer(header.id, Outcome::Overlong { length: header.full_length, limit });
            }
            FrameType::Request => self.refuse(header)?,
            _ => self.channel.stray(),
        }
        Ok(())
    }

    fn handle_read(&mut self) {
        self.hand_out();
    }

    fn handle_turn(&mut self, activity: &Activity, now: Instant) -> Result<Turn, CloseReason> {
        if self.channel.is_done() {
            return Ok(Turn { wake_at: None, finish: true });
        }
        if activity.peer_closed {
            return Err(CloseReason::PeerClosed);
        }
        if self.last_read.replace(activity.last_read) != Some(activity.last_read) && self.channel.heard() {
            self.changes.tell();
        }
        let (overdue_at, awaits) = self.channel.expire(now);
        // A channel is chosen only once its peer has answered: whoever merely accepts connections may be paused, or somebody
        // else who took the port.
        let silent = self.channel.look_into(activity.last_read);
        if silent {
            self.changes.tell();
        }
        let urgent = silent | !std::mem::replace(&mut self.greeted, true);
        let beat = self.heartbeat.beat(activity, awaits, urgent, now)?;
        if beat.ping {
            self.say(FrameType::Ping, 0);
        }
        let wake_at = overdue_at.map_or(beat.wake_at, |at| at.min(beat.wake_at));
        Ok(Turn { wake_at: Some(wake_at), finish: false })
    }

    fn handle_close(&mut self, reason: &Arc<CloseReason>) {
        // What was answered before the end is answered.
        self.hand_out();
        self.channel.close(reason);
        self.changes.tell();
    }
}

/// How many answers are handed out at once.
const ANSWERS_AT_ONCE: usize = 32;
