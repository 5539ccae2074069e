//! [`RejectedCalls`]: the once calls that a server rejected and has not executed since.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use rpc_core::{Code, Status};
use tokio::time::Instant;

use crate::call::rejection::Rejection;

/// The once calls that a server rejected and has not executed since, for the answers to their repeats.
///
/// A plain structure without a lock. At its limit it forgets the oldest call.
#[derive(Default)]
pub(super) struct RejectedCalls {
    calls: Calls,
    /// The rejections, oldest first. A call may have been removed or rejected again since.
    order: VecDeque<Rejected>,
    next: u64,
}

#[derive(Clone, Copy)]
struct Rejected {
    key: [u8; 16],
    number: u64,
    at: Instant,
}

#[derive(Clone, Copy)]
struct RejectedCall {
    code: Code,
    retry_after: Option<Duration>,
    /// The number of its last rejection.
    number: u64,
}

impl RejectedCalls {
    /// Records that a call was rejected.
    pub(super) fn insert(&mut self, key: [u8; 16], status: &Status, at: Instant) {
        let number = self.next;
        self.next += 1;
        self.calls.insert(key, RejectedCall { code: status.code(), retry_after: status.retry_after(), number });
        self.order.push_back(Rejected { key, number, at });
        while self.calls.len() > MAX_REJECTED {
            self.forget_oldest();
        }
        if self.order.len() >= 2 * MAX_REJECTED {
            let calls = &self.calls;
            self.order.retain(|rejected| is_last(calls, *rejected));
        }
    }

    /// Returns the rejection of a repeat of a rejected call.
    pub(super) fn rejection(&self, key: [u8; 16]) -> Option<Rejection> {
        let RejectedCall { code, retry_after, .. } = *self.calls.get(&key)?;
        let status = Status::new(code, "the server rejected an earlier request of this once call and executed none");
        Some(match retry_after {
            Some(wait) => Rejection::until(status, wait),
            None => status.into(),
        })
    }

    /// Forgets a call, which is about to execute.
    pub(super) fn remove(&mut self, key: [u8; 16]) {
        self.calls.remove(&key);
    }

    /// Forgets the calls that were rejected `keep_for` ago or earlier.
    pub(super) fn forget_expired(&mut self, now: Instant, keep_for: Duration) {
        while self.order.front().is_some_and(|rejected| now.duration_since(rejected.at) >= keep_for) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front()
            && is_last(&self.calls, oldest)
        {
            self.calls.remove(&oldest.key);
        }
    }
}

type Calls = HashMap<[u8; 16], RejectedCall, foldhash::fast::RandomState>;

/// Returns whether a rejection is the last one of a recorded call.
fn is_last(calls: &Calls, rejected: Rejected) -> bool {
    calls.get(&rejected.key).is_some_and(|call| call.number == rejected.number)
}

/// The maximum number of rejected once calls that a server remembers.
const MAX_REJECTED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(600);

    fn key(number: usize) -> [u8; 16] {
        (number as u128).to_be_bytes()
    }

    #[test]
    fn server_remembers_10_000_rejected_calls_at_most() {
        let (mut rejected, now) = (RejectedCalls::default(), Instant::now());
        let status = Status::new(Code::Unavailable, "");
        (0..MAX_REJECTED).for_each(|number| rejected.insert(key(number), &status, now));
        assert!(rejected.rejection(key(0)).is_some());
        rejected.insert(key(MAX_REJECTED), &status, now);
        assert!(rejected.rejection(key(0)).is_none());
        assert_eq!((rejected.calls.len(), rejected.order.len()), (MAX_REJECTED, MAX_REJECTED));
        // Further rejections of a recorded call evict no other.
        (0..3 * MAX_REJECTED).for_each(|_| rejected.insert(key(2), &status, now));
        assert!(rejected.rejection(key(1)).is_some() && rejected.order.len() <= 2 * MAX_REJECTED);
    }

    #[test]
    fn rejected_call_is_forgotten_after_its_retention() {
        let (mut rejected, now) = (RejectedCalls::default(), Instant::now());
        let status = Status::new(Code::ResourceExhausted, "full").with_retry_after(Duration::from_millis(7));
        rejected.insert(key(1), &status, now);
        rejected.remove(key(1));
        assert!(rejected.rejection(key(1)).is_none());
        // Rejected again: the time of the first rejection counts no more.
        rejected.insert(key(1), &status, now + KEEP / 2);
        rejected.forget_expired(now + KEEP, KEEP);
        let rejection = rejected.rejection(key(1)).unwrap();
        assert_eq!(rejection.status.code(), Code::ResourceExhausted);
        assert_eq!(rejection.status.retry_after(), Some(Duration::from_millis(7)));
        assert!(!rejection.may_have_executed);
        rejected.forget_expired(now + KEEP / 2 + KEEP, KEEP);
        assert!(rejected.rejection(key(1)).is_none() && rejected.order.is_empty());
    }
}
