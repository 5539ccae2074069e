//! The detectors that compare the providers of a service over one interval: pure functions.

use std::collections::BTreeMap;

use crate::{connection::latency::LogSum, endpoint::ejection::EjectionCause};

/// The calls of one provider in an interval.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IntervalStats {
    pub(super) answered: u64,
    /// The failures that are the provider's own.
    pub(super) failures: u64,
    pub(super) latencies: LogSum,
}

/// Returns the providers whose calls deviate from those of the others in their group, by index, the worst of a group first.
///
/// The providers of a group receive the same kind of calls: they have the same tags and are in the same zone. Calls to
/// another zone take longer, and those with a tag may do other work.
pub(super) fn deviating_in_groups<G: Ord>(
    providers: impl IntoIterator<Item = (G, IntervalStats)>,
) -> Vec<(usize, EjectionCause)> {
    let mut groups: BTreeMap<G, (Vec<usize>, Vec<IntervalStats>)> = BTreeMap::new();
    for (index, (group, stats)) in providers.into_iter().enumerate() {
        let (indices, all) = groups.entry(group).or_default();
        indices.push(index);
        all.push(stats);
    }
    let in_group = |(indices, stats): (Vec<usize>, Vec<IntervalStats>)| {
        deviating(&stats).into_iter().map(move |(index, cause)| (indices[index], cause))
    };
    groups.into_values().flat_map(in_group).collect()
}

/// Returns the providers whose calls deviate from those of the others, by index, the worst first.
fn deviating(providers: &[IntervalStats]) -> Vec<(usize, EjectionCause)> {
    let by_success = low_success_rates(providers).into_iter().map(|index| (index, EjectionCause::SuccessRate));
    let by_latency = high_latencies(providers).into_iter().map(|index| (index, EjectionCause::Latency));
    let mut all: Vec<_> = by_success.collect();
    for (index, cause) in by_latency {
        if all.iter().all(|(known, _)| *known != index) {
            all.push((index, cause));
        }
    }
    all
}

/// Returns the providers whose success rate is below the mean by more than 1.9 standard deviations and 5 %.
///
/// This is Envoy's success-rate detector, with a minimal difference: among few providers with almost no failures, the
/// standard deviation is too small to mean anything.
fn low_success_rates(providers: &[IntervalStats]) -> Vec<usize> {
    let rate = |stats: &IntervalStats| 1.0 - (stats.failures as f64 / stats.calls() as f64).min(1.0);
    let rates: Vec<(usize, f64)> = providers
        .iter()
        .enumerate()
        .filter(|(_, stats)| stats.is_enough())
        .map(|(index, one)| (index, rate(one)))
        .collect();
    if rates.len() < MIN_RATES {
        return Vec::new();
    }
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / rates.len() as f64;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64;
    let limit = (mean - DEVIATIONS * variance.sqrt()).min(mean - MIN_RATE_DIFFERENCE);
    let mut low: Vec<_> = rates.into_iter().filter(|(_, rate)| *rate < limit).collect();
    low.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    low.into_iter().map(|(index, _)| index).collect()
}

/// Returns the providers whose answers take at least five times as long as those of the other providers, and 5 ms longer.
///
/// Compares geometric means with the median of the others. A few calls that wait for long, as for an event, hardly change
/// a geometric mean.
fn high_latencies(providers: &[IntervalStats]) -> Vec<usize> {
    let means: Vec<(usize, f64)> = providers
        .iter()
        .enumerate()
        .filter(|(_, stats)| stats.latencies.answers >= MIN_CALLS)
        .map(|(index, stats)| (index, stats.latencies.log2_mean()))
        .collect();
    if means.len() < MIN_LATENCIES {
        return Vec::new();
    }
    let is_high = |(index, mean): &(usize, f64)| {
        let mut others: Vec<f64> = means.iter().filter(|(other, _)| other != index).map(|(_, mean)| *mean).collect();
        others.sort_by(f64::total_cmp);
        let median = others[others.len() / 2];
        mean - median >= LATENCY_RATIO.log2() && mean.exp2() - median.exp2() >= MIN_LATENCY_DIFFERENCE
    };
    let mut high: Vec<_> = means.iter().copied().filter(is_high).collect();
    high.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    high.into_iter().map(|(index, _)| index).collect()
}

impl IntervalStats {
    /// Returns the number of calls with an outcome: some failures have no answer.
    fn calls(&self) -> u64 {
        self.answered.max(self.failures)
    }

    fn is_enough(&self) -> bool {
        self.calls() >= MIN_CALLS
    }
}

/// The calls in an interval without which a provider is not compared.
const MIN_CALLS: u64 = 100;
/// The providers of a group with enough calls without which success rates are not compared.
const MIN_RATES: usize = 5;
/// The standard deviations below the mean beyond which a success rate is low.
const DEVIATIONS: f64 = 1.9;
/// The difference to the mean below which no success rate is low.
const MIN_RATE_DIFFERENCE: f64 = 0.05;
/// The providers of a group with enough calls without which latencies are not compared.
const MIN_LATENCIES: usize = 3;
/// The multiple of the other providers' latency from which a latency is high.
const LATENCY_RATIO: f64 = 5.0;
/// The difference to the other providers' latency below which no latency is high, in nanoseconds: 5 ms.
const MIN_LATENCY_DIFFERENCE: f64 = 5e6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stats(answered: u64, failures: u64, millis: f64) -> IntervalStats {
        let log2 = (millis * 1e6).log2() * 16.0;
        let latencies = LogSum { log2: (answered as f64 * log2) as u64, answers: answered };
        IntervalStats { answered, failures, latencies }
    }

    #[test]
    fn provider_with_a_lower_success_rate_deviates() {
        let with = |failures| {
            let mut all = [stats(1000, 10, 1.0); 5];
            all[3].failures = failures;
            deviating(&all)
        };
        assert_eq!(with(15), [], "the difference is too small");
        assert_eq!(with(120), [(3, EjectionCause::SuccessRate)]);
        assert_eq!(deviating(&[stats(1000, 120, 1.0), stats(1000, 0, 1.0)]), [], "two providers show no deviation");
        let mut few = [stats(99, 0, 1.0); 5];
        few[0].failures = 50;
        assert_eq!(deviating(&few), [], "too few calls");
    }

    #[test]
    fn provider_with_a_higher_latency_deviates() {
        let with = |healthy, millis| {
            let mut all = [stats(100, 0, healthy); 4];
            all[1] = stats(100, 0, millis);
            deviating(&all)
        };
        assert_eq!(with(2.0, 20.0), [(1, EjectionCause::Latency)]);
        assert_eq!(with(2.0, 8.0), [], "less than five times");
        assert_eq!(with(0.1, 1.0), [], "less than 5 ms");
        assert_eq!(deviating(&[stats(100, 0, 1.0), stats(100, 0, 100.0)]), [], "two providers show no deviation");
        let mut slow_and_failing = [stats(1000, 0, 1.0); 6];
        slow_and_failing[5] = stats(1000, 900, 100.0);
        assert_eq!(deviating(&slow_and_failing), [(5, EjectionCause::SuccessRate)]);
    }

    /// The providers of another zone, and those with a tag, take longer for good reasons.
    #[test]
    fn groups_are_compared_separately() {
        let near = [("near", stats(200, 0, 1.0)); 4];
        let far = [("far", stats(200, 0, 20.0)); 2];
        assert_eq!(deviating_in_groups([near.as_slice(), &far].concat()), []);
        let mut all = [near.as_slice(), &[("far", stats(200, 0, 20.0)); 3]].concat();
        all.insert(5, ("far", stats(200, 0, 200.0)));
        assert_eq!(deviating_in_groups(all), [(5, EjectionCause::Latency)]);
        let mut few = [("near", stats(200, 0, 1.0)); 3];
        few[0].0 = "far";
        few[0].1 = stats(200, 100, 200.0);
        assert_eq!(deviating_in_groups(few), [], "one provider of a group has no others");
    }

    proptest! {
        /// Providers with the same behaviour never deviate, and most providers never do.
        #[test]
        fn most_providers_never_deviate(
            each in prop::collection::vec((0_u64..2000, 0_u64..2000, 0.01_f64..10_000.0), 0..12),
            common in (0_u64..2000, 0_u64..2000, 0.01_f64..10_000.0),
        ) {
            let all: Vec<_> = each.iter().map(|(answered, failures, millis)| stats(*answered, *failures, *millis)).collect();
            let low = low_success_rates(&all).len();
            prop_assert!(low * 2 <= all.len(), "{low}");
            let high = high_latencies(&all).len();
            prop_assert!(high * 2 <= all.len() + 1, "{high}");
            let equal = vec![stats(common.0, common.1, common.2); each.len()];
            prop_assert_eq!(deviating(&equal), []);
        }
    }
}
