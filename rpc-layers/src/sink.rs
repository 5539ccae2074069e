//! [`in_span`]: a log sink that fails does not fail a call.

use std::{future::poll_fn, pin::pin};

use rpc_core::contained;
use tracing::Span;

/// Polls and drops `future` in `span`, as `tracing::Instrument` does.
pub(crate) async fn in_span<F: Future>(span: &Span, future: F) -> F::Output {
    // Variables are dropped in the reverse order of their declaration, so the future is dropped inside the span.
    let _exit = OnDrop(|| exit(span));
    let mut future = pin!(future);
    let _enter = OnDrop(|| enter(span));
    poll_fn(|cx| {
        enter(span);
        let _exit = OnDrop(|| exit(span));
        future.as_mut().poll(cx)
    })
    .await
}

fn enter(span: &Span) {
    contained(|| span.with_subscriber(|(id, subscriber)| subscriber.enter(id)));
}

fn exit(span: &Span) {
    contained(|| span.with_subscriber(|(id, subscriber)| subscriber.exit(id)));
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
