//! [`Directory`]: which user has which sessions, on which nodes.

pub(crate) mod embedded;
pub(crate) mod redis;
mod shard;
mod user_sessions;

use std::time::Duration;

use rpc_core::BoxFuture;
use serde::{Deserialize, Serialize};
use user_sessions::Refusal;

use crate::identity::{NodeKey, SessionId};

/// A session as the directory has it: true for as long as its node lives, in this life.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Whose it is.
    pub(crate) user: String,
    /// On which of the user's devices; a device has one session.
    pub(crate) device: String,
    /// What kind of device: `web`, `ios`.
    pub(crate) platform: String,
    /// Where it is.
    pub(crate) node: NodeKey,
    /// Which it is.
    pub(crate) session: SessionId,
}

/// Which logins of one user exclude each other, and what happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// Which.
    pub scope: Scope,
    /// What happens.
    pub conflict: Conflict,
}

/// Which logins of one user exclude each other. Two on the same device always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// None: a user may have many devices at once.
    AllDevices,
    /// Those of the same platform: one phone and one browser.
    OnePerPlatform,
    /// All: one device at a time.
    Single,
}

/// What happens to a login that another one excludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Conflict {
    /// The later login stands, the earlier session is kicked.
    Replace,
    /// The earlier session stands, the later login is refused. The same device replaces itself nevertheless: it comes back
    /// before its node has noticed that it was gone.
    Refuse,
    /// The earlier session stands, also against the same device. For the sides of pairing rooms.
    Hold,
}

impl Entry {
    /// One side of a pairing room. No user has such a name: a name has no control characters.
    pub(crate) fn of_room(channel: &str, side: &str, node: NodeKey, session: SessionId) -> Self {
        Self { user: room(channel), device: side.to_owned(), platform: String::new(), node, session }
    }

    /// What holds for this entry where `users` holds for the sessions of users.
    pub(crate) fn policy(&self, users: Policy) -> Policy {
        if self.user.starts_with(ROOM) { Policy { scope: Scope::AllDevices, conflict: Conflict::Hold } } else { users }
    }
}

/// The name under which the directory has a pairing room.
pub(crate) fn room(channel: &str) -> String {
    format!("{ROOM}{channel}")
}

/// The channel of the pairing room that the directory has under this name, if it is one.
fn channel_of(user: &str) -> Option<&str> {
    user.strip_prefix(ROOM)
}

const ROOM: char = '\u{1}';

impl Default for Policy {
    /// All devices; a device that logs in again replaces itself.
    fn default() -> Self {
        Self { scope: Scope::AllDevices, conflict: Conflict::Replace }
    }
}

/// Why a session did not get into the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ClaimError {
    /// Another session stands.
    Taken,
    /// The user has as many sessions as there may be.
    TooMany,
    /// It cannot be said now; later perhaps.
    Unavailable(String),
}

/// What the directory knows of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Found {
    /// These are all; none means offline.
    Known(Vec<Entry>),
    /// It may have sessions besides these: ask all nodes.
    Unknown(Vec<Entry>),
}

/// Which user has which sessions.
pub(crate) trait Directory: Send + Sync + 'static {
    /// Enters a session of this node, and sees to it that those end which it replaces. Waits for what can be had soon, for a bounded
    /// time. When it fails or is dropped, it may have happened.
    fn claim(&self, entry: Entry) -> BoxFuture<'_, Result<(), ClaimError>>;

    /// Takes exactly this session out, at last; a later one of the same device stays.
    fn release(&self, entry: Entry) -> BoxFuture<'_, ()>;

    /// What is known of each of these users, in their order.
    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Vec<Found>>;

    /// Keeps it in order, for as long as it is polled. For one who does it.
    fn run(&self) -> BoxFuture<'_, ()>;

    /// Whether sessions can be entered now.
    fn is_ready(&self) -> bool {
        true
    }

    /// Before the node ends: what it had there is free at once.
    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl From<Refusal> for ClaimError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Taken => Self::Taken,
            Refusal::TooMany => Self::TooMany,
        }
    }
}

/// What the client of a session is told that another login has replaced.
pub(crate) const REPLACED: &str = "replaced";
/// How long a claim is tried.
const CLAIM: Duration = Duration::from_secs(5);
/// How often all sessions of a node are entered anew: what was lost on the way is found then.
const AUDIT: Duration = Duration::from_secs(300);
