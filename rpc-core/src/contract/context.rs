//! [`Context`]: what a handler may know of the call it serves.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{self, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Code, Metadata, Peer,
    sync::{AtomicBool, AtomicU8, OnceLock, fence},
};

/// What a handler may know of the call it serves: deadline, metadata, peer, cancellation. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    peer: Arc<Peer>,
    deadline: Option<Instant>,
    metadata: Metadata,
    idempotency_key: Option<[u8; 16]>,
    /// The code, set once by whoever answers the call: the handler, its deadline, its caller's cancellation.
    outcome: AtomicU8,
    cancelled: AtomicBool,
    /// Made only for who waits for it.
    cancellation: OnceLock<CancellationToken>,
}

impl Context {
    /// A context for a call that came from `peer`.
    pub fn new(
        peer: Arc<Peer>,
        deadline: Option<Instant>,
        metadata: Metadata,
        idempotency_key: Option<[u8; 16]>,
    ) -> Self {
        Self(Arc::new(Inner {
            peer,
            deadline,
            metadata,
            idempotency_key,
            outcome: AtomicU8::new(UNANSWERED),
            cancelled: AtomicBool::new(false),
            cancellation: OnceLock::new(),
        }))
    }

    /// The same, in the place of a context that nobody holds any more.
    pub fn renew(mut self, deadline: Option<Instant>, metadata: Metadata, idempotency_key: Option<[u8; 16]>) -> Self {
        let Some(inner) = Arc::get_mut(&mut self.0) else {
            return Self::new(Arc::clone(&self.0.peer), deadline, metadata, idempotency_key);
        };
        (inner.deadline, inner.metadata, inner.idempotency_key) = (deadline, metadata, idempotency_key);
        (inner.outcome, inner.cancelled) = (AtomicU8::new(UNANSWERED), AtomicBool::new(false));
        inner.cancellation = OnceLock::new();
        self
    }

    /// The context of the call that this task serves; `None` outside a handler, and in tasks that a handler spawned, which can
    /// be given a clone by [`scope`](Self::scope).
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// When the caller stops waiting; the handler's future is dropped then.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// How long the caller goes on waiting; zero when it has stopped.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The pairs that the caller sent.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// Who calls.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// The key under which a repeat of this call would come.
    pub fn idempotency_key(&self) -> Option<[u8; 16]> {
        self.0.idempotency_key
    }

    /// Whether nobody waits for the answer any more: the caller gave up, went away, or the deadline passed.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Waits until nobody waits for the answer any more. The handler's own future is dropped then, so this is for work that
    /// the handler spawned.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn cancelled(&self) {
        let token = self.0.cancellation.get_or_init(CancellationToken::new);
        // `cancel` sets the flag before it looks for the token, and here the token stands before the flag is read: one of the
        // two sees the other. The fences keep each from looking before it has set; a look into a `OnceLock` alone may come
        // first on processors that let a load pass a store.
        fence(Ordering::SeqCst);
        if !self.is_cancelled() {
            token.cancelled().await;
        }
    }

    /// Runs `future` so that [`current`](Self::current) gives this context.
    pub fn scope<F: Future>(self, future: F) -> Scoped<F> {
        Scoped { context: self, future: Box::pin(future) }
    }

    /// Runs `run` so that [`current`](Self::current) gives this context.
    pub fn sync_scope<R>(&self, run: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self.clone(), run)
    }

    /// Tells the handler's helpers that nobody waits any more.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if let Some(token) = self.0.cancellation.get() {
            token.cancel();
        }
    }

    /// Whether the caller of this is the one who answers, with `code`; the second and later ones are not.
    pub fn claim_answer(&self, code: Code) -> bool {
        self.0.outcome.compare_exchange(UNANSWERED, code as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether the call has its answer.
    pub fn is_answered(&self) -> bool {
        self.0.outcome.load(Ordering::Acquire) != UNANSWERED
    }

    /// How the call was answered; `None` while it is not.
    pub fn outcome(&self) -> Option<Code> {
        match self.0.outcome.load(Ordering::Acquire) {
            UNANSWERED => None,
            code => Some(Code::from_u8(code)),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("peer", &self.0.peer)
            .field("deadline", &self.0.deadline)
            .field("metadata", &self.0.metadata)
            .finish_non_exhaustive()
    }
}

/// A future that runs under a [`Context`].
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Scoped<F> {
    context: Context,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let Self { context, future } = &mut *self;
        context.sync_scope(|| future.as_mut().poll(cx))
    }
}

tokio::task_local! {
    static CURRENT: Context;
}

/// The number of no code.
const UNANSWERED: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context::new(Arc::default(), None, Metadata::default(), None)
    }

    #[tokio::test]
    async fn current_is_there_inside_a_scope_only() {
        assert!(Context::current().is_none());
        context().scope(async { assert!(Context::current().is_some()) }).await;
        assert!(Context::current().is_none());
    }

    #[tokio::test]
    async fn cancellation_is_seen_whether_it_comes_before_or_after_the_wait() {
        let early = context();
        early.cancel();
        early.cancelled().await;
        let late = context();
        tokio::join!(late.cancelled(), async { late.cancel() });
    }

    #[test]
    fn a_renewed_context_knows_nothing_of_the_call_before() {
        let old = Context::new(Arc::default(), Some(Instant::now()), Metadata::default(), Some([7; 16]));
        old.cancel();
        assert!(old.claim_answer(Code::Ok));
        let renewed = old.renew(None, Metadata::default(), None);
        assert!(!renewed.is_cancelled() && renewed.outcome().is_none());
        assert!(renewed.deadline().is_none() && renewed.idempotency_key().is_none());
    }

    #[test]
    fn who_holds_a_context_keeps_it_when_it_is_renewed() {
        let held = context();
        held.cancel();
        assert!(!held.clone().renew(None, Metadata::default(), None).is_cancelled());
        assert!(held.is_cancelled());
    }

    #[test]
    fn one_answer_is_claimed() {
        let context = context();
        assert!(!context.is_answered());
        assert!(context.claim_answer(Code::Ok));
        assert!(!context.claim_answer(Code::Cancelled));
        assert_eq!(context.outcome(), Some(Code::Ok));
    }
}
