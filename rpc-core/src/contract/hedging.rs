//! [`Hedging`]: when a client starts a second attempt of a call that is not answered.

use std::time::Duration;

/// When a client starts a second attempt of a call that is not answered, at another provider.
///
/// It applies to methods that are `idempotent` or `once = "cluster"`. The first answer wins. A hedge executes the
/// handler twice although both providers may be healthy: a call that often takes longer than the delay doubles its load.
/// Each hedge takes a token from the client's retry budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Hedging {
    /// After a third of the time that the call has left. The default.
    #[default]
    Third,
    /// After this time.
    After(Duration),
    /// Never.
    ///
    /// The client still probes the connection after a third of the time that the call has left, and sends the call to
    /// another provider if the connection is lost.
    Never,
}

impl Hedging {
    /// Returns the time after which an attempt is probed and may be hedged, of a call that has `left` to its deadline.
    #[doc(hidden)]
    pub fn delay(self, left: Duration) -> Duration {
        match self {
            Self::Third | Self::Never => left / ATTEMPTS_PER_TIMEOUT,
            Self::After(delay) => delay.min(left),
        }
    }
}

/// The divisor of the time left that yields the hedge time: an attempt has a third of it.
const ATTEMPTS_PER_TIMEOUT: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_is_limited_by_the_time_left() {
        let left = Duration::from_secs(3);
        assert_eq!(Hedging::Third.delay(left), Duration::from_secs(1));
        assert_eq!(Hedging::Never.delay(left), Duration::from_secs(1));
        assert_eq!(Hedging::After(Duration::from_millis(5)).delay(left), Duration::from_millis(5));
        assert_eq!(Hedging::After(Duration::MAX).delay(left), left);
    }
}
