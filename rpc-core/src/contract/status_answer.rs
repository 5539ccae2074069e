//! [`StatusAnswer`]: an answer that consists of a status.

use crate::Status;

/// An answer that consists of a status, without a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusAnswer {
    /// The status, with the time after which the caller may send the call again.
    pub status: Status,
    /// Whether the handler did not execute.
    ///
    /// Only the server or a layer states this, about a call that did not reach its handler. A status that a handler
    /// chose or passed on from another server does not state it, whatever its code is.
    pub not_executed: bool,
}

impl StatusAnswer {
    /// Creates the answer to a call whose handler may have executed.
    pub fn handled(status: Status) -> Self {
        Self { status, not_executed: false }
    }

    /// Creates the answer to a call whose handler did not execute.
    pub fn rejection(status: Status) -> Self {
        Self { status, not_executed: true }
    }
}
