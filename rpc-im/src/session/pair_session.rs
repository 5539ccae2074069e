//! [`PairSession`]: one side of a pairing room, whose other side may be on another node.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::queue::Queue;
use crate::{
    cluster::message::NodeMessage,
    directory::{SessionEntry, room_user},
    identity::SessionId,
    node::context::NodeContext,
};

/// A side of a pairing room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The device that is logged in already, such as a phone that scans a code.
    App,
    /// The device that is paired with it, such as a browser that shows the code.
    Web,
}

/// One side of a pairing room.
///
/// Frames pass to the other side unchanged and in order, also across nodes.
///
/// # Drop
///
/// Dropping the session frees the side for a new session.
pub struct PairSession {
    channel: String,
    side: Side,
    id: SessionId,
    context: Arc<NodeContext>,
    other: Mutex<Option<SessionEntry>>,
}

/// The frames from the other side of a room.
#[derive(Debug)]
pub struct PairOutbound(pub(crate) Arc<Queue<Bytes>>);

/// The error of [`PairSession::send`]: the other side of the room has no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the room is not connected")]
pub struct OtherSideAbsent;

impl Side {
    /// Returns the side's name in URLs: `app` or `web`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Web => "web",
        }
    }

    /// Returns the side with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::App, Self::Web].into_iter().find(|side| side.name() == name)
    }

    const fn other(self) -> Self {
        match self {
            Self::App => Self::Web,
            Self::Web => Self::App,
        }
    }
}

impl PairSession {
    /// Returns whether `channel` is a valid name of a room: 32 ASCII letters, digits or underscores.
    pub fn is_channel(channel: &str) -> bool {
        channel.len() == CHANNEL_LEN && channel.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    pub(crate) fn new(channel: String, side: Side, id: SessionId, context: Arc<NodeContext>) -> Self {
        Self { channel, side, id, context, other: Mutex::default() }
    }

    /// Sends a frame to the other side.
    ///
    /// When the other side is unreachable or its queue is full, this side's [`PairOutbound`] ends: the room carries a
    /// stream, which cannot continue after a gap.
    ///
    /// # Errors
    ///
    /// [`OtherSideAbsent`] while the directory has no session of the other side.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has sent the whole frame or nothing.
    pub async fn send(&self, frame: Bytes) -> Result<(), OtherSideAbsent> {
        let known = self.other.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let other = match known {
            Some(other) => other,
            None => self.find_other().await.ok_or(OtherSideAbsent)?,
        };
        let message = NodeMessage::room(frame, self.id);
        self.context.delivery.send(&message, [&other]);
        Ok(())
    }

    async fn find_other(&self) -> Option<SessionEntry> {
        let users = vec![room_user(&self.channel)];
        let mut located = self.context.delivery.locate(users).await.ok()?;
        let [entries] = &mut located[..] else { return None };
        let wanted = self.side.other().name();
        let other = entries.drain(..).find(|entry| entry.device == wanted)?;
        *self.other.lock().unwrap_or_else(PoisonError::into_inner) = Some(other.clone());
        Some(other)
    }
}

impl Drop for PairSession {
    fn drop(&mut self) {
        let Some(session) = self.context.sessions.remove(self.id) else { return };
        session.close(None);
        let context = Arc::clone(&self.context);
        self.context.tasks.spawn(async move { context.lease.release(session.entry.clone()).await });
    }
}

impl PairOutbound {
    /// Returns the next frame; `None` once the room is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no frame.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.pop().await
    }
}

impl std::fmt::Debug for PairSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairSession").field("side", &self.side).field("id", &self.id).finish_non_exhaustive()
    }
}

/// The length of the name of a room, in bytes.
const CHANNEL_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_has_32_word_characters() {
        let good = "0123456789abcdefABCDEF_______xyz";
        assert!(PairSession::is_channel(good));
        let (short, long) = (&good[1..], format!("{good}a"));
        for bad in ["", short, &long, &good.replace('_', "-"), &good.replace("__", "é")] {
            assert!(!PairSession::is_channel(bad), "{bad}");
        }
    }
}
