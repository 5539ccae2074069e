//! [`Throttle`]: says a warning once in a while instead of each time.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// Lets one event through in each period.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    /// The length of a period.
    pub(crate) const PERIOD: Duration = Duration::from_secs(30);

    /// Whether an event at `now` is let through.
    pub(crate) fn pass(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let passes = last.is_none_or(|last| now.saturating_duration_since(last) >= Self::PERIOD);
        if passes {
            *last = Some(now);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_one_through_in_each_period() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let passed = [0, 1, 29_999, 30_000, 30_001].map(|ms| throttle.pass(start + Duration::from_millis(ms)));
        assert_eq!(passed, [true, false, false, true, false]);
    }
}
