//! [`MissedCounts`]: counts how often clients of each node may have missed messages. No I/O.

use std::collections::HashMap;

use crate::identity::NodeId;

/// Counts, for each node, how often its clients may have missed messages from this node.
///
/// Each answer to a hello carries the count of the node that sent the hello. It notifies its clients whenever the count
/// has grown, and they sync.
#[derive(Debug, Default)]
pub(crate) struct MissedCounts {
    nodes: HashMap<NodeId, u64>,
    /// Added to the count of each node.
    all: u64,
    has_broadcast: bool,
}

impl MissedCounts {
    /// Handles a message that did not reach clients of a node.
    pub(crate) fn handle_missed(&mut self, node: NodeId) {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&node) {
            // Forgets which nodes missed messages, so all count as having missed one more.
            self.all += 1 + self.nodes.values().max().copied().unwrap_or(0);
            self.nodes.clear();
        }
        *self.nodes.entry(node).or_default() += 1;
    }

    /// Handles a message that did not reach clients of a node whose id is unknown.
    pub(crate) fn handle_missed_by_unknown(&mut self) {
        self.all += 1;
    }

    /// Handles a message for all nodes.
    pub(crate) fn handle_broadcast(&mut self) {
        self.has_broadcast = true;
    }

    /// Handles the first hello of a node: it has missed the messages for all nodes that were sent before.
    pub(crate) fn handle_first_hello(&mut self, node: NodeId) {
        if self.has_broadcast {
            self.handle_missed(node);
        }
    }

    /// Returns the count of a node.
    pub(crate) fn count(&self, node: NodeId) -> u64 {
        self.all + self.nodes.get(&node).copied().unwrap_or(0)
    }
}

/// The maximum number of nodes with a count of their own, many times the number of nodes at a time.
const MAX_NODES: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missed_message_increases_the_count_of_its_node() {
        let mut counts = MissedCounts::default();
        counts.handle_missed(NodeId(1));
        counts.handle_missed(NodeId(1));
        assert_eq!((counts.count(NodeId(1)), counts.count(NodeId(2))), (2, 0));
    }

    #[test]
    fn a_new_node_has_missed_earlier_broadcasts() {
        let mut counts = MissedCounts::default();
        counts.handle_first_hello(NodeId(1));
        assert_eq!(counts.count(NodeId(1)), 0);
        counts.handle_broadcast();
        counts.handle_first_hello(NodeId(2));
        assert_eq!((counts.count(NodeId(1)), counts.count(NodeId(2))), (0, 1));
    }

    #[test]
    fn forgotten_nodes_count_as_having_missed_a_message() {
        let mut counts = MissedCounts::default();
        let before: Vec<_> = (0..MAX_NODES as u64)
            .map(|node| {
                counts.handle_missed(NodeId(node));
                counts.count(NodeId(node))
            })
            .collect();
        counts.handle_missed(NodeId(u64::MAX));
        assert!((0..MAX_NODES as u64).all(|node| counts.count(NodeId(node)) > before[node as usize]));
    }
}
