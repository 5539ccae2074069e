//! [`Rejection`]: the status of a call that the server does not execute.

use std::time::Duration;

use rpc_core::{Status, StatusAnswer};

/// The status of a call that the server does not execute.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) status: Status,
    /// Whether an earlier request of the same call may have executed: the answer then does not state the opposite.
    pub(crate) may_have_executed: bool,
}

impl Rejection {
    /// Creates the rejection of a call that did not execute, with the time after which the client may send it again.
    pub(crate) fn until(status: Status, retry_after: Duration) -> Self {
        status.with_retry_after(retry_after).into()
    }

    /// Creates the rejection of a request whose call an earlier request may have executed.
    pub(crate) fn of_repeat(status: Status) -> Self {
        Self { may_have_executed: true, ..status.into() }
    }

    pub(crate) fn to_answer(&self) -> StatusAnswer {
        let Self { status, may_have_executed } = self;
        StatusAnswer { status: status.clone(), not_executed: !may_have_executed }
    }
}

impl From<StatusAnswer> for Rejection {
    fn from(StatusAnswer { status, not_executed }: StatusAnswer) -> Self {
        Self { status, may_have_executed: !not_executed }
    }
}

impl From<Status> for Rejection {
    fn from(status: Status) -> Self {
        Self { status, may_have_executed: false }
    }
}
