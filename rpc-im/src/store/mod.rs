//! [`Store`]: the storage of conversations and their messages.

pub(crate) mod redb;

use rpc_core::BoxFuture;

/// A message in the store, and in the copies that nodes send to each other.
#[derive(Clone, PartialEq, Eq, prost::Message, serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    /// The sequence number in the conversation, from 1 without gaps.
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    /// The cluster's id of the message.
    #[prost(fixed64, tag = "2")]
    pub(crate) message: u64,
    /// The sender.
    #[prost(string, tag = "3")]
    pub(crate) from: String,
    /// The sender's id of the message, unique per device.
    #[prost(string, tag = "4")]
    pub(crate) id: String,
    /// The content.
    #[prost(string, tag = "5")]
    pub(crate) body: String,
    /// The sender's device.
    #[prost(string, tag = "6")]
    pub(crate) device: String,
}

/// The key that identifies a retry of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SentAs {
    pub(crate) from: String,
    pub(crate) device: String,
    pub(crate) id: String,
}

/// The state of a conversation besides its messages.
#[derive(Clone, PartialEq, Eq, prost::Message, serde::Serialize, serde::Deserialize)]
pub(crate) struct Header {
    /// The id of the conversation.
    #[prost(string, tag = "1")]
    pub(crate) conversation: String,
    /// The display name; empty for a conversation of two users.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// The members.
    #[prost(string, repeated, tag = "3")]
    pub(crate) members: Vec<String>,
    /// The sequence number of the last message in this store.
    #[prost(uint64, tag = "4")]
    pub(crate) last: u64,
    /// The sequence number up to which all copies are known to have the messages.
    #[prost(uint64, tag = "5")]
    pub(crate) committed: u64,
    /// The term of the leader that wrote last. A later leader has a greater term.
    #[prost(uint64, tag = "6")]
    pub(crate) term: u64,
    /// The greatest promised term. This node rejects leaders of lower terms.
    #[prost(uint64, tag = "7")]
    pub(crate) promised: u64,
}

/// An atomic change of one conversation.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Change {
    /// The new header.
    pub(crate) header: Header,
    /// The last sequence number to keep: the change first removes the messages after it.
    pub(crate) keep: u64,
    /// The messages to append after `keep`.
    pub(crate) records: Vec<Record>,
}

impl Header {
    /// Returns whether the conversation exists; otherwise the header records only a promise.
    pub(crate) fn is_begun(&self) -> bool {
        !self.members.is_empty()
    }
}

/// An error of the store.
#[derive(Debug, Clone, thiserror::Error)]
#[error("store operation failed: {0}")]
pub(crate) struct StoreError(pub(crate) String);

/// The storage of conversations and their messages.
///
/// It does not check terms or promises: the caller does.
pub(crate) trait Store: Send + Sync + 'static {
    /// Applies a change; the change is durable once the future completes.
    ///
    /// If the future is dropped, the change may still be applied, but never after a change that is requested later.
    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the header of a conversation.
    fn header(&self, conversation: String) -> BoxFuture<'_, Result<Option<Header>, StoreError>>;

    /// Returns the messages after `after` and up to `to`, within `limits` but at least one if there is any.
    fn records(
        &self,
        conversation: String,
        after: u64,
        to: u64,
        limits: Limits,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// Returns the message of each key, if it is stored, in the order of the keys.
    fn find(&self, conversation: String, sent: Vec<SentAs>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>>;

    /// Returns the conversations of a user after the id `after`, in the order of ids.
    ///
    /// The result is within `limits`, but has at least one conversation if there is any.
    fn of_user(&self, user: String, after: String, limits: Limits) -> BoxFuture<'_, Result<Vec<Header>, StoreError>>;

    /// Returns up to `limit` conversations after the id `after`, in the order of ids.
    fn page(&self, after: String, limit: usize) -> BoxFuture<'_, Result<Vec<Header>, StoreError>>;

    /// Returns the greatest message id that was ever stored.
    fn greatest_message(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Stores the number of nodes, including this one.
    fn set_nodes(&self, nodes: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the last stored number of nodes, or 0 if none was stored.
    fn nodes(&self) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// The limits of one read: the number of entries and their total size in bytes.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}
