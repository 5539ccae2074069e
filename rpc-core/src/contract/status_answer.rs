//! [`StatusAnswer`]: an answer that consists of a status.

use std::time::Duration;

use crate::Status;

/// An answer that consists of a status, without a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusAnswer {
    /// The status.
    pub status: Status,
    /// How long the caller should wait before it sends the call again.
    pub retry_after: Option<Duration>,
    /// Whether the handler did not execute.
    ///
    /// Only the server or a layer states this, about a call that did not reach its handler. A status that a handler
    /// chose or passed on from another server does not state it, whatever its code is.
    pub not_executed: bool,
}

impl StatusAnswer {
    /// Creates the answer to a call whose handler may have executed.
    pub fn handled(status: Status) -> Self {
        Self { retry_after: status.retry_after(), status, not_executed: false }
    }

    /// Creates the answer to a call whose handler did not execute.
    pub fn rejection(status: Status, retry_after: Option<Duration>) -> Self {
        Self { retry_after: retry_after.or(status.retry_after()), status, not_executed: true }
    }
}
