//! [`WriteStall`]: the time in which a socket accepts fewer than [`TransportConfig::min_write`] bytes.

use tokio::time::Instant;

use super::{CloseReason, SocketWrites, TransportConfig};
use crate::deadline_after;

/// The time in which a socket accepts fewer than [`TransportConfig::min_write`] bytes. A plain structure without I/O.
///
/// A single byte does not end it: otherwise a peer that reads a few bytes at a time would hold its connection and the
/// results on it without limit.
#[derive(Debug, Default)]
pub(super) struct WriteStall {
    stalled: Option<Stall>,
    /// The bytes that the socket has accepted, if the driver writes to a stream that holds bytes back.
    socket: Option<SocketWrites>,
}

#[derive(Debug, Clone, Copy)]
struct Stall {
    since: Instant,
    written: usize,
    /// The bytes that the socket had accepted at the beginning.
    accepted: u64,
}

impl WriteStall {
    /// Measures the bytes that the socket accepts, instead of those that the driver writes.
    pub(super) fn measure(&mut self, socket: Option<SocketWrites>) {
        self.socket = socket;
    }

    /// Records that the socket accepts no bytes at `now`.
    ///
    /// # Errors
    ///
    /// [`CloseReason::WriteStalled`] after [`TransportConfig::write_stall`] without sufficient progress.
    pub(super) fn blocked(&mut self, now: Instant, config: &TransportConfig) -> Result<(), CloseReason> {
        let TransportConfig { write_stall, min_write, .. } = *config;
        let accepted = self.socket.as_ref().map_or(0, SocketWrites::bytes);
        let start = Stall { since: now, written: 0, accepted };
        let stall = self.stalled.get_or_insert(start);
        if self.socket.is_some() {
            // More bytes than `usize` are sufficient too.
            stall.written = usize::try_from(accepted - stall.accepted).unwrap_or(usize::MAX);
            if stall.written >= min_write {
                *stall = start;
            }
        }
        if now >= deadline_after(stall.since, write_stall) {
            return Err(CloseReason::WriteStalled { written: stall.written, min_write, time: write_stall });
        }
        Ok(())
    }

    /// Records that the driver wrote bytes. Ends the stall once they are enough.
    pub(super) fn written(&mut self, count: usize, config: &TransportConfig) {
        if self.socket.is_none()
            && let Some(stall) = &mut self.stalled
        {
            stall.written += count;
            if stall.written >= config.min_write {
                self.stalled = None;
            }
        }
    }

    /// Records that the socket has accepted all bytes.
    pub(super) fn drained(&mut self) {
        self.stalled = None;
    }

    /// Returns when the stall closes the connection.
    pub(super) fn deadline(&self, config: &TransportConfig) -> Option<Instant> {
        self.stalled.map(|stall| deadline_after(stall.since, config.write_stall))
    }
}
