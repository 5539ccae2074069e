//! [`Sightings`]: which nodes this one has lost sight of: a state machine.

use std::collections::HashMap;

use crate::{
    cluster::view::View,
    identity::{Epoch, NodeId, NodeKey},
};

/// Which nodes this one has lost sight of, or could not ask: their clients may have missed what this node had for them. They hear of it
/// with each answer to a hello, as a number that has grown.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    /// Of each node the last life that was seen, and how often its clients may have missed something: as many as there are numbers.
    nodes: HashMap<NodeId, (Epoch, u64)>,
}

impl Sightings {
    /// Another view: who is back in it was out of sight.
    pub(crate) fn handle_view(&mut self, before: &View, now: &View) {
        for node in now.nodes.iter().filter(|node| before.node(node.key).is_none()) {
            match self.nodes.get_mut(&node.key.id) {
                Some((epoch, doubts)) if *epoch == node.key.epoch => *doubts += 1,
                Some((epoch, _)) if *epoch > node.key.epoch => {}
                _ => drop(self.nodes.insert(node.key.id, (node.key.epoch, 0))),
            }
        }
    }

    /// Something that was for a node's clients did not get there.
    pub(crate) fn handle_doubt(&mut self, node: NodeKey) {
        let (epoch, doubts) = self.nodes.entry(node.id).or_insert((node.epoch, 0));
        if *epoch < node.epoch {
            (*epoch, *doubts) = (node.epoch, 0);
        }
        if *epoch == node.epoch {
            *doubts += 1;
        }
    }

    /// Whether this life of the node was never seen, and no later one.
    pub(crate) fn is_to_come(&self, node: NodeKey) -> bool {
        self.nodes.get(&node.id).is_none_or(|(epoch, _)| *epoch < node.epoch)
    }

    /// How often that was, in this life of the node.
    pub(crate) fn doubts(&self, node: NodeKey) -> u64 {
        self.nodes.get(&node.id).filter(|(epoch, _)| *epoch == node.epoch).map_or(0, |(_, doubts)| *doubts)
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
    fn who_was_out_of_sight_and_is_back_may_have_missed_something() {
        let mut sightings = Sightings::default();
        let (both, one) = (view(&[1, 2]), view(&[1]));
        let two = node(2).key;
        sightings.handle_view(&one, &both);
        assert_eq!(sightings.doubts(two), 0, "it is new");
        assert!(!sightings.is_to_come(two));
        assert!(sightings.is_to_come(NodeKey { epoch: Epoch(2), ..two }));
        sightings.handle_view(&both, &one);
        assert_eq!(sightings.doubts(two), 0, "what it misses now it could not ask for yet");
        sightings.handle_view(&one, &both);
        assert_eq!(sightings.doubts(two), 1);
        sightings.handle_doubt(two);
        assert_eq!(sightings.doubts(two), 2);
    }

    #[test]
    fn another_life_has_no_clients_that_missed_anything() {
        let mut sightings = Sightings::default();
        let old = node(2).key;
        let new = NodeKey { epoch: Epoch(2), ..old };
        sightings.handle_doubt(old);
        sightings.handle_doubt(new);
        assert_eq!((sightings.doubts(old), sightings.doubts(new)), (0, 1));
        sightings.handle_doubt(old);
        assert_eq!((sightings.doubts(old), sightings.doubts(new)), (0, 1));
    }
}
