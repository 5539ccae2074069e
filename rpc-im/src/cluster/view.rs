//! [`View`]: which nodes live, as one of them sees it, and which of them is responsible for what.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::identity::NodeKey;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Which node, in which life.
    pub key: NodeKey,
    /// Where other nodes reach it.
    pub address: SocketAddr,
    /// Where clients reach it: `ws://host:port/ws`.
    pub websocket: String,
    /// Sessions that it has.
    pub connections: u32,
    /// Whether it leaves: it takes no new sessions, and nothing is entrusted to it any more.
    pub draining: bool,
    /// The version of what nodes say to each other.
    pub protocol: u16,
}

/// The nodes that live, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// All of them, this one too, by key.
    pub(crate) nodes: Vec<NodeInfo>,
    /// The same for two nodes that see the same nodes.
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

    /// The node that is responsible for `key`.
    pub(crate) fn owner(&self, key: &str) -> &NodeInfo {
        self.nodes.iter().min_by_key(|node| rank(key, node)).expect("this node is in its view")
    }

    /// All nodes, by how much they are responsible for `key`: when the first one goes, the second is the first, and nothing else
    /// changes (rendezvous hashing, Thaler and Ravishankar, 1998). Those that leave come last.
    pub(crate) fn ranked(&self, key: &str) -> Vec<&NodeInfo> {
        let mut ranked: Vec<_> = self.nodes.iter().collect();
        ranked.sort_by_cached_key(|node| rank(key, node));
        ranked
    }
}

/// The lesser, the more a node is responsible for `key`.
fn rank(key: &str, node: &NodeInfo) -> (bool, u64, NodeKey) {
    (node.draining, !weight(key, node.key), node.key)
}

/// By the node's number and not by its life: one that is started again is responsible for what it was before.
fn weight(key: &str, node: NodeKey) -> u64 {
    // Nodes of other versions, and a store on disk, have to agree on it: so it is a hash with a specification.
    first_bytes(Sha256::new().chain_update(node.id.number().to_be_bytes()).chain_update(key))
}

fn first_bytes(hash: Sha256) -> u64 {
    let hash = hash.finalize();
    u64::from_be_bytes(*hash.first_chunk().expect("the hash has 32 bytes"))
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
    fn when_the_first_goes_the_second_is_the_first() {
        let all = View::new((1..=5).map(node).collect());
        for key in (0..100).map(|key| key.to_string()) {
            let [first, second, ..] = all.ranked(&key)[..] else { panic!() };
            let without = View::new(all.nodes.iter().filter(|node| *node != first).cloned().collect());
            assert_eq!(without.owner(&key), second);
        }
    }

    #[test]
    fn each_node_has_about_its_share() {
        let all = View::new((1..=4).map(node).collect());
        let mut shares = BTreeMap::<_, u32>::new();
        for key in (0..4000).map(|key| key.to_string()) {
            *shares.entry(all.owner(&key).key).or_default() += 1;
        }
        assert!(shares.values().all(|share| (850..1150).contains(share)), "{shares:?}");
    }

    #[test]
    fn who_leaves_is_responsible_for_nothing_while_another_is_there() {
        let leaving = NodeInfo { draining: true, ..node(1) };
        let two = View::new(vec![leaving.clone(), node(2)]);
        assert!((0..100).all(|key| two.owner(&key.to_string()) == &node(2)));
        assert_eq!(View::new(vec![leaving.clone()]).owner("any"), &leaving);
    }

    #[test]
    fn the_fingerprint_knows_lives_and_not_loads() {
        let mut busy = node(1);
        busy.connections = 9;
        let mut again = node(1);
        again.key.epoch = Epoch(2);
        let print = |node: NodeInfo| View::new(vec![node]).fingerprint;
        assert_eq!(print(busy), print(node(1)));
        assert_ne!(print(again), print(node(1)));
    }
}
