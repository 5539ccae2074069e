//! [`ServerFrame`]: what a node says.

use std::fmt;

use prost::Message;
use serde::{Deserialize, Serialize};

use super::{FrameError, Ping, Pong, id_as_string};

/// What a node says to a client.
#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// You are in.
    #[prost(message, tag = "1")]
    AuthOk(AuthOk),
    /// Your message is stored.
    #[prost(message, tag = "2")]
    SendAck(SendAck),
    /// A message for you.
    #[prost(message, tag = "3")]
    Push(Push),
    /// You are out; the connection closes.
    #[prost(message, tag = "4")]
    Kick(Kick),
    /// This node leaves: go to another.
    #[prost(message, tag = "5")]
    Reconnect(Reconnect),
    /// You missed messages: sync.
    #[prost(message, tag = "6")]
    Lagging(Lagging),
    /// What you asked for did not happen.
    #[prost(message, tag = "7")]
    Error(Error),
    /// Are you there?
    #[prost(message, tag = "8")]
    Ping(Ping),
    /// I am.
    #[prost(message, tag = "9")]
    Pong(Pong),
    /// A conversation that you are in.
    #[prost(message, tag = "10")]
    Conversation(Conversation),
    /// Somebody came or went.
    #[prost(message, tag = "11")]
    Presence(Presence),
}

/// The token was good.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct AuthOk {
    /// Whose token it was.
    #[prost(string, tag = "1")]
    pub user: String,
    /// This login. A user has one for each device.
    #[prost(fixed64, tag = "2")]
    #[serde(with = "id_as_string")]
    pub session: u64,
    /// The node that the client is on.
    #[prost(string, tag = "3")]
    pub node: String,
}

/// A message of the client is stored, and will reach every member.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct SendAck {
    /// The client's id of it.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The cluster's id of it.
    #[prost(fixed64, tag = "2")]
    #[serde(with = "id_as_string")]
    pub message: u64,
    /// Where it went: for a message to a user, the conversation of the two.
    #[prost(string, tag = "3")]
    pub conversation: String,
    /// Its place in the conversation, from 1, without gaps.
    #[prost(uint64, tag = "4")]
    pub seq: u64,
}

/// A message; the client answers with an [`Ack`](super::Ack).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
pub struct Push {
    /// The cluster's id of it: but for its lower 22 bits, the milliseconds since 2024 at which it was stored. The same message may
    /// come twice, after a reconnect.
    #[prost(fixed64, tag = "1")]
    #[serde(with = "id_as_string")]
    pub message: u64,
    /// Who sent it: also the user itself, from another device.
    #[prost(string, tag = "2")]
    pub from: String,
    /// Where.
    #[prost(string, tag = "3")]
    pub conversation: String,
    /// Its place in the conversation, from 1. One that is not the next after the last says that messages were missed.
    #[prost(uint64, tag = "4")]
    pub seq: u64,
    /// What it says, which stays out of logs.
    #[prost(string, tag = "5")]
    pub body: String,
}

/// The session is over, by the cluster's decision. The client does not come back by itself.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Kick {
    /// Why: `replaced` by another login, or what an operator says.
    #[prost(string, tag = "1")]
    pub reason: String,
}

/// The node leaves: the client goes to another one of these, after a random part of the time given.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Reconnect {
    /// WebSocket addresses of other nodes, best first.
    #[prost(string, repeated, tag = "1")]
    pub nodes: Vec<String>,
    /// How long to take at most: milliseconds.
    #[prost(uint32, tag = "2")]
    pub within_ms: u32,
}

/// Messages were left out: the client asks for them with a [`Sync`](super::Sync).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Lagging {
    /// One conversation that is behind; empty when any may be.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// Its last sequence number that the node knows of, or 0.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// What the client asked for did not happen, or it spoke out of turn.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Error {
    /// The client's id of what failed, when it had one.
    #[prost(string, optional, tag = "1")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// For programs: one of [`code`].
    #[prost(string, tag = "2")]
    pub code: String,
    /// For people.
    #[prost(string, tag = "3")]
    pub message: String,
}

/// A conversation that the client's user is in: the answer to a [`Create`](super::Create), news for its members, and
/// part of the answer to a [`Sync`](super::Sync).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Conversation {
    /// The client's id of the request that this answers.
    #[prost(string, optional, tag = "1")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its id.
    #[prost(string, tag = "2")]
    pub conversation: String,
    /// What members call it; empty for that of two users.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Who is in it, the client's user too.
    #[prost(string, repeated, tag = "4")]
    pub members: Vec<String>,
    /// The sequence number of its last message, 0 without one.
    #[prost(uint64, tag = "5")]
    pub seq: u64,
}

/// Somebody whom the user shares a conversation with came or went. Said late, so that a reconnect is not told.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Presence {
    /// Who.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Whether there is a session of that user.
    #[prost(bool, tag = "2")]
    pub online: bool,
}

/// The codes of an [`Error`].
pub mod code {
    /// The token is missing, wrong or too old; or nothing came within the time for it. The connection closes.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// Another login of this user stands, and the policy is to refuse the new one. The connection closes.
    pub const REFUSED: &str = "refused";
    /// Not a frame, or one that has no place here.
    pub const BAD_FRAME: &str = "bad_frame";
    /// A frame over the limit. The connection closes.
    pub const TOO_LARGE: &str = "too_large";
    /// Too many messages: the client waits a second, and sends this one again.
    pub const TOO_MANY: &str = "too_many";
    /// No such conversation, or the user is not in it.
    pub const NOT_FOUND: &str = "not_found";
    /// The cluster cannot do it now: sent again later, with the same id, it may work.
    pub const UNAVAILABLE: &str = "unavailable";
    /// The node failed.
    pub const INTERNAL: &str = "internal";
}

impl ServerFrame {
    /// An error, about the request with the client's id `id` where there is one.
    pub fn error(id: Option<String>, code: &str, message: impl Into<String>) -> Self {
        Self::Error(Error { id, code: code.to_owned(), message: message.into() })
    }

    /// Reads a frame of `im.v1.json`.
    ///
    /// # Errors
    ///
    /// For what is not JSON of a known frame.
    pub fn from_json(text: &str) -> Result<Self, FrameError> {
        serde_json::from_str(text).map_err(FrameError::Json)
    }

    /// Reads a frame of `im.v1.pb`.
    ///
    /// # Errors
    ///
    /// For what is not protobuf of a known frame.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, FrameError> {
        Envelope::decode(bytes).map_err(FrameError::Protobuf)?.frame.ok_or(FrameError::Unknown)
    }

    /// The frame as `im.v1.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists always serialize")
    }

    /// The frame as `im.v1.pb`.
    pub fn to_protobuf(&self) -> Vec<u8> {
        // The envelope has no other field, so these are its bytes.
        let mut bytes = Vec::with_capacity(self.encoded_len());
        self.encode(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Push")
            .field("message", &self.message)
            .field("from", &self.from)
            .field("conversation", &self.conversation)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

/// The message around a frame in protobuf.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(oneof = "ServerFrame", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    frame: Option<ServerFrame>,
}
