//! [`Balance`]: the load-balancing policies.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::Rng;

use super::weights::Weights;
use crate::connection::load::Load;

/// A policy that picks one of the providers that answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Balance {
    /// Picks at random, in proportion to the weights.
    Random,
    /// Picks in turn, regardless of the weights; a provider of weight 0 gets no calls.
    RoundRobin,
    /// Draws two providers by weight and picks the one with fewer calls in flight relative to its weight.
    ///
    /// It keeps load off a slow provider without a stampede to the fastest one (Mitzenmacher, 2001).
    PowerOfTwoChoices,
    /// As [`PowerOfTwoChoices`](Self::PowerOfTwoChoices), and by calls in flight times latency if one of the two typically
    /// takes more than three times as long as the other, and 1 ms longer.
    ///
    /// Providers with similar latencies therefore receive calls in proportion to their weights, and one that is ten times
    /// slower receives almost none. If the zones have shares, only providers of the same zone are compared so.
    #[default]
    LatencyAware,
    /// As [`PowerOfTwoChoices`](Self::PowerOfTwoChoices), by calls in flight times latency (peak EWMA).
    ///
    /// A provider that is twice as slow gets about half of the calls. The latency is an average in which an answer counts
    /// less the older it is, over 10 s, and which a slower answer raises at once (Finagle, Linkerd).
    PeakEwma,
}

/// The weights for the picks of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares<'a> {
    /// The weights of the draws.
    pub(crate) draws: &'a Weights,
    /// The capacities by which loads are compared; their mean is 1.
    pub(crate) capacities: &'a [f64],
    /// The zones of the providers, if `draws` has shares of the zones, which latencies must not change.
    pub(crate) zones: Option<&'a [u32]>,
}

impl Balance {
    /// Picks one of the providers for which `load` returns a load.
    ///
    /// Reads each candidate once. It has no clock and no state except the position of round robin.
    pub(crate) fn pick(
        self,
        shares: Shares<'_>,
        turn: &AtomicUsize,
        random: &mut impl Rng,
        load: impl Fn(usize) -> Option<Load>,
    ) -> Option<usize> {
        let Shares { draws, capacities, zones } = shares;
        let count = draws.len();
        let usable = |index: usize| draws.of(index) > 0.0 && load(index).is_some();
        if count <= 1 {
            return (0..count).find(|index| usable(*index));
        }
        match self {
            Self::Random => draws.draw(random, load).map(|(index, _)| index),
            Self::RoundRobin => {
                // An unusable provider loses its turn, so all others share its calls. Other callers may take the turns
                // of the usable ones meanwhile, so the number of turns has a limit.
                let turns = (0..count).map(|_| turn.fetch_add(1, Ordering::Relaxed) % count);
                turns.chain(0..count).find(|index| usable(*index))
            }
            Self::PowerOfTwoChoices | Self::LatencyAware | Self::PeakEwma => {
                let (first, one) = draws.draw(random, &load)?;
                let Some((second, other)) = draws.draw_other(first, random, &load) else { return Some(first) };
                // The draw has accounted for the weights already, so a tie of idle providers goes to the first.
                let is_same_zone = || zones.is_none_or(|zones| zones[first] == zones[second]);
                let costs = self.costs([(one, capacities[first]), (other, capacities[second])], is_same_zone);
                Some(if costs[1] < costs[0] { second } else { first })
            }
        }
    }

    /// Returns the costs by which two choices are compared, from their loads and capacities, both in a common unit.
    fn costs(self, choices: [(Load, f64); 2], is_same_zone: impl FnOnce() -> bool) -> [f64; 2] {
        let in_flight = |(load, capacity): (Load, f64)| f64::from(load.in_flight) / capacity;
        // Calls in flight relative to the capacities, times both capacities: a product costs less than a quotient.
        let [(one, capacity), (other, other_capacity)] = choices;
        let shares = || [f64::from(one.in_flight) * other_capacity, f64::from(other.in_flight) * capacity];
        match self {
            Self::PeakEwma => choices.map(|choice| {
                let (in_flight, latency) = (in_flight(choice), choice.0.latency);
                // A provider without an answer gets one call, and no second one before the answer. The draw has accounted
                // for the weight of an idle provider, so only the calls in flight depend on it.
                if latency == 0 { in_flight * UNKNOWN_LATENCY } else { (in_flight + 1.0) * latency as f64 }
            }),
            Self::LatencyAware => match different_latencies(choices.map(|(load, _)| load.typical)) {
                Some([one, other]) if is_same_zone() => {
                    [(in_flight(choices[0]) + 1.0) * one, (in_flight(choices[1]) + 1.0) * other]
                }
                _ => shares(),
            },
            _ => shares(),
        }
    }
}

/// Returns two latencies in nanoseconds from their logarithms in units of 1/16, if they are known and differ by far.
fn different_latencies([one, other]: [u32; 2]) -> Option<[f64; 2]> {
    if one == 0 || other == 0 || one.abs_diff(other) <= MIN_LOG_DIFFERENCE {
        return None;
    }
    let [one, other] = [one, other].map(|log2| (f64::from(log2) / 16.0).exp2());
    ((one - other).abs() >= MIN_DIFFERENCE).then_some([one, other])
}

/// The latency in nanoseconds of a provider that has answered nothing and has calls in flight: 1 s.
const UNKNOWN_LATENCY: f64 = 1e9;
/// The difference of the logarithms of two latencies, in units of 1/16, up to which they count as equal: a ratio of 3.
const MIN_LOG_DIFFERENCE: u32 = 25;
/// The difference of two latencies in nanoseconds below which they count as equal: 1 ms.
const MIN_DIFFERENCE: f64 = 1e6;

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    const POLICIES: [Balance; 5] =
        [Balance::Random, Balance::RoundRobin, Balance::PowerOfTwoChoices, Balance::LatencyAware, Balance::PeakEwma];

    fn pick(balance: Balance, weights: &Weights, load: impl Fn(usize) -> Option<usize>) -> Option<usize> {
        pick_with(balance, weights, &AtomicUsize::new(0), &mut SmallRng::seed_from_u64(7), load)
    }

    fn pick_with(
        balance: Balance,
        weights: &Weights,
        turn: &AtomicUsize,
        random: &mut SmallRng,
        load: impl Fn(usize) -> Option<usize>,
    ) -> Option<usize> {
        let load = |index| Some(Load { in_flight: load(index)? as u32, latency: 1_000, typical: 160 });
        balance.pick(Shares { draws: weights, capacities: weights.each(), zones: None }, turn, random, load)
    }

    fn spread(balance: Balance, weights: &[f64], load: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
        let (prepared, turn) = (Weights::new(weights.to_vec()), AtomicUsize::new(0));
        let mut random = SmallRng::seed_from_u64(7);
        let mut counts = vec![0; weights.len()];
        for _ in 0..12_000 {
            counts[pick_with(balance, &prepared, &turn, &mut random, &load).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn every_provider_gets_an_equal_share() {
        for balance in POLICIES {
            for count in 1..=5 {
                let counts = spread(balance, &vec![1.0; count], |_| Some(0));
                let fair = 12_000 / count;
                assert!(counts.iter().all(|n| n.abs_diff(fair) < fair / 5), "{balance:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn unusable_providers_are_never_picked() {
        for balance in POLICIES {
            let counts = spread(balance, &[1.0; 4], |index| (index % 2 == 1).then_some(0));
            assert_eq!((counts[0], counts[2]), (0, 0), "{balance:?}");
            let none = pick(balance, &Weights::new(vec![1.0; 4]), |_| None);
            assert_eq!(none, None);
        }
    }

    #[test]
    fn load_follows_weights_and_zero_means_none() {
        for balance in [Balance::Random, Balance::PowerOfTwoChoices] {
            let counts = spread(balance, &[1.0, 3.0, 0.0], |_| Some(0));
            assert!(counts[1].abs_diff(9_000) < 300, "{balance:?}: {counts:?}");
        }
        for balance in POLICIES {
            assert_eq!(spread(balance, &[1.0, 3.0, 0.0], |_| Some(0))[2], 0, "{balance:?}");
            assert!(spread(balance, &[0.0, 0.0], |_| Some(0)).iter().all(|n| *n > 0), "{balance:?}");
        }
    }

    /// The usable providers share the calls in proportion to their weights, wherever the unusable ones are listed.
    #[test]
    fn unusable_providers_leave_shares_even() {
        for balance in POLICIES {
            for weights in [vec![1.0; 4], vec![1.0; 9], vec![2.0, 1.0, 1.0, 2.0]] {
                for gone in 0..weights.len() {
                    let is_gone = |index| index == gone || index == (gone + 1) % weights.len();
                    let counts = spread(balance, &weights, |index| (!is_gone(index)).then_some(0));
                    let weight = |index| match balance {
                        _ if is_gone(index) => 0.0,
                        Balance::RoundRobin => 1.0,
                        _ => weights[index],
                    };
                    let total: f64 = (0..weights.len()).map(weight).sum();
                    for (index, count) in counts.iter().enumerate() {
                        let fair = 12_000.0 * weight(index) / total;
                        let off = (*count as f64 - fair).abs();
                        assert!(off <= fair / 10.0, "{balance:?}, {weights:?} without {gone}: {counts:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn zero_weight_neighbor_leaves_shares_even() {
        for balance in POLICIES {
            let counts = spread(balance, &[1.0, 0.0, 1.0, 1.0], |_| Some(0));
            assert_eq!(counts[1], 0, "{balance:?}");
            assert!([0, 2, 3].iter().all(|index| counts[*index].abs_diff(4_000) < 300), "{balance:?}: {counts:?}");
        }
    }

    /// Two choices among loaded providers: both choices are drawn evenly.
    #[test]
    fn second_choice_leaves_shares_even() {
        for gone in 0..4 {
            let load = |index| (index != gone).then_some(index);
            let counts = spread(Balance::PowerOfTwoChoices, &[1.0; 4], load);
            // Of three usable providers, the least loaded one is drawn in two of three pairs, the most loaded one wins
            // none.
            let mut counts: Vec<_> = (0..4).filter(|index| *index != gone).map(|index| counts[index]).collect();
            assert!(counts[0].abs_diff(8_000) < 400 && counts[1].abs_diff(4_000) < 400, "{counts:?}");
            assert_eq!(counts.pop(), Some(0));
        }
    }

    #[test]
    fn two_choices_avoid_the_loaded_provider() {
        let counts = spread(Balance::PowerOfTwoChoices, &[1.0; 3], |index| Some(if index == 1 { 100 } else { 0 }));
        assert_eq!(counts[1], 0, "{counts:?}");
    }

    /// A provider that is ten times slower has a tenth of the calls in flight of the others.
    #[test]
    fn latency_divides_the_calls_in_flight() {
        let weights = Weights::new(vec![1.0; 5]);
        let (mut in_flight, mut random) = ([0_u32; 5], SmallRng::seed_from_u64(7));
        for _ in 0..410 {
            let load = |index: usize| {
                Some(Load { in_flight: in_flight[index], latency: if index == 0 { 10_000 } else { 1_000 }, typical: 0 })
            };
            let shares = Shares { draws: &weights, capacities: weights.each(), zones: None };
            let picked = Balance::PeakEwma.pick(shares, &AtomicUsize::new(0), &mut random, load).unwrap();
            in_flight[picked] += 1;
        }
        assert!((5..=20).contains(&in_flight[0]), "{in_flight:?}");
        assert!(in_flight[1..].iter().all(|calls| calls.abs_diff(100) < 10), "{in_flight:?}");
    }

    /// Makes calls one after another, with these typical latencies in milliseconds. Returns the share of the first provider.
    fn share_of_first(weights: &[f64], millis: &[f64]) -> f64 {
        let (prepared, mut random) = (Weights::new(weights.to_vec()), SmallRng::seed_from_u64(7));
        let load = |index: usize| {
            Some(Load { in_flight: 0, latency: 0, typical: ((millis[index] * 1e6).log2() * 16.0) as u32 })
        };
        let shares = Shares { draws: &prepared, capacities: prepared.each(), zones: None };
        let mut picked = 0;
        for _ in 0..10_000 {
            let index = Balance::LatencyAware.pick(shares, &AtomicUsize::new(0), &mut random, load).unwrap();
            picked += u32::from(index == 0);
        }
        f64::from(picked) / 10_000.0
    }

    #[test]
    fn similar_latencies_leave_the_weights() {
        for millis in [[5.0, 5.0], [12.0, 5.0], [0.9, 0.1], [0.1, 0.9]] {
            let share = share_of_first(&[3.0, 1.0], &millis);
            assert!((share - 0.75).abs() < 0.02, "{millis:?}: {share}");
        }
    }

    #[test]
    fn much_slower_provider_receives_no_calls_of_idle_client() {
        assert_eq!(share_of_first(&[1.0; 5], &[50.0, 5.0, 5.0, 5.0, 5.0]), 0.0);
        assert_eq!(share_of_first(&[5.0, 1.0], &[50.0, 5.0]), 0.0);
        assert_eq!(share_of_first(&[1.0; 2], &[5.0, 50.0]), 1.0);
    }

    /// A zone that is far away keeps the share that the zones give it.
    #[test]
    fn latencies_leave_the_shares_of_zones() {
        let (weights, mut random) = (Weights::new(vec![0.4, 0.3, 0.3]), SmallRng::seed_from_u64(7));
        let load = |index: usize| {
            Some(Load {
                in_flight: 0,
                latency: 0,
                typical: (([1.0, 20.0, 20.0_f64][index] * 1e6).log2() * 16.0) as u32,
            })
        };
        let mut near = [0_u32; 2];
        for (count, zones) in near.iter_mut().zip([Some(&[0, 1, 1][..]), None]) {
            let shares = Shares { draws: &weights, capacities: weights.each(), zones };
            for _ in 0..10_000 {
                let picked = Balance::LatencyAware.pick(shares, &AtomicUsize::new(0), &mut random, load).unwrap();
                *count += u32::from(picked == 0);
            }
        }
        assert!(near[0].abs_diff(4_000) < 200 && near[1] > 6_000, "{near:?}");
    }

    #[test]
    fn unknown_latency_is_no_difference() {
        assert_eq!(different_latencies([0, 400]), None);
        assert_eq!(different_latencies([400, 0]), None);
        assert_eq!(different_latencies([400, 425]), None, "a ratio of less than 3");
        assert!(different_latencies([400, 426]).is_some());
        assert_eq!(different_latencies([160, 300]), None, "less than 1 ms");
    }
}
