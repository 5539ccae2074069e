//! [`Role`]: the state machine of one end of a connection.
//!
//! Its input is [`Activity`], its output [`Turn`].

use std::sync::Arc;

use tokio::time::Instant;

use super::{CloseReason, TransportConfig};
use crate::frame::{Frame, Header, Violation};

/// The state machine of one end of a connection.
///
/// It receives frames and the time as arguments, writes output to the connection's [`Outbox`](super::Outbox), and does
/// no I/O.
pub trait Role: Send + Unpin + 'static {
    /// Returns whether other tasks of this process are about to append output.
    ///
    /// The cause may be frames that were `read` in this turn. The driver then yields once before it writes.
    fn expects_more(&self, read: bool) -> bool;

    /// Returns the number of bytes waiting to be written at which the driver stops reading.
    ///
    /// The two ends return different values: if both stopped reading while their own output waits, neither would drain
    /// the other.
    fn backlog(config: &TransportConfig) -> usize;

    /// Handles a complete frame.
    ///
    /// # Errors
    ///
    /// The [`Violation`] for which the driver closes the connection.
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation>;

    /// Handles the header of a frame longer than `limit`, whose body is skipped.
    ///
    /// # Errors
    ///
    /// As [`handle_frame`](Self::handle_frame).
    fn handle_overlong(&mut self, header: Header, limit: u32) -> Result<(), Violation>;

    /// Ends a batch of frames, which may be empty.
    ///
    /// The driver calls this once after it has handed over the frames of a turn.
    fn handle_read(&mut self) {}

    /// Releases memory that only makes further calls faster. The connection has been idle for a while.
    fn release_memory(&mut self) {}

    /// Handles the passage of time and requests of the program.
    ///
    /// The driver calls this once in each turn, before it writes.
    ///
    /// # Errors
    ///
    /// The reason for which the driver closes the connection at once.
    fn handle_turn(&mut self, activity: &Activity, now: Instant) -> Result<Turn, CloseReason>;

    /// Handles the end of the connection. The driver calls this exactly once, also when it is dropped.
    fn handle_close(&mut self, reason: &Arc<CloseReason>);
}

/// The state of a connection's input and output.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Activity {
    /// When a byte was last read.
    pub last_read: Instant,
    /// When a byte was last written.
    pub last_write: Instant,
    /// Whether an incomplete frame is buffered. Such a frame has its own deadline.
    pub mid_frame: bool,
    /// Whether the driver has stopped reading because the peer does not read its output.
    pub paused: bool,
    /// Whether the peer has closed its sending side.
    pub peer_closed: bool,
}

impl Activity {
    /// Creates the activity of a connection that starts at `now`.
    pub fn new(now: Instant) -> Self {
        Self { last_read: now, last_write: now, mid_frame: false, paused: false, peer_closed: false }
    }
}

/// The result of one turn of a [`Role`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    /// The latest time of the next turn.
    pub wake_at: Option<Instant>,
    /// Whether the role will append no more output.
    ///
    /// The driver then writes the waiting output and closes the connection.
    pub finish: bool,
}
