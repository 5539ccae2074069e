//! [`TokenBucket`]: a rate limit with a burst.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: tokens accrue at a constant rate up to a capacity. The caller passes the time.
#[derive(Debug)]
pub struct TokenBucket {
    capacity: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// Creates a full bucket that holds up to `capacity` tokens and gains `per_second` tokens each second.
    pub fn new(capacity: f64, per_second: f64, now: Instant) -> Self {
        Self { capacity, per_second, tokens: capacity, at: now }
    }

    /// Adds tokens in addition to those that accrue with time.
    pub fn earn(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(self.capacity);
    }

    /// Takes one token.
    ///
    /// # Errors
    ///
    /// The time until a token is available, if there is none.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.earn(now.saturating_duration_since(self.at).as_secs_f64() * self.per_second);
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // A rate of 0 gives no finite time.
        Err(Duration::try_from_secs_f64((1.0 - self.tokens) / self.per_second).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(bucket: &mut TokenBucket, now: Instant) -> usize {
        std::iter::repeat_with(|| bucket.take(now)).take_while(Result::is_ok).count()
    }

    #[test]
    fn bucket_gives_burst_then_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(5.0, 2.0, start);
        assert_eq!(spend(&mut bucket, start), 5);
        assert_eq!(bucket.take(start), Err(Duration::from_millis(500)));
        assert_eq!(spend(&mut bucket, start + Duration::from_secs(1)), 2);
        assert_eq!(spend(&mut bucket, start + Duration::from_secs(100)), 5, "no more than the capacity");
        bucket.earn(3.0);
        assert_eq!(spend(&mut bucket, start + Duration::from_secs(100)), 3);
    }

    #[test]
    fn bucket_survives_long_pauses_and_clocks_that_go_back() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(40.0, 20.0, start);
        assert_eq!((0..100).filter(|_| bucket.take(start).is_ok()).count(), 40);
        let second = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| bucket.take(second).is_ok()).count(), 20);
        let year = start + Duration::from_secs(31_536_000);
        assert_eq!((0..100).filter(|_| bucket.take(year).is_ok()).count(), 40);
        assert!(bucket.take(start).is_err(), "a clock that goes back adds no tokens");
    }

    #[test]
    fn bucket_without_rate_gives_burst_only() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(2.0, 0.0, start);
        assert_eq!(spend(&mut bucket, start), 2);
        assert_eq!(bucket.take(start + Duration::from_secs(100)), Err(Duration::MAX));
    }
}
