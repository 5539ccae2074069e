//! [`Home`]: the node that has a conversation: it numbers its messages, and sees to it that another node has them too.
//!
//! The home of a conversation is the first node in its ranking (rendezvous hashing), the second one has a copy. So when the home
//! is gone, the next home is the node that has the copy.

mod conversations;
mod leadership;
mod task;

pub(crate) use conversations::{HomeOf, Homes, Shared, Working};

use data_encoding::HEXLOWER;
use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    cluster::hops::Hops,
    identity::{Epoch, SessionId},
    store::{Change, Header, Record},
};

/// What nodes say to each other about conversations.
#[rpc_service(name = "im.Home", version = "1.0")]
pub(crate) trait Home {
    /// Stores messages in a conversation. Those whose senders' ids are known already are not stored again.
    #[rpc(idempotent, timeout = "3s")]
    async fn append(&self, hops: Hops, to: Address, messages: Vec<Message>) -> Result<Vec<Stored>, HomeError>;

    /// Begins a conversation, unless it is there.
    #[rpc(idempotent, timeout = "3s")]
    async fn create(&self, hops: Hops, header: Header) -> Result<Header, HomeError>;

    /// A page of the messages of a conversation, for one of its members.
    #[rpc(idempotent, timeout = "3s")]
    async fn read(&self, hops: Hops, conversation: String, user: String, after: u64) -> Result<Page, HomeError>;

    /// A page of the conversations of a user of which this node has something: those after that id, in the order of ids.
    #[rpc(idempotent, timeout = "3s")]
    async fn held(&self, user: String, after: String) -> Result<Vec<Header>, HomeError>;

    /// Listens to no home of a lesser term any more; says what there is here.
    #[rpc(idempotent, timeout = "2s")]
    async fn promise(&self, conversation: String, term: u64) -> Result<Promise, HomeError>;

    /// Whether a home of this term is still listened to, in this life of this node.
    #[rpc(idempotent, timeout = "500ms")]
    async fn confirm(&self, epoch: Epoch, conversation: String, term: u64) -> Result<(), HomeError>;

    /// Changes this node's copy as the conversation's home did; in this life of it, because another one may have forgotten what it
    /// promised.
    #[rpc(idempotent, timeout = "2s")]
    async fn copy(&self, epoch: Epoch, change: Change) -> Result<(), HomeError>;

    /// A page of the messages that this node has of a conversation, after one and up to another.
    #[rpc(idempotent, timeout = "2s")]
    async fn records(&self, conversation: String, after: u64, to: u64) -> Result<Vec<Record>, HomeError>;
}

/// A conversation that something is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) conversation: String,
    /// The two users of a conversation that begins with its first message.
    pub(crate) pair: Option<[String; 2]>,
}

/// A message that is not stored yet.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) from: String,
    pub(crate) device: String,
    /// The session that it came from, which it is not pushed to.
    pub(crate) session: SessionId,
    /// The device's own id of it.
    pub(crate) id: String,
    pub(crate) body: String,
}

/// A message that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) message: u64,
    pub(crate) seq: u64,
}

/// Some of a conversation's messages, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    /// The sequence number of the conversation's last message.
    pub(crate) last: u64,
}

/// The answer to who wants to be a conversation's home.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Promise {
    /// What is promised: a greater term than was asked for says no.
    pub(crate) term: u64,
    /// What there is here.
    pub(crate) header: Option<Header>,
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum HomeError {
    /// Another node is the home, as this one sees it.
    #[error("another node has this conversation")]
    NotHome,
    /// There is no such conversation, or the user is not in it.
    #[error("no such conversation, or you are not in it")]
    NotFound,
    /// Another home has a greater term.
    #[error("another node has become this conversation's home")]
    Superseded,
    /// The copy lacks messages before these.
    #[error("the copy of this conversation is behind")]
    Gap,
    /// Not now; later perhaps.
    #[error("{0}")]
    Unavailable(String),
}

impl Address {
    /// The conversation of two users, which is one user's own when they are the same.
    pub(crate) fn of_pair(one: &str, other: &str) -> Self {
        let mut pair = [one.to_owned(), other.to_owned()];
        pair.sort();
        Self { conversation: format!("d-{}", digest([&pair[0], &pair[1]])), pair: Some(pair) }
    }

    pub(crate) fn of_conversation(conversation: String) -> Self {
        Self { conversation, pair: None }
    }

    /// Whether what a node says of it can be so.
    fn is_sound(&self) -> bool {
        self.pair.as_ref().is_none_or(|[one, other]| *self == Self::of_pair(one, other))
    }
}

/// The id of the conversation that a device begins with this id of the request; the same for a request that is sent again.
pub(crate) fn created(user: &str, device: &str, id: &str) -> String {
    format!("g-{}", digest([user, device, id]))
}

/// 160 bits of names: enough that nobody finds others with the same.
fn digest<const N: usize>(names: [&str; N]) -> String {
    let mut hash = Sha256::new();
    for name in names {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
    }
    HEXLOWER.encode(&hash.finalize()[..20])
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("from", &self.from).field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_users_have_one_conversation_whoever_begins() {
        let ours = Address::of_pair("ann", "bo");
        assert_eq!(ours, Address::of_pair("bo", "ann"));
        assert!(ours.is_sound());
        assert_ne!(ours.conversation, Address::of_pair("an", "nbo").conversation);
        assert!(!Address { pair: Some(["ann".into(), "eve".into()]), ..ours }.is_sound());
    }
}
