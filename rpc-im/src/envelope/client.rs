//! [`ClientFrame`]: the frames that a client sends.

use std::{collections::BTreeMap, fmt};

use prost::Message;
use serde::{Deserialize, Serialize};

use super::{
    BadFrame, FrameError, MAX_CURSORS, MAX_MEMBERS, Ping, Pong, Position, check_name, check_user_name, is_default,
};
use crate::store::{Change, Role};

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
    /// Reports that the client has received every message up to a position.
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
    /// Creates a group.
    #[prost(message, tag = "7")]
    Create(Create),
    /// Reports that the user has read every message up to a position.
    #[prost(message, tag = "8")]
    Read(Read),
    /// Requests the messages before a position.
    #[prost(message, tag = "9")]
    History(HistoryRequest),
    /// Replaces the body of a message.
    #[prost(message, tag = "10")]
    Edit(Edit),
    /// Removes the body of a message.
    #[prost(message, tag = "11")]
    Recall(Recall),
    /// Changes the members of a group.
    #[prost(message, tag = "12")]
    ChangeMembers(ChangeMembers),
    /// Requests a page of the members of a conversation.
    #[prost(message, tag = "13")]
    ListMembers(ListMembers),
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

/// Reports that the client has received every message of a conversation up to `seq`.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Ack {
    /// The conversation.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// The sequence number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// Reports that the user has read every message of a conversation up to `seq`.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Read {
    /// The conversation.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// The sequence number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// Requests the conversations of the user and their messages after the client's cursors.
///
/// The answer is a page: in the order of the ids' bytes, the node sends up to 200 conversations after `after`, each as a
/// [`Conversation`](super::Conversation) and pushes of the messages after the cursor, up to 1000 messages in all. It ends
/// with [`Synced`](super::Synced). If there is more, the client sends another `Sync`, with the `after` of `Synced` and
/// its new cursors.
///
/// A client with many conversations sends the cursors of its first ones after `after`, and the last of these in `until`.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Sync {
    /// Conversation → the position up to which the client has every message.
    ///
    /// A cursor of an earlier incarnation counts as absent.
    #[prost(btree_map = "string, message", tag = "1")]
    #[serde(default)]
    pub cursors: BTreeMap<String, Position>,
    /// The number of messages that the node sends of a conversation without a cursor, its last ones; 0 for all.
    #[prost(uint32, tag = "2")]
    #[serde(default)]
    pub recent: u32,
    /// The page begins after this conversation; empty for the first page.
    #[prost(string, tag = "3")]
    #[serde(default, skip_serializing_if = "is_default")]
    pub after: String,
    /// The page ends with this conversation at the latest; empty for no end.
    #[prost(string, tag = "4")]
    #[serde(default, skip_serializing_if = "is_default")]
    pub until: String,
    /// The client's id of the request, which [`Synced`](super::Synced) or an error returns.
    #[prost(string, optional, tag = "5")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Creates a group, whose owner is the user.
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
    /// Whether users may join by themselves.
    #[prost(bool, tag = "4")]
    #[serde(default)]
    pub open: bool,
}

/// Requests up to `limit` messages before a sequence number, the last ones of them.
///
/// The node answers with a [`History`](super::History).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct HistoryRequest {
    /// The client's id of the request.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The conversation.
    #[prost(string, tag = "2")]
    pub conversation: String,
    /// The sequence number.
    #[prost(uint64, tag = "3")]
    pub before: u64,
    /// The maximum number of messages; the node sends at most 100.
    #[prost(uint32, tag = "4")]
    pub limit: u32,
}

/// Replaces the body of a message that the user has sent.
///
/// The node answers like for a [`Send`]; members receive a [`Push`](super::Push) of this change.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
pub struct Edit {
    /// The client's id of the request, unique among the ids of its messages.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The conversation.
    #[prost(string, tag = "2")]
    pub conversation: String,
    /// The sequence number of the message.
    #[prost(uint64, tag = "3")]
    pub target: u64,
    /// The new content. `Debug` does not print it.
    #[prost(string, tag = "4")]
    pub body: String,
}

/// Removes the body of a message that the user has sent, or, for the owner and admins of a group, of any message.
///
/// The node answers like for a [`Send`]; members receive a [`Push`](super::Push) of this change.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Recall {
    /// The client's id of the request, unique among the ids of its messages.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The conversation.
    #[prost(string, tag = "2")]
    pub conversation: String,
    /// The sequence number of the message.
    #[prost(uint64, tag = "3")]
    pub target: u64,
}

/// Changes the members of a group.
///
/// The node answers with a [`Conversation`](super::Conversation) that carries its id, or, after the user has left, with
/// a [`SendAck`](super::SendAck). Members receive a [`Push`](super::Push) of this change.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct ChangeMembers {
    /// The client's id of the request, unique among the ids of its messages.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The conversation.
    #[prost(string, tag = "2")]
    pub conversation: String,
    /// The change; `Some` in every decoded frame.
    #[prost(oneof = "MemberChange", tags = "3, 4, 5, 6, 7")]
    pub change: Option<MemberChange>,
}

/// A change of the members of a group, see [`Change`].
#[derive(Clone, PartialEq, Eq, prost::Oneof, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberChange {
    /// The user joins; the value is `true`.
    #[prost(bool, tag = "3")]
    Join(bool),
    /// The user leaves; the value is `true`.
    #[prost(bool, tag = "4")]
    Leave(bool),
    /// The user adds members.
    #[prost(message, tag = "5")]
    Add(Names),
    /// The user removes a member.
    #[prost(string, tag = "6")]
    Remove(String),
    /// The user changes the role of a member.
    #[prost(message, tag = "7")]
    SetRole(SetRole),
}

/// Names of users.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct Names {
    /// The users.
    #[prost(string, repeated, tag = "1")]
    pub users: Vec<String>,
}

/// A new role of a member.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct SetRole {
    /// The member.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The role: `member`, `admin` or `owner`.
    #[prost(string, tag = "2")]
    pub role: String,
}

/// Requests a page of the members of a conversation, in the order of their names' bytes.
///
/// The node answers with a [`Members`](super::Members).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct ListMembers {
    /// The client's id of the request.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The conversation.
    #[prost(string, tag = "2")]
    pub conversation: String,
    /// The page begins after this name; empty for the first page.
    #[prost(string, tag = "3")]
    #[serde(default)]
    pub after: String,
}

impl MemberChange {
    /// Returns the change in the terms of the store; `None` for an unknown role.
    pub(crate) fn into_change(self) -> Option<Change> {
        Some(match self {
            Self::Join(_) => Change::Join,
            Self::Leave(_) => Change::Leave,
            Self::Add(names) => Change::Add(names.users),
            Self::Remove(user) => Change::Remove(user),
            Self::SetRole(SetRole { user, role }) => Change::SetRole(user, Role::of_name(&role)?),
        })
    }
}

impl ClientFrame {
    /// Decodes a frame of `im.v1.json` and validates its names and lengths.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not the JSON of a known frame, or if a name is empty or too long. It carries the
    /// client's id of the request, if the frame has a valid one.
    pub fn from_json(text: &str) -> Result<Self, BadFrame> {
        #[derive(Deserialize)]
        struct WithId {
            id: String,
        }
        serde_json::from_str::<Self>(text).map_err(FrameError::Json).map_or_else(
            |error| {
                let id = serde_json::from_str::<WithId>(text).ok().map(|frame| frame.id);
                Err(BadFrame::new(id.as_deref(), error))
            },
            Self::checked,
        )
    }

    /// Decodes a frame of `im.v1.pb` and validates its names and lengths.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not the protobuf of a known frame, or if a name is empty or too long. It carries
    /// the client's id of the request, if the frame has a valid one.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, BadFrame> {
        let message = FrameMessage::decode(bytes).map_err(|error| BadFrame::new(None, FrameError::Protobuf(error)))?;
        message.frame.ok_or_else(|| BadFrame::new(None, FrameError::Unknown))?.checked()
    }

    /// Returns the client's id of the request, which the answer carries; `None` for a frame without one.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Send(Send { id, .. })
            | Self::Create(Create { id, .. })
            | Self::History(HistoryRequest { id, .. })
            | Self::Edit(Edit { id, .. })
            | Self::Recall(Recall { id, .. })
            | Self::ChangeMembers(ChangeMembers { id, .. })
            | Self::ListMembers(ListMembers { id, .. }) => Some(id),
            Self::Sync(sync) => sync.id.as_deref(),
            Self::Auth(_) | Self::Ack(_) | Self::Read(_) | Self::Ping(_) | Self::Pong(_) => None,
        }
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

    fn checked(self) -> Result<Self, BadFrame> {
        match self.check() {
            Ok(()) => Ok(self),
            Err(error) => Err(BadFrame::new(self.id(), error)),
        }
    }

    fn check(&self) -> Result<(), FrameError> {
        match self {
            Self::Send(send) => {
                check_name("id", &send.id)?;
                match &send.to {
                    Some(Recipient::User(user)) => check_user_name("to.user", user)?,
                    Some(Recipient::Conversation(conversation)) => check_name("to.conversation", conversation)?,
                    None => return Err(FrameError::Invalid("to is missing".into())),
                }
            }
            Self::Sync(sync) => {
                if let Some(id) = &sync.id {
                    check_name("id", id)?;
                }
                check_count("cursors", sync.cursors.len(), MAX_CURSORS)?;
                for (field, end) in [("after", &sync.after), ("until", &sync.until)] {
                    if !end.is_empty() {
                        check_name(field, end)?;
                    }
                }
                sync.cursors.keys().try_for_each(|conversation| check_name("conversation", conversation))?;
            }
            Self::Create(create) => {
                check_name("id", &create.id)?;
                check_count("members", create.members.len(), MAX_MEMBERS)?;
                create.members.iter().try_for_each(|member| check_user_name("member", member))?;
                if !create.name.is_empty() {
                    check_name("name", &create.name)?;
                }
            }
            Self::Ack(Ack { conversation, .. }) | Self::Read(Read { conversation, .. }) => {
                check_name("conversation", conversation)?;
            }
            Self::History(HistoryRequest { id, conversation, .. })
            | Self::Edit(Edit { id, conversation, .. })
            | Self::Recall(Recall { id, conversation, .. })
            | Self::ListMembers(ListMembers { id, conversation, .. }) => {
                check_name("id", id)?;
                check_name("conversation", conversation)?;
                if matches!(self, Self::Edit(edit) if edit.body.is_empty()) {
                    return Err(FrameError::Invalid("body is missing".into()));
                }
            }
            Self::ChangeMembers(request) => {
                check_name("id", &request.id)?;
                check_name("conversation", &request.conversation)?;
                match &request.change {
                    None => return Err(FrameError::Invalid("change is missing".into())),
                    Some(MemberChange::Add(Names { users })) => {
                        check_count("add.users", users.len(), MAX_MEMBERS)?;
                        users.iter().try_for_each(|user| check_user_name("add.users", user))?;
                    }
                    Some(MemberChange::Remove(user)) => check_name("remove", user)?,
                    Some(MemberChange::SetRole(SetRole { user, role })) => {
                        check_name("set_role.user", user)?;
                        if Role::of_name(role).is_none() {
                            let message = "set_role.role is not member, admin or owner";
                            return Err(FrameError::Invalid(message.into()));
                        }
                    }
                    Some(MemberChange::Join(_) | MemberChange::Leave(_)) => {}
                }
            }
            Self::Auth(_) | Self::Ping(_) | Self::Pong(_) => {}
        }
        Ok(())
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

impl fmt::Debug for Edit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, conversation, target, .. } = self;
        let mut edit = formatter.debug_struct("Edit");
        edit.field("id", id).field("conversation", conversation).field("target", target).finish_non_exhaustive()
    }
}

/// The protobuf message `im.v1.ClientFrame`, which wraps the frame.
#[derive(Clone, PartialEq, prost::Message)]
struct FrameMessage {
    #[prost(oneof = "ClientFrame", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    frame: Option<ClientFrame>,
}

fn check_count(field: &str, count: usize, limit: usize) -> Result<(), FrameError> {
    if count > limit {
        return Err(FrameError::Invalid(format!("{field} has {count} entries, limit is {limit}")));
    }
    Ok(())
}
