//! [`PingWindow`]: the rate limit of pings.

use std::time::Duration;

use tokio::time::Instant;

use crate::frame::Violation;

/// Counts a peer's pings in windows of one second.
///
/// Each ping is answered, so a flood of them would occupy both ends.
#[derive(Debug)]
pub struct PingWindow {
    limit: u32,
    since: Instant,
    count: u32,
}

impl PingWindow {
    /// The default number of pings in a second.
    pub const LIMIT: u32 = 100;

    /// Creates the window of a connection that starts at `now`.
    pub fn new(limit: u32, now: Instant) -> Self {
        Self { limit, since: now, count: 0 }
    }

    /// Counts a ping.
    ///
    /// # Errors
    ///
    /// [`Violation::PingFlood`] for a ping above the limit.
    pub fn count(&mut self, now: Instant) -> Result<(), Violation> {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.count = 0;
        }
        self.count += 1;
        if self.count > self.limit { Err(Violation::PingFlood(self.limit)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_above_the_limit_are_a_violation() {
        let start = Instant::now();
        let mut window = PingWindow::new(2, start);
        assert_eq!([window.count(start), window.count(start)], [Ok(()), Ok(())]);
        assert_eq!(window.count(start + Duration::from_millis(999)), Err(Violation::PingFlood(2)));
        assert_eq!(window.count(start + Duration::from_secs(1)), Ok(()));
    }
}
