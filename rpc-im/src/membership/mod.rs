//! [`Membership`]: the nodes of the cluster.
//!
//! | topic | module |
//! |---|---|
//! | the nodes that are registered in the registry of msnb | `registry` |
//! | the node's end of a membership that has a driver | `handle` |
//! | membership in PostgreSQL or MariaDB | `sql` |
//! | membership in ZooKeeper | `zookeeper` |
//!
//! Membership only tells nodes how to reach each other. The list may be old, and nodes may have different lists. The
//! leases that protect sessions are in the [directory](crate::directory).

#[cfg(any(feature = "sql", feature = "zookeeper"))]
mod handle;
pub(crate) mod registry;
#[cfg(feature = "sql")]
mod sql;
#[cfg(feature = "zookeeper")]
mod zookeeper;

#[cfg(feature = "sql")]
pub use sql::SqlMembership;
#[cfg(feature = "zookeeper")]
pub use zookeeper::ZooKeeperMembership;

use std::{net::SocketAddr, sync::Arc};

use rpc_core::{BoxFuture, Error};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::identity::NodeId;

/// The nodes of the cluster, as an engine lists them.
///
/// An implementation passes the tests in `tests/im_contract/membership.rs`.
pub trait Membership: Send + Sync + 'static {
    /// Joins the cluster under this description; returns the id of this run of the node.
    ///
    /// No other run of a node has the same id. The id remains the same until [`leave`](Self::leave): when the engine
    /// has removed the node, for example after a partition, the implementation adds it again under the same id.
    ///
    /// # Errors
    ///
    /// [`Code::FailedPrecondition`](rpc_core::Code::FailedPrecondition) if the node has joined already, and
    /// [`Code::Unavailable`](rpc_core::Code::Unavailable) if the engine does not answer in time; the node has not
    /// joined then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the node may have joined; [`leave`](Self::leave) reverts that.
    fn join(&self, node: NewMember) -> BoxFuture<'_, Result<NodeId, Error>>;

    /// Returns a receiver of the list of members in the order of their ids, `None` until the engine has answered once.
    ///
    /// The list includes this node once it has joined. It remains unchanged while the engine does not answer.
    fn watch(&self) -> watch::Receiver<Option<Arc<[Member]>>>;

    /// Leaves the cluster.
    ///
    /// Completes in bounded time, also if the engine does not answer. Then the engine removes the node later.
    fn leave(&self) -> BoxFuture<'_, ()>;
}

/// The description under which a node joins the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMember {
    /// The address of the node's RPC port for other nodes.
    pub address: SocketAddr,
    /// The URL of the node's WebSocket endpoint for clients.
    pub websocket: String,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The id of this run of the node.
    pub id: NodeId,
    /// The address of the node's RPC port for other nodes.
    pub address: SocketAddr,
    /// The URL of the node's WebSocket endpoint for clients.
    pub websocket: String,
}
