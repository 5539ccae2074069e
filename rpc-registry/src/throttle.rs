//! [`Throttle`]: limits the rate of a warning.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// Allows one event per period of 30 s.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    /// The minimum time between two allowed events.
    pub(crate) const PERIOD: Duration = Duration::from_secs(30);

    /// Returns whether an event at `now` is allowed.
    pub(crate) fn allow(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let allowed = last.is_none_or(|last| now.saturating_duration_since(last) >= Self::PERIOD);
        if allowed {
            *last = Some(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttle_allows_one_event_per_period() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let allowed = [0, 1, 29_999, 30_000, 30_001].map(|ms| throttle.allow(start + Duration::from_millis(ms)));
        assert_eq!(allowed, [true, false, false, true, false]);
    }
}
