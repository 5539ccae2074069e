//! [`View`]: the alive nodes from the perspective of one node, and their ranking for a user.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::identity::NodeId;

/// The description that a node announces of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The id of this run of the node.
    pub id: NodeId,
    /// The node's name.
    pub name: String,
    /// The address at which other nodes reach it.
    pub address: SocketAddr,
    /// The URL at which clients reach it: `ws://host:port/ws`.
    pub websocket: String,
    /// The number of its sessions.
    pub connections: u32,
    /// Whether it drains: it accepts no new sessions.
    pub draining: bool,
}

/// The alive nodes from the perspective of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// All of these nodes, the local one included, sorted by id.
    pub(crate) nodes: Vec<NodeInfo>,
}

impl View {
    pub(crate) fn new(mut nodes: Vec<NodeInfo>) -> Self {
        nodes.sort_by_key(|node| node.id);
        Self { nodes }
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Returns whether both views have the same nodes.
    pub(crate) fn has_same_nodes(&self, other: &Self) -> bool {
        self.nodes.iter().map(|node| node.id).eq(other.nodes.iter().map(|node| node.id))
    }

    /// Returns all nodes, ranked for `key` by rendezvous hashing (Thaler and Ravishankar, 1998).
    ///
    /// When a node leaves the view, the order of the others stays. Draining nodes come last.
    pub(crate) fn ranked(&self, key: &str) -> Vec<&NodeInfo> {
        let mut ranked: Vec<_> = self.nodes.iter().collect();
        ranked.sort_by_cached_key(|node| (node.draining, !weight(key, node.id), node.id));
        ranked
    }
}

/// Returns the rendezvous weight of a node.
fn weight(key: &str, node: NodeId) -> u64 {
    let hash = Sha256::new().chain_update(node.0.to_be_bytes()).chain_update(key).finalize();
    u64::from_be_bytes(*hash.first_chunk().expect("a SHA-256 hash has 32 bytes"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    pub(crate) fn node(number: u16) -> NodeInfo {
        NodeInfo {
            id: NodeId(number.into()),
            name: number.to_string(),
            address: ([127, 0, 0, 1], number).into(),
            websocket: String::new(),
            connections: 0,
            draining: false,
        }
    }

    #[test]
    fn removing_the_first_node_promotes_the_second() {
        let all = View::new((1..=5).map(node).collect());
        for key in (0..100).map(|key| key.to_string()) {
            let [first, second, ..] = all.ranked(&key)[..] else { panic!() };
            let without = View::new(all.nodes.iter().filter(|node| *node != first).cloned().collect());
            assert_eq!(without.ranked(&key)[0], second);
        }
    }

    #[test]
    fn keys_spread_evenly_over_nodes() {
        let all = View::new((1..=4).map(node).collect());
        let mut shares = BTreeMap::<_, u32>::new();
        for key in (0..4000).map(|key| key.to_string()) {
            *shares.entry(all.ranked(&key)[0].id).or_default() += 1;
        }
        assert!(shares.values().all(|share| (850..1150).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_draining_node_is_ranked_last() {
        let leaving = NodeInfo { draining: true, ..node(1) };
        let two = View::new(vec![leaving.clone(), node(2)]);
        assert!((0..100).all(|key| two.ranked(&key.to_string())[0] == &node(2)));
    }
}
