//! [`RetryBudget`] and [`ConnectBudget`]: bounds on what failures may add to the load.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rpc_core::TokenBucket;
use tokio::time::{Instant, sleep};

use crate::cache_padded::Tally;

/// How much of the load may be retries: a fifth of the calls and ten a second, saved up to a bound. When everything fails,
/// retries then add a fifth to the load, instead of tripling it.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    calls: Tally,
    saved: Mutex<(TokenBucket, u64)>,
}

impl RetryBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { calls: Tally::default(), saved: Mutex::new((TokenBucket::new(MOST_RETRIES, RETRIES_A_SECOND, now), 0)) }
    }

    /// Counts a call.
    pub(crate) fn count(&self) {
        self.calls.add();
    }

    /// How many calls were counted.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.sum()
    }

    /// Takes a retry, if there is one left.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let calls = self.calls.sum();
        let (bucket, seen) = &mut *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.earn(calls.saturating_sub(*seen) as f64 * RETRIES_A_CALL);
        *seen = calls;
        bucket.take(now).is_ok()
    }
}

/// How many connects there may be: a thousand peers that come and go must not make a storm of them.
#[derive(Debug)]
pub(crate) struct ConnectBudget(Mutex<TokenBucket>);

impl ConnectBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(TokenBucket::new(MOST_CONNECTS, CONNECTS_A_SECOND, now)))
    }

    /// The one that all clients of this process share.
    pub(crate) fn of_process() -> Arc<Self> {
        static BUDGET: LazyLock<Arc<ConnectBudget>> = LazyLock::new(|| Arc::new(ConnectBudget::new(Instant::now())));
        Arc::clone(&BUDGET)
    }

    /// Waits until there may be one more.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(crate) async fn permit(&self) {
        loop {
            let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
            match taken {
                Ok(()) => return,
                Err(wait) => sleep(wait).await,
            }
        }
    }
}

/// Enough for all the calls that one lost connection can have in flight by default.
const MOST_RETRIES: f64 = 1024.0;
const RETRIES_A_CALL: f64 = 0.2;
const RETRIES_A_SECOND: f64 = 10.0;
/// Enough for a client that starts among a thousand providers.
const MOST_CONNECTS: f64 = 1024.0;
const CONNECTS_A_SECOND: f64 = 256.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn retries_are_a_fifth_of_the_calls_and_ten_a_second() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let spend = |now| std::iter::repeat_with(|| budget.take(now)).take_while(|taken| *taken).count();
        assert_eq!(spend(start), 1024);
        (0..100).for_each(|_| budget.count());
        assert_eq!(spend(start), 20);
        assert_eq!(spend(start + Duration::from_secs(2)), 20);
    }
}
