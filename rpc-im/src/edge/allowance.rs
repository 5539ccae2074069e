//! [`Allowance`]: how much a client may still ask for.

use std::time::Instant;

/// How much a client may still ask for: so many at once, and so many more each second.
#[derive(Debug)]
pub(super) struct Allowance {
    rate: f64,
    burst: f64,
    saved: f64,
    at: Instant,
}

impl Allowance {
    pub(super) fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let (rate, burst) = (f64::from(rate), f64::from(burst));
        Self { rate, burst, saved: burst, at: now }
    }

    /// Takes one; false when there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.saved = (self.saved + seconds * self.rate).min(self.burst);
        let granted = self.saved >= 1.0;
        if granted {
            self.saved -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut allowance = Allowance::new(20, 40, start);
        assert_eq!((0..100).filter(|_| allowance.take(start)).count(), 40);
        let second = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| allowance.take(second)).count(), 20);
        let year = start + Duration::from_secs(31_536_000);
        assert_eq!((0..100).filter(|_| allowance.take(year)).count(), 40);
        assert!(!allowance.take(start), "a clock that goes back grants nothing");
    }
}
