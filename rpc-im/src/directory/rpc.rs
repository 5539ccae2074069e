//! [`DirectoryRpc`]: the RPC service by which other nodes use the directory of the storing node; [`RemoteDirectory`],
//! its client.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::Client;
use rpc_core::{BoxFuture, CallError, rpc_service};

use super::{ClaimError, Directory, DirectoryError, Policy, Renewal, SessionEntry};
use crate::{
    identity::{NodeId, SessionId},
    storing_node::StoringNode,
};

/// The methods of [`Directory`].
#[rpc_service(name = "im.Directory", version = "1.0")]
pub(crate) trait DirectoryRpc {
    #[rpc(idempotent, timeout = "1s")]
    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal, DirectoryError>;
    #[rpc(idempotent, timeout = "1s")]
    async fn claim(&self, entry: SessionEntry, policy: Policy) -> Result<Vec<SessionEntry>, ClaimError>;
    #[rpc(idempotent, timeout = "1s")]
    async fn restore(
        &self,
        node: NodeId,
        entries: Vec<SessionEntry>,
        policy: Policy,
    ) -> Result<Vec<SessionId>, DirectoryError>;
    #[rpc(idempotent, timeout = "1s")]
    async fn release(&self, entries: Vec<SessionEntry>) -> Result<(), DirectoryError>;
    #[rpc(idempotent, timeout = "1s")]
    async fn lookup(&self, users: Vec<String>) -> Result<Vec<Vec<SessionEntry>>, DirectoryError>;
    #[rpc(idempotent, timeout = "1s")]
    async fn leave(&self, node: NodeId) -> Result<(), DirectoryError>;
}

/// The implementation of [`DirectoryRpc`] by a directory.
pub(crate) struct DirectoryService(pub(crate) Arc<dyn Directory>);

/// The directory of another node, through RPC.
pub struct RemoteDirectory {
    client: DirectoryRpcClient<Client>,
    node: StoringNode,
}

impl RemoteDirectory {
    /// Creates a directory that calls the node at `address`.
    pub fn new(client: Client, address: SocketAddr) -> Self {
        Self { client: DirectoryRpcClient::new(client), node: StoringNode(address) }
    }

    fn outcome<T>(&self, outcome: Result<T, CallError<DirectoryError>>) -> Result<T, DirectoryError> {
        outcome.map_err(|error| match error {
            CallError::Service(error) => error,
            CallError::Rpc(error) => DirectoryError(self.node.unavailable(&error)),
        })
    }
}

impl DirectoryRpc for DirectoryService {
    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal, DirectoryError> {
        self.0.renew(node, lease).await
    }

    async fn claim(&self, entry: SessionEntry, policy: Policy) -> Result<Vec<SessionEntry>, ClaimError> {
        self.0.claim(entry, policy).await
    }

    async fn restore(
        &self,
        node: NodeId,
        entries: Vec<SessionEntry>,
        policy: Policy,
    ) -> Result<Vec<SessionId>, DirectoryError> {
        self.0.restore(node, entries, policy).await
    }

    async fn release(&self, entries: Vec<SessionEntry>) -> Result<(), DirectoryError> {
        self.0.release(entries).await
    }

    async fn lookup(&self, users: Vec<String>) -> Result<Vec<Vec<SessionEntry>>, DirectoryError> {
        self.0.lookup(users).await
    }

    async fn leave(&self, node: NodeId) -> Result<(), DirectoryError> {
        self.0.leave(node).await
    }
}

impl Directory for RemoteDirectory {
    fn renew(&self, node: NodeId, lease: Duration) -> BoxFuture<'_, Result<Renewal, DirectoryError>> {
        Box::pin(async move { self.outcome(self.client.renew(node, lease).address(self.node.0).await) })
    }

    fn claim(&self, entry: SessionEntry, policy: Policy) -> BoxFuture<'_, Result<Vec<SessionEntry>, ClaimError>> {
        Box::pin(async move {
            self.client.claim(entry, policy).address(self.node.0).await.map_err(|error| match error {
                CallError::Service(error) => error,
                CallError::Rpc(error) => ClaimError::Unavailable(self.node.unavailable(&error)),
            })
        })
    }

    fn restore(
        &self,
        node: NodeId,
        entries: Vec<SessionEntry>,
        policy: Policy,
    ) -> BoxFuture<'_, Result<Vec<SessionId>, DirectoryError>> {
        let address = self.node.0;
        Box::pin(async move { self.outcome(self.client.restore(node, entries, policy).address(address).await) })
    }

    fn release(&self, entries: Vec<SessionEntry>) -> BoxFuture<'_, Result<(), DirectoryError>> {
        Box::pin(async move { self.outcome(self.client.release(entries).address(self.node.0).await) })
    }

    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<SessionEntry>>, DirectoryError>> {
        Box::pin(async move { self.outcome(self.client.lookup(users).address(self.node.0).await) })
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), DirectoryError>> {
        Box::pin(async move { self.outcome(self.client.leave(node).address(self.node.0).await) })
    }
}
