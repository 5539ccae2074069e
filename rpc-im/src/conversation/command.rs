//! [`Command`]: the commands of a conversation's task.

use tokio::sync::oneshot;

use super::{
    error::ConversationError,
    reference::ConversationRef,
    rpc::{NewMessage, Promise, StoredMessage},
};
use crate::store::{Change, Header};

/// A command for the task of a conversation.
pub(super) enum Command {
    Append(Append),
    Create(Header, Reply<Header>),
    /// Lead the conversation and return its header, whose `committed` limits the readable messages.
    Lead(Reply<Option<Header>>),
    /// Lead the conversation; the task ends soon afterwards.
    Settle(Reply<()>),
    Promise(u64, Reply<Promise>),
    /// Succeed if the node still follows a leader with this term.
    Confirm(u64, Reply<()>),
    Replicate(Change, Reply<()>),
}

pub(super) struct Append {
    pub(super) to: ConversationRef,
    pub(super) messages: Vec<NewMessage>,
    pub(super) reply: Reply<Vec<StoredMessage>>,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, ConversationError>>;

impl Command {
    /// Returns whether a user waits for the command and may send more.
    ///
    /// Other commands arrive for many conversations at once when the view changes.
    pub(super) fn is_from_user(&self) -> bool {
        matches!(self, Self::Append(_) | Self::Create(..) | Self::Lead(_))
    }
}
