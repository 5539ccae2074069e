//! [`ReportedNodes`]: the nodes that have reported all their sessions to this one.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{cluster::view::View, identity::NodeKey};

/// The nodes that have reported all their sessions to this one.
///
/// The value is the fingerprint of the view by which the node selected the sessions.
#[derive(Default)]
pub(crate) struct ReportedNodes(Mutex<HashMap<NodeKey, u64>>);

impl ReportedNodes {
    /// Returns the fingerprint of the view of a node's last complete report.
    pub(crate) fn view_of(&self, node: NodeKey) -> Option<u64> {
        self.lock().get(&node).copied()
    }

    pub(super) fn set(&self, node: NodeKey, fingerprint: u64) {
        self.lock().insert(node, fingerprint);
    }

    /// Removes the nodes outside the view.
    pub(super) fn retain(&self, view: &View) {
        self.lock().retain(|node, _| view.node(*node).is_some());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeKey, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
