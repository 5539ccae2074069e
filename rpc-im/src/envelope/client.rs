//! [`ClientFrame`]: the frames that a client sends.

use std::{collections::BTreeMap, fmt};

use prost::Message;
use serde::{Deserialize, Serialize};

use super::{FrameError, MAX_CURSORS, MAX_MEMBERS, Ping, Pong, check_name, id_as_string};

/// A frame from a client to its node.
#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    /// Authenticates the client; it is the first frame of a connection.
    #[prost(message, tag = "1")]
    Auth(Auth),
    /// Sends a message to a user or a conversation.
    #[prost(message, tag = "2")]
    Send(Send),
    /// Acknowledges a received message.
    #[prost(message, tag = "3")]
    Ack(Ack),
    /// Requests the messages after the client's cursors.
    #[prost(message, tag = "4")]
    Sync(Sync),
    /// Checks that the node is alive.
    #[prost(message, tag = "5")]
    Ping(Ping),
    /// Answers a ping of the node.
    #[prost(message, tag = "6")]
    Pong(Pong),
    /// Creates a conversation.
    #[prost(message, tag = "7")]
    Create(Create),
}

/// Presents the token of `POST /login`.
///
/// The node answers with [`AuthOk`](super::AuthOk), or with an error and a close.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
pub struct Auth {
    /// The token. `Debug` does not print it.
    #[prost(string, tag = "1")]
    pub token: String,
}

/// A message for a user or a conversation.
///
/// The node answers with [`SendAck`](super::SendAck) once the message is stored, or with an error that carries its id.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
pub struct Send {
    /// The client's id of the message.
    ///
    /// The cluster treats a message with the same id from the same device as a retry.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The recipient; `Some` in every decoded frame.
    #[prost(oneof = "Recipient", tags = "2, 3")]
    pub to: Option<Recipient>,
    /// The content, which the node does not interpret. `Debug` does not print it.
    #[prost(string, tag = "4")]
    pub body: String,
}

/// The recipient of a message.
#[derive(Clone, PartialEq, Eq, Hash, prost::Oneof, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// A user, by name: the message goes to the conversation of the sender and this user.
    #[prost(string, tag = "2")]
    User(String),
    /// A conversation, by id: the message goes to its members.
    #[prost(string, tag = "3")]
    Conversation(String),
}

/// Acknowledges that the client has received a message.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Ack {
    /// The cluster's id of the message, from [`Push::message`](super::Push::message).
    #[prost(fixed64, tag = "1")]
    #[serde(with = "id_as_string")]
    pub message: u64,
}

/// Requests the conversations of the user and their messages after the client's cursors.
///
/// For each conversation the node sends a [`Conversation`](super::Conversation) and pushes the messages after the
/// cursor. If more messages remain than the node sends at once, it ends with [`Lagging`](super::Lagging); the client
/// then sends another `Sync` with its new cursors.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Sync {
    /// Conversation → the sequence number up to which the client has every message.
    ///
    /// A conversation without a cursor is sent from its beginning.
    #[prost(btree_map = "string, uint64", tag = "1")]
    #[serde(default)]
    pub cursors: BTreeMap<String, u64>,
}

/// Creates a conversation.
///
/// The node answers with a [`Conversation`](super::Conversation) that carries its id.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Create {
    /// The client's id of the request. A retry with the same id returns the same conversation.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The display name; may be empty.
    #[prost(string, tag = "2")]
    #[serde(default)]
    pub name: String,
    /// The members, besides the user that creates the conversation.
    #[prost(string, repeated, tag = "3")]
    pub members: Vec<String>,
}

impl ClientFrame {
    /// Decodes a frame of `im.v1.json` and validates its names and lengths.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not the JSON of a known frame, or if a name is empty or too long.
    pub fn from_json(text: &str) -> Result<Self, FrameError> {
        serde_json::from_str::<Self>(text).map_err(FrameError::Json)?.checked()
    }

    /// Decodes a frame of `im.v1.pb` and validates its names and lengths.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not the protobuf of a known frame, or if a name is empty or too long.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, FrameError> {
        let message = FrameMessage::decode(bytes).map_err(FrameError::Protobuf)?;
        message.frame.ok_or(FrameError::Unknown)?.checked()
    }

    /// Encodes the frame as `im.v1.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and maps with string keys always serialize")
    }

    /// Encodes the frame as `im.v1.pb`.
    pub fn to_protobuf(&self) -> Vec<u8> {
        // `FrameMessage` has no other field, so the encoded oneof is the whole message.
        let mut bytes = Vec::with_capacity(self.encoded_len());
        self.encode(&mut bytes);
        bytes
    }

    fn checked(self) -> Result<Self, FrameError> {
        match &self {
            Self::Send(send) => {
                check_name("id", &send.id)?;
                match &send.to {
                    Some(Recipient::User(user)) => check_name("to.user", user)?,
                    Some(Recipient::Conversation(conversation)) => check_name("to.conversation", conversation)?,
                    None => return Err(FrameError::Invalid("to is missing".into())),
                }
            }
            Self::Sync(sync) => {
                check_count("cursors", sync.cursors.len(), MAX_CURSORS)?;
                sync.cursors.keys().try_for_each(|conversation| check_name("conversation", conversation))?;
            }
            Self::Create(create) => {
                check_name("id", &create.id)?;
                check_count("members", create.members.len(), MAX_MEMBERS)?;
                create.members.iter().try_for_each(|member| check_name("member", member))?;
                if !create.name.is_empty() {
                    check_name("name", &create.name)?;
                }
            }
            Self::Auth(_) | Self::Ack(_) | Self::Ping(_) | Self::Pong(_) => {}
        }
        Ok(self)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl fmt::Debug for Send {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Send").field("id", &self.id).field("to", &self.to).finish_non_exhaustive()
    }
}

/// The protobuf message `im.v1.ClientFrame`, which wraps the frame.
#[derive(Clone, PartialEq, prost::Message)]
struct FrameMessage {
    #[prost(oneof = "ClientFrame", tags = "1, 2, 3, 4, 5, 6, 7")]
    frame: Option<ClientFrame>,
}

fn check_count(field: &str, count: usize, limit: usize) -> Result<(), FrameError> {
    if count > limit {
        return Err(FrameError::Invalid(format!("{field} has {count} entries, limit is {limit}")));
    }
    Ok(())
}
