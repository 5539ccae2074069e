//! [`ConversationError`]: the errors of operations on conversations.

use serde::{Deserialize, Serialize};

/// The error of an operation on a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum ConversationError {
    /// Another node is the leader in this node's view.
    #[error("another node leads this conversation")]
    #[serde(rename = "NotHome")]
    NotLeader,
    /// The conversation does not exist, or the user is not a member.
    #[error("no such conversation, or you are not a member of it")]
    NotFound,
    /// A leader with a higher term exists.
    #[error("another node has become the leader of this conversation")]
    Superseded,
    /// The replica lacks earlier messages.
    #[error("the replica of this conversation lacks earlier messages")]
    Gap,
    /// A temporary failure.
    #[error("{0}")]
    Unavailable(String),
}

/// Returns the error of a node that does not belong to the majority.
pub(super) fn no_majority() -> ConversationError {
    ConversationError::Unavailable("this node is not connected to a majority of the nodes".to_owned())
}
