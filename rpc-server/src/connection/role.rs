//! [`Connection`]: the server's role in a connection.

use std::{
    hash::BuildHasher as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rpc_core::{
    Code, Digests, Peer, Status, contained, deadline_after,
    frame::{Frame, FrameType, Header, Violation},
    settings::Settings,
    transport::{Activity, CloseReason, Outbox, PingWindow, Role, TransportConfig, Turn},
};
use tokio::time::Instant;
use tracing::debug;

use super::{
    calls::{ConnectionCalls, REVOKED},
    shared::Shared,
    status_frame::goaway,
};
use crate::credentials::Proved;

/// The server's role in a connection.
pub(crate) struct Connection {
    calls: ConnectionCalls,
    pings: PingWindow,
    proved: Proved,
    /// When the connection reaches its maximum age.
    aged_at: Instant,
    /// When this side sent GOAWAY.
    goaway_at: Option<Instant>,
    /// When the connection ends although calls run. `None` while the server drains all connections.
    drained_at: Option<Instant>,
    has_sent_settings: bool,
    /// Whether the streams that were open at that time have ended.
    has_ended_streams: bool,
    /// Whether the streams know that the peer has closed its sending side.
    has_finished_input: bool,
    /// Whether this side has sent the digests of its methods.
    has_sent_digests: bool,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, peer: Peer, proved: Proved) -> Self {
        let now = Instant::now();
        let pings = PingWindow::new(shared.config.max_pings, now);
        let random = foldhash::fast::RandomState::default().hash_one(now) as f64 / u64::MAX as f64;
        let aged_at = deadline_after(now, varied_age(shared.config.max_connection_age, random));
        let calls = ConnectionCalls::new(shared, outbox, peer);
        Self {
            calls,
            pings,
            proved,
            aged_at,
            goaway_at: None,
            drained_at: None,
            has_sent_settings: false,
            has_ended_streams: false,
            has_finished_input: false,
            has_sent_digests: false,
        }
    }

    /// Sends the digests of all methods, once, before the pong of the ping that asks for them.
    fn send_digests(&mut self) {
        if !std::mem::replace(&mut self.has_sent_digests, true) {
            let _ = self.calls.outbox.push_control(|out| self.calls.shared.digests.write(out));
        }
    }

    /// Sends GOAWAY if the server drains, or if this connection must end before the server does.
    fn begin_drain(&mut self, now: Instant) {
        let shared = &self.calls.shared;
        if !self.calls.is_revoked && !shared.credentials.accepts(&mut self.proved) {
            self.calls.is_revoked = true;
            (self.goaway_at, self.drained_at) = (None, None);
        }
        if self.goaway_at.is_some() {
            return;
        }
        let is_draining = shared.draining.load(Ordering::Acquire);
        let reason = match () {
            () if self.calls.is_revoked => REVOKED,
            () if is_draining => "the server is draining",
            () if now >= self.aged_at => "the connection reached its maximum age (ServerConfig::max_connection_age)",
            () => return,
        };
        self.goaway_at = Some(now);
        self.calls.draining.set();
        self.drained_at = (!is_draining).then(|| deadline_after(now, shared.config.drain_timeout));
        let _ = self.calls.outbox.push_control(|out| goaway(Code::Unavailable, reason).write(out));
    }

    /// Applies the settings of the peer. Answers the first ones: a peer that sends none may not know the frame.
    fn handle_settings(&mut self, body: &[u8]) {
        let outbox = &self.calls.outbox;
        outbox.apply(Settings::read(body));
        if !std::mem::replace(&mut self.has_sent_settings, true) {
            // On a closed connection the peer needs no settings.
            let _ = outbox.push_control(|out| Settings::OWN.to_frame().write(out));
        }
    }

    /// Returns when the connection has received nothing for long enough after GOAWAY.
    fn quiet_at(&self, activity: &Activity) -> Option<Instant> {
        // The quiet time starts anew with each read: calls that crossed GOAWAY on the wire are served. A peer whose
        // credentials were revoked is not served, so it cannot prolong the time.
        let since = |at: Instant| if self.calls.is_revoked { at } else { at.max(activity.last_read) };
        self.goaway_at.map(|at| since(at) + GOAWAY_QUIET_TIME)
    }
}

/// Returns a duration between 0.9 and 1.1 times `age`, for a random number between 0 and 1.
///
/// Connections that were opened together then end, and are opened again, one after the other.
pub(crate) fn varied_age(age: Duration, random: f64) -> Duration {
    (age / 10 * 9).saturating_add((age / 5).mul_f64(random))
}

impl Role for Connection {
    fn backlog(config: &TransportConfig) -> usize {
        // The driver reads no more from a peer that does not read.
        config.outbox
    }

    fn expects_more(&self, read: bool) -> bool {
        // Handlers that finish in their first poll have answered when their frame is handled; several of the handlers
        // on tasks may be ready to answer.
        !read && self.calls.running.has_several()
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let id = frame.header.id;
        match frame.header.frame_type {
            FrameType::Request => self.calls.handle_request(frame, now)?,
            FrameType::Cancel => self.calls.handle_cancel(id),
            FrameType::Ping => {
                self.pings.count(now)?;
                if frame.body == Digests::QUESTION {
                    self.send_digests();
                }
                self.calls.outbox.push_empty(FrameType::Pong, id);
            }
            FrameType::CallerItem => self.calls.handle_item(frame)?,
            FrameType::CallerEnd => self.calls.handle_caller_end(id)?,
            FrameType::CallerCredit => self.calls.handle_credit(id, &frame.body)?,
            FrameType::Response | FrameType::CalleeItem | FrameType::CalleeEnd | FrameType::CalleeCredit => {
                self.calls.count_stray();
            }
            FrameType::Settings => self.handle_settings(&frame.body),
            // The handshake has consumed the token proof, if the server requires one.
            FrameType::Proof | FrameType::Challenge => {}
            // The driver handles ACK.
            FrameType::Ack | FrameType::Pong | FrameType::Goaway | FrameType::Digests | FrameType::Extension(_) => {}
        }
        Ok(())
    }

    fn handle_read(&mut self) {
        self.calls.handle_read();
    }

    fn release_memory(&mut self) {
        self.calls.release_memory();
    }

    fn handle_overlong(&mut self, header: Header, limit: u32) -> Result<(), Violation> {
        match header.frame_type {
            FrameType::Request => self.calls.reject_overlong(header, limit)?,
            FrameType::CallerItem => self.calls.reject_overlong_item(header, limit),
            FrameType::CallerEnd | FrameType::CallerCredit => self.calls.reject_stream(header.id),
            _ => self.calls.count_stray(),
        }
        Ok(())
    }

    fn handle_turn(&mut self, activity: &Activity, now: Instant) -> Result<Turn, CloseReason> {
        self.begin_drain(now);
        let (config, running) = (&self.calls.shared.config, &self.calls.running);
        let idle_at = deadline_after(activity.last_read, config.read_idle);
        // A frame that is being read has a deadline of its own, and writing detects a peer that does not read.
        let watches_idle = !(activity.mid_frame || activity.paused || activity.peer_closed);
        if watches_idle && now >= idle_at {
            return Err(CloseReason::Idle(config.read_idle));
        }
        // The frames that arrived before were handled.
        if activity.peer_closed && !std::mem::replace(&mut self.has_finished_input, true) {
            running.finish_input();
        }
        let is_overdue = self.drained_at.is_some_and(|at| now >= at);
        if !self.has_ended_streams
            && (is_overdue || self.calls.shared.ends_streams.load(Ordering::Acquire))
            && running.end_streams(&Status::new(Code::Unavailable, STREAM_DRAINED))
        {
            // The ENDs are written before the connection closes.
            self.has_ended_streams = true;
            self.drained_at = Some(deadline_after(now, STREAM_END_TIME));
        } else if is_overdue {
            return Err(CloseReason::DrainTimeout(config.drain_timeout));
        }
        // A peer that has closed its sending side sends nothing more. Only writing detects whether it is still alive.
        let last_active = activity.last_read.max(activity.last_write);
        let ping_at = activity.peer_closed.then(|| deadline_after(last_active, config.read_idle));
        if ping_at.is_some_and(|at| now >= at) {
            self.calls.outbox.push_empty(FrameType::Ping, 0);
        }
        let overdue_at = running.end_overdue(now).map(|due| due.max(now + OVERDUE_SWEEP_INTERVAL));
        let quiet_at = self.quiet_at(activity);
        let over = activity.peer_closed || quiet_at.is_some_and(|at| now >= at);
        let ping_at = ping_at.filter(|at| *at > now);
        let next_drain = self.drained_at.or(self.goaway_at.is_none().then_some(self.aged_at));
        let wake_at =
            [watches_idle.then_some(idle_at), ping_at, overdue_at, quiet_at.filter(|at| *at > now), next_drain];
        Ok(Turn { wake_at: wake_at.into_iter().flatten().min(), finish: over && running.is_idle() })
    }

    fn handle_close(&mut self, reason: &Arc<CloseReason>) {
        let cause = std::error::Error::source(&**reason).map(tracing::field::display);
        self.calls.running.end_all();
        contained(|| debug!(peer = ?self.calls.peer.address, %reason, cause, "connection closed"));
    }
}

/// The message of a stream that is open at the end of the drain timeout.
const STREAM_DRAINED: &str = "the drain of the connection exceeded ServerConfig::drain_timeout";
/// How long a connection remains open after the server has ended its streams.
pub(crate) const STREAM_END_TIME: Duration = Duration::from_secs(1);
/// The minimum time between two searches for overdue calls.
const OVERDUE_SWEEP_INTERVAL: Duration = Duration::from_millis(5);
/// How long a connection must receive nothing after GOAWAY before this side closes it.
const GOAWAY_QUIET_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_age_varies_by_a_tenth() {
        let age = Duration::from_secs(100);
        assert_eq!([0.0, 0.5, 1.0].map(|random| varied_age(age, random).as_secs()), [90, 100, 110]);
        assert!(varied_age(Duration::MAX, 0.0) > Duration::from_secs(1 << 40));
        assert_eq!(varied_age(Duration::MAX, 1.0), Duration::MAX);
    }
}
