//! [`PendingCall`]: a call without an answer.

use rpc_core::{Context, contained, transport::WireSink};
use tokio::time::Instant;
use tracing::debug;

use crate::call::rejection::Rejection;

/// A call without an answer: the data that its end needs while the handler runs or waits to run.
#[derive(Clone)]
pub(super) struct PendingCall {
    pub(super) context: Context,
    pub(super) sink: WireSink,
    pub(super) one_way: bool,
    pub(super) deadline: Instant,
}

impl PendingCall {
    /// Ends a call whose handler was not started, unless it has an answer.
    ///
    /// One-way calls have no response, so their rejection is only logged.
    pub(super) fn reject(&self, rejection: Rejection) {
        if self.one_way {
            let status = &rejection.status;
            self.context.claim_answer(status.code());
            contained(|| debug!(%status, "one-way call rejected"));
        } else {
            self.sink.answer_status(&self.context, &rejection.to_answer());
        }
    }
}
