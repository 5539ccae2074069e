//! [`Waiter`]: a request that waits for the answer of a once call.

use std::sync::Arc;

use rpc_core::{Context, StoredAnswer, transport::WireSink};

use crate::call::{
    rejection::Rejection,
    running::{RunningCalls, RunningGuard},
};

/// A request that waits for the answer of a once call.
///
/// Its connection counts it like any other running call. When its caller cancels it or its own deadline passes, the
/// request is answered, and the handler keeps running for the other waiters.
pub(crate) struct Waiter {
    context: Context,
    sink: WireSink,
    _guard: RunningGuard,
}

impl Waiter {
    pub(crate) fn new(running: &Arc<RunningCalls>, context: Context, sink: WireSink) -> Self {
        let guard = running.add_waiter(sink.clone(), context.clone());
        Self { context, sink, _guard: guard }
    }

    /// Answers with the stored answer, unless the request is answered already.
    ///
    /// Returns `false` without an effect if the connection has no capacity.
    pub(crate) fn try_answer(&self, answer: &StoredAnswer) -> bool {
        self.sink.try_replay(&self.context, answer)
    }

    /// Answers with the stored answer once the connection has capacity, unless the request is answered already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the request without an answer, for example at the end of the server.
    pub(crate) async fn answer(self, answer: &StoredAnswer) {
        if !self.try_answer(answer) {
            self.sink.replay(&self.context, answer).await;
        }
    }

    /// Answers with a rejection, unless the request is answered already.
    pub(crate) fn reject(&self, rejection: &Rejection) {
        self.sink.answer_status(&self.context, &rejection.to_answer());
    }
}
