//! [`MemoryDirectory`]: the directory in the memory of the storing node.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_core::BoxFuture;
use tokio::time::Instant;

use super::{ClaimError, ClaimRejection, Directory, DirectoryError, Policy, Renewal, SessionEntry, UserSessions};
use crate::identity::{NodeId, SessionId};

/// A directory in memory.
///
/// Each start has another incarnation, after which the nodes restore their sessions.
pub struct MemoryDirectory {
    incarnation: u64,
    state: Mutex<State>,
}

/// The connections of all nodes limit the number of sessions.
#[derive(Default)]
struct State {
    nodes: HashMap<NodeId, Node>,
    users: HashMap<String, UserSessions>,
}

struct Node {
    lease_until: Instant,
    /// The users with sessions on the node.
    users: HashMap<String, usize>,
    replaced: BTreeSet<SessionId>,
}

impl MemoryDirectory {
    /// Creates an empty directory.
    pub fn new() -> Self {
        Self { incarnation: rand::random(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryDirectory {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Removes the nodes whose lease has expired, and their sessions.
    fn expire(&mut self, now: Instant) {
        let expired: Vec<_> =
            self.nodes.iter().filter(|(_, node)| node.lease_until <= now).map(|(id, _)| *id).collect();
        expired.into_iter().for_each(|node| self.remove_node(node));
    }

    fn remove_node(&mut self, id: NodeId) {
        let Some(node) = self.nodes.remove(&id) else { return };
        for user in node.users.into_keys() {
            let Some(sessions) = self.users.get_mut(&user) else { continue };
            sessions.retain(|entry| entry.node != id);
            if sessions.as_slice().is_empty() {
                self.users.remove(&user);
            }
        }
    }

    /// Adds a session by `add`, which returns the sessions that it replaces.
    fn add(
        &mut self,
        entry: SessionEntry,
        add: impl FnOnce(&mut UserSessions, SessionEntry) -> Result<Vec<SessionEntry>, ClaimRejection>,
    ) -> Result<Vec<SessionEntry>, ClaimRejection> {
        let sessions = self.users.entry(entry.user.clone()).or_default();
        let count = sessions.as_slice().len();
        let added = add(sessions, entry.clone());
        let (is_empty, after) = (sessions.as_slice().is_empty(), sessions.as_slice().len());
        if is_empty {
            self.users.remove(&entry.user);
        }
        let replaced = added?;
        // A repeated claim adds nothing.
        if after + replaced.len() > count {
            self.count_session(&entry, 1);
        }
        for replaced in &replaced {
            self.count_session(replaced, -1);
            if let Some(node) = self.nodes.get_mut(&replaced.node) {
                node.replaced.insert(replaced.session);
            }
        }
        Ok(replaced)
    }

    fn release(&mut self, entry: &SessionEntry) {
        if let Some(node) = self.nodes.get_mut(&entry.node) {
            node.replaced.remove(&entry.session);
        }
        let Some(sessions) = self.users.get_mut(&entry.user) else { return };
        let count = sessions.as_slice().len();
        sessions.release(entry);
        let after = sessions.as_slice().len();
        if after == 0 {
            self.users.remove(&entry.user);
        }
        if after < count {
            self.count_session(entry, -1);
        }
    }

    fn count_session(&mut self, entry: &SessionEntry, change: isize) {
        let Some(node) = self.nodes.get_mut(&entry.node) else { return };
        let count = node.users.entry(entry.user.clone()).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            node.users.remove(&entry.user);
        }
    }
}

impl Directory for MemoryDirectory {
    fn renew(&self, node: NodeId, lease: Duration) -> BoxFuture<'_, Result<Renewal, DirectoryError>> {
        let mut state = self.state();
        let now = Instant::now();
        state.expire(now);
        let is_new = !state.nodes.contains_key(&node);
        let new = || Node { lease_until: now, users: HashMap::new(), replaced: BTreeSet::new() };
        let entry = state.nodes.entry(node).or_insert_with(new);
        entry.lease_until = now + lease;
        let replaced = entry.replaced.iter().copied().collect();
        let renewal = Renewal { incarnation: self.incarnation, acquired: is_new, replaced };
        Box::pin(std::future::ready(Ok(renewal)))
    }

    fn claim(&self, entry: SessionEntry, policy: Policy) -> BoxFuture<'_, Result<Vec<SessionEntry>, ClaimError>> {
        let mut state = self.state();
        state.expire(Instant::now());
        let outcome = if state.nodes.contains_key(&entry.node) {
            state.add(entry, |sessions, entry| sessions.claim(entry, policy)).map_err(ClaimError::Rejected)
        } else {
            Err(ClaimError::NoLease)
        };
        Box::pin(std::future::ready(outcome))
    }

    fn restore(
        &self,
        node: NodeId,
        entries: Vec<SessionEntry>,
        policy: Policy,
    ) -> BoxFuture<'_, Result<Vec<SessionId>, DirectoryError>> {
        let mut state = self.state();
        state.expire(Instant::now());
        let outcome = if state.nodes.contains_key(&node) {
            let mut lost = Vec::new();
            for entry in entries.into_iter().filter(|entry| entry.node == node) {
                let session = entry.session;
                match state.add(entry, |sessions, entry| sessions.restore(entry, policy)) {
                    Ok(replaced) => {
                        lost.extend(replaced.iter().filter(|entry| entry.node == node).map(|entry| entry.session));
                    }
                    Err(_) => lost.push(session),
                }
            }
            Ok(lost)
        } else {
            Err(DirectoryError("the node does not hold its lease".to_owned()))
        };
        Box::pin(std::future::ready(outcome))
    }

    fn release(&self, entries: Vec<SessionEntry>) -> BoxFuture<'_, Result<(), DirectoryError>> {
        let mut state = self.state();
        entries.iter().for_each(|entry| state.release(entry));
        Box::pin(std::future::ready(Ok(())))
    }

    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<SessionEntry>>, DirectoryError>> {
        let mut state = self.state();
        state.expire(Instant::now());
        let sessions = |user: &String| state.users.get(user).map_or(Vec::new(), |found| found.as_slice().to_vec());
        let found = users.iter().map(sessions).collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), DirectoryError>> {
        self.state().remove_node(node);
        Box::pin(std::future::ready(Ok(())))
    }
}
