//! [`StoreRpc`]: the RPC service by which other nodes use the store of the storing node; [`RemoteStore`], its client.

use std::{net::SocketAddr, sync::Arc};

use rpc_client::Client;
use rpc_core::{BoxFuture, CallError, rpc_service};

use super::{
    Append, Appended, ConversationInfo, Cursor, MemberPage, MembersChange, MessagePage, MessageStore, NewConversation,
    PageRequest, StoreError,
};
use crate::storing_node::StoringNode;

/// The methods of [`MessageStore`]. Each can be repeated without a second effect.
#[rpc_service(name = "im.MessageStore", version = "1.0")]
pub(crate) trait StoreRpc {
    #[rpc(idempotent, timeout = "3s")]
    async fn append(&self, append: Append) -> Result<Appended, StoreError>;
    #[rpc(idempotent, timeout = "10s")]
    async fn create(&self, conversation: NewConversation) -> Result<ConversationInfo, StoreError>;
    #[rpc(idempotent, timeout = "3s")]
    async fn read(&self, conversation: String, user: String, page: PageRequest) -> Result<MessagePage, StoreError>;
    #[rpc(idempotent, timeout = "3s")]
    async fn conversation(&self, conversation: String, user: String) -> Result<ConversationInfo, StoreError>;
    #[rpc(idempotent, timeout = "3s")]
    async fn conversations(
        &self,
        user: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<ConversationInfo>, StoreError>;
    #[rpc(idempotent, timeout = "3s")]
    async fn members(&self, conversation: String, after: String, limit: usize) -> Result<MemberPage, StoreError>;
    #[rpc(idempotent, timeout = "10s")]
    async fn change_members(&self, change: MembersChange) -> Result<Appended, StoreError>;
    #[rpc(idempotent, timeout = "3s")]
    async fn set_cursors(&self, cursors: Vec<Cursor>) -> Result<(), StoreError>;
}

/// The implementation of [`StoreRpc`] by a store.
pub(crate) struct StoreService(pub(crate) Arc<dyn MessageStore>);

/// The store of another node, through RPC.
///
/// That node removes old messages and renews incarnations.
pub struct RemoteStore {
    client: StoreRpcClient<Client>,
    node: StoringNode,
}

impl RemoteStore {
    /// Creates a store that calls the node at `address`.
    pub fn new(client: Client, address: SocketAddr) -> Self {
        Self { client: StoreRpcClient::new(client), node: StoringNode(address) }
    }

    fn outcome<T>(&self, outcome: Result<T, CallError<StoreError>>) -> Result<T, StoreError> {
        outcome.map_err(|error| match error {
            CallError::Service(error) => error,
            CallError::Rpc(error) => StoreError::Unavailable(self.node.unavailable(&error)),
        })
    }
}

impl StoreRpc for StoreService {
    async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        self.0.append(append).await
    }

    async fn create(&self, conversation: NewConversation) -> Result<ConversationInfo, StoreError> {
        self.0.create(conversation).await
    }

    async fn read(&self, conversation: String, user: String, page: PageRequest) -> Result<MessagePage, StoreError> {
        self.0.read(conversation, user, page).await
    }

    async fn conversation(&self, conversation: String, user: String) -> Result<ConversationInfo, StoreError> {
        self.0.conversation(conversation, user).await
    }

    async fn conversations(
        &self,
        user: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<ConversationInfo>, StoreError> {
        self.0.conversations(user, after, limit.min(MAX_PAGE)).await
    }

    async fn members(&self, conversation: String, after: String, limit: usize) -> Result<MemberPage, StoreError> {
        self.0.members(conversation, after, limit.min(MAX_PAGE)).await
    }

    async fn change_members(&self, change: MembersChange) -> Result<Appended, StoreError> {
        self.0.change_members(change).await
    }

    async fn set_cursors(&self, cursors: Vec<Cursor>) -> Result<(), StoreError> {
        self.0.set_cursors(cursors).await
    }
}

impl MessageStore for RemoteStore {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(async move { self.outcome(self.client.append(append).address(self.node.0).await) })
    }

    fn create(&self, conversation: NewConversation) -> BoxFuture<'_, Result<ConversationInfo, StoreError>> {
        Box::pin(async move { self.outcome(self.client.create(conversation).address(self.node.0).await) })
    }

    fn read(
        &self,
        conversation: String,
        user: String,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<MessagePage, StoreError>> {
        let address = self.node.0;
        Box::pin(async move { self.outcome(self.client.read(conversation, user, page).address(address).await) })
    }

    fn conversation(&self, conversation: String, user: String) -> BoxFuture<'_, Result<ConversationInfo, StoreError>> {
        let address = self.node.0;
        Box::pin(async move { self.outcome(self.client.conversation(conversation, user).address(address).await) })
    }

    fn conversations(
        &self,
        user: String,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConversationInfo>, StoreError>> {
        let address = self.node.0;
        Box::pin(async move { self.outcome(self.client.conversations(user, after, limit).address(address).await) })
    }

    fn members(
        &self,
        conversation: String,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<MemberPage, StoreError>> {
        let address = self.node.0;
        Box::pin(async move { self.outcome(self.client.members(conversation, after, limit).address(address).await) })
    }

    fn change_members(&self, change: MembersChange) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(async move { self.outcome(self.client.change_members(change).address(self.node.0).await) })
    }

    fn set_cursors(&self, cursors: Vec<Cursor>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.outcome(self.client.set_cursors(cursors).address(self.node.0).await) })
    }

    fn remove_before(&self, _: u64, _: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        // The storing node removes its messages by itself.
        Box::pin(std::future::ready(Ok(0)))
    }

    fn renew_incarnations(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        let message = "the incarnations are renewed at the storing node";
        Box::pin(std::future::ready(Err(StoreError::Rejected(message.to_owned()))))
    }
}

/// The maximum number of conversations or members in one answer.
const MAX_PAGE: usize = 1000;
