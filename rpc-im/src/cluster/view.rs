//! [`View`]: the alive nodes from the perspective of one node, and their ranking as owners of a key.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::identity::NodeKey;

/// The description that a node announces of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The node's id and epoch.
    pub key: NodeKey,
    /// The address at which other nodes reach it.
    pub address: SocketAddr,
    /// The URL at which clients reach it: `ws://host:port/ws`.
    pub websocket: String,
    /// The number of its sessions.
    pub connections: u32,
    /// Whether it drains: it accepts no new sessions, and other nodes stop using it as an owner.
    pub draining: bool,
    /// The version of the protocol between nodes.
    pub protocol: u16,
}

/// The alive nodes from the perspective of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// All of these nodes, the local one included, sorted by key.
    pub(crate) nodes: Vec<NodeInfo>,
    /// A hash of keys and drain states; equal on two nodes with the same view.
    pub(crate) fingerprint: u64,
}

impl View {
    pub(crate) fn new(mut nodes: Vec<NodeInfo>) -> Self {
        nodes.sort_by_key(|node| node.key);
        let mut hash = Sha256::new();
        for node in &nodes {
            hash.update(node.key.id.number().to_be_bytes());
            hash.update(node.key.epoch.0.to_be_bytes());
            hash.update([node.draining.into()]);
        }
        Self { nodes, fingerprint: first_bytes(hash) }
    }

    pub(crate) fn node(&self, key: NodeKey) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.key == key)
    }

    /// Returns the node that owns `key`.
    pub(crate) fn owner(&self, key: &str) -> &NodeInfo {
        self.nodes.iter().min_by_key(|node| rank(key, node)).expect("a view contains the local node")
    }

    /// Returns all nodes, ranked as owners of `key` by rendezvous hashing (Thaler and Ravishankar, 1998).
    ///
    /// When a node leaves the view, the order of the others stays. Draining nodes come last.
    pub(crate) fn ranked(&self, key: &str) -> Vec<&NodeInfo> {
        let mut ranked: Vec<_> = self.nodes.iter().collect();
        ranked.sort_by_cached_key(|node| rank(key, node));
        ranked
    }
}

/// Returns the sort key of a node in the ranking for `key`: the owner has the smallest one.
fn rank(key: &str, node: &NodeInfo) -> (bool, u64, NodeKey) {
    (node.draining, !weight(key, node.key), node.key)
}

/// Returns the rendezvous weight of a node.
///
/// It depends on the node's id and not on its epoch, so a restarted node owns the same keys.
fn weight(key: &str, node: NodeKey) -> u64 {
    // Nodes of other versions and stores on disk depend on the weight, so it uses a hash with a specification.
    first_bytes(Sha256::new().chain_update(node.id.number().to_be_bytes()).chain_update(key))
}

fn first_bytes(hash: Sha256) -> u64 {
    let hash = hash.finalize();
    u64::from_be_bytes(*hash.first_chunk().expect("a SHA-256 hash has 32 bytes"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::identity::{Epoch, NodeId};

    pub(crate) fn node(number: u16) -> NodeInfo {
        let key = NodeKey { id: NodeId::new(number).unwrap(), epoch: Epoch(1) };
        let address = ([127, 0, 0, 1], number).into();
        NodeInfo { key, address, websocket: String::new(), connections: 0, draining: false, protocol: 1 }
    }

    #[test]
    fn removing_the_owner_promotes_the_second_node() {
        let all = View::new((1..=5).map(node).collect());
        for key in (0..100).map(|key| key.to_string()) {
            let [first, second, ..] = all.ranked(&key)[..] else { panic!() };
            let without = View::new(all.nodes.iter().filter(|node| *node != first).cloned().collect());
            assert_eq!(without.owner(&key), second);
        }
    }

    #[test]
    fn keys_spread_evenly_over_nodes() {
        let all = View::new((1..=4).map(node).collect());
        let mut shares = BTreeMap::<_, u32>::new();
        for key in (0..4000).map(|key| key.to_string()) {
            *shares.entry(all.owner(&key).key).or_default() += 1;
        }
        assert!(shares.values().all(|share| (850..1150).contains(share)), "{shares:?}");
    }

    #[test]
    fn draining_node_owns_keys_only_when_alone() {
        let leaving = NodeInfo { draining: true, ..node(1) };
        let two = View::new(vec![leaving.clone(), node(2)]);
        assert!((0..100).all(|key| two.owner(&key.to_string()) == &node(2)));
        assert_eq!(View::new(vec![leaving.clone()]).owner("any"), &leaving);
    }

    #[test]
    fn fingerprint_covers_epochs_but_not_load() {
        let mut busy = node(1);
        busy.connections = 9;
        let mut restarted = node(1);
        restarted.key.epoch = Epoch(2);
        let fingerprint = |node: NodeInfo| View::new(vec![node]).fingerprint;
        assert_eq!(fingerprint(busy), fingerprint(node(1)));
        assert_ne!(fingerprint(restarted), fingerprint(node(1)));
    }
}
