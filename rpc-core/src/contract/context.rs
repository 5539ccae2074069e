//! [`Context`]: the call that a handler serves.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering},
    task::{self, Poll},
    time::Duration,
};

use tokio::{sync::SetOnce, time::Instant};

use super::baggage;
use crate::{
    Code, Metadata, Peer, Status,
    sync::{AtomicBool, AtomicU8, Mutex, MutexGuard, OnceLock, fence},
};

/// The call that a handler serves: its deadline, metadata, peer and cancellation. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    peer: Arc<Peer>,
    deadline: Option<Instant>,
    metadata: Metadata,
    idempotency_key: Option<[u8; 16]>,
    /// The code of the answer, or [`UNANSWERED`].
    ///
    /// The first of handler, deadline and cancellation to answer sets it.
    outcome: AtomicU8,
    cancelled: AtomicBool,
    /// The metadata of the answer. Created by the first insertion.
    response_metadata: OnceLock<Mutex<Metadata>>,
    /// Whether the handler has a result that is not sent yet: it is compressed, or waits for capacity on its connection.
    unsent: AtomicBool,
    /// Whether the call was accepted and its stream has not ended: the deadline was that of the acceptance.
    accepted: AtomicBool,
    /// Created by the first call of [`Context::cancelled`].
    cancellation: OnceLock<SetOnce<()>>,
}

impl Context {
    /// Creates the context of a call from `peer`.
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
            response_metadata: OnceLock::new(),
            unsent: AtomicBool::new(false),
            accepted: AtomicBool::new(false),
            cancellation: OnceLock::new(),
        }))
    }

    /// Returns the context of another call from the same peer.
    ///
    /// Reuses the allocation if this is the only handle to it.
    pub fn renew(mut self, deadline: Option<Instant>, metadata: Metadata, idempotency_key: Option<[u8; 16]>) -> Self {
        let Some(inner) = Arc::get_mut(&mut self.0) else {
            return Self::new(Arc::clone(&self.0.peer), deadline, metadata, idempotency_key);
        };
        (inner.deadline, inner.metadata, inner.idempotency_key) = (deadline, metadata, idempotency_key);
        (inner.outcome, inner.cancelled) = (AtomicU8::new(UNANSWERED), AtomicBool::new(false));
        // Most calls initialize neither.
        if inner.response_metadata.get().is_some() {
            inner.response_metadata = OnceLock::new();
        }
        if inner.cancellation.get().is_some() {
            inner.cancellation = OnceLock::new();
        }
        (inner.unsent, inner.accepted) = (AtomicBool::new(false), AtomicBool::new(false));
        self
    }

    /// Returns the context of the call that this task serves.
    ///
    /// `None` outside a handler and in tasks that a handler spawned; use [`scope`](Self::scope) to pass a clone to
    /// those.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Returns when the caller stops waiting. The server drops the handler's future at that time.
    ///
    /// `None` if the result is a stream and the call was accepted: the stream lives until either end finishes.
    pub fn deadline(&self) -> Option<Instant> {
        if self.is_accepted() { None } else { self.0.deadline }
    }

    /// Returns how long the caller still waits; zero after the deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns the metadata that the caller sent.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// Returns the last baggage value of `key`, if it is UTF-8. See [`Call::baggage`](crate::Call::baggage).
    pub fn baggage(&self, key: &str) -> Option<&str> {
        self.metadata().get(&baggage::metadata_key(key))
    }

    /// Adds a metadata entry to the answer of the handler: a result, the service's own error or a status.
    ///
    /// The caller reads it with [`Call::with_response_metadata`](crate::Call::with_response_metadata) or
    /// [`Error::metadata`](crate::Error::metadata). An entry that is added after the answer was sent has no effect, and
    /// one-way calls have no answer. A call that the caller cancels or whose deadline passes has an answer of the server,
    /// without metadata.
    ///
    /// # Errors
    ///
    /// As [`Metadata::insert`].
    pub fn insert_response_metadata(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Status> {
        let value = value.as_ref();
        lock(self.0.response_metadata.get_or_init(Mutex::default)).insert(key, value)
    }

    /// Returns the metadata of the answer so far.
    pub fn response_metadata(&self) -> Metadata {
        self.inserted_response_metadata().unwrap_or_default()
    }

    /// Returns the metadata of the answer so far, or `None` without any cost if no insertion was attempted.
    #[doc(hidden)]
    #[inline]
    pub fn inserted_response_metadata(&self) -> Option<Metadata> {
        self.0.response_metadata.get().map(|metadata| lock(metadata).clone())
    }

    /// Returns the caller's address and identity.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Returns the key that identifies this call across attempts.
    pub fn idempotency_key(&self) -> Option<[u8; 16]> {
        self.0.idempotency_key
    }

    /// Returns whether no caller waits for the answer.
    ///
    /// This is so if the caller cancelled or disconnected, or the deadline passed.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Waits until no caller waits for the answer.
    ///
    /// The server drops the handler's own future at that time, so this serves tasks that the handler spawned.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn cancelled(&self) {
        let cancellation = self.0.cancellation.get_or_init(SetOnce::new);
        // `cancel` stores the flag before it loads the cell. This method initializes the cell before it loads the
        // flag. So at least one of the two sees the other's store. The fences order each load after the store before
        // it: processors may otherwise let the load of a `OnceLock` pass an earlier store.
        fence(Ordering::SeqCst);
        if !self.is_cancelled() {
            cancellation.wait().await;
        }
    }

    /// Waits until the server drains the connection of the call: it is about to stop, or the connection has reached its
    /// maximum age. In process, waits forever.
    ///
    /// A handler whose result is a stream then ends the stream, so that its caller continues at another server. Streams
    /// that are open at the end of the server's drain timeout end with `Unavailable`.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn draining(&self) {
        self.0.peer.draining().wait().await;
    }

    /// Runs `future` with this context as [`current`](Self::current).
    pub fn scope<F: Future>(self, future: F) -> Scoped<F> {
        Scoped { context: self, future: Box::pin(future) }
    }

    /// Calls `run` with this context as [`current`](Self::current).
    pub fn sync_scope<R>(&self, run: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self.clone(), run)
    }

    /// Notifies tasks that wait in [`cancelled`](Self::cancelled) that no caller waits for the answer.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if let Some(cancellation) = self.0.cancellation.get() {
            // An earlier cancellation may have set it.
            let _ = cancellation.set(());
        }
    }

    /// Claims the answer of the call with `code`.
    ///
    /// Returns `true` for the first claim and `false` for later ones.
    pub fn claim_answer(&self, code: Code) -> bool {
        self.0.outcome.compare_exchange(UNANSWERED, code as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Returns whether the answer of the call was claimed.
    pub fn is_answered(&self) -> bool {
        self.0.outcome.load(Ordering::Acquire) != UNANSWERED
    }

    /// Records that the call was accepted, and that the answer will be the end of its stream.
    ///
    /// Returns the metadata of the acceptance.
    pub(crate) fn accept(&self) -> Metadata {
        self.mark_accepted();
        // Metadata that is added later belongs to the end of the stream.
        self.0.response_metadata.get().map(|metadata| std::mem::take(&mut *lock(metadata))).unwrap_or_default()
    }

    /// Records that the call was accepted, without a change of its metadata.
    pub(crate) fn mark_accepted(&self) {
        self.0.accepted.store(true, Ordering::Release);
    }

    /// Returns whether the call was accepted, so that its answer is the end of a stream.
    #[doc(hidden)]
    pub fn is_accepted(&self) -> bool {
        self.0.accepted.load(Ordering::Acquire)
    }

    /// Records that the handler has a result that is compressed or waits for capacity on its connection.
    pub(crate) fn mark_unsent(&self) {
        self.0.unsent.store(true, Ordering::Relaxed);
    }

    /// Returns whether the handler has a result that was compressed or waited for capacity on its connection.
    #[doc(hidden)]
    pub fn is_unsent(&self) -> bool {
        // The handler usually stores it in the poll after which its task reads it.
        self.0.unsent.load(Ordering::Relaxed)
    }

    /// Returns the code of the answer; `None` until the answer is claimed.
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

fn lock(metadata: &Mutex<Metadata>) -> MutexGuard<'_, Metadata> {
    metadata.lock().unwrap_or_else(PoisonError::into_inner)
}

tokio::task_local! {
    static CURRENT: Context;
}

/// The number of no [`Code`].
const UNANSWERED: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context::new(Arc::default(), None, Metadata::default(), None)
    }

    #[tokio::test]
    async fn current_returns_context_only_inside_a_scope() {
        assert!(Context::current().is_none());
        context().scope(async { assert!(Context::current().is_some()) }).await;
        assert!(Context::current().is_none());
    }

    #[tokio::test]
    async fn cancellation_is_seen_before_and_during_the_wait() {
        let early = context();
        early.cancel();
        early.cancelled().await;
        let late = context();
        tokio::join!(late.cancelled(), async { late.cancel() });
    }

    #[test]
    fn renewed_context_resets_the_previous_call() {
        let old = Context::new(Arc::default(), Some(Instant::now()), Metadata::default(), Some([7; 16]));
        old.cancel();
        old.insert_response_metadata("k", "v").unwrap();
        assert!(old.claim_answer(Code::Ok));
        let renewed = old.renew(None, Metadata::default(), None);
        assert!(renewed.response_metadata().is_empty());
        assert!(!renewed.is_cancelled() && renewed.outcome().is_none());
        assert!(renewed.deadline().is_none() && renewed.idempotency_key().is_none());
    }

    #[test]
    fn renew_leaves_other_handles_unchanged() {
        let held = context();
        held.cancel();
        assert!(!held.clone().renew(None, Metadata::default(), None).is_cancelled());
        assert!(held.is_cancelled());
    }

    #[test]
    fn answer_is_claimed_once() {
        let context = context();
        assert!(!context.is_answered());
        assert!(context.claim_answer(Code::Ok));
        assert!(!context.claim_answer(Code::Cancelled));
        assert_eq!(context.outcome(), Some(Code::Ok));
    }
}
