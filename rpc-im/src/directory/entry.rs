//! [`SessionEntry`]: the directory's record of one session.

use serde::{Deserialize, Serialize};

use super::policy::{Conflict, Policy, Scope};
use crate::identity::{NodeId, SessionId};

/// The directory's record of one session. It is valid while the node holds its lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionEntry {
    /// The user, or a pairing room: such a name begins with a control character, which no user's name has.
    pub user: String,
    /// The user's device, which has one session, or the side of the room.
    pub device: String,
    /// The type of the device: `web`, `ios`.
    pub platform: String,
    /// The node that has the session.
    pub node: NodeId,
    /// The session.
    pub session: SessionId,
}

impl SessionEntry {
    /// Creates the entry of one side of a pairing room.
    pub(crate) fn of_room(channel: &str, side: &str, node: NodeId, session: SessionId) -> Self {
        Self { user: room_user(channel), device: side.to_owned(), platform: String::new(), node, session }
    }

    /// Returns `users` for the session of a user, a fixed policy for a side of a pairing room.
    pub(super) fn policy(&self, users: Policy) -> Policy {
        if self.user.starts_with(ROOM_PREFIX) {
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

/// Returns the channel of a pairing room, `None` for the name of a user.
#[cfg(feature = "redis")]
pub(super) fn channel_of(user: &str) -> Option<&str> {
    user.strip_prefix(ROOM_PREFIX)
}

const ROOM_PREFIX: char = '\u{1}';
