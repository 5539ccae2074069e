//! [`RetryBudget`]: a limit on the load that retries and hedges add.

use std::sync::{Mutex, PoisonError};

use rpc_core::TokenBucket;
use tokio::time::Instant;

use crate::sharded_counter::ShardedCounter;

/// A limit on the retries and hedges of a client.
///
/// It earns one for every five calls and ten per second, and accumulates up to 1024.
///
/// When every call fails, retries add a fifth to the load instead of tripling it.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    calls: ShardedCounter,
    savings: Mutex<Savings>,
}

#[derive(Debug)]
struct Savings {
    tokens: TokenBucket,
    /// The number of calls that `tokens` accounts for.
    calls_seen: u64,
}

impl RetryBudget {
    pub(crate) fn new(now: Instant) -> Self {
        let tokens = TokenBucket::new(MAX_SAVED, RETRIES_PER_SECOND, now);
        Self { calls: ShardedCounter::default(), savings: Mutex::new(Savings { tokens, calls_seen: 0 }) }
    }

    /// Counts a call.
    pub(crate) fn count_call(&self) {
        self.calls.increment();
    }

    /// Returns the number of calls counted so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.sum()
    }

    /// Takes one retry. Returns false when the budget is spent.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let calls = self.calls.sum();
        let Savings { tokens, calls_seen } = &mut *self.savings.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.earn(calls.saturating_sub(*calls_seen) as f64 * RETRIES_PER_CALL);
        *calls_seen = calls;
        tokens.take(now).is_ok()
    }
}

/// Covers all the calls that one lost connection can have in flight by default.
const MAX_SAVED: f64 = 1024.0;
const RETRIES_PER_CALL: f64 = 0.2;
const RETRIES_PER_SECOND: f64 = 10.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn budget_is_a_fifth_of_the_calls_and_ten_a_second() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let spend = |now| std::iter::repeat_with(|| budget.take(now)).take_while(|taken| *taken).count();
        assert_eq!(spend(start), 1024);
        (0..100).for_each(|_| budget.count_call());
        assert_eq!(spend(start), 20);
        assert_eq!(spend(start + Duration::from_secs(2)), 20);
    }
}
