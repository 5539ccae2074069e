//! [`NodeArguments`]: a node as a command.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use tracing::warn;

use crate::{
    Conflict, DirectoryChoice, Node, NodeConfig, NodeId, Policy, RedisUrl, Scope,
    auth::{Accounts, Secret, SecretError, Users, UsersError},
    edge::{Edge, EdgeConfig},
};

/// What a node is told on its command line.
#[derive(Args, Clone, Debug)]
pub struct NodeArguments {
    /// Where clients connect: HTTP and WebSocket. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// Where other nodes connect.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub rpc: SocketAddr,
    /// The address that other nodes are told, where it is not that of --rpc.
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Option<SocketAddr>,
    /// The URL that clients are told, where it is not ws://ADDRESS/ws of --listen: behind a gateway, the gateway's.
    #[arg(long, value_name = "URL")]
    pub websocket: Option<String>,
    /// Where nodes find each other: local:, local:/dir, nacos://host:8848.
    #[arg(long, value_name = "URL", env = "MSNB_REGISTRY", default_value = "local:")]
    pub registry: String,
    /// The Redis in which the nodes keep who is where and which numbers they have, the same for all nodes:
    /// redis://user:password@host:port/database, where only the host must be. Without, they keep it among themselves.
    #[arg(long, value_name = "URL", env = "MSNB_IM_REDIS", hide_env_values = true)]
    pub redis: Option<RedisUrl>,
    /// The node's number, 0 to 1023. Without, it is made of its address; with --redis, it is one that no other node has.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1023))]
    pub id: Option<u16>,
    /// The file for messages; without, they end with the process.
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// On how many nodes each conversation is.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub copies: usize,
    /// The file with what tokens are signed with, 32 bytes at least: the same for all nodes. Without, tokens of this node are good
    /// at this node only.
    #[arg(long, value_name = "FILE")]
    pub secret: Option<PathBuf>,
    /// The file of users: a line user:hash for each, as --hash prints it.
    #[arg(long, value_name = "FILE", conflicts_with = "dev_login")]
    pub users: Option<PathBuf>,
    /// Lets anybody in as anybody, with any password.
    #[arg(long)]
    pub dev_login: bool,
    /// Which logins of one user exclude each other.
    #[arg(long, value_enum, default_value_t = Devices::All)]
    pub devices: Devices,
    /// Refuses a login that another one excludes, instead of ending the other.
    #[arg(long)]
    pub refuse: bool,
}

/// Which logins of one user exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Devices {
    /// None.
    All,
    /// Those of the same platform.
    OnePerPlatform,
    /// All.
    Single,
}

/// A node that listens, and is not served yet.
#[derive(Debug)]
pub struct Started {
    node: Arc<Node>,
    edge: Edge,
    secret: Secret,
    accounts: Accounts,
    listen: SocketAddr,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its port cannot be had.
    #[error("cannot listen for clients on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// What it signs with is not there.
    #[error("--secret")]
    Secret(#[from] SecretError),
    /// The users are not there.
    #[error("--users")]
    Users(#[from] UsersError),
    /// It cannot be a node.
    #[error("the node does not start")]
    Node(#[from] rpc_core::Error),
}

impl NodeArguments {
    /// Starts the node; it serves clients once [`Started::run_until`] is polled.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, an address cannot be had, or the registry's URL is not understood.
    pub async fn start(self) -> Result<Started, StartError> {
        let secret = self.secret()?;
        let accounts = self.accounts()?;
        let listen = self.listen;
        let edge =
            Edge::bind(listen, EdgeConfig::default()).await.map_err(|error| StartError::Listen(listen, error))?;
        let listen = edge.local_address().map_err(|error| StartError::Listen(listen, error))?;
        let websocket = self.websocket.clone().unwrap_or_else(|| format!("ws://{listen}/ws"));
        let directory = self.redis.clone().map_or(DirectoryChoice::Embedded, DirectoryChoice::Redis);
        let config = NodeConfig::new(rpc_registry::connect(&self.registry).await?, websocket)
            .with_listen(self.rpc)
            .with_advertise(self.advertise)
            .with_id(self.id.and_then(NodeId::new))
            .with_directory(directory)
            .with_store(self.store.clone())
            .with_copies(self.copies)
            .with_policy(self.policy());
        let node = Arc::new(Node::start(config).await?);
        Ok(Started { node, edge, secret, accounts, listen })
    }

    fn secret(&self) -> Result<Secret, SecretError> {
        match &self.secret {
            Some(path) => Secret::read(path),
            None => {
                warn!("no --secret: tokens of this node are good at this node only");
                Ok(Secret::random())
            }
        }
    }

    fn accounts(&self) -> Result<Accounts, UsersError> {
        match &self.users {
            Some(path) => Ok(Accounts::File(Users::read(path)?)),
            None if self.dev_login => {
                warn!("--dev-login: ANYBODY CAN LOG IN AS ANYBODY, WITH ANY PASSWORD");
                Ok(Accounts::Anyone)
            }
            None => {
                warn!("neither --users nor --dev-login: only tokens that another system has signed are good");
                Ok(Accounts::Elsewhere)
            }
        }
    }

    fn policy(&self) -> Policy {
        let scope = match self.devices {
            Devices::All => Scope::AllDevices,
            Devices::OnePerPlatform => Scope::OnePerPlatform,
            Devices::Single => Scope::Single,
        };
        Policy { scope, conflict: if self.refuse { Conflict::Refuse } else { Conflict::Replace } }
    }
}

impl Started {
    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Serves until `stop` is ready, then drains.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the node ends at once.
    pub async fn run_until(self, stop: impl Future<Output = ()>) {
        self.edge.run_until(self.node, self.secret, self.accounts, stop).await;
    }
}

impl std::fmt::Display for Started {
    /// The line that a command prints once it listens.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (node, clients, nodes) = (self.node.key().id, self.listen, self.node.rpc_address());
        write!(formatter, "node {node} serves clients on http://{clients}/ and nodes on {nodes}")
    }
}
