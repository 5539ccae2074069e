//! The gate: which nodes a client is sent to.

use rand::{Rng, RngExt};

/// Up to [`MAX_NODES`] of the nodes, best first. Each is the better of two that chance picked, so that not everybody is sent to the
/// one with the fewest connections before it says that it has more.
pub(super) fn choose<T>(mut nodes: Vec<T>, connections: impl Fn(&T) -> u32, random: &mut impl Rng) -> Vec<T> {
    let mut chosen = Vec::with_capacity(MAX_NODES.min(nodes.len()));
    while !nodes.is_empty() && chosen.len() < MAX_NODES {
        let one = random.random_range(0..nodes.len());
        let other = random.random_range(0..nodes.len());
        let better = if connections(&nodes[one]) <= connections(&nodes[other]) { one } else { other };
        chosen.push(nodes.swap_remove(better));
    }
    chosen
}

/// How many nodes a client is told of.
const MAX_NODES: usize = 5;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn five_different_ones_or_all_there_are() {
        let mut random = SmallRng::seed_from_u64(1);
        for count in 0..10 {
            let nodes: Vec<u32> = (0..count).collect();
            let chosen = choose(nodes, |node| *node, &mut random);
            assert_eq!(chosen.len(), 5.min(count as usize));
            assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), chosen.len());
        }
    }

    #[test]
    fn the_emptier_come_first_and_nobody_gets_everybody() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut first = [0; 10];
        for _ in 0..10_000 {
            first[choose((0..10_usize).collect(), |node| *node as u32 * 100, &mut random)[0]] += 1;
        }
        // The better of two of ten: the emptiest is it in 19 of 100 cases, the fullest in 1.
        assert!(first.is_sorted_by(|emptier, fuller| emptier > fuller), "{first:?}");
        assert!((1_500..2_300).contains(&first[0]), "{first:?}");
        assert!((50..150).contains(&first[9]), "{first:?}");
    }
}
