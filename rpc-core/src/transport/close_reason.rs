//! [`CloseReason`]: the cause of a connection's end.

use std::{io, time::Duration};

use crate::frame::Violation;

/// The cause of a connection's end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both ends finished in order.
    #[error("the connection was closed in order")]
    Finished,
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The peer violated the protocol.
    #[error("the peer violated the protocol")]
    Violation(#[from] Violation),
    /// Nothing was read for longer than the idle timeout.
    #[error("no bytes were read for {0:?}")]
    Idle(Duration),
    /// The peer did not answer a ping in time.
    #[error("a ping was not answered within {0:?}")]
    PongOverdue(Duration),
    /// The peer read too little for too long.
    #[error(
        "{written} bytes could be written in {time:?} (TransportConfig::write_stall), minimum is {min_write} \
         (TransportConfig::min_write)"
    )]
    WriteStalled {
        /// The number of bytes that were written since the socket stopped accepting bytes.
        written: usize,
        /// The minimum.
        min_write: usize,
        /// The time.
        time: Duration,
    },
    /// Calls were still running too long after GOAWAY.
    #[error("calls did not end within {0:?} after GOAWAY (ServerConfig::drain_timeout)")]
    DrainTimeout(Duration),
    /// The driver was dropped.
    #[error("the connection's driver was dropped")]
    Dropped,
}
