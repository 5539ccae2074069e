//! [`NodeConfig`]: what a node is started with.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rpc_registry::Backend;

use crate::{
    directory::{Policy, redis::RedisUrl},
    identity::NodeId,
};

/// What a node is started with.
#[derive(Clone)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Where it listens for other nodes; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where other nodes reach it, if that is not where it listens.
    pub advertise: Option<SocketAddr>,
    /// Where nodes find each other.
    pub registry: Arc<dyn Backend>,
    /// Where clients reach it: `ws://host:port/ws`. Other nodes tell it to their clients, and gateways find it in the registry.
    pub websocket: String,
    /// Its number; default one that is made of its address, and in Redis the next one that is free. Two nodes with the same number do
    /// not work with each other: without Redis, give numbers where there are many nodes.
    pub id: Option<NodeId>,
    /// Who knows which user is where.
    pub directory: DirectoryChoice,
    /// The file in which it keeps its part of the messages; default none: they end with the process.
    pub store: Option<PathBuf>,
    /// On how many nodes each conversation is, if there are as many; default 2, at least 1. Raised, more nodes may die at the same
    /// time without anything being lost, and a message waits for all of them.
    pub copies: usize,
    /// Which logins of one user exclude each other; default none but those of one device, which replaces itself.
    pub policy: Policy,
    /// How long a node is believed to live after its last sign of life; default 9 s. Raised, the sessions of a dead node stay longer;
    /// lowered, a busy node is taken for dead.
    pub lease: Duration,
    /// How often it gives a sign of life; default a third of the lease.
    pub beat: Duration,
    /// How long it waits before others are told that a user came or went; default 5 s.
    pub presence_delay: Duration,
    /// How many clients a second are sent to other nodes when this one leaves; default 500.
    pub drain_rate: u32,
}

/// Who knows which user is where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryChoice {
    /// The nodes themselves: each user is known to one of them.
    Embedded,
    /// A Redis that all nodes share. Nodes also hold their numbers there, so that no two have the same.
    Redis(RedisUrl),
}

impl NodeConfig {
    /// A node that other nodes find in `registry`, and clients at `websocket`. It listens for other nodes on a port of this machine
    /// that the system chooses.
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
