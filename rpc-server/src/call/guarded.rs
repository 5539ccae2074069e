//! [`Guarded`]: the work of a handler with a guard.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// The work of a handler, and a guard that is dropped after the whole handler, whose drop answers the call.
///
/// An async function would store the work twice: as its parameter, and where it awaits it.
pub(crate) struct Guarded<F, G> {
    work: F,
    _guard: G,
}

impl<F, G> Guarded<F, G> {
    pub(crate) fn new(work: F, guard: G) -> Self {
        Self { work, _guard: guard }
    }
}

impl<F: Future<Output = ()> + Unpin, G: Unpin> Future for Guarded<F, G> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.work).poll(cx)
    }
}
