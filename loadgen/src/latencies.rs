//! [`Latencies`]: a histogram of call latencies.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A histogram of latencies with a precision of 1 %.
///
/// Every call updates it, so it must fit into the cache: with 2 digits and 32-bit counters it has 14 KiB, of which a
/// job uses few cache lines.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u32>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MAX_LATENCY, 2).expect("constant bounds are in range"))
    }
}

impl Latencies {
    /// Records one call.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds the records of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// Returns whether no call was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the latency at `quantile`, in microseconds, rounded to a tenth.
    pub fn micros_at(&self, quantile: f64) -> f64 {
        (self.0.value_at_quantile(quantile) as f64 / 100.0).round() / 10.0
    }

    /// Returns the numbers of latencies up to 1, 2, 5, 10 … microseconds, from the first to the last that is not 0.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        let limits = (0..9).flat_map(|power| [1, 2, 5].map(|step| step * 10_u64.pow(power)));
        let mut buckets: Vec<_> = limits.map(|limit| (limit, 0)).collect();
        for recorded in self.0.iter_recorded() {
            let micros = recorded.value_iterated_to().div_ceil(1000);
            let bucket = buckets.partition_point(|(limit, _)| *limit < micros).min(buckets.len() - 1);
            buckets[bucket].1 += recorded.count_since_last_iteration();
        }
        while buckets.last().is_some_and(|(_, calls)| *calls == 0) {
            buckets.pop();
        }
        let first = buckets.iter().position(|(_, calls)| *calls > 0).unwrap_or_default();
        buckets.split_off(first)
    }
}

/// The maximum recorded latency in nanoseconds; longer latencies count as this value.
const MAX_LATENCY: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_latency_is_in_one_bucket() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.buckets(), []);
        for us in [90, 150, 150, 600, 4000] {
            latencies.record(Duration::from_micros(us));
        }
        assert_eq!(latencies.buckets(), [(100, 1), (200, 2), (500, 0), (1000, 1), (2000, 0), (5000, 1)]);
    }
}
