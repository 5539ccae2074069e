//! [`ConversationService`]: the implementation of [`ConversationRpc`] that other nodes call.

use std::sync::Arc;

use super::{
    command::Command,
    conversations::Conversations,
    error::ConversationError,
    reference::ConversationRef,
    rpc::{ConversationRpc, MessagePage, NewMessage, Promise, StoredMessage},
};
use crate::{
    cluster::hops::Hops,
    identity::Epoch,
    store::{Change, Header, Record},
};

/// The implementation of [`ConversationRpc`] that other nodes call.
pub(crate) struct ConversationService(pub(crate) Arc<Conversations>);

impl ConversationService {
    fn check_epoch(&self, epoch: Epoch) -> Result<(), ConversationError> {
        if epoch == self.0.epoch() { Ok(()) } else { Err(ConversationError::Superseded) }
    }
}

impl ConversationRpc for ConversationService {
    async fn append(
        &self,
        hops: Hops,
        to: ConversationRef,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<StoredMessage>, ConversationError> {
        self.0.append_at_leader(hops, to, messages).await
    }

    async fn create(&self, hops: Hops, header: Header) -> Result<Header, ConversationError> {
        self.0.create_at_leader(hops, header).await
    }

    async fn read(
        &self,
        hops: Hops,
        conversation: String,
        user: String,
        after: u64,
    ) -> Result<MessagePage, ConversationError> {
        self.0.read_at_leader(hops, conversation, user, after).await
    }

    async fn replicas_of(&self, user: String, after: String) -> Result<Vec<Header>, ConversationError> {
        self.0.local_replicas_of(&user, after).await
    }

    async fn promise(&self, conversation: String, term: u64) -> Result<Promise, ConversationError> {
        self.0.execute(&conversation, |reply| Command::Promise(term, reply)).await
    }

    async fn confirm(&self, epoch: Epoch, conversation: String, term: u64) -> Result<(), ConversationError> {
        self.check_epoch(epoch)?;
        self.0.execute(&conversation, |reply| Command::Confirm(term, reply)).await
    }

    async fn replicate(&self, epoch: Epoch, change: Change) -> Result<(), ConversationError> {
        self.check_epoch(epoch)?;
        let name = change.header.conversation.clone();
        self.0.execute(&name, |reply| Command::Replicate(change, reply)).await
    }

    async fn records(&self, conversation: String, after: u64, to: u64) -> Result<Vec<Record>, ConversationError> {
        self.0.local_records(conversation, after, to).await
    }
}
