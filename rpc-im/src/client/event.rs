//! [`Event`] and [`Command`]: the values between a program and the task of its client.

use crate::envelope::{ClientFrame, Conversation, History, Members, Presence, Push, Receipt};

/// An event of a [`Client`](super::Client).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The client is connected to a node.
    Connected {
        /// The name of the node.
        node: String,
    },
    /// The client lost its node and connects to another one.
    Disconnected,
    /// The next message of a conversation.
    ///
    /// Messages of a conversation arrive in sequence and without duplicates. An edit, a recall and a change of the
    /// members are messages too, see [`Push::kind`].
    Message(Push),
    /// The history of a conversation was replaced by another one: its messages arrive again.
    ///
    /// It happens after the store was restored from a backup.
    Reset {
        /// The conversation.
        conversation: String,
    },
    /// The user is not a member of a conversation any more, and may have been removed while the client was not connected.
    Removed {
        /// The conversation.
        conversation: String,
    },
    /// The cluster has stored a message of this client.
    Stored {
        /// The client's id of the message.
        id: String,
        /// The conversation of the message.
        conversation: String,
        /// The sequence number of the message in the conversation.
        seq: u64,
    },
    /// The cluster rejected a request of this client; the client does not retry it.
    Failed {
        /// The client's id of the request.
        id: String,
        /// The reason of the rejection.
        reason: String,
    },
    /// A conversation of the user, new or changed.
    Conversation(Conversation),
    /// A user came online or went offline.
    Presence(Presence),
    /// A member has received or read messages.
    Receipt(Receipt),
    /// The answer to a request for earlier messages.
    History(History),
    /// The answer to a request for members.
    Members(Members),
    /// The cluster ended the session, or rejected the login. This is the last event.
    Ended {
        /// The reason.
        reason: String,
    },
}

/// A request of the program to the client's task.
pub(super) enum Command {
    /// A frame that a node answers with the same id. The client sends it until then.
    Request { id: String, frame: ClientFrame },
    /// A frame without an answer. It is lost while the client is not connected.
    Notice(ClientFrame),
}
