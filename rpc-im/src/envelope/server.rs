//! [`ServerFrame`]: the frames that a node sends.

use std::fmt;

use prost::Message;
use serde::{Deserialize, Serialize};

use super::{FrameError, Ping, Pong, id_as_string, is_default, kind_as_name};
use crate::store::MessageKind;

/// A frame from a node to a client.
#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// Confirms the login.
    #[prost(message, tag = "1")]
    AuthOk(AuthOk),
    /// Confirms that a message of the client is stored.
    #[prost(message, tag = "2")]
    SendAck(SendAck),
    /// Delivers a message.
    #[prost(message, tag = "3")]
    Push(Push),
    /// Ends the session; the connection closes.
    #[prost(message, tag = "4")]
    Kick(Kick),
    /// Instructs the client to connect to another node, because this one drains.
    #[prost(message, tag = "5")]
    Reconnect(Reconnect),
    /// Reports that messages for the client were dropped: the client must sync.
    #[prost(message, tag = "6")]
    Lagging(Lagging),
    /// Rejects a frame of the client.
    #[prost(message, tag = "7")]
    Error(Error),
    /// Checks that the client is alive.
    #[prost(message, tag = "8")]
    Ping(Ping),
    /// Answers a ping of the client.
    #[prost(message, tag = "9")]
    Pong(Pong),
    /// Describes a conversation of the user.
    #[prost(message, tag = "10")]
    Conversation(Conversation),
    /// Reports that a user came online or went offline.
    #[prost(message, tag = "11")]
    Presence(Presence),
    /// Reports that a member has received or read messages.
    #[prost(message, tag = "12")]
    Receipt(Receipt),
    /// Answers a request for earlier messages.
    #[prost(message, tag = "13")]
    History(History),
    /// Answers a request for members.
    #[prost(message, tag = "14")]
    Members(Members),
    /// Ends a page of the answer to a sync.
    #[prost(message, tag = "15")]
    Synced(Synced),
}

/// Confirms that the token is valid and the session is registered.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct AuthOk {
    /// The user of the token.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The id of the session. A user has one session per device.
    #[prost(fixed64, tag = "2")]
    #[serde(with = "id_as_string")]
    pub session: u64,
    /// The name of the node.
    #[prost(string, tag = "3")]
    pub node: String,
}

/// Confirms that a message of the client is stored; every member can fetch it from then on.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct SendAck {
    /// The client's id of the message.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The conversation: for a message to a user, the conversation of the sender and this user.
    #[prost(string, tag = "2")]
    pub conversation: String,
    /// The incarnation of the conversation's history.
    #[prost(fixed64, tag = "3")]
    #[serde(with = "id_as_string")]
    pub incarnation: u64,
    /// The sequence number in the conversation, from 1 without gaps.
    #[prost(uint64, tag = "4")]
    pub seq: u64,
    /// The time at which the message was stored, in milliseconds since 1970.
    #[prost(uint64, tag = "5")]
    pub time: u64,
}

/// Delivers a message; the client answers with an [`Ack`](super::Ack).
///
/// A client may receive a message more than once, and in another order than that of the sequence numbers.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
pub struct Push {
    /// The conversation.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// The incarnation of the conversation's history.
    ///
    /// A client that has a cursor of another incarnation discards it and syncs.
    #[prost(fixed64, tag = "2")]
    #[serde(with = "id_as_string")]
    pub incarnation: u64,
    /// The sequence number in the conversation, from 1. A gap means that the client missed messages.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
    /// The sender, which may be the client's user on another device.
    #[prost(string, tag = "4")]
    pub from: String,
    /// The time at which the message was stored, in milliseconds since 1970.
    #[prost(uint64, tag = "5")]
    pub time: u64,
    /// The type of the message, see [`MessageKind`]; in JSON `text`, `recall`, `edit` or `members`.
    #[prost(enumeration = "MessageKind", tag = "6")]
    #[serde(with = "kind_as_name")]
    pub kind: i32,
    /// The sequence number of the message that a recall or an edit changes, or 0.
    #[prost(uint64, tag = "7")]
    #[serde(default, skip_serializing_if = "is_default")]
    pub target: u64,
    /// Whether the message was edited or recalled.
    #[prost(bool, tag = "8")]
    #[serde(default, skip_serializing_if = "is_default")]
    pub changed: bool,
    /// The content; empty after a recall. `Debug` does not print it.
    #[prost(string, tag = "9")]
    pub body: String,
}

/// Ends the session by a decision of the cluster. The client must not reconnect by itself.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Kick {
    /// The reason: `replaced` after another login, or a text from an operator.
    #[prost(string, tag = "1")]
    pub reason: String,
}

/// Instructs the client to connect to one of `nodes`, after a random part of `within_ms`.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Reconnect {
    /// The WebSocket URLs of other nodes, best first.
    #[prost(string, repeated, tag = "1")]
    pub nodes: Vec<String>,
    /// The time within which to reconnect, in milliseconds.
    #[prost(uint32, tag = "2")]
    pub within_ms: u32,
}

/// Reports that messages for the client were dropped.
///
/// The client fetches them with a [`Sync`](super::Sync).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Lagging {
    /// The conversation with missing messages; empty if any conversation may be affected.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// The last sequence number of the conversation that the node has seen, or 0.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// Rejects a request or another frame of the client.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Error {
    /// The client's id of the rejected request, if it has one.
    #[prost(string, optional, tag = "1")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The machine-readable reason: one of [`code`].
    #[prost(string, tag = "2")]
    pub code: String,
    /// The human-readable reason.
    #[prost(string, tag = "3")]
    pub message: String,
}

/// Describes a conversation of the client's user.
///
/// A node sends it as the answer to a [`Create`](super::Create) and a [`ChangeMembers`](super::ChangeMembers), to the
/// members of a new conversation, and as part of the answer to a [`Sync`](super::Sync).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Conversation {
    /// The client's id of the request that this frame answers.
    #[prost(string, optional, tag = "1")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The id of the conversation.
    #[prost(string, tag = "2")]
    pub conversation: String,
    /// The incarnation of its history.
    #[prost(fixed64, tag = "3")]
    #[serde(with = "id_as_string")]
    pub incarnation: u64,
    /// The display name; empty for a conversation of two users.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Whether it is a group, and not the conversation of two users.
    #[prost(bool, tag = "5")]
    pub group: bool,
    /// Whether users may join by themselves.
    #[prost(bool, tag = "6")]
    pub open: bool,
    /// The number of members.
    #[prost(uint64, tag = "7")]
    pub count: u64,
    /// The members, including the client's user; empty for more than 100.
    #[prost(string, repeated, tag = "8")]
    pub members: Vec<String>,
    /// The role of the client's user: `member`, `admin` or `owner`.
    #[prost(string, tag = "9")]
    pub role: String,
    /// The sequence number of the first message that was not removed.
    #[prost(uint64, tag = "10")]
    pub first: u64,
    /// The sequence number of the last message, or 0 if there is none.
    #[prost(uint64, tag = "11")]
    pub seq: u64,
    /// The sequence number up to which the user has read every message.
    #[prost(uint64, tag = "12")]
    pub read: u64,
    /// The number of messages of others after `read`, at most 1000.
    #[prost(uint32, tag = "13")]
    pub unread: u32,
    /// In the answer to a sync: the sequence number after which the following messages begin.
    ///
    /// A client that has fewer messages sets its cursor to it. It is 0 in other frames.
    #[prost(uint64, tag = "14")]
    #[serde(default, skip_serializing_if = "is_default")]
    pub after: u64,
}

/// Ends a page of the answer to a [`Sync`](super::Sync).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Synced {
    /// The client's id of the request, if it has one.
    #[prost(string, optional, tag = "1")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The conversation after which the next page begins.
    #[prost(string, tag = "2")]
    pub after: String,
    /// Whether there may be more: the client sends another sync with `after`.
    #[prost(bool, tag = "3")]
    pub more: bool,
    /// The conversations of this page for which the client has a cursor, and of which the user is not a member any more.
    #[prost(string, repeated, tag = "4")]
    pub gone: Vec<String>,
}

/// Reports that a member has received or read every message of a conversation up to a sequence number.
///
/// Nodes send it in conversations of at most 20 members.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Receipt {
    /// The conversation.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// The member.
    #[prost(string, tag = "2")]
    pub user: String,
    /// The last message that a device of the member has received, or 0 if unchanged.
    #[prost(uint64, tag = "3")]
    pub delivered: u64,
    /// The last message that the member has read, or 0 if unchanged.
    #[prost(uint64, tag = "4")]
    pub read: u64,
}

/// Answers a [`HistoryRequest`](super::HistoryRequest).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct History {
    /// The client's id of the request.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The conversation.
    #[prost(string, tag = "2")]
    pub conversation: String,
    /// The sequence number of the first message that was not removed.
    #[prost(uint64, tag = "3")]
    pub first: u64,
    /// Consecutive messages in ascending order.
    #[prost(message, repeated, tag = "4")]
    pub messages: Vec<Push>,
}

/// Answers a [`ListMembers`](super::ListMembers).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Members {
    /// The client's id of the request.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The conversation.
    #[prost(string, tag = "2")]
    pub conversation: String,
    /// Up to 100 members; fewer on the last page.
    #[prost(message, repeated, tag = "3")]
    pub members: Vec<MemberState>,
}

/// A member of a conversation.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct MemberState {
    /// The user.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The role: `member`, `admin` or `owner`.
    #[prost(string, tag = "2")]
    pub role: String,
    /// The last message that a device of the member has received.
    #[prost(uint64, tag = "3")]
    pub delivered: u64,
    /// The last message that the member has read.
    #[prost(uint64, tag = "4")]
    pub read: u64,
}

/// Reports that a user who shares a conversation with the client's user came online or went offline.
///
/// Nodes delay it, so that a quick reconnect causes no report.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Presence {
    /// The user.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Whether the user has a session.
    #[prost(bool, tag = "2")]
    pub online: bool,
}

/// The codes of an [`Error`].
pub mod code {
    /// The token is missing, invalid or expired, or it did not arrive in time. The connection closes.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// The login conflicts with a session of the user, and the policy rejects the new login.
    ///
    /// The connection closes.
    pub const REFUSED: &str = "refused";
    /// The frame is invalid, or not allowed in this state.
    pub const BAD_FRAME: &str = "bad_frame";
    /// The frame exceeds the limit. The connection closes.
    pub const TOO_LARGE: &str = "too_large";
    /// The user exceeds the rate of requests: the client waits one second and sends the frame again.
    pub const TOO_MANY: &str = "too_many";
    /// The user has used a quota, such as the bytes of a day: the request fails, and the message states for how long.
    pub const QUOTA: &str = "quota";
    /// The conversation or the message does not exist, or the user is not a member.
    pub const NOT_FOUND: &str = "not_found";
    /// The user may not do this in the conversation, or a limit of the conversation is reached.
    pub const NOT_PERMITTED: &str = "not_permitted";
    /// The cluster cannot handle the request now: the client may retry later with the same id.
    pub const UNAVAILABLE: &str = "unavailable";
    /// The node failed internally.
    pub const INTERNAL: &str = "internal";
}

impl ServerFrame {
    /// Creates an error frame; `id` is the client's id of the rejected request, if it has one.
    pub fn error(id: Option<String>, code: &str, message: impl Into<String>) -> Self {
        Self::Error(Error { id, code: code.to_owned(), message: message.into() })
    }

    /// Decodes a frame of `im.v1.json`.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not the JSON of a known frame.
    pub fn from_json(text: &str) -> Result<Self, FrameError> {
        serde_json::from_str(text).map_err(FrameError::Json)
    }

    /// Decodes a frame of `im.v1.pb`.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not the protobuf of a known frame.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, FrameError> {
        FrameMessage::decode(bytes).map_err(FrameError::Protobuf)?.frame.ok_or(FrameError::Unknown)
    }

    /// Encodes the frame as `im.v1.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists always serialize")
    }

    /// Encodes the frame as `im.v1.pb`.
    pub fn to_protobuf(&self) -> Vec<u8> {
        // `FrameMessage` has no other field, so the encoded oneof is the whole message.
        let mut bytes = Vec::with_capacity(self.encoded_len());
        self.encode(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Push")
            .field("from", &self.from)
            .field("conversation", &self.conversation)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

/// The protobuf message `im.v1.ServerFrame`, which wraps the frame.
#[derive(Clone, PartialEq, prost::Message)]
struct FrameMessage {
    #[prost(oneof = "ServerFrame", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15")]
    frame: Option<ServerFrame>,
}
