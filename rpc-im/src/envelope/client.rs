//! [`ClientFrame`]: what a client says.

use std::{collections::BTreeMap, fmt};

use prost::Message;
use serde::{Deserialize, Serialize};

use super::{FrameError, MAX_CURSORS, MAX_MEMBERS, Ping, Pong, check_name, id_as_string};

/// What a client says to its node.
#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    /// Who I am: the first frame.
    #[prost(message, tag = "1")]
    Auth(Auth),
    /// A message for a user or a conversation.
    #[prost(message, tag = "2")]
    Send(Send),
    /// A message has reached the client.
    #[prost(message, tag = "3")]
    Ack(Ack),
    /// What have I missed?
    #[prost(message, tag = "4")]
    Sync(Sync),
    /// Are you there?
    #[prost(message, tag = "5")]
    Ping(Ping),
    /// I am.
    #[prost(message, tag = "6")]
    Pong(Pong),
    /// Begins a conversation.
    #[prost(message, tag = "7")]
    Create(Create),
}

/// Presents the token of `POST /login`; answered with [`AuthOk`](super::AuthOk), or with an error and a close.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
pub struct Auth {
    /// The token, which stays out of logs.
    #[prost(string, tag = "1")]
    pub token: String,
}

/// A message; answered with [`SendAck`](super::SendAck) once it is stored, or with an error that has its id.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
pub struct Send {
    /// The client's own id of the message. Sent again with the same id, it is the same message.
    #[prost(string, tag = "1")]
    pub id: String,
    /// For whom; `Some` in a frame that was decoded.
    #[prost(oneof = "Recipient", tags = "2, 3")]
    pub to: Option<Recipient>,
    /// What it says, which stays out of logs. The node does not look into it.
    #[prost(string, tag = "4")]
    pub body: String,
}

/// For whom a message is.
#[derive(Clone, PartialEq, Eq, Hash, prost::Oneof, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// A user: the conversation of the two.
    #[prost(string, tag = "2")]
    User(String),
    /// The members of a conversation.
    #[prost(string, tag = "3")]
    Conversation(String),
}

/// A message has reached the client's hands.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Ack {
    /// The message of a [`Push`](super::Push).
    #[prost(fixed64, tag = "1")]
    #[serde(with = "id_as_string")]
    pub message: u64,
}

/// Asks for what was missed. For each of the user's conversations the node says the [`Conversation`](super::Conversation), and
/// pushes its messages after the cursor. Where there is more than it sends at once, it ends with a
/// [`Lagging`](super::Lagging), and the client asks again from where it is then.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Sync {
    /// Conversation → the last sequence number up to which the client has everything. A conversation that is not named is
    /// asked for from its beginning.
    #[prost(btree_map = "string, uint64", tag = "1")]
    #[serde(default)]
    pub cursors: BTreeMap<String, u64>,
}

/// Begins a conversation; answered with a [`Conversation`](super::Conversation) that has its id.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Create {
    /// The client's own id of the request. Sent again with the same id, it is the same conversation.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What members call it; may be empty.
    #[prost(string, tag = "2")]
    #[serde(default)]
    pub name: String,
    /// The users that are in it, besides the one who begins it.
    #[prost(string, repeated, tag = "3")]
    pub members: Vec<String>,
}

impl ClientFrame {
    /// Reads a frame of `im.v1.json`, and checks its names and lengths.
    ///
    /// # Errors
    ///
    /// For what is not JSON of a known frame, and for names that are empty or too long.
    pub fn from_json(text: &str) -> Result<Self, FrameError> {
        serde_json::from_str::<Self>(text).map_err(FrameError::Json)?.checked()
    }

    /// Reads a frame of `im.v1.pb`, and checks its names and lengths.
    ///
    /// # Errors
    ///
    /// For what is not protobuf of a known frame, and for names that are empty or too long.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, FrameError> {
        let envelope = Envelope::decode(bytes).map_err(FrameError::Protobuf)?;
        envelope.frame.ok_or(FrameError::Unknown)?.checked()
    }

    /// The frame as `im.v1.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and maps with string keys always serialize")
    }

    /// The frame as `im.v1.pb`.
    pub fn to_protobuf(&self) -> Vec<u8> {
        // The envelope has no other field, so these are its bytes.
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

/// The message around a frame in protobuf.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(oneof = "ClientFrame", tags = "1, 2, 3, 4, 5, 6, 7")]
    frame: Option<ClientFrame>,
}

fn check_count(what: &str, count: usize, limit: usize) -> Result<(), FrameError> {
    if count > limit {
        return Err(FrameError::Invalid(format!("{count} {what}, over the limit of {limit}")));
    }
    Ok(())
}
