//! [`delay`]: the backoff between attempts to reach a registry.

use std::time::Duration;

/// The maximum delay between two attempts.
const MAX: Duration = Duration::from_secs(8);

/// Returns a random delay.
///
/// It is 0.5 to 1 s after the first failure, doubled with each further one, up to 4 to 8 s.
///
/// Half of the delay is random, so that clients that lost a registry at the same time do not reconnect at the same
/// time.
pub(crate) fn delay(failures: u32) -> Duration {
    let full = Duration::from_secs(1 << failures.saturating_sub(1).min(8)).min(MAX);
    full.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_grows_to_its_maximum() {
        for (failures, full) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (u32::MAX, 8)] {
            let full = Duration::from_secs(full);
            let delay = delay(failures);
            assert!(delay >= full / 2 && delay <= full, "{failures}: {delay:?}");
        }
    }
}
