//! [`ExtendedTime`]: a deadline that received bytes extend.

use std::time::Duration;

use tokio::time::Instant;

use crate::deadline_after;

/// A time that began, and the bytes that the connection has received since then, which extend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExtendedTime {
    begun: Instant,
    received: usize,
}

impl ExtendedTime {
    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, received: 0 }
    }

    /// Records that the connection has received bytes.
    pub(super) fn record_received(&mut self, count: usize) {
        self.received += count;
    }

    /// Returns the end of `time`, extended for the received bytes.
    pub(super) fn deadline(&self, time: Duration) -> Instant {
        extended_deadline(self.begun, time, self.received)
    }
}

/// Returns the end of `time`, extended by one second for each 64 KiB.
pub(super) fn extended_deadline(begun: Instant, time: Duration, bytes: usize) -> Instant {
    deadline_after(begun, time.saturating_add(Duration::from_secs((bytes >> 16) as u64)))
}
