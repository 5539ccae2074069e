//! The frames between a client and its node, as JSON text or protobuf binary with the same content.
//!
//! Each WebSocket message is one frame. The subprotocol selects the [`Encoding`]. A client sends [`ClientFrame`]s, a
//! node sends [`ServerFrame`]s. `proto/im.proto` is the protobuf schema.

mod client;
mod server;
mod user_name;
#[cfg(test)]
mod vectors;

pub use client::{
    Ack, Auth, ChangeMembers, ClientFrame, Create, Edit, HistoryRequest, ListMembers, MemberChange, Names, Read,
    Recall, Recipient, Send, SetRole, Sync,
};
pub use server::{
    AuthOk, Conversation, Error, History, Kick, Lagging, MemberState, Members, Presence, Push, Receipt, Reconnect,
    SendAck, ServerFrame, Synced, code,
};

pub(crate) use user_name::appearance;
pub use user_name::check_user_name;

use serde::{Deserialize, Serialize};

/// The encoding of frames, which the WebSocket subprotocol selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `im.v1.json`: JSON objects in text messages.
    ///
    /// 64-bit ids are strings, because JavaScript's numbers have 53 bits.
    Json,
    /// `im.v1.pb`: protobuf in binary messages.
    Protobuf,
}

impl Encoding {
    /// Returns the name of the WebSocket subprotocol.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "im.v1.json",
            Self::Protobuf => "im.v1.pb",
        }
    }

    /// Returns the encoding of a subprotocol, or `None` for an unknown one.
    pub fn of_subprotocol(name: &str) -> Option<Self> {
        [Self::Json, Self::Protobuf].into_iter().find(|encoding| encoding.subprotocol() == name)
    }
}

/// A liveness check. Either side may send it; the peer answers with a [`Pong`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Ping {}

/// The answer to a [`Ping`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Pong {}

/// A position in the history of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Position {
    /// The incarnation of the history.
    #[prost(fixed64, tag = "1")]
    #[serde(with = "id_as_string")]
    pub incarnation: u64,
    /// The sequence number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// An error in a received frame. The peer is at fault.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The text is not the JSON of a known frame.
    #[error("invalid im.v1.json frame: {0}")]
    Json(#[source] serde_json::Error),
    /// The bytes are not the protobuf of a known frame.
    #[error("invalid im.v1.pb frame: {0}")]
    Protobuf(#[source] prost::DecodeError),
    /// The protobuf message contains no frame, or only one of a later version.
    #[error("unknown im.v1.pb frame type")]
    Unknown,
    /// A field is missing, invalid or over its limit.
    #[error("{0}")]
    Invalid(String),
}

/// A received frame of a client that is invalid.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BadFrame {
    /// The client's id of the request, if the frame has a valid one.
    pub id: Option<String>,
    /// The cause.
    #[source]
    pub error: FrameError,
}

impl BadFrame {
    fn new(id: Option<&str>, error: FrameError) -> Self {
        Self { id: id.filter(|id| check_name("id", id).is_ok()).map(str::to_owned), error }
    }
}

/// The maximum length of a name and of a client's id, in bytes.
///
/// The names are those of users, devices, platforms and conversations.
pub const MAX_NAME: usize = 128;
/// The maximum number of cursors in a [`Sync`].
pub const MAX_CURSORS: usize = 1024;
/// The maximum number of members in a [`Create`] and in a [`ChangeMembers`].
pub const MAX_MEMBERS: usize = 1000;

/// Validates the name of a user, device or conversation, or the id of a frame.
///
/// A valid name has 1 to [`MAX_NAME`] bytes and no control characters. `field` is the name of the field in the error.
///
/// # Errors
///
/// Returns [`FrameError::Invalid`], which names the field and the limit.
pub fn check_name(field: &str, name: &str) -> Result<(), FrameError> {
    if name.is_empty() {
        Err(FrameError::Invalid(format!("{field} is missing")))
    } else if name.len() > MAX_NAME {
        Err(FrameError::Invalid(format!("{field} is {} bytes, limit is {MAX_NAME}", name.len())))
    } else if name.chars().any(char::is_control) {
        Err(FrameError::Invalid(format!("{field} contains control characters")))
    } else {
        Ok(())
    }
}

/// Serializes a 64-bit id as a string in JSON.
mod id_as_string {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|_| Error::custom("id is not a string of decimal digits below 2^64"))
    }
}

/// Serializes a [`MessageKind`](crate::store::MessageKind) as its name in JSON.
mod kind_as_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::store::MessageKind;

    pub(super) fn serialize<S: Serializer>(kind: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = MessageKind::try_from(*kind).unwrap_or(MessageKind::Text);
        serializer.serialize_str(NAMES[kind as usize])
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let kind = NAMES.iter().position(|name| *name == text);
        kind.map(|kind| kind as i32).ok_or_else(|| Error::custom("kind is not text, recall, edit or members"))
    }

    const NAMES: [&str; 4] = ["text", "recall", "edit", "members"];
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
