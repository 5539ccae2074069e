//! Slow start: the growing share of a provider that has just started or returned from an ejection.

use std::time::Duration;

/// Returns the part of its weight that a provider has after `age`, from [`FIRST_SHARE`] to 1.
///
/// The part grows linearly over `window`, as with Envoy's slow start of aggression 1. A window of zero means no slow start.
pub(super) fn warmth(age: Duration, window: Duration) -> f64 {
    if age >= window {
        return 1.0;
    }
    (age.as_secs_f64() / window.as_secs_f64()).max(FIRST_SHARE)
}

/// The part of its weight with which a provider starts.
const FIRST_SHARE: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_grows_from_a_tenth_to_the_whole() {
        let window = Duration::from_secs(30);
        let at = |seconds| warmth(Duration::from_secs(seconds), window);
        assert_eq!([at(0), at(3), at(12), at(15), at(30), at(3600)], [0.1, 0.1, 0.4, 0.5, 1.0, 1.0]);
        assert_eq!(warmth(Duration::ZERO, Duration::ZERO), 1.0, "no slow start");
    }
}
