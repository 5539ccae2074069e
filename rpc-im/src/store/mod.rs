//! [`MessageStore`]: the storage of conversations and their messages.
//!
//! | topic | module |
//! |---|---|
//! | conversations, messages and requests | `model` |
//! | the ids of conversations | `reference` |
//! | reads of all conversations of a user | `pager` |
//! | whether the store answers | `monitored` |
//! | the rules for changes of messages and members | `rules` |
//! | the store in a file of the storing node, and its RPC service | `redb`, `rpc` |
//! | messages in PostgreSQL or MariaDB | `sql` |
//! | exporting and importing all conversations | `transfer` |
//!
//! # One history
//!
//! The messages of a conversation are numbered from 1 without gaps. A conversation has a random *incarnation*: a
//! position in its history is a pair of incarnation and sequence number. A store that was restored from a backup gets
//! new incarnations ([`MessageStore::renew_incarnations`]), so that a client detects that its position belongs to
//! another history.

mod model;
mod monitored;
mod pager;
mod redb;
mod reference;
pub(crate) mod rpc;
mod rules;
#[cfg(feature = "sql")]
mod sql;
mod transfer;

pub use model::{
    Append, Appended, Audience, Change, ConversationInfo, Cursor, Member, MemberPage, MembersChange, Message,
    MessageKind, MessagePage, NewConversation, NewMessage, PageRequest, Range, Rejection, Role, Stored,
};
pub(crate) use monitored::MonitoredStore;
pub(crate) use pager::ConversationPager;
pub use redb::RedbStore;
pub use reference::ConversationRef;
pub(crate) use reference::group_id;
pub use rpc::RemoteStore;
#[cfg(feature = "sql")]
pub use sql::SqlStore;
pub use transfer::{ExportedConversation, ImportPart, Transfer, TransferError, Transferred, export, import};

use rpc_core::BoxFuture;
use serde::{Deserialize, Serialize};

/// An error of a [`MessageStore`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StoreError {
    /// The conversation does not exist, or the user is not a member.
    #[error("no such conversation, or you are not a member of it")]
    NotFound,
    /// The rules of the conversation do not permit the request, or a limit is reached.
    #[error("{0}")]
    Rejected(String),
    /// The engine cannot handle the request now. A write may have been stored.
    #[error("{0}")]
    Unavailable(String),
}

/// The storage of conversations and their messages.
///
/// Several nodes may use one store at the same time. A write is durable and visible to all nodes once its future
/// completes. A write that failed with [`StoreError::Unavailable`], or whose future was dropped, may have been stored;
/// each write can be repeated without a second effect.
///
/// An implementation passes the tests in `tests/im_contract/store.rs`.
pub trait MessageStore: Send + Sync + 'static {
    /// Appends messages to one conversation, in order and in one transaction.
    ///
    /// The first message between two users begins their conversation. A message whose sender, device and id are stored
    /// already is not stored again: its [`Stored`] names the stored one.
    ///
    /// A [`MessageKind::Recall`] removes the body of its target, and a [`MessageKind::Edit`] replaces it. Only the
    /// sender of the target may edit it; the sender and the owner and admins of a group may recall it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if a group does not exist. Messages are rejected one by one, see [`Rejection`].
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, StoreError>>;

    /// Creates a group unless it exists, and returns its state for the creator, who is its owner.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if the group exists and the creator is no member of it, [`StoreError::Rejected`] above
    /// [`MAX_MEMBERS`].
    fn create(&self, conversation: NewConversation) -> BoxFuture<'_, Result<ConversationInfo, StoreError>>;

    /// Returns messages of a conversation for one of its members, within the limits but at least one if there is any.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if the conversation does not exist or the user is not a member.
    fn read(
        &self,
        conversation: String,
        user: String,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<MessagePage, StoreError>>;

    /// Returns the state of one conversation for one of its members.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if the conversation does not exist or the user is not a member.
    fn conversation(&self, conversation: String, user: String) -> BoxFuture<'_, Result<ConversationInfo, StoreError>>;

    /// Returns up to `limit` conversations of a user after the id `after`, in the order of the ids' bytes.
    fn conversations(
        &self,
        user: String,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConversationInfo>, StoreError>>;

    /// Returns up to `limit` members of a conversation after the user `after`, in the order of the names' bytes.
    ///
    /// The page has no members if the conversation does not exist.
    fn members(
        &self,
        conversation: String,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<MemberPage, StoreError>>;

    /// Changes the members of a group, and appends a message for the change, in one transaction.
    ///
    /// A repeated request, one with the same sender, device and id, has no second effect. A request that changes
    /// nothing appends nothing and returns no [`Stored`].
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if the group does not exist, or if the user is not a member and does not join,
    /// [`StoreError::Rejected`] if the role of the user does not permit the change, or above [`MAX_MEMBERS`].
    fn change_members(&self, change: MembersChange) -> BoxFuture<'_, Result<Appended, StoreError>>;

    /// Advances the cursors of members. A cursor never decreases and never passes the last message.
    ///
    /// Cursors of users who are not members, and of conversations that do not exist, are ignored.
    fn set_cursors(&self, cursors: Vec<Cursor>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Removes up to `limit` messages that were stored before `before`, in milliseconds since 1970; returns their number.
    ///
    /// Each conversation loses messages from its beginning only, so the others keep their sequence numbers.
    fn remove_before(&self, before: u64, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Gives each conversation a new incarnation; returns their number.
    fn renew_incarnations(&self) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// The maximum number of members of a conversation.
pub const MAX_MEMBERS: usize = 100_000;
/// The maximum number of members that [`Audience`] and [`ConversationInfo`] list.
///
/// Larger conversations are read in pages, see [`MessageStore::members`].
pub const MAX_LISTED_MEMBERS: usize = 100;
/// The greatest value of [`ConversationInfo::unread`].
pub const MAX_UNREAD: u32 = 1000;
