//! [`Admin`]: the RPC service by which administrators inspect a cluster, end sessions and drain nodes.

use std::sync::Arc;

use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    NodeInfo,
    cluster::{delivery::Delivery, local_node::LocalNode, router::NodeRouter},
    directory::{DirectoryError, SessionEntry, lease::DirectoryLease},
    session::terminator::SessionTerminator,
};

/// The service by which administrators inspect a cluster, end sessions and drain nodes.
///
/// A node with a secret requires [`Secret::admin_token`](crate::auth::Secret::admin_token), or the token of nodes.
#[rpc_service(name = "im.Admin", version = "1.0")]
pub trait Admin {
    /// Returns the sessions of a user on all nodes.
    #[rpc(idempotent, timeout = "3s")]
    async fn sessions(&self, user: String) -> Result<Vec<SessionEntry>, DirectoryError>;

    /// Ends the sessions of a user on all nodes, or only that of one device; returns their number.
    ///
    /// The tokens of the user remain valid, so its clients may log in again.
    #[rpc(idempotent, timeout = "3s")]
    async fn log_out(&self, user: String, device: Option<String>) -> Result<usize, DirectoryError>;

    /// Returns the state of the called node.
    #[rpc(idempotent, timeout = "3s")]
    async fn statistics(&self) -> Statistics;

    /// Lets the called node drain and its program end, as SIGTERM does.
    #[rpc(idempotent, timeout = "3s")]
    async fn drain(&self);
}

/// The state of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// The node itself.
    pub node: NodeInfo,
    /// Whether it accepts logins.
    pub ready: bool,
    /// The nodes that are alive in its view, itself included.
    pub nodes: Vec<NodeInfo>,
}

/// The implementation of [`Admin`].
pub(crate) struct AdminService {
    pub(crate) local: Arc<LocalNode>,
    pub(crate) router: Arc<NodeRouter>,
    pub(crate) lease: Arc<DirectoryLease>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) terminator: Arc<SessionTerminator>,
    /// Notified when the node is to drain.
    pub(crate) drain: Arc<Notify>,
}

impl Admin for AdminService {
    async fn sessions(&self, user: String) -> Result<Vec<SessionEntry>, DirectoryError> {
        Ok(self.delivery.locate(vec![user]).await?.into_iter().flatten().collect())
    }

    async fn log_out(&self, user: String, device: Option<String>) -> Result<usize, DirectoryError> {
        let mut entries = self.sessions(user).await?;
        entries.retain(|entry| device.as_ref().is_none_or(|device| entry.device == *device));
        let count = entries.len();
        self.terminator.terminate(entries, LOGGED_OUT);
        Ok(count)
    }

    async fn statistics(&self) -> Statistics {
        let node = self.local.info();
        let ready = !node.draining && self.lease.is_held();
        Statistics { ready, nodes: self.router.view().nodes.clone(), node }
    }

    async fn drain(&self) {
        self.drain.notify_one();
    }
}

/// The reason in the `kick` frame of a session that an administrator ends.
const LOGGED_OUT: &str = "logged out by an administrator";
