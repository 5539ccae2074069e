//! [`Store`]: where conversations and their messages are kept.

pub(crate) mod redb;

use rpc_core::BoxFuture;

/// A message as it is kept, and as nodes copy it to each other.
#[derive(Clone, PartialEq, Eq, prost::Message, serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    /// Its place in the conversation, from 1 without gaps.
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    /// The cluster's id of it.
    #[prost(fixed64, tag = "2")]
    pub(crate) message: u64,
    /// Who sent it.
    #[prost(string, tag = "3")]
    pub(crate) from: String,
    /// The sender's own id of it, unique among those of the device.
    #[prost(string, tag = "4")]
    pub(crate) id: String,
    /// What it says.
    #[prost(string, tag = "5")]
    pub(crate) body: String,
    /// On which of the sender's devices.
    #[prost(string, tag = "6")]
    pub(crate) device: String,
}

/// What a message is known by when it is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SentAs {
    pub(crate) from: String,
    pub(crate) device: String,
    pub(crate) id: String,
}

/// What is kept of a conversation besides its messages.
#[derive(Clone, PartialEq, Eq, prost::Message, serde::Serialize, serde::Deserialize)]
pub(crate) struct Header {
    /// Its id.
    #[prost(string, tag = "1")]
    pub(crate) conversation: String,
    /// What members call it; empty for that of two users.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Who is in it.
    #[prost(string, repeated, tag = "3")]
    pub(crate) members: Vec<String>,
    /// The sequence number of the last message here.
    #[prost(uint64, tag = "4")]
    pub(crate) last: u64,
    /// Up to which sequence number it is known that every copy has the messages.
    #[prost(uint64, tag = "5")]
    pub(crate) committed: u64,
    /// Which of its homes wrote last: a later one has a greater term.
    #[prost(uint64, tag = "6")]
    pub(crate) term: u64,
    /// The greatest term that was promised: homes of lesser ones are listened to no more.
    #[prost(uint64, tag = "7")]
    pub(crate) promised: u64,
}

/// A change of one conversation, which happens as a whole or not at all.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Change {
    /// The header as it is then.
    pub(crate) header: Header,
    /// The messages after this one are removed first.
    pub(crate) keep: u64,
    /// What follows then.
    pub(crate) records: Vec<Record>,
}

impl Header {
    /// Whether there is such a conversation; else only a promise about it.
    pub(crate) fn is_begun(&self) -> bool {
        !self.members.is_empty()
    }
}

/// A store that does not do what it is there for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store fails: {0}")]
pub(crate) struct StoreError(pub(crate) String);

/// Where conversations and their messages are kept. It has no opinion on who may write what.
pub(crate) trait Store: Send + Sync + 'static {
    /// Makes a change; it has happened, and stays, once this resolves. Dropped, it may happen nevertheless; but never after a
    /// change that is asked for later.
    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What is kept of a conversation.
    fn header(&self, conversation: String) -> BoxFuture<'_, Result<Option<Header>, StoreError>>;

    /// The messages after `after` and up to `to`: at most so many, and once they have so many bytes no more.
    fn records(
        &self,
        conversation: String,
        after: u64,
        to: u64,
        limits: Limits,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// The messages that were sent as these, in their order.
    fn find(&self, conversation: String, sent: Vec<SentAs>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>>;

    /// The next conversations of a user after that id, in the order of ids: at most so many, and once they have so many bytes no more.
    fn of_user(&self, user: String, after: String, limits: Limits) -> BoxFuture<'_, Result<Vec<Header>, StoreError>>;

    /// The next conversations after that id, in the order of ids.
    fn page(&self, after: String, limit: usize) -> BoxFuture<'_, Result<Vec<Header>, StoreError>>;

    /// The greatest id of a message that was ever kept.
    fn greatest_message(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Keeps how many nodes there are, this one too.
    fn set_nodes(&self, nodes: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How many nodes there were when it was last told; 0 when it never was.
    fn nodes(&self) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// How much is read at once.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}
