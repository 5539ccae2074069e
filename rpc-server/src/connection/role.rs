//! [`Connection`]: the server's role in a connection.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rpc_core::{
    Code, Peer,
    frame::{Frame, FrameType, Header, Violation},
    transport::{Activity, CloseReason, Outbox, PingWindow, Role, TransportConfig, Turn},
};
use tokio::time::Instant;
use tracing::debug;

use super::{calls::ConnectionCalls, shared::Shared, status_frame::goaway};

/// The server's role in a connection.
pub(crate) struct Connection {
    calls: ConnectionCalls,
    pings: PingWindow,
    /// When this side sent GOAWAY.
    goaway_at: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, peer: Peer) -> Self {
        let pings = PingWindow::new(shared.config.max_pings, Instant::now());
        Self { calls: ConnectionCalls::new(shared, outbox, peer), pings, goaway_at: None }
    }
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
                self.calls.outbox.push_empty(FrameType::Pong, id);
            }
            FrameType::Item | FrameType::End | FrameType::Credit => self.calls.handle_stream(id),
            FrameType::Response => self.calls.count_stray(),
            // The handshake has consumed the token proof, if the server requires one.
            FrameType::Proof | FrameType::Challenge => {}
            FrameType::Pong | FrameType::Goaway | FrameType::Extension(_) => {}
        }
        Ok(())
    }

    fn handle_overlong(&mut self, header: Header, limit: u32) -> Result<(), Violation> {
        match header.frame_type {
            FrameType::Request => self.calls.reject_overlong(header, limit)?,
            FrameType::Item | FrameType::End | FrameType::Credit => self.calls.handle_stream(header.id),
            _ => self.calls.count_stray(),
        }
        Ok(())
    }

    fn handle_turn(&mut self, activity: &Activity, now: Instant) -> Result<Turn, CloseReason> {
        let (config, running) = (&self.calls.shared.config, &self.calls.running);
        let idle_at = activity.last_read + config.read_idle;
        // A frame that is being read has a deadline of its own, and writing detects a peer that does not read.
        let watches_idle = !(activity.mid_frame || activity.paused || activity.peer_closed);
        if watches_idle && now >= idle_at {
            return Err(CloseReason::Idle(config.read_idle));
        }
        if self.calls.shared.draining.load(Ordering::Acquire) && self.goaway_at.is_none() {
            self.goaway_at = Some(now);
            let _ =
                self.calls.outbox.push_control(|out| goaway(Code::Unavailable, "the server is draining").write(out));
        }
        // A peer that has closed its sending side sends nothing more. Only writing detects whether it is still alive.
        let ping_at = activity.peer_closed.then(|| activity.last_read.max(activity.last_write) + config.read_idle);
        if ping_at.is_some_and(|at| now >= at) {
            self.calls.outbox.push_empty(FrameType::Ping, 0);
        }
        let overdue_at = running.end_overdue(now).map(|due| due.max(now + OVERDUE_SWEEP_INTERVAL));
        // The quiet time starts anew with each read: calls that crossed GOAWAY on the wire are served.
        let quiet_at = self.goaway_at.map(|at| at.max(activity.last_read) + GOAWAY_QUIET_TIME);
        let over = activity.peer_closed || quiet_at.is_some_and(|at| now >= at);
        let ping_at = ping_at.filter(|at| *at > now);
        let wake_at = [watches_idle.then_some(idle_at), ping_at, overdue_at, quiet_at.filter(|at| *at > now)];
        Ok(Turn { wake_at: wake_at.into_iter().flatten().min(), finish: over && running.is_idle() })
    }

    fn handle_close(&mut self, reason: &Arc<CloseReason>) {
        let cause = std::error::Error::source(&**reason).map(tracing::field::display);
        debug!(peer = ?self.calls.peer.address, %reason, cause, "connection closed");
        self.calls.running.end_all();
    }
}

/// The minimum time between two searches for overdue calls.
const OVERDUE_SWEEP_INTERVAL: Duration = Duration::from_millis(5);
/// How long a connection must receive nothing after GOAWAY before this side closes it.
const GOAWAY_QUIET_TIME: Duration = Duration::from_secs(1);
