//! [`Backoff`]: the delays between connects, and their number.

use std::time::Duration;

/// The consecutive failures of one connection of an endpoint.
///
/// Has neither a clock nor a random number generator.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The number of consecutive failures that evicts the address.
    pub(crate) const MAX_FAILURES: u32 = 12;
    /// The longest delay of an endpoint that reconnects eagerly.
    pub(crate) const MAX_EAGER_DELAY: Duration = Duration::from_secs(2);
    /// The shortest delay before a connect that a call has requested, because it found no provider.
    pub(crate) const MIN_REQUESTED_DELAY: Duration = Duration::from_millis(200);
    /// The time after which a connection without a response counts as one that worked.
    const STABLE_AFTER: Duration = Duration::from_secs(1);

    /// Counts a failure.
    pub(crate) fn count_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Returns whether a connection worked: it carried a response, or the peer proved itself and the connection
    /// lasted for 1 s.
    ///
    /// Only then [`reset`](Self::reset) forgets the failures. The client would otherwise connect every 4 ms to a peer
    /// that accepts, answers the first ping, and closes.
    pub(crate) fn worked(proven: bool, answered: bool, lasted: Duration) -> bool {
        answered || proven && lasted >= Self::STABLE_AFTER
    }

    /// Discards the failures, because a connection worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the delay before the next connect.
    ///
    /// It is `2 << n` ms before the n-th, from 4 ms to 8192 ms, 16.4 s in total.
    ///
    /// Half of the delay is fixed and half is scaled by `jitter` (0 to 1), so that the clients of a restarted provider
    /// do not all connect at once.
    pub(crate) fn delay(&self, jitter: f64) -> Duration {
        let attempt = (self.failures + 1).min(Self::MAX_FAILURES);
        let full = f64::from(2_u32 << attempt) / 1000.0;
        Duration::from_secs_f64(full / 2.0 + full / 2.0 * jitter.clamp(0.0, 1.0))
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_8192_ms_and_twelfth_failure_evicts() {
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        while backoff.failures() < Backoff::MAX_FAILURES {
            delays.push(backoff.delay(1.0).as_millis());
            backoff.count_failure();
        }
        assert_eq!(delays, [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]);
        assert_eq!(delays.iter().sum::<u128>(), 16_380);
    }

    #[test]
    fn half_of_the_delay_is_jitter() {
        let mut backoff = Backoff::default();
        backoff.count_failure();
        let millis = |jitter| backoff.delay(jitter).as_micros();
        assert_eq!([millis(0.0), millis(0.5), millis(1.0)], [4000, 6000, 8000]);
    }

    #[test]
    fn working_connection_resets_the_failures() {
        let mut backoff = Backoff::default();
        for _ in 0..2 * Backoff::MAX_FAILURES {
            backoff.count_failure();
        }
        assert_eq!(backoff.delay(1.0).as_millis(), 8192);
        backoff.reset();
        assert_eq!(backoff, Backoff::default());
    }

    #[test]
    fn short_connection_without_response_did_not_work() {
        let limit = Backoff::STABLE_AFTER;
        let below = limit - Duration::from_nanos(1);
        assert!(!Backoff::worked(true, false, below));
        assert!(Backoff::worked(true, false, limit));
        assert!(Backoff::worked(true, true, Duration::ZERO));
        assert!(!Backoff::worked(false, false, limit), "a bare connect proves nothing");
    }
}
