//! [`Table`]: the sessions of all users that one node is responsible for.

use std::collections::HashMap;

use super::{
    Entry, Policy,
    user_sessions::{Devices, Refusal},
};
use crate::identity::NodeKey;

/// The sessions of users. It has as many as the nodes of the cluster have connections.
#[derive(Debug, Default)]
pub(crate) struct Table {
    users: HashMap<String, Devices>,
}

impl Table {
    /// See [`Devices::claim`].
    pub(crate) fn claim(&mut self, entry: Entry, policy: Policy) -> Result<Vec<Entry>, Refusal> {
        self.users.entry(entry.user.clone()).or_default().claim(entry, policy)
    }

    /// See [`Devices::restore`].
    pub(crate) fn restore(&mut self, entry: Entry, policy: Policy) -> Result<Vec<Entry>, Refusal> {
        self.users.entry(entry.user.clone()).or_default().restore(entry, policy)
    }

    /// Takes exactly this session out.
    pub(crate) fn release(&mut self, entry: &Entry) {
        if let Some(devices) = self.users.get_mut(&entry.user) {
            devices.release(entry);
            if devices.as_slice().is_empty() {
                self.users.remove(&entry.user);
            }
        }
    }

    pub(crate) fn sessions(&self, user: &str) -> &[Entry] {
        self.users.get(user).map_or(&[], Devices::as_slice)
    }

    /// Takes out whatever is not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.users.retain(|_, devices| {
            devices.retain(&keep);
            !devices.as_slice().is_empty()
        });
    }

    /// Takes out the sessions of a node which it does not have any more.
    pub(crate) fn retain_of(&mut self, node: NodeKey, keep: impl Fn(&Entry) -> bool) {
        self.retain(|entry| entry.node != node || keep(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::user_sessions::tests::entry, *};

    #[test]
    fn a_node_that_is_gone_takes_its_sessions_along() {
        let mut table = Table::default();
        let (one, two) = (entry("p", "ios", 1), entry("b", "web", 2));
        table.claim(one.clone(), Policy::default()).unwrap();
        table.claim(two.clone(), Policy::default()).unwrap();
        table.retain_of(one.node, |_| false);
        assert_eq!(table.sessions("ann"), [two]);
    }

    #[test]
    fn who_has_no_session_costs_nothing() {
        let mut table = Table::default();
        table.claim(entry("p", "ios", 1), Policy::default()).unwrap();
        table.release(&entry("p", "ios", 1));
        assert!(table.users.is_empty());
    }
}
