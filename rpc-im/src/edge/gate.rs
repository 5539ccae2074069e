//! The gate: selects the nodes to which clients connect.

use rand::{Rng, RngExt};

use super::shared::Shared;

/// Returns the WebSocket URLs of nodes for a client, best first.
pub(super) fn nodes(shared: &Shared) -> Vec<String> {
    let nodes = shared.node.nodes().into_iter().filter(|node| !node.draining).collect();
    let picked = pick_nodes(nodes, |node| node.connections, &mut rand::rng());
    picked.into_iter().map(|node| node.websocket).collect()
}

/// Returns up to [`MAX_NODES`] of the nodes, best first.
///
/// Each is the better of two random nodes (power of two choices): connection counts are reported with a delay, and the
/// node with the fewest connections must not receive every client in the meantime.
fn pick_nodes<T>(mut nodes: Vec<T>, connections: impl Fn(&T) -> u32, random: &mut impl Rng) -> Vec<T> {
    let mut picked = Vec::with_capacity(MAX_NODES.min(nodes.len()));
    while !nodes.is_empty() && picked.len() < MAX_NODES {
        let one = random.random_range(0..nodes.len());
        let other = random.random_range(0..nodes.len());
        let better = if connections(&nodes[one]) <= connections(&nodes[other]) { one } else { other };
        picked.push(nodes.swap_remove(better));
    }
    picked
}

/// The maximum number of nodes that a client receives.
const MAX_NODES: usize = 5;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn gate_picks_up_to_five_distinct_nodes() {
        let mut random = SmallRng::seed_from_u64(1);
        for count in 0..10 {
            let nodes: Vec<u32> = (0..count).collect();
            let picked = pick_nodes(nodes, |node| *node, &mut random);
            assert_eq!(picked.len(), 5.min(count as usize));
            assert_eq!(picked.iter().collect::<BTreeSet<_>>().len(), picked.len());
        }
    }

    #[test]
    fn gate_prefers_emptier_nodes_but_spreads_clients() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut first = [0; 10];
        for _ in 0..10_000 {
            first[pick_nodes((0..10_usize).collect(), |node| *node as u32 * 100, &mut random)[0]] += 1;
        }
        // The better of two out of ten is the emptiest node in 19 of 100 cases and the fullest in 1.
        assert!(first.is_sorted_by(|emptier, fuller| emptier > fuller), "{first:?}");
        assert!((1_500..2_300).contains(&first[0]), "{first:?}");
        assert!((50..150).contains(&first[9]), "{first:?}");
    }
}
