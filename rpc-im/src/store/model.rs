//! The values that a [`MessageStore`](super::MessageStore) stores and returns.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ConversationRef;

/// A stored message.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
pub struct Message {
    /// The sequence number in the conversation, from 1 without gaps.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// The sender.
    #[prost(string, tag = "2")]
    pub from: String,
    /// The sender's device.
    #[prost(string, tag = "3")]
    pub device: String,
    /// The sender's id of the message, unique per device.
    #[prost(string, tag = "4")]
    pub id: String,
    /// The content; empty after a recall. `Debug` does not print it.
    #[prost(string, tag = "5")]
    pub body: String,
    /// The type of the message, a number of [`MessageKind`].
    #[prost(enumeration = "MessageKind", tag = "6")]
    pub kind: i32,
    /// The sequence number of the message that this one changes, or 0.
    #[prost(uint64, tag = "7")]
    pub target: u64,
    /// The time at which the message was stored, in milliseconds since 1970.
    #[prost(uint64, tag = "8")]
    pub time: u64,
    /// Whether the message was edited or recalled.
    #[prost(bool, tag = "9")]
    pub changed: bool,
}

/// The type of a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, prost::Enumeration, Serialize, Deserialize)]
#[repr(i32)]
pub enum MessageKind {
    /// A message of a user.
    Text = 0,
    /// Removes the body of the target.
    Recall = 1,
    /// Replaces the body of the target.
    ///
    /// Stored without a body of its own: a read returns the present body of the target, which a recall removes.
    Edit = 2,
    /// Reports a change of the members. The body is the JSON of a [`Change`].
    Members = 3,
}

/// A message that is not stored yet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// The sender.
    pub from: String,
    /// The sender's device.
    pub device: String,
    /// The sender's id of the message, unique per device.
    pub id: String,
    /// The type, not [`MessageKind::Members`].
    pub kind: MessageKind,
    /// The sequence number of the message that this one changes, or 0.
    pub target: u64,
    /// The content.
    pub body: String,
}

/// Messages to append to one conversation. They may have different senders.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Append {
    /// The conversation.
    pub to: ConversationRef,
    /// The messages, in order.
    pub messages: Vec<NewMessage>,
}

/// The result of a write to a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// The incarnation of the conversation.
    pub incarnation: u64,
    /// The members after the write.
    pub audience: Audience,
    /// The outcome for each message, in the order of the request.
    pub messages: Vec<Result<Stored, Rejection>>,
}

/// The identity of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The sequence number in the conversation.
    pub seq: u64,
    /// The time at which the message was stored, in milliseconds since 1970.
    pub time: u64,
    /// Whether the message had been stored before this request.
    pub repeated: bool,
}

/// The reason why a message was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The sender is not a member of the conversation.
    #[error("no such conversation, or you are not a member of it")]
    NotMember,
    /// The target does not exist, was removed or recalled, or is not a [`MessageKind::Text`].
    #[error("no such message")]
    NoTarget,
    /// The sender may not change the target.
    #[error("you may not change this message")]
    NotPermitted,
}

/// The members of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// Grows with each change of the members.
    pub version: u64,
    /// The number of members.
    pub count: u64,
    /// The members in the order of their names' bytes; empty above
    /// [`MAX_LISTED_MEMBERS`](super::MAX_LISTED_MEMBERS).
    pub members: Vec<String>,
}

/// A group to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewConversation {
    /// The id of the conversation.
    pub conversation: String,
    /// The display name; may be empty.
    pub name: String,
    /// The user that creates the group and becomes its owner.
    pub creator: String,
    /// Further members.
    pub members: Vec<String>,
    /// Whether users may join by themselves.
    pub open: bool,
}

/// The state of a conversation for one of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationInfo {
    /// The id of the conversation.
    pub conversation: String,
    /// The incarnation of its history.
    pub incarnation: u64,
    /// Whether it is a group, and not the conversation of two users.
    pub is_group: bool,
    /// Whether users may join by themselves.
    pub open: bool,
    /// The display name; empty for the conversation of two users.
    pub name: String,
    /// The sequence number of the first message that was not removed; `last + 1` if there is none.
    pub first: u64,
    /// The sequence number of the last message, or 0.
    pub last: u64,
    /// The members.
    pub audience: Audience,
    /// The member for whom this is the state.
    pub member: Member,
    /// The number of [`MessageKind::Text`] messages of others after the member's read cursor, at most
    /// [`MAX_UNREAD`](super::MAX_UNREAD).
    pub unread: u32,
}

/// A member of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The user.
    pub user: String,
    /// The role in a group; [`Role::Member`] in the conversation of two users.
    pub role: Role,
    /// The sequence number up to which a device of the user has received every message.
    pub delivered: u64,
    /// The sequence number up to which the user has read every message.
    ///
    /// Messages from before the user joined count as received and read.
    pub read: u64,
}

/// The role of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sends and reads messages.
    Member,
    /// Also adds and removes members, and recalls messages of others.
    Admin,
    /// Also changes roles. A group has one owner, the creator, until the owner leaves.
    Owner,
}

/// A page of the members of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberPage {
    /// The version of the members, see [`Audience::version`]; 0 if the conversation does not exist.
    pub version: u64,
    /// The members.
    pub members: Vec<Member>,
}

/// A request of a user to change the members of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersChange {
    /// The id of the conversation.
    pub conversation: String,
    /// The user that requests the change.
    pub by: String,
    /// The user's device.
    pub device: String,
    /// The user's id of the request, unique per device.
    pub id: String,
    /// The change.
    pub change: Change,
}

/// A change of the members of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The user joins an open group.
    Join,
    /// The user leaves. If the owner leaves, the admin whose name is first in byte order becomes owner, or the member
    /// whose name is first if there is no admin.
    Leave,
    /// The user, an admin or the owner, adds these users.
    Add(Vec<String>),
    /// The user, an admin or the owner, removes this user, who has a lower role.
    Remove(String),
    /// The user, who is the owner, gives another member this role. A new owner replaces the earlier one,
    /// who becomes an admin.
    SetRole(String, Role),
}

/// The cursors of a member of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The id of the conversation.
    pub conversation: String,
    /// The member.
    pub user: String,
    /// See [`Member::delivered`]; 0 leaves it unchanged.
    pub delivered: u64,
    /// See [`Member::read`]; 0 leaves it unchanged. It advances `delivered` too.
    pub read: u64,
}

/// A request for a page of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// The messages.
    pub range: Range,
    /// The maximum number of messages, at least 1.
    pub max_messages: usize,
    /// The maximum number of bytes of the bodies; one message may exceed it.
    pub max_bytes: usize,
}

/// A part of a conversation's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Range {
    /// The messages after this sequence number, the first ones of them.
    After(u64),
    /// The messages before this sequence number, the last ones of them.
    Before(u64),
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessagePage {
    /// The incarnation of the conversation.
    pub incarnation: u64,
    /// See [`ConversationInfo::first`].
    pub first: u64,
    /// See [`ConversationInfo::last`].
    pub last: u64,
    /// Consecutive messages in ascending order.
    pub messages: Vec<Message>,
}

impl Role {
    /// Returns the name of the role: `member`, `admin` or `owner`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Returns the role with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Member, Self::Admin, Self::Owner].into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, from, device, id, kind, target, .. } = self;
        write!(f, "Message {{ seq: {seq}, from: {from:?}, device: {device:?}, id: {id:?}, kind: {kind}, ")?;
        write!(f, "target: {target}, .. }}")
    }
}

impl fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewMessage").field("from", &self.from).field("id", &self.id).finish_non_exhaustive()
    }
}
