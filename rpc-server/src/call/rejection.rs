//! [`Rejection`]: the status of a call that the server does not execute.

use std::time::Duration;

use rpc_core::Status;

/// The status of a call that the server does not execute, and its retry-after.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) status: Status,
    pub(crate) retry_after: Option<Duration>,
}

impl From<Status> for Rejection {
    fn from(status: Status) -> Self {
        Self { status, retry_after: None }
    }
}
