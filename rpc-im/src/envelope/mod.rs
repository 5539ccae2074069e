//! Frames between a client and its node: JSON text or protobuf binary, with the same content.
//!
//! A WebSocket message is one frame. The subprotocol says how frames are written: see [`Encoding`]. What the client says is a
//! [`ClientFrame`], what the node says a [`ServerFrame`]. The same in protobuf's language: `proto/im.proto`.

mod client;
mod server;
#[cfg(test)]
mod vectors;

pub use client::{Ack, Auth, ClientFrame, Create, Recipient, Send, Sync};
pub use server::{AuthOk, Conversation, Error, Kick, Lagging, Presence, Push, Reconnect, SendAck, ServerFrame, code};

use serde::{Deserialize, Serialize};

/// How frames are written on a WebSocket, by the subprotocol that the two ends agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `im.v1.json`: JSON objects in text messages. 64-bit ids are strings, because JavaScript's numbers have 53 bits.
    Json,
    /// `im.v1.pb`: protobuf in binary messages.
    Protobuf,
}

impl Encoding {
    /// The name of the WebSocket subprotocol.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "im.v1.json",
            Self::Protobuf => "im.v1.pb",
        }
    }

    /// The encoding of a subprotocol, if it is one of ours.
    pub fn of_subprotocol(name: &str) -> Option<Self> {
        [Self::Json, Self::Protobuf].into_iter().find(|encoding| encoding.subprotocol() == name)
    }
}

/// Are you there? Either side may ask; the other answers with a [`Pong`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Ping {}

/// I am.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Pong {}

/// Why bytes are not a frame: the peer's fault.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not JSON of a known frame.
    #[error("not a frame of im.v1.json: {0}")]
    Json(#[source] serde_json::Error),
    /// Not protobuf of a known frame.
    #[error("not a frame of im.v1.pb: {0}")]
    Protobuf(#[source] prost::DecodeError),
    /// Protobuf without a frame in it, or with one that is newer than this node.
    #[error("no frame that this node knows")]
    Unknown,
    /// A part that is missing or over its limit.
    #[error("{0}")]
    Invalid(String),
}

/// The longest name of a user, device, platform or conversation, and the longest id that a client gives a frame: bytes.
pub const MAX_NAME: usize = 128;
/// The most conversations that one [`Sync`] asks for.
pub const MAX_CURSORS: usize = 1024;
/// The most members of a conversation.
pub const MAX_MEMBERS: usize = 1000;

/// Whether `name` can name a user, a device, a conversation or a frame: 1 to [`MAX_NAME`] bytes without control characters.
///
/// # Errors
///
/// [`FrameError::Invalid`] names `what` and the limit.
pub fn check_name(what: &str, name: &str) -> Result<(), FrameError> {
    if name.is_empty() {
        Err(FrameError::Invalid(format!("{what} is missing")))
    } else if name.len() > MAX_NAME {
        Err(FrameError::Invalid(format!("{what} has {} bytes, over the limit of {MAX_NAME}", name.len())))
    } else if name.chars().any(char::is_control) {
        Err(FrameError::Invalid(format!("{what} has control characters")))
    } else {
        Ok(())
    }
}

/// A 64-bit id as a string in JSON.
mod id_as_string {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|_| Error::custom("an id is a string of digits, below 2 to the power of 64"))
    }
}
