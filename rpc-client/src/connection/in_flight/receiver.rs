//! [`Receiver`]: the caller's end of a call in the in-flight table.

use std::{sync::Arc, task::Waker};

use rpc_core::{Code, frame::Frame, head::ResponseHead, transport::CloseReason};

/// How a call ended on its connection.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// The peer sent a response.
    Response(Frame),
    /// The peer sent a response of `length` bytes, which exceeds the frame limit.
    TooLong { length: u32, limit: u32 },
    /// The deadline passed.
    Expired,
    /// The connection closed.
    Closed(Arc<CloseReason>),
}

impl Outcome {
    /// Returns whether the peer has answered that the call was cancelled.
    pub(super) fn is_cancellation(&self) -> bool {
        matches!(self, Self::Response(frame) if ResponseHead::code(&frame.body) == Code::Cancelled)
    }
}

/// The caller's end of a call: the outcome that the caller has not taken yet, and the caller's waker.
///
/// Every call receives one outcome. Items of streams have a queue of their own, so that unary calls pay nothing for it.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

impl Receiver {
    /// Returns whether the caller has an outcome to take.
    pub(super) fn has_outcome(&self) -> bool {
        self.outcome.is_some()
    }

    /// Stores an outcome in place of an earlier one that the caller has not taken.
    ///
    /// A response that arrives after the deadline and before the caller polls is still the answer.
    pub(super) fn put(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Stores an outcome unless there is one.
    pub(super) fn put_if_empty(&mut self, outcome: impl FnOnce() -> Outcome) {
        self.outcome.get_or_insert_with(outcome);
    }

    pub(super) fn take(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    pub(super) fn set_waker(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    pub(super) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Drops the outcome and the waker: the caller is gone.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
