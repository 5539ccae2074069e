//! [`Latencies`]: how long calls took.

use std::time::Duration;

use hdrhistogram::Histogram;

/// How long calls took, to one part in a hundred.
///
/// Counted for every call, so it must be small: 2 digits and 32-bit counters are 14 KiB, of which a job touches few lines.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u32>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 2).expect("constant bounds are in range"))
    }
}

impl Latencies {
    /// Counts one call.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Whether none was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// The latency that `quantile` of the calls did not exceed, in microseconds to a tenth.
    pub(crate) fn micros_at(&self, quantile: f64) -> f64 {
        (self.0.value_at_quantile(quantile) as f64 / 100.0).round() / 10.0
    }
}

/// Longer latencies count as a minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
