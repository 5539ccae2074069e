//! [`SessionEntry`]: the directory's record of one session.

use serde::{Deserialize, Serialize};

use super::policy::{Conflict, Policy, Scope};
use crate::identity::{NodeKey, SessionId};

/// The directory's record of one session. It is valid while the session's node is alive in this epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SessionEntry {
    pub(crate) user: String,
    /// The user's device; a device has one session.
    pub(crate) device: String,
    /// The type of the device: `web`, `ios`.
    pub(crate) platform: String,
    /// The node that has the session.
    pub(crate) node: NodeKey,
    pub(crate) session: SessionId,
}

impl SessionEntry {
    /// Creates the entry of one side of a pairing room.
    ///
    /// Its user name has a control character, which no user's name has.
    pub(crate) fn of_room(channel: &str, side: &str, node: NodeKey, session: SessionId) -> Self {
        Self { user: room_user(channel), device: side.to_owned(), platform: String::new(), node, session }
    }

    /// Returns `users` for the session of a user, a fixed policy for a side of a pairing room.
    pub(crate) fn policy(&self, users: Policy) -> Policy {
        if channel_of(&self.user).is_some() {
            Policy { scope: Scope::AllDevices, conflict: Conflict::Hold }
        } else {
            users
        }
    }
}

/// Returns the user name of a pairing room in the directory.
pub(crate) fn room_user(channel: &str) -> String {
    format!("{ROOM_PREFIX}{channel}")
}

/// Returns the channel of the pairing room with this user name, if it is one.
pub(super) fn channel_of(user: &str) -> Option<&str> {
    user.strip_prefix(ROOM_PREFIX)
}

const ROOM_PREFIX: char = '\u{1}';
