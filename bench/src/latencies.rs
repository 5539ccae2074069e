//! [`Latencies`]: a histogram of call latencies.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A histogram of latencies with a precision of 1 %.
///
/// Every call updates it, so it must fit into the cache: with 2 digits and 32-bit counters it has 14 KiB, of which a
/// job uses few cache lines.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u32>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MAX_LATENCY, 2).expect("constant bounds are in range"))
    }
}

impl Latencies {
    /// Records one call.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Returns whether no call was recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the records of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// Returns the latency at `quantile`, in microseconds, rounded to a tenth.
    pub(crate) fn micros_at(&self, quantile: f64) -> f64 {
        (self.0.value_at_quantile(quantile) as f64 / 100.0).round() / 10.0
    }
}

/// The maximum recorded latency in nanoseconds; longer latencies count as this value.
const MAX_LATENCY: u64 = 60_000_000_000;
