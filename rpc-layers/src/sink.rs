//! [`contained`] and [`in_span`]: a log sink that fails does not fail a call.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
};

use tracing::Span;

/// Executes `log`, which calls the program's subscriber. Returns `None` if the subscriber panics.
///
/// A subscriber of tracing-subscriber panics, for instance, if neither its output nor stderr can be written.
pub(crate) fn contained<T>(log: impl FnOnce() -> T) -> Option<T> {
    // A subscriber may be inconsistent after a panic, as after a panic in any other part of the program.
    catch_unwind(AssertUnwindSafe(log)).ok()
}

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
