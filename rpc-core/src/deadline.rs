//! [`deadline_after`]: the sum of a time and a duration, without overflow.

use std::time::Duration;

use tokio::time::Instant;

/// Returns `now + duration`, or the time 30 years after `now` if `duration` is longer.
///
/// A setting of `Duration::MAX` therefore means that there is no limit, and no sum of times overflows.
#[inline]
pub fn deadline_after(now: Instant, duration: Duration) -> Instant {
    now + duration.min(UNLIMITED)
}

/// The duration that stands for all longer ones: longer than any process runs, short enough for every `Instant`.
const UNLIMITED: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_durations_saturate() {
        let now = Instant::now();
        assert_eq!(deadline_after(now, UNLIMITED), now + UNLIMITED);
        assert_eq!(deadline_after(now, Duration::MAX), now + UNLIMITED);
        assert_eq!(deadline_after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
    }
}
