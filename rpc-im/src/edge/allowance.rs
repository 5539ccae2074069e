//! [`TokenBucket`]: the rate limit of one client.

use std::time::Instant;

/// A token bucket: `burst` tokens at first, `rate` new tokens per second, at most `burst` saved.
#[derive(Debug)]
pub(super) struct TokenBucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    updated: Instant,
}

impl TokenBucket {
    pub(super) fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let (rate, burst) = (f64::from(rate), f64::from(burst));
        Self { rate, burst, tokens: burst, updated: now }
    }

    /// Takes one token; returns false if there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.updated).as_secs_f64();
        self.updated = now;
        self.tokens = (self.tokens + seconds * self.rate).min(self.burst);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bucket_grants_burst_then_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(20, 40, start);
        assert_eq!((0..100).filter(|_| bucket.take(start)).count(), 40);
        let second = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| bucket.take(second)).count(), 20);
        let year = start + Duration::from_secs(31_536_000);
        assert_eq!((0..100).filter(|_| bucket.take(year)).count(), 40);
        assert!(!bucket.take(start), "a clock that goes back adds no tokens");
    }
}
