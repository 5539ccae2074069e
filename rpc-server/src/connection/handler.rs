//! [`HandlerFuture`]: the future of a handler, within its context.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll},
};

use rpc_core::{BoxFuture, Context, contained, head::Route};
use tracing::error;

use crate::call::concurrency::Permit;

/// The future of a handler, within its context.
///
/// A panic ends this handler and nothing else: the dropped responder answers the caller.
pub(super) struct HandlerFuture {
    pub(super) context: Context,
    pub(super) call: BoxFuture<'static, ()>,
    pub(super) route: Route,
    /// The last field, so that the permit is released after the whole handler is dropped.
    pub(super) permit: Option<Permit>,
}

impl Future for HandlerFuture {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let Self { context, call, route, permit } = &mut *self;
        // Unwind safe: after a panic, the future is dropped and never polled again.
        let polled = catch_unwind(AssertUnwindSafe(|| context.sync_scope(|| call.as_mut().poll(cx))));
        let polled = polled.unwrap_or_else(|_| {
            contained(|| error!(route = route.as_str(), "handler panicked"));
            Poll::Ready(())
        });
        if context.is_accepted() {
            // Streams may live for long, and have a limit of their own.
            *permit = None;
        }
        if polled.is_pending()
            && context.is_unsent()
            && let Some(permit) = permit
        {
            permit.result_waits();
        }
        polled
    }
}
