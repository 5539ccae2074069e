//! [`TokenBucket`]: a rate with a bound on what can be saved up.

use std::time::Duration;

use tokio::time::Instant;

/// Tokens that come at a steady rate and are saved up to a bound. Has no clock of its own.
#[derive(Debug)]
pub struct TokenBucket {
    most: f64,
    a_second: f64,
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(most: f64, a_second: f64, now: Instant) -> Self {
        Self { most, a_second, tokens: most, at: now }
    }

    /// Adds what was earned otherwise than by time.
    pub fn earn(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(self.most);
    }

    /// Takes a token, if there is one.
    ///
    /// # Errors
    ///
    /// The time until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.earn(now.saturating_duration_since(self.at).as_secs_f64() * self.a_second);
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.a_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(bucket: &mut TokenBucket, now: Instant) -> usize {
        std::iter::repeat_with(|| bucket.take(now)).take_while(Result::is_ok).count()
    }

    #[test]
    fn gives_what_was_saved_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(5.0, 2.0, start);
        assert_eq!(spend(&mut bucket, start), 5);
        assert_eq!(bucket.take(start), Err(Duration::from_millis(500)));
        assert_eq!(spend(&mut bucket, start + Duration::from_secs(1)), 2);
        assert_eq!(spend(&mut bucket, start + Duration::from_secs(100)), 5, "no more than the bound");
        bucket.earn(3.0);
        assert_eq!(spend(&mut bucket, start + Duration::from_secs(100)), 3);
    }
}
