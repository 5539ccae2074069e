//! [`Balance`]: the load-balancing policies.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::Rng;

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
    #[default]
    PowerOfTwoChoices,
}

/// The weights of a provider list, prepared for picks.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Weights {
    each: Vec<f64>,
    /// The cumulative sums; empty when all weights are equal.
    sums: Vec<f64>,
}

impl Weights {
    /// Prepares the weights.
    ///
    /// Providers of weight 0 get no calls, unless all weights are 0: then all count as 1.
    pub(crate) fn new(each: Vec<f64>) -> Self {
        let each = if each.iter().all(|weight| *weight <= 0.0) { vec![1.0; each.len()] } else { each };
        let equal = each.windows(2).all(|pair| pair[0] == pair[1]);
        let sum = |total: &mut f64, weight: &f64| {
            *total += weight;
            Some(*total)
        };
        let sums = if equal { Vec::new() } else { each.iter().scan(0.0, sum).collect() };
        Self { each, sums }
    }

    /// Returns the weight of a provider.
    pub(super) fn of(&self, index: usize) -> f64 {
        self.each[index]
    }

    /// Returns the number of providers.
    pub(super) fn len(&self) -> usize {
        self.each.len()
    }

    /// Returns whether all weights are equal.
    pub(super) fn are_equal(&self) -> bool {
        self.sums.is_empty()
    }

    fn random(&self, random: &mut impl Rng) -> usize {
        use rand::RngExt;
        match self.sums.last() {
            None => random.random_range(0..self.each.len()),
            Some(total) => {
                let at = random.random_range(0.0..*total);
                self.sums.partition_point(|sum| *sum <= at).min(self.each.len() - 1)
            }
        }
    }

    /// Draws a usable provider in proportion to the weights.
    fn draw(&self, random: &mut impl Rng, usable: impl Fn(usize) -> bool) -> Option<usize> {
        use rand::RngExt;
        // Rejected draws leave the proportions of the usable providers as they are; the next one in the list would get
        // the share of its unusable neighbor as well.
        if let Some(drawn) = (0..MAX_DRAWS).map(|_| self.random(random)).find(|index| usable(*index)) {
            return Some(drawn);
        }
        // Few providers are usable. A weighted reservoir of one takes a single pass over them.
        let (mut total, mut drawn) = (0.0, None);
        for index in (0..self.each.len()).filter(|index| self.each[*index] > 0.0 && usable(*index)) {
            total += self.each[index];
            if random.random_range(0.0..total) < self.each[index] {
                drawn = Some(index);
            }
        }
        drawn
    }

    /// Draws a usable provider other than `first` in proportion to the weights.
    fn draw_other(&self, first: usize, random: &mut impl Rng, usable: impl Fn(usize) -> bool) -> Option<usize> {
        use rand::RngExt;
        let count = self.each.len();
        if self.sums.is_empty() && count > 1 {
            let drawn = (first + random.random_range(1..count)) % count;
            if usable(drawn) {
                return Some(drawn);
            }
        }
        self.draw(random, |index| index != first && usable(index))
    }
}

impl Balance {
    /// Picks one of the providers for which `load` returns a number of calls in flight.
    pub(crate) fn pick(
        self,
        weights: &Weights,
        turn: &AtomicUsize,
        random: &mut impl Rng,
        load: impl Fn(usize) -> Option<usize>,
    ) -> Option<usize> {
        let count = weights.each.len();
        let usable = |index: usize| weights.each[index] > 0.0 && load(index).is_some();
        if count <= 1 {
            return (0..count).find(|index| usable(*index));
        }
        match self {
            Self::Random => weights.draw(random, usable),
            Self::RoundRobin => {
                // An unusable provider loses its turn, so all others share its calls. Other callers may take the turns
                // of the usable ones meanwhile, so the number of turns has a limit.
                let turns = (0..count).map(|_| turn.fetch_add(1, Ordering::Relaxed) % count);
                turns.chain(0..count).find(|index| usable(*index))
            }
            Self::PowerOfTwoChoices => {
                let first = weights.draw(random, usable)?;
                let Some(second) = weights.draw_other(first, random, usable) else { return Some(first) };
                // The draw has accounted for the weights already, so a tie of idle providers goes to the first.
                let relative = |index| Some(load(index)? as f64 / weights.of(index));
                // A provider may become unusable between two reads of its load; the other one is then the pick.
                match (relative(first), relative(second)) {
                    (Some(one), Some(other)) if other < one => Some(second),
                    (Some(_), _) => Some(first),
                    (None, Some(_)) => Some(second),
                    (None, None) => None,
                }
            }
        }
    }
}

/// The draws after which the balancer searches the list, because few of its providers are usable.
const MAX_DRAWS: usize = 4;

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    const POLICIES: [Balance; 3] = [Balance::Random, Balance::RoundRobin, Balance::PowerOfTwoChoices];

    fn spread(balance: Balance, weights: &[f64], load: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
        let (prepared, turn) = (Weights::new(weights.to_vec()), AtomicUsize::new(0));
        let mut random = SmallRng::seed_from_u64(7);
        let mut counts = vec![0; weights.len()];
        for _ in 0..12_000 {
            counts[balance.pick(&prepared, &turn, &mut random, &load).unwrap()] += 1;
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
            let none = balance.pick(&Weights::new(vec![1.0; 4]), &AtomicUsize::new(0), &mut rand::rng(), |_| None);
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
}
