//! [`ResyncCounters`]: counts how often clients of each node may have missed messages. No I/O.

use std::collections::HashMap;

use super::view::View;
use crate::identity::{Epoch, NodeId, NodeKey};

/// Counts, for each node, how often its clients may have missed messages from this node.
///
/// Clients may miss messages while their node is not in this node's view, or after it did not answer a request. Each
/// answer to a hello carries the node's count; the node resyncs its clients whenever the count has grown.
#[derive(Debug, Default)]
pub(crate) struct ResyncCounters {
    /// The last known epoch of each node, and the count in this epoch.
    ///
    /// The number of node ids limits the size.
    nodes: HashMap<NodeId, (Epoch, u64)>,
}

impl ResyncCounters {
    /// Handles a new view: a node that is back in it was absent, and its clients may have missed messages.
    pub(crate) fn handle_view(&mut self, before: &View, now: &View) {
        for node in now.nodes.iter().filter(|node| before.node(node.key).is_none()) {
            match self.nodes.get_mut(&node.key.id) {
                Some((epoch, missed)) if *epoch == node.key.epoch => *missed += 1,
                Some((epoch, _)) if *epoch > node.key.epoch => {}
                _ => drop(self.nodes.insert(node.key.id, (node.key.epoch, 0))),
            }
        }
    }

    /// Handles a failed delivery to clients of a node.
    pub(crate) fn handle_missed(&mut self, node: NodeKey) {
        let (epoch, missed) = self.nodes.entry(node.id).or_insert((node.epoch, 0));
        if *epoch < node.epoch {
            (*epoch, *missed) = (node.epoch, 0);
        }
        if *epoch == node.epoch {
            *missed += 1;
        }
    }

    /// Returns whether neither this epoch of the node nor a later one was ever in the view.
    pub(crate) fn is_unknown(&self, node: NodeKey) -> bool {
        self.nodes.get(&node.id).is_none_or(|(epoch, _)| *epoch < node.epoch)
    }

    /// Returns the count of this epoch of the node.
    pub(crate) fn missed_count(&self, node: NodeKey) -> u64 {
        self.nodes.get(&node.id).filter(|(epoch, _)| *epoch == node.epoch).map_or(0, |(_, missed)| *missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::view::tests::node;

    fn view(numbers: &[u16]) -> View {
        View::new(numbers.iter().map(|number| node(*number)).collect())
    }

    #[test]
    fn a_node_that_returns_to_the_view_is_counted() {
        let mut counters = ResyncCounters::default();
        let (both, one) = (view(&[1, 2]), view(&[1]));
        let two = node(2).key;
        counters.handle_view(&one, &both);
        assert_eq!(counters.missed_count(two), 0, "the node is new");
        assert!(!counters.is_unknown(two));
        assert!(counters.is_unknown(NodeKey { epoch: Epoch(2), ..two }));
        counters.handle_view(&both, &one);
        assert_eq!(counters.missed_count(two), 0, "its clients can only resync once the node is back");
        counters.handle_view(&one, &both);
        assert_eq!(counters.missed_count(two), 1);
        counters.handle_missed(two);
        assert_eq!(counters.missed_count(two), 2);
    }

    #[test]
    fn a_new_epoch_starts_with_a_count_of_its_own() {
        let mut counters = ResyncCounters::default();
        let old = node(2).key;
        let new = NodeKey { epoch: Epoch(2), ..old };
        counters.handle_missed(old);
        counters.handle_missed(new);
        assert_eq!((counters.missed_count(old), counters.missed_count(new)), (0, 1));
        counters.handle_missed(old);
        assert_eq!((counters.missed_count(old), counters.missed_count(new)), (0, 1));
    }
}
