//! Requests that the tests of a directory make.

pub(super) use std::{sync::Arc, time::Duration};

pub(super) use rpc_im::{
    NodeId, SessionId,
    directory::{
        ClaimError, ClaimRejection, Conflict, Directory, DirectoryError, Policy, Renewal, Scope, SessionEntry,
        UserSessions,
    },
};

pub(super) use super::super::unique;
pub(super) use crate::in_time;

/// The handles of several nodes to one directory.
pub type Nodes = [Arc<dyn Directory>];

/// Returns the handle of the node with this index, modulo their number.
pub(super) fn node(nodes: &Nodes, index: usize) -> &dyn Directory {
    &*nodes[index % nodes.len()]
}

/// Acquires the lease of a new node.
pub(super) async fn join(directory: &dyn Directory) -> NodeId {
    let id = NodeId(rand::random());
    directory.renew(id, LONG).await.expect("the directory renews leases");
    id
}

pub(super) fn entry(user: &str, device: &str, platform: &str, node: NodeId, session: u64) -> SessionEntry {
    let (user, device, platform) = (user.to_owned(), device.to_owned(), platform.to_owned());
    SessionEntry { user, device, platform, node, session: SessionId(session) }
}

pub(super) async fn claim(directory: &dyn Directory, entry: &SessionEntry) -> Vec<SessionEntry> {
    directory.claim(entry.clone(), Policy::default()).await.expect("the directory accepts the session")
}

/// Returns the sessions of a user, sorted by session.
pub(super) async fn lookup(directory: &dyn Directory, user: &str) -> Vec<SessionEntry> {
    let mut found = directory.lookup(vec![user.to_owned()]).await.expect("the directory finds sessions");
    assert_eq!(found.len(), 1);
    found[0].sort_by_key(|entry| entry.session);
    found.remove(0)
}

pub(super) async fn replaced(directory: &dyn Directory, node: NodeId) -> Vec<SessionId> {
    let mut replaced = directory.renew(node, LONG).await.expect("the directory renews leases").replaced;
    replaced.sort_unstable();
    replaced
}

/// Waits until a user has no sessions.
pub(super) async fn until_absent(directory: &dyn Directory, user: &str) {
    in_time(async {
        while !lookup(directory, user).await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A lease that does not expire during a test.
pub(super) const LONG: Duration = Duration::from_secs(600);
/// A lease that expires soon.
pub(super) const SHORT: Duration = Duration::from_millis(300);
