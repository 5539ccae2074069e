//! How long to wait before the next attempt to reach a registry.

use std::time::Duration;

/// The longest wait between two attempts.
const MAX: Duration = Duration::from_secs(8);

/// 0.5 to 1 s after the first failure, twice that after each further one, at most 4 to 8 s.
///
/// Half of it is random, so that those who lost a registry together do not come back together.
pub(crate) fn delay(failures: u32) -> Duration {
    let whole = Duration::from_secs(1 << failures.saturating_sub(1).min(8)).min(MAX);
    whole.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound() {
        for (failures, whole) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (u32::MAX, 8)] {
            let whole = Duration::from_secs(whole);
            let delay = delay(failures);
            assert!(delay >= whole / 2 && delay <= whole, "{failures}: {delay:?}");
        }
    }
}
