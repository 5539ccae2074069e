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

    /// Answers with the stored answer once the connection has capacity, or until the request is answered otherwise.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the request without an answer, for example at the end of the server.
    pub(crate) async fn answer(self, answer: &StoredAnswer) {
        if self.context.is_answered() || self.try_answer(answer) {
            return;
        }
        // Both futures are safe to drop. A request that is cancelled or overdue has an answer.
        tokio::select! {
            () = self.sink.replay(&self.context, answer) => {}
            () = self.context.cancelled() => {}
        }
    }

    /// Answers with a rejection, unless the request is answered already.
    pub(crate) fn reject(&self, rejection: &Rejection) {
        self.sink.answer_status(&self.context, &rejection.to_answer());
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task};

    use rpc_core::{
        Code, Metadata, Status,
        frame::{FrameType, Header},
        transport::Outbox,
    };

    use super::*;

    #[test]
    fn cancelled_request_waits_for_no_capacity() {
        let outbox = Arc::new(Outbox::new(1).for_results());
        let sink = |id| WireSink::new(Arc::clone(&outbox), &Header::empty(FrameType::Request, id), 1 << 20);
        let answer = StoredAnswer::status(&sink(1), Status::new(Code::NotFound, ""));
        let running = Arc::<RunningCalls>::default();
        let waiter = |id| {
            let context = Context::new(Arc::default(), None, Metadata::default(), None);
            Waiter::new(&running, context, sink(id))
        };
        assert!(waiter(1).try_answer(&answer), "the outbox is empty");
        let mut waiting = pin!(waiter(2).answer(&answer));
        let mut context = task::Context::from_waker(task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "the outbox is full");
        assert!(running.end(2, &Status::new(Code::Cancelled, "")));
        assert!(waiting.as_mut().poll(&mut context).is_ready());
        let cancelled = waiter(3);
        assert!(running.end(3, &Status::new(Code::Cancelled, "")));
        assert!(pin!(cancelled.answer(&answer)).poll(&mut context).is_ready());
    }
}
