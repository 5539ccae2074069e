//! [`Credit`]: the credit for items to be sent.

use std::{
    sync::PoisonError,
    task::{self, Poll, Waker},
};

use crate::{
    frame::Violation,
    sync::{Mutex, MutexGuard},
};

/// The credit that the peer has granted for the items of one stream, in bytes.
///
/// The sender may send an item while the credit is positive. A long item may exceed it, and the credit is then negative.
#[derive(Debug)]
pub struct Credit(Mutex<State>);

#[derive(Debug)]
struct State {
    balance: i64,
    /// Whether the call has ended, so that the sender must send nothing more.
    is_closed: bool,
    /// Whether the peer grants no more credit.
    is_final: bool,
    sender: Option<Waker>,
}

impl Credit {
    /// The credit at the start of a stream, in bytes: 64 KiB.
    pub const INITIAL: u32 = 64 << 10;
    /// The cost of an item in addition to its length, in bytes.
    pub const PER_ITEM: usize = 16;
    /// The highest credit, in bytes: 2 GiB.
    pub const MAX: i64 = 2 << 30;

    /// Creates the credit of a new stream.
    #[expect(clippy::new_without_default, reason = "a credit belongs to a stream")]
    pub fn new() -> Self {
        Self(Mutex::new(State { balance: Self::INITIAL.into(), is_closed: false, is_final: false, sender: None }))
    }

    /// Returns the cost of an item whose decompressed payload has this length.
    pub fn cost(length: usize) -> u64 {
        (length + Self::PER_ITEM) as u64
    }

    /// Adds credit that the peer has granted for call `id`.
    ///
    /// # Errors
    ///
    /// A violation if the credit exceeds [`MAX`](Self::MAX).
    pub fn add(&self, granted: u32, id: u32) -> Result<(), Violation> {
        let mut state = self.lock();
        let had_credit = state.balance > 0;
        state.balance += i64::from(granted);
        if state.balance > Self::MAX {
            return Err(Violation::BadCredit(id));
        }
        // Credit that a sender does not wait for must not cost a wake-up.
        let sender = if !had_credit && state.balance > 0 { state.sender.take() } else { None };
        drop(state);
        sender.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Records that the peer grants no more credit.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.is_final = true;
        let sender = state.sender.take();
        drop(state);
        sender.into_iter().for_each(Waker::wake);
    }

    /// Records that the call has ended. Returns the waker of the sender.
    #[must_use]
    pub(super) fn close(&self) -> Option<Waker> {
        let mut state = self.lock();
        state.is_closed = true;
        state.sender.take()
    }

    /// Returns whether the call has ended.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Waits until the credit is positive, and returns it; `None` when the call has ended, or when the credit is spent and
    /// the peer grants no more.
    pub(super) fn poll_positive(&self, cx: &mut task::Context<'_>) -> Poll<Option<i64>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        match () {
            () if state.is_closed => Poll::Ready(None),
            () if state.balance > 0 => Poll::Ready(Some(state.balance)),
            () if state.is_final => Poll::Ready(None),
            () => {
                let previous = state.sender.replace(waker);
                drop(state);
                drop(previous);
                Poll::Pending
            }
        }
    }

    /// Waits until the call has ended.
    pub(super) fn poll_closed(&self, cx: &mut task::Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if state.is_closed {
            return Poll::Ready(());
        }
        let previous = state.sender.replace(waker);
        drop(state);
        drop(previous);
        Poll::Pending
    }

    /// Subtracts the cost of items that are about to be sent.
    pub(super) fn spend(&self, cost: u64) {
        self.lock().balance -= cost as i64;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_may_become_negative_and_has_a_maximum() {
        let (credit, cx) = (Credit::new(), &mut task::Context::from_waker(Waker::noop()));
        assert_eq!(credit.poll_positive(cx), Poll::Ready(Some(65_536)));
        credit.spend(Credit::cost(100_000));
        assert!(credit.poll_positive(cx).is_pending());
        credit.add(34_480, 1).unwrap();
        assert!(credit.poll_positive(cx).is_pending(), "0 is not positive");
        credit.add(1, 1).unwrap();
        assert_eq!(credit.poll_positive(cx), Poll::Ready(Some(1)));
        credit.add(i32::MAX as u32, 1).unwrap();
        assert_eq!(credit.add(1, 1), Err(Violation::BadCredit(1)));
    }

    #[test]
    fn final_credit_is_spent_before_the_stream_ends() {
        let (credit, cx) = (Credit::new(), &mut task::Context::from_waker(Waker::noop()));
        credit.finish();
        assert_eq!(credit.poll_positive(cx), Poll::Ready(Some(65_536)));
        credit.spend(65_536);
        assert_eq!(credit.poll_positive(cx), Poll::Ready(None));
        assert!(!credit.is_closed());
    }

    #[test]
    fn close_ends_both_waits() {
        let (credit, cx) = (Credit::new(), &mut task::Context::from_waker(Waker::noop()));
        assert!(credit.poll_closed(cx).is_pending());
        assert!(credit.close().is_some());
        assert!(credit.poll_closed(cx).is_ready() && credit.is_closed());
        assert_eq!(credit.poll_positive(cx), Poll::Ready(None));
    }
}
