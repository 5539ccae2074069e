//! [`Progress`]: the progress of a call through the layers of a client.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use tokio::time::Instant;

use crate::Explanation;

/// The progress of a call, shared between its future and the layers.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When the call reached the first layer.
    started: Instant,
    stage: AtomicU8,
    /// A layer may replace the timeout of the method or the client until the call is sent.
    deadline: Mutex<Instant>,
    explanation: Mutex<Explanation>,
    /// The progress through the layers around the caller that has these layers.
    outer: Option<Arc<Self>>,
}

impl Progress {
    /// A layer executes and has not sent the call.
    pub(super) const BEFORE: u8 = 0;
    /// The caller behind the layers executes the call.
    pub(super) const BELOW: u8 = 1;
    /// The call has its reply.
    pub(super) const AFTER: u8 = 2;

    pub(super) fn new(now: Instant, deadline: Instant, outer: Option<Arc<Self>>) -> Self {
        Self {
            started: outer.as_ref().map_or(now, |outer| outer.started),
            stage: AtomicU8::new(Self::BEFORE),
            deadline: Mutex::new(deadline),
            explanation: Mutex::default(),
            outer,
        }
    }

    /// Returns when the call reached the first layer.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn stage(&self) -> u8 {
        self.stage.load(Ordering::Relaxed)
    }

    /// Only polls of the call store and load the stage, so only one thread at a time.
    pub(super) fn enter(&self, stage: u8) {
        self.stage.store(stage, Ordering::Relaxed);
    }

    pub(super) fn deadline(&self) -> Instant {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the deadline of the call, also for the outer layers, which receive the reply.
    pub(super) fn set_deadline(&self, deadline: Instant) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
        if let Some(outer) = &self.outer {
            outer.set_deadline(deadline);
        }
    }

    pub(super) fn explanation(&self) -> Explanation {
        self.explanation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_explanation(&self, explanation: Explanation) {
        *self.explanation.lock().unwrap_or_else(PoisonError::into_inner) = explanation;
    }
}
