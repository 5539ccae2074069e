//! [`Weights`]: weighted random draws in constant time.

use rand::Rng;

/// The weights of a provider list, prepared for draws.
///
/// A draw costs one random number and one read of a table, however many providers there are: the alias method (Walker,
/// 1977; tables by Vose, 1991).
#[derive(Debug, Default, PartialEq, Clone)]
pub(crate) struct Weights {
    each: Vec<f64>,
    /// The alias table; empty when all weights are equal.
    slots: Vec<Slot>,
}

/// One of as many equally likely slots as there are providers.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Slot {
    /// The part of the slot that belongs to the provider with its index, in units of 2^-32.
    own: u32,
    /// The provider to which the remaining part belongs.
    alias: u32,
}

impl Weights {
    /// Prepares the weights.
    ///
    /// Providers of weight 0 get no calls, unless all weights are 0: then all count as 1.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn new(each: Vec<f64>) -> Self {
        let each = if each.iter().all(|weight| *weight <= 0.0) { vec![1.0; each.len()] } else { each };
        Self::exact(each)
    }

    /// Prepares weights of which at least one is above 0.
    pub(super) fn exact(each: Vec<f64>) -> Self {
        let equal = each.windows(2).all(|pair| pair[0] == pair[1]);
        let slots = if equal { Vec::new() } else { alias_table(&each) };
        Self { each, slots }
    }

    /// Returns the weight of a provider.
    pub(super) fn of(&self, index: usize) -> f64 {
        self.each[index]
    }

    /// Returns the weights.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn each(&self) -> &[f64] {
        &self.each
    }

    /// Returns the number of providers.
    pub(super) fn len(&self) -> usize {
        self.each.len()
    }

    /// Returns whether all weights are equal.
    pub(super) fn are_equal(&self) -> bool {
        self.slots.is_empty()
    }

    fn random(&self, random: &mut impl Rng) -> usize {
        let number = random.next_u64();
        // The upper half selects a slot, the lower half its owner.
        let index = (((number >> 32) * self.each.len() as u64) >> 32) as usize;
        match self.slots.get(index) {
            Some(slot) if number as u32 >= slot.own => slot.alias as usize,
            _ => index,
        }
    }

    /// Draws a provider for which `usable` returns a value, in proportion to the weights, and returns both.
    pub(super) fn draw<T>(&self, random: &mut impl Rng, usable: impl Fn(usize) -> Option<T>) -> Option<(usize, T)> {
        use rand::RngExt;
        let usable =
            |index: usize| if self.each[index] > 0.0 { usable(index).map(|value| (index, value)) } else { None };
        // Rejected draws leave the proportions of the usable providers as they are; the next one in the list would get
        // the share of its unusable neighbor as well.
        if let Some(drawn) = (0..MAX_DRAWS).find_map(|_| usable(self.random(random))) {
            return Some(drawn);
        }
        // Few providers are usable. A weighted reservoir of one takes a single pass over them.
        let (mut total, mut drawn) = (0.0, None);
        for candidate in (0..self.each.len()).filter_map(usable) {
            let weight = self.each[candidate.0];
            total += weight;
            if random.random_range(0.0..total) < weight {
                drawn = Some(candidate);
            }
        }
        drawn
    }

    /// Draws a usable provider other than `first`, as [`draw`](Self::draw).
    pub(super) fn draw_other<T>(
        &self,
        first: usize,
        random: &mut impl Rng,
        usable: impl Fn(usize) -> Option<T>,
    ) -> Option<(usize, T)> {
        let count = self.each.len();
        if self.are_equal() && count > 1 {
            let offset = ((u128::from(random.next_u64()) * (count as u128 - 1)) >> 64) as usize + 1;
            let drawn = (first + offset) % count;
            if let Some(value) = usable(drawn) {
                return Some((drawn, value));
            }
        }
        self.draw(random, |index| if index == first { None } else { usable(index) })
    }
}

/// Builds the alias table of weights of which at least one is above 0.
fn alias_table(each: &[f64]) -> Vec<Slot> {
    let (total, count) = (each.iter().sum::<f64>(), each.len() as f64);
    // The part of a slot that each provider fills; above 1, it fills parts of other slots too.
    let mut fill: Vec<f64> = each.iter().map(|weight| weight / total * count).collect();
    let (mut below, mut above): (Vec<usize>, Vec<usize>) = (0..each.len()).partition(|index| fill[*index] < 1.0);
    let mut slots: Vec<Slot> = (0..each.len()).map(|index| Slot { own: u32::MAX, alias: index as u32 }).collect();
    let heaviest = (0..each.len()).max_by(|one, other| each[*one].total_cmp(&each[*other])).unwrap_or(0);
    while let Some(index) = below.pop() {
        let Some(donor) = above.last().copied() else {
            // Rounding: what is left fills its slot, but a provider of weight 0 must not be drawn.
            if each[index] <= 0.0 {
                slots[index] = Slot { own: 0, alias: heaviest as u32 };
            }
            continue;
        };
        slots[index] = Slot { own: (fill[index] * f64::from(u32::MAX)) as u32, alias: donor as u32 };
        fill[donor] -= 1.0 - fill[index];
        if fill[donor] < 1.0 {
            above.pop();
            below.push(donor);
        }
    }
    slots
}

/// The draws after which the balancer searches the list, because few of its providers are usable.
const MAX_DRAWS: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    /// Returns the part of all draws that the table gives to each provider.
    fn shares(weights: &Weights) -> Vec<f64> {
        let count = weights.len();
        let mut shares = vec![0.0; count];
        for (index, slot) in weights.slots.iter().enumerate() {
            let own = f64::from(slot.own) / f64::from(u32::MAX);
            shares[index] += own / count as f64;
            shares[slot.alias as usize] += (1.0 - own) / count as f64;
        }
        shares
    }

    proptest! {
        #[test]
        fn table_has_the_proportions_of_the_weights(each in prop::collection::vec(0_u32..10_000, 2..120)) {
            let each: Vec<f64> = each.into_iter().map(f64::from).collect();
            let weights = Weights::new(each);
            prop_assume!(!weights.are_equal());
            let total: f64 = weights.each.iter().sum();
            for (share, weight) in shares(&weights).iter().zip(&weights.each) {
                prop_assert!((share - weight / total).abs() < 1e-6, "{share} {weight}");
                prop_assert!(*weight > 0.0 || *share == 0.0);
            }
        }

        #[test]
        fn draws_are_usable(
            each in prop::collection::vec(0_u32..3, 1..40),
            unusable in prop::collection::vec(any::<bool>(), 40),
            seed in any::<u64>(),
        ) {
            let weights = Weights::new(each.into_iter().map(f64::from).collect());
            let usable = |index: usize| weights.of(index) > 0.0 && !unusable[index];
            let drawn = weights.draw(&mut SmallRng::seed_from_u64(seed), |index| usable(index).then_some(index));
            let drawn = drawn.map(|(index, _)| index);
            prop_assert_eq!(drawn.is_some(), (0..weights.len()).any(usable));
            prop_assert!(drawn.is_none_or(usable));
        }
    }
}
