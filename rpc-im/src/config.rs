//! [`NodeConfig`]: the configuration of a node.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rpc_registry::Backend;

use crate::{
    directory::{Policy, redis::RedisUrl},
    identity::NodeId,
};

/// The configuration of a node.
#[derive(Clone)]
#[non_exhaustive]
pub struct NodeConfig {
    /// The address at which the node listens for other nodes; with port 0 the system chooses the port.
    pub listen: SocketAddr,
    /// The address at which other nodes reach it; default the one at which it listens.
    pub advertise: Option<SocketAddr>,
    /// The registry in which nodes discover each other.
    pub registry: Arc<dyn Backend>,
    /// The URL at which clients reach it: `ws://host:port/ws`.
    ///
    /// Other nodes send it to their clients, and gateways read it in the registry.
    pub websocket: String,
    /// The node's id; default a hash of its address, with Redis the next free id from there on.
    ///
    /// Nodes with the same id do not work together. Configure ids in clusters of many nodes without Redis, because
    /// hashes may collide.
    pub id: Option<NodeId>,
    /// The directory of all sessions.
    pub directory: DirectoryChoice,
    /// The file in which the node stores its conversations; default none: they are kept in memory.
    pub store: Option<PathBuf>,
    /// The number of nodes that store each conversation, if the cluster has as many; default 2, minimum 1.
    ///
    /// With more copies, more nodes may fail at the same time without a loss of messages, and each message waits for
    /// more nodes.
    pub copies: usize,
    /// The rules for concurrent logins of one user.
    ///
    /// By default only logins of the same device do, and the later one replaces the earlier one.
    pub policy: Policy,
    /// The time for which a node counts as alive after a hello; default 9 s, minimum 300 ms.
    ///
    /// A longer lease keeps the sessions of a failed node for longer; with a shorter one, others may treat a loaded
    /// node as failed.
    pub lease: Duration,
    /// The interval of hellos; default a third of the lease, maximum half of it.
    pub beat: Duration,
    /// The time between a change of a user's sessions and the presence check; default 5 s.
    pub presence_delay: Duration,
    /// The number of clients per second that a draining node sends to other nodes; default 500.
    pub drain_rate: u32,
}

/// The directory of all sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryChoice {
    /// The nodes store the directory, each for a share of the users.
    Embedded,
    /// A Redis server that all nodes share. Nodes also lease their ids there, so ids are unique.
    Redis(RedisUrl),
}

impl NodeConfig {
    /// Creates the configuration of a node with this registry and this URL for clients.
    ///
    /// The node listens for other nodes at 127.0.0.1, on a port that the system chooses.
    pub fn new(registry: Arc<dyn Backend>, websocket: impl Into<String>) -> Self {
        let lease = Duration::from_secs(9);
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            advertise: None,
            registry,
            websocket: websocket.into(),
            id: None,
            directory: DirectoryChoice::Embedded,
            store: None,
            copies: 2,
            policy: Policy::default(),
            lease,
            beat: lease / 3,
            presence_delay: Duration::from_secs(5),
            drain_rate: 500,
        }
    }

    /// Sets [`lease`](Self::lease), and [`beat`](Self::beat) to a third of it.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        (self.lease, self.beat) = (lease, lease / 3);
        self
    }
}

impl NodeConfig {
    rpc_core::setters! {
        with_listen(listen: SocketAddr)
        with_advertise(advertise: Option<SocketAddr>)
        with_id(id: Option<NodeId>)
        with_directory(directory: DirectoryChoice)
        with_store(store: Option<PathBuf>)
        with_copies(copies: usize)
        with_policy(policy: Policy)
        with_presence_delay(presence_delay: Duration)
        with_drain_rate(drain_rate: u32)
    }
}

impl std::fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeConfig")
            .field("listen", &self.listen)
            .field("registry", &self.registry.url())
            .field("websocket", &self.websocket)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
