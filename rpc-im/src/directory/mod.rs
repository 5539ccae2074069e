//! [`Directory`]: the sessions of each user, on all nodes.
//!
//! | topic | module |
//! |---|---|
//! | the record of a session, and the rules for concurrent logins | `entry`, `policy`, `user_sessions` |
//! | the embedded directory: each node stores the sessions of a share of the users | `embedded`, `shard`, `authority`, `reports` |
//! | the directory in Redis | `redis` |

pub(crate) mod authority;
pub(crate) mod embedded;
mod entry;
mod policy;
pub(crate) mod redis;
pub(crate) mod reports;
mod shard;
mod user_sessions;

pub(crate) use entry::{SessionEntry, room_user};
pub use policy::{Conflict, Policy, Scope};

use std::time::Duration;

use rpc_core::BoxFuture;
use serde::{Deserialize, Serialize};
use user_sessions::ClaimRejection;

/// The sessions of each user, on all nodes.
pub(crate) trait Directory: Send + Sync + 'static {
    /// Registers a session of this node and ends the sessions that it replaces.
    ///
    /// The directory retries temporary failures for up to [`CLAIM_TIME`]. A failed or dropped claim may have registered
    /// the session.
    fn claim(&self, entry: SessionEntry) -> BoxFuture<'_, Result<(), ClaimError>>;

    /// Removes exactly this session, perhaps later; a newer session of the same device stays.
    fn release(&self, entry: SessionEntry) -> BoxFuture<'_, ()>;

    /// Returns the sessions of each of these users, in the order of the users.
    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Vec<LookupResult>>;

    /// Maintains the directory until dropped. At most one caller runs it.
    fn run(&self) -> BoxFuture<'_, ()>;

    /// Returns whether sessions can be registered now.
    fn is_ready(&self) -> bool {
        true
    }

    /// Removes this node from the directory before it ends.
    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The error of [`Directory::claim`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ClaimError {
    /// Another session wins by the policy.
    Taken,
    /// The user has the maximum number of sessions.
    TooMany,
    /// A temporary failure.
    Unavailable(String),
}

/// The sessions of a user that the directory has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LookupResult {
    /// All sessions of the user; an offline user has none.
    #[serde(rename = "Known")]
    Complete(Vec<SessionEntry>),
    /// Perhaps not all sessions of the user: the caller queries all nodes.
    #[serde(rename = "Unknown")]
    Partial(Vec<SessionEntry>),
}

impl From<ClaimRejection> for ClaimError {
    fn from(rejection: ClaimRejection) -> Self {
        match rejection {
            ClaimRejection::Taken => Self::Taken,
            ClaimRejection::TooMany => Self::TooMany,
        }
    }
}

/// The reason in the `kick` frame of a session that another login has replaced.
pub(crate) const REPLACED: &str = "replaced";
/// The time for which a failing claim is retried.
const CLAIM_TIME: Duration = Duration::from_secs(5);
/// The pause between two attempts of a claim.
const CLAIM_PAUSE: Duration = Duration::from_millis(200);
/// The interval at which a node registers all its sessions again, which repairs lost updates.
const AUDIT_INTERVAL: Duration = Duration::from_secs(300);
