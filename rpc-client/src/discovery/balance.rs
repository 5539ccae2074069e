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

    fn of(&self, index: usize) -> f64 {
        self.each[index]
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

    /// Returns the owner of a key: the usable provider of weight above 0 with the highest score.
    ///
    /// Weighted rendezvous hashing: the score is `-weight / ln(hash)`, so a heavier provider owns more keys.
    pub(crate) fn rendezvous(&self, hash: impl Fn(usize) -> u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let score = |index: usize| {
            let uniform = (hash(index) >> 11) as f64 / (1_u64 << 53) as f64;
            -self.each[index] / uniform.max(f64::MIN_POSITIVE).ln()
        };
        (0..self.each.len())
            .filter(|index| self.each[*index] > 0.0 && usable(*index))
            .max_by(|one, other| score(*one).total_cmp(&score(*other)))
    }

    /// Returns the first usable provider of weight above 0 from `start` on, wrapping around.
    fn from(&self, start: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.each.len();
        (0..count).map(|step| (start + step) % count).find(|index| self.each[*index] > 0.0 && usable(*index))
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
        let usable = |index| load(index).is_some();
        match weights.each.len() {
            0 => None,
            1 => weights.from(0, usable),
            count => match self {
                Self::Random => weights.from(weights.random(random), usable),
                Self::RoundRobin => weights.from(turn.fetch_add(1, Ordering::Relaxed) % count, usable),
                Self::PowerOfTwoChoices => {
                    let first = weights.from(weights.random(random), usable)?;
                    let drawn = weights.random(random);
                    let second = weights.from(if drawn == first { (drawn + 1) % count } else { drawn }, usable)?;
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
            },
        }
    }
}

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

    #[test]
    fn key_moves_only_when_its_provider_leaves() {
        use std::hash::BuildHasher;
        let weights = Weights::new(vec![1.0, 1.0, 2.0, 1.0]);
        let owner = |key: u64, gone: Option<usize>| {
            let hash = |index| foldhash::quality::FixedState::default().hash_one((key, index));
            weights.rendezvous(hash, |index| Some(index) != gone).unwrap()
        };
        let mut counts = [0_u32; 4];
        for key in 0..10_000 {
            let before = owner(key, None);
            counts[before] += 1;
            let after = owner(key, Some(1));
            assert!(after == before || before == 1);
        }
        assert!(counts[2].abs_diff(4_000) < 400 && counts[0].abs_diff(2_000) < 300, "{counts:?}");
    }

    #[test]
    fn two_choices_avoid_the_loaded_provider() {
        let counts = spread(Balance::PowerOfTwoChoices, &[1.0; 3], |index| Some(if index == 1 { 100 } else { 0 }));
        assert_eq!(counts[1], 0, "{counts:?}");
    }
}
