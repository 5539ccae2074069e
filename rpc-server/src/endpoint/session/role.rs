//! [`CallingRole`]: the role of the calling end of a session.

use std::{sync::Arc, time::Duration};

use rpc_core::{
    Code, Error, Phase as CallPhase, deadline_after,
    frame::{Frame, FrameType, Header, Violation},
    transport::{Activity, CloseReason, Outbox, QueueEnd, Role, TransportConfig, Turn},
};
use tokio::time::Instant;

use super::table::{CallTable, Phase};

/// The role of the calling end of a session.
pub(super) struct CallingRole {
    pub(super) table: Arc<CallTable>,
    pub(super) outbox: Arc<Outbox>,
    /// The time without traffic after which it sends a ping while calls wait, and ends the session otherwise.
    pub(super) quiet_time: Duration,
}

impl Role for CallingRole {
    fn expects_more(&self, _: bool) -> bool {
        false
    }

    fn backlog(config: &TransportConfig) -> usize {
        // As a client: the callee may be unable to write until this end reads.
        2 * config.outbox + config.max_frame as usize
    }

    fn handle_frame(&mut self, frame: Frame, _: Instant) -> Result<(), Violation> {
        let (table, outbox, id) = (&self.table, &self.outbox, frame.header.id);
        match frame.header.frame_type {
            FrameType::Response => table.handle_response(frame, outbox)?,
            FrameType::CalleeItem => table.handle_item(frame, outbox)?,
            FrameType::CalleeEnd => table.handle_end(id, QueueEnd::Answered(frame), outbox)?,
            FrameType::CalleeCredit => table.handle_credit(id, &frame.body)?,
            FrameType::Goaway => table.drain(),
            FrameType::Ping => outbox.push_empty(FrameType::Pong, id),
            // The callee is this program: it sends no others that matter.
            _ => {}
        }
        Ok(())
    }

    fn handle_overlong(&mut self, header: Header, limit: u32) -> Result<(), Violation> {
        // Both ends have the same limit.
        Err(Violation::TooLong { length: header.full_length, limit })
    }

    fn handle_turn(&mut self, activity: &Activity, now: Instant) -> Result<Turn, CloseReason> {
        if activity.peer_closed {
            return Err(CloseReason::PeerClosed);
        }
        let quiet_at = deadline_after(activity.last_write, self.quiet_time);
        let is_quiet = now >= quiet_at;
        let (phase, has_calls) = self.table.check(is_quiet);
        if !has_calls && phase != Phase::Open {
            return Ok(Turn { wake_at: None, finish: true });
        }
        if is_quiet {
            // The callee closes a connection on which it reads nothing.
            self.outbox.push_empty(FrameType::Ping, 0);
        }
        Ok(Turn { wake_at: Some(if is_quiet { now + self.quiet_time } else { quiet_at }), finish: false })
    }

    fn handle_close(&mut self, reason: &Arc<CloseReason>) {
        self.table.close(|| {
            Error::unknown(Code::Unavailable, format!("the session has ended: {reason}"))
                .with_phase(CallPhase::Wait)
                .with_source(Arc::clone(reason))
        });
    }
}
