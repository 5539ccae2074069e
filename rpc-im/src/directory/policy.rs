//! [`Policy`]: the rules for concurrent logins of one user.

use serde::{Deserialize, Serialize};

/// The rules for concurrent logins of one user: which exclude each other, and which wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// The logins that exclude each other.
    pub scope: Scope,
    /// The login that wins.
    pub conflict: Conflict,
}

/// The scope in which logins of one user exclude each other. Two logins on the same device always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// No other logins: a user may have sessions on many devices.
    AllDevices,
    /// Logins on the same platform: one phone and one browser.
    OnePerPlatform,
    /// All logins: one device at a time.
    Single,
}

/// The winner of two logins that exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Conflict {
    /// The later login wins, and the node ends the earlier session.
    Replace,
    /// The earlier session wins, and the node rejects the later login.
    ///
    /// A login on the same device still replaces the earlier session, because a client reconnects before its node has
    /// detected the lost connection.
    Refuse,
    /// The earlier session wins, also against the same device. For the sides of pairing rooms.
    Hold,
}

impl Default for Policy {
    /// Returns the policy that allows all devices; a login replaces the earlier session of its device.
    fn default() -> Self {
        Self { scope: Scope::AllDevices, conflict: Conflict::Replace }
    }
}
