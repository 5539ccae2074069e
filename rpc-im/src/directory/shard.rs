//! [`Shard`]: the sessions of the users that one node stores in the embedded directory.

use std::collections::HashMap;

use super::{
    Policy, SessionEntry,
    user_sessions::{ClaimRejection, UserSessions},
};
use crate::identity::NodeKey;

/// The sessions of the users that one node stores. The connections of all nodes limit the size.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    users: HashMap<String, UserSessions>,
}

impl Shard {
    /// Adds a new session, see [`UserSessions::claim`].
    pub(crate) fn claim(&mut self, entry: SessionEntry, policy: Policy) -> Result<Vec<SessionEntry>, ClaimRejection> {
        self.users.entry(entry.user.clone()).or_default().claim(entry, policy)
    }

    /// Adds an earlier session again, see [`UserSessions::restore`].
    pub(crate) fn restore(&mut self, entry: SessionEntry, policy: Policy) -> Result<Vec<SessionEntry>, ClaimRejection> {
        self.users.entry(entry.user.clone()).or_default().restore(entry, policy)
    }

    /// Removes exactly this session.
    pub(crate) fn release(&mut self, entry: &SessionEntry) {
        if let Some(sessions) = self.users.get_mut(&entry.user) {
            sessions.release(entry);
            if sessions.as_slice().is_empty() {
                self.users.remove(&entry.user);
            }
        }
    }

    pub(crate) fn sessions(&self, user: &str) -> &[SessionEntry] {
        self.users.get(user).map_or(&[], UserSessions::as_slice)
    }

    /// Removes the sessions for which `keep` returns false.
    pub(crate) fn retain(&mut self, keep: impl Fn(&SessionEntry) -> bool) {
        self.users.retain(|_, sessions| {
            sessions.retain(&keep);
            !sessions.as_slice().is_empty()
        });
    }

    /// Removes the sessions of a node for which `keep` returns false.
    pub(crate) fn retain_of(&mut self, node: NodeKey, keep: impl Fn(&SessionEntry) -> bool) {
        self.retain(|entry| entry.node != node || keep(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::user_sessions::tests::entry, *};

    #[test]
    fn retain_of_removes_sessions_of_one_node() {
        let mut shard = Shard::default();
        let (one, two) = (entry("p", "ios", 1), entry("b", "web", 2));
        shard.claim(one.clone(), Policy::default()).unwrap();
        shard.claim(two.clone(), Policy::default()).unwrap();
        shard.retain_of(one.node, |_| false);
        assert_eq!(shard.sessions("ann"), [two]);
    }

    #[test]
    fn releasing_the_last_session_removes_the_user() {
        let mut shard = Shard::default();
        shard.claim(entry("p", "ios", 1), Policy::default()).unwrap();
        shard.release(&entry("p", "ios", 1));
        assert!(shard.users.is_empty());
    }
}
