//! [`PairSession`]: one side of a pairing room, whose other side may be on another node.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::{
    cluster::peer_link::{Attempt, Letter},
    directory::{Entry, room},
    identity::SessionId,
    node::Parts,
    session::queue::Queue,
};

/// A side of a pairing room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The device that was there first, such as a phone that scans.
    App,
    /// The one that is paired with it, such as a browser that shows the code.
    Web,
}

/// One side of a pairing room. What it sends goes to the other side as it is, in order, wherever that is.
///
/// # Drop
///
/// Dropped, the side is free again.
pub struct PairSession {
    channel: String,
    side: Side,
    id: SessionId,
    parts: Arc<Parts>,
    other: Mutex<Option<Entry>>,
}

/// What the other side of a room has sent.
#[derive(Debug)]
pub struct PairOutbound(pub(crate) Arc<Queue<Bytes>>);

/// The other side is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the room is not there")]
pub struct Absent;

impl Side {
    /// Its name in the URL: `app` or `web`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Web => "web",
        }
    }

    /// The side of that name.
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
    /// Whether `channel` can name a room: 32 ASCII letters, digits or underscores.
    pub fn is_channel(channel: &str) -> bool {
        channel.len() == CHANNEL_LEN && channel.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    pub(crate) fn new(channel: String, side: Side, id: SessionId, parts: Arc<Parts>) -> Self {
        Self { channel, side, id, parts, other: Mutex::default() }
    }

    /// Sends a frame to the other side. When that is reached no more, or does not read, this side's [`PairOutbound`] ends: what it
    /// sends is a stream, and a stream with a hole is over.
    ///
    /// # Errors
    ///
    /// When the other side has not come yet, or is known to be gone.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the frame was sent as a whole or not at all.
    pub async fn send(&self, frame: Bytes) -> Result<(), Absent> {
        let known = self.other.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let other = match known {
            Some(other) => other,
            None => self.find().await.ok_or(Absent)?,
        };
        let letter = Arc::new(Letter::of_room(frame, self.id));
        self.parts.delivery.send(&letter, [other], Attempt::FIRST);
        Ok(())
    }

    async fn find(&self) -> Option<Entry> {
        let [entries] = &mut self.parts.delivery.locate(vec![room(&self.channel)]).await[..] else { return None };
        let wanted = self.side.other().name();
        let other = entries.drain(..).find(|entry| entry.device == wanted)?;
        *self.other.lock().unwrap_or_else(PoisonError::into_inner) = Some(other.clone());
        Some(other)
    }
}

impl Drop for PairSession {
    fn drop(&mut self) {
        let Some(local) = self.parts.sessions.remove(self.id) else { return };
        local.close(None);
        let parts = Arc::clone(&self.parts);
        self.parts.tasks.spawn(async move { parts.directory.release(local.entry.clone()).await });
    }
}

impl PairOutbound {
    /// The next frame; `None` when the room is over.
    ///
    /// # Cancel safety
    ///
    /// Dropped, no frame is lost.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.pop().await
    }
}

impl std::fmt::Debug for PairSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairSession").field("side", &self.side).field("id", &self.id).finish_non_exhaustive()
    }
}

const CHANNEL_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_32_word_characters() {
        let good = "0123456789abcdefABCDEF_______xyz";
        assert!(PairSession::is_channel(good));
        let (short, long) = (&good[1..], format!("{good}a"));
        for bad in ["", short, &long, &good.replace('_', "-"), &good.replace("__", "é")] {
            assert!(!PairSession::is_channel(bad), "{bad}");
        }
    }
}
