//! [`Backoff`]: when a lost connection is tried again, and when no more.

use std::time::Duration;

use crate::planted::{Bug, planted};

/// Counts the failed attempts for one address. Knows neither clock nor chance: both are given to it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Attempts that may fail in a row; the address is evicted with the last of them.
    pub(crate) const MAX_FAILURES: u32 = 12;

    /// Counts a failed attempt; `false` when it was the last.
    #[must_use]
    pub(crate) fn failed(&mut self) -> bool {
        self.failures += 1;
        self.failures < Self::MAX_FAILURES + u32::from(planted(Bug::ThirteenthAttempt))
    }

    /// A pong or a response came on the connection: the peer is alive. A bare connect is no proof, else a peer that accepts
    /// and closes would be called every 4 ms.
    pub(crate) fn proved(&mut self) {
        self.failures = 0;
    }

    /// How long to wait before the next attempt: `2 << n` ms before the n-th, from 4 ms to 8192 ms, 16.4 s in all, half of it
    /// fixed and half by `chance` in 0 to 1, so that clients of a provider that died do not come back all at once.
    pub(crate) fn delay(&self, chance: f64) -> Duration {
        let attempt = (self.failures + 1).min(Self::MAX_FAILURES);
        let full = f64::from(2_u32 << attempt) / 1000.0;
        Duration::from_secs_f64(full / 2.0 + full / 2.0 * chance.clamp(0.0, 1.0))
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_8192_ms_and_the_twelfth_failure_is_the_last() {
        let mut backoff = Backoff::default();
        let (mut delays, mut attempts) = (Vec::new(), 0);
        loop {
            delays.push(backoff.delay(1.0).as_millis());
            attempts += 1;
            if !backoff.failed() {
                break;
            }
        }
        assert_eq!(attempts, 12);
        assert_eq!(delays, [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]);
        assert_eq!(delays.iter().sum::<u128>(), 16_380);
    }

    #[test]
    fn half_is_fixed_and_half_is_chance() {
        let mut backoff = Backoff::default();
        assert!(backoff.failed());
        let millis = |chance| backoff.delay(chance).as_micros();
        assert_eq!([millis(0.0), millis(0.5), millis(1.0)], [4000, 6000, 8000]);
    }

    #[test]
    fn proof_starts_it_anew() {
        let mut backoff = Backoff::default();
        for _ in 1..Backoff::MAX_FAILURES {
            assert!(backoff.failed());
        }
        backoff.proved();
        assert_eq!(backoff, Backoff::default());
    }
}
