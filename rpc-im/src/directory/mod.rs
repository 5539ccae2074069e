//! [`Directory`]: the sessions of each user, on all nodes.
//!
//! | topic | module |
//! |---|---|
//! | the record of a session, and the rules for concurrent logins | `entry`, `policy`, `user_sessions` |
//! | the lease of this node | `lease` |
//! | the directory in the storing node, and its RPC service | `memory`, `rpc` |
//! | the directory in PostgreSQL or MariaDB | `sql` |
//! | the directory in Redis | `redis` |
//!
//! # Leases
//!
//! A node holds a lease in the directory. The directory ignores the sessions of a node whose lease has expired, and
//! accepts no session from it. The node closes all its sessions when it could not renew its lease for as long as the
//! lease lasts. So a device has at most one session, also when nodes, directory and clients cannot reach each other. The
//! lease is kept by the engine that keeps the entries, because a login has to check both in one step.

mod entry;
pub(crate) mod lease;
mod memory;
mod policy;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod rpc;
#[cfg(feature = "sql")]
mod sql;
mod user_sessions;

pub use entry::SessionEntry;
pub(crate) use entry::room_user;
pub use memory::MemoryDirectory;
pub use policy::{Conflict, Policy, Scope};
#[cfg(feature = "redis")]
pub use redis::{RedisDirectory, RedisUrl};
pub use rpc::RemoteDirectory;
#[cfg(feature = "sql")]
pub use sql::SqlDirectory;
pub use user_sessions::{ClaimRejection, UserSessions};

use std::time::Duration;

use rpc_core::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::identity::{NodeId, SessionId};

/// The directory does not answer, or answers with an error. A change may have been made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct DirectoryError(pub String);

/// The error of [`Directory::claim`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ClaimError {
    /// Another session of the user wins.
    #[error("{0}")]
    Rejected(ClaimRejection),
    /// The node does not hold its lease.
    #[error("the node does not hold its lease")]
    NoLease,
    /// The directory does not answer. The session may have been registered.
    #[error("{0}")]
    Unavailable(String),
}

/// The answer to [`Directory::renew`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Changes whenever the directory may have lost entries, for example when its server was restarted.
    pub incarnation: u64,
    /// Whether the node held no lease before.
    pub acquired: bool,
    /// Sessions of the node that later logins have replaced, until they are [released](Directory::release).
    pub replaced: Vec<SessionId>,
}

/// The sessions of each user, on all nodes.
///
/// Each operation is atomic for each user. No operation retries.
///
/// An implementation passes the tests in `tests/im_contract/directory.rs`.
pub trait Directory: Send + Sync + 'static {
    /// Acquires or renews the lease of a node for `lease` from now on.
    ///
    /// A node whose renewal reports another incarnation, or that acquired its lease, [restores](Self::restore) its
    /// sessions. A renewal that fails may have acquired the lease; then the node restores its sessions after the next
    /// successful renewal.
    fn renew(&self, node: NodeId, lease: Duration) -> BoxFuture<'_, Result<Renewal, DirectoryError>>;

    /// Registers a session, and returns the sessions that it replaces by the policy.
    ///
    /// The directory also reports the replaced sessions to their nodes, see [`Renewal::replaced`]. `policy` is the
    /// policy of users; see [`UserSessions::claim`].
    ///
    /// # Errors
    ///
    /// See [`ClaimError`].
    fn claim(&self, entry: SessionEntry, policy: Policy) -> BoxFuture<'_, Result<Vec<SessionEntry>, ClaimError>>;

    /// Registers earlier sessions of a node again, after the directory may have lost them; returns those that lose.
    ///
    /// See [`UserSessions::restore`]. Replaced sessions are reported to their nodes.
    ///
    /// # Errors
    ///
    /// An error if the node holds no lease, or the directory does not answer; some sessions may be registered.
    fn restore(
        &self,
        node: NodeId,
        entries: Vec<SessionEntry>,
        policy: Policy,
    ) -> BoxFuture<'_, Result<Vec<SessionId>, DirectoryError>>;

    /// Removes exactly these sessions, also from [`Renewal::replaced`]; newer sessions of their devices stay.
    fn release(&self, entries: Vec<SessionEntry>) -> BoxFuture<'_, Result<(), DirectoryError>>;

    /// Returns the sessions of each of these users, in the order of the users.
    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<SessionEntry>>, DirectoryError>>;

    /// Ends the lease of a node.
    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), DirectoryError>>;
}

/// The reason in the `kick` frame of a session that another login has replaced.
pub(crate) const REPLACED: &str = "replaced";
