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

    /// Counts a failure. Returns false when the address is to be evicted.
    #[must_use]
    pub(crate) fn count_failure(&mut self) -> bool {
        self.failures += 1;
        self.failures < Self::MAX_FAILURES
    }

    /// Forgets the failures, because the peer sent a pong or a response.
    ///
    /// A bare connect must not reset them: the client would otherwise connect every 4 ms to a peer that accepts and
    /// closes.
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
        let (mut delays, mut attempts) = (Vec::new(), 0);
        loop {
            delays.push(backoff.delay(1.0).as_millis());
            attempts += 1;
            if !backoff.count_failure() {
                break;
            }
        }
        assert_eq!(attempts, 12);
        assert_eq!(delays, [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]);
        assert_eq!(delays.iter().sum::<u128>(), 16_380);
    }

    #[test]
    fn half_of_the_delay_is_jitter() {
        let mut backoff = Backoff::default();
        assert!(backoff.count_failure());
        let millis = |jitter| backoff.delay(jitter).as_micros();
        assert_eq!([millis(0.0), millis(0.5), millis(1.0)], [4000, 6000, 8000]);
    }

    #[test]
    fn proof_resets_the_failures() {
        let mut backoff = Backoff::default();
        for _ in 1..Backoff::MAX_FAILURES {
            assert!(backoff.count_failure());
        }
        backoff.reset();
        assert_eq!(backoff, Backoff::default());
    }
}
