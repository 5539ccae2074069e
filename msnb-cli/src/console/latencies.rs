//! [`Latencies`]: the durations of the calls of a method, as servers report them, and their chart.

use std::collections::{BTreeMap, VecDeque};

use rpc_core::admin::LatencyCount;

/// The numbers of calls by the longest duration of their range, in microseconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies(BTreeMap<u64, u64>);

impl Latencies {
    pub(super) fn add(&mut self, counts: &[LatencyCount]) {
        for count in counts {
            let calls = self.0.entry(count.up_to_us).or_default();
            *calls = calls.saturating_add(count.calls);
        }
    }

    /// Returns the calls since `earlier`; all of them if a server has started again.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |up_to: &u64| earlier.0.get(up_to).copied().unwrap_or_default();
        if earlier.0.iter().any(|(up_to, calls)| self.0.get(up_to).is_none_or(|now| now < calls)) {
            return self.clone();
        }
        Self(self.0.iter().map(|(up_to, calls)| (*up_to, calls - before(up_to))).collect())
    }

    pub(super) fn calls(&self) -> u64 {
        self.0.values().fold(0, |sum, calls| sum.saturating_add(*calls))
    }

    /// Returns the duration below which this part of the calls is, in milliseconds; `None` without calls.
    pub(super) fn ms_at(&self, quantile: f64) -> Option<f64> {
        let wanted = ((self.calls() as f64 * quantile).ceil() as u64).max(1);
        let mut sum = 0_u64;
        self.0.iter().find_map(|(up_to, calls)| {
            sum = sum.saturating_add(*calls);
            (sum >= wanted).then_some(*up_to as f64 / 1e3)
        })
    }
}

/// The median and the 99th percentile of the last intervals with calls, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Course(VecDeque<[f64; 2]>);

/// The lines of a chart that is 640 wide and 160 high.
pub(super) struct Chart {
    pub(super) p50: String,
    pub(super) p99: String,
    pub(super) highest: String,
    pub(super) label: String,
}

impl Course {
    /// Adds an interval. One without calls has no latencies.
    pub(super) fn push(&mut self, interval: &Latencies) {
        let (Some(p50), Some(p99)) = (interval.ms_at(0.5), interval.ms_at(0.99)) else { return };
        if self.0.len() == MAX_INTERVALS {
            self.0.pop_front();
        }
        self.0.push_back([p50, p99]);
    }

    /// Returns the chart; `None` before the second interval.
    pub(super) fn chart(&self) -> Option<Chart> {
        let last = self.0.back().filter(|_| self.0.len() > 1)?;
        let highest = self.0.iter().flatten().copied().fold(0.001, f64::max);
        let step = 640.0 / (self.0.len() - 1) as f64;
        let line = |which: usize| {
            let point = |(number, ms): (usize, &[f64; 2])| {
                format!("{:.1},{:.1}", number as f64 * step, 150.0 - ms[which] / highest * 130.0)
            };
            self.0.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
        };
        Some(Chart {
            p50: line(0),
            p99: line(1),
            highest: shown(highest),
            label: format!(
                "The latencies of {} intervals; at last p50 {}, p99 {}",
                self.0.len(),
                shown(last[0]),
                shown(last[1])
            ),
        })
    }
}

/// Returns milliseconds as text.
pub(super) fn shown(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.3} ms") } else { format!("{ms:.1} ms") }
}

/// The largest number of intervals that a chart shows.
const MAX_INTERVALS: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(counts: &[(u64, u64)]) -> Latencies {
        let mut latencies = Latencies::default();
        latencies.add(&counts.iter().map(|(up_to, calls)| LatencyCount::new(*up_to, *calls)).collect::<Vec<_>>());
        latencies
    }

    #[test]
    fn quantiles_are_bounds_of_ranges() {
        let all = latencies(&[(100, 98), (2000, 1), (30_000, 1)]);
        assert_eq!([0.5, 0.98, 0.99, 1.0].map(|quantile| all.ms_at(quantile).unwrap()), [0.1, 0.1, 2.0, 30.0]);
        assert_eq!((all.calls(), latencies(&[]).ms_at(0.5)), (100, None));
    }

    #[test]
    fn interval_has_the_calls_since_the_earlier_one() {
        let (earlier, now) = (latencies(&[(100, 5)]), latencies(&[(100, 7), (200, 1)]));
        assert_eq!((now.since(&earlier).calls(), now.since(&earlier).ms_at(1.0)), (3, Some(0.2)));
        // A server that has started again has fewer calls.
        assert_eq!(earlier.since(&now).calls(), 5);
    }

    #[test]
    fn chart_has_the_last_intervals_with_calls() {
        let mut course = Course::default();
        course.push(&latencies(&[(500_000, 1)]));
        assert!(course.chart().is_none());
        for _ in 0..MAX_INTERVALS {
            course.push(&latencies(&[(1000, 99), (4000, 1)]));
            course.push(&latencies(&[]));
        }
        let chart = course.chart().unwrap();
        assert_eq!((chart.p99.split(' ').count(), &*chart.highest), (MAX_INTERVALS, "1.000 ms"));
    }
}
