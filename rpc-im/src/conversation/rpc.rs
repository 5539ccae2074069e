//! [`ConversationRpc`]: the RPC service by which nodes read, write and replicate conversations.

use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};

use super::{error::ConversationError, reference::ConversationRef};
use crate::{
    cluster::hops::Hops,
    identity::{Epoch, SessionId},
    store::{Change, Header, Record},
};

/// The service by which nodes read, write and replicate conversations.
#[rpc_service(name = "im.Home", version = "1.0")]
pub(crate) trait ConversationRpc {
    /// Appends messages to a conversation, except those that are stored already under the sender's ids.
    #[rpc(idempotent, timeout = "3s")]
    async fn append(
        &self,
        hops: Hops,
        to: ConversationRef,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<StoredMessage>, ConversationError>;

    /// Creates a conversation unless it exists, and returns its header.
    #[rpc(idempotent, timeout = "3s")]
    async fn create(&self, hops: Hops, header: Header) -> Result<Header, ConversationError>;

    /// Returns the messages after `after`, for a member of the conversation.
    #[rpc(idempotent, timeout = "3s")]
    async fn read(
        &self,
        hops: Hops,
        conversation: String,
        user: String,
        after: u64,
    ) -> Result<MessagePage, ConversationError>;

    /// Returns the user's conversations of which this node has a replica.
    ///
    /// The page begins after the id `after`, in the order of ids.
    #[rpc(name = "held", idempotent, timeout = "3s")]
    async fn replicas_of(&self, user: String, after: String) -> Result<Vec<Header>, ConversationError>;

    /// Promises to follow no leader with a lower term, and returns the header of this node's replica.
    #[rpc(idempotent, timeout = "2s")]
    async fn promise(&self, conversation: String, term: u64) -> Result<Promise, ConversationError>;

    /// Succeeds if this node, in this epoch, still follows a leader with this term.
    #[rpc(idempotent, timeout = "500ms")]
    async fn confirm(&self, epoch: Epoch, conversation: String, term: u64) -> Result<(), ConversationError>;

    /// Applies the leader's change to this node's replica.
    ///
    /// In a later epoch the node may have lost its promise, so it rejects the change.
    #[rpc(name = "copy", idempotent, timeout = "2s")]
    async fn replicate(&self, epoch: Epoch, change: Change) -> Result<(), ConversationError>;

    /// Returns messages of this node's replica, after `after` and up to `to`.
    #[rpc(idempotent, timeout = "2s")]
    async fn records(&self, conversation: String, after: u64, to: u64) -> Result<Vec<Record>, ConversationError>;
}

/// A message that is not stored yet.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct NewMessage {
    pub(crate) from: String,
    pub(crate) device: String,
    /// The sending session, which does not receive the message.
    pub(crate) session: SessionId,
    /// The message's id, unique on the device.
    pub(crate) id: String,
    pub(crate) body: String,
}

/// The identity of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredMessage {
    pub(crate) message: u64,
    pub(crate) seq: u64,
}

/// Consecutive messages of a conversation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MessagePage {
    pub(crate) records: Vec<Record>,
    /// The sequence number of the conversation's last readable message.
    pub(crate) last: u64,
}

/// The answer to a node that requests the leadership of a conversation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Promise {
    /// The promised term. A higher term than the requested one is a rejection.
    pub(crate) term: u64,
    /// The header of the replica.
    pub(crate) header: Option<Header>,
}

impl std::fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewMessage").field("from", &self.from).field("id", &self.id).finish_non_exhaustive()
    }
}
