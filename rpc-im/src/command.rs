//! [`NodeArguments`]: the command-line arguments of a node.

mod engines;
mod limits;
mod open_files;
mod security;

pub use engines::{EngineArguments, EngineError};
pub use limits::LimitArguments;
pub use security::SecurityArguments;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use rpc_cli::RegistryArgs;
use rpc_core::contained;
use tracing::warn;

use crate::{
    Conflict, Node, NodeConfig, Policy, Scope,
    auth::{Accounts, Secret, SecretError, Users, UsersError},
    edge::Edge,
};

/// The command-line arguments of a node.
#[derive(Args, Clone, Debug)]
pub struct NodeArguments {
    /// The address for clients (HTTP and WebSocket). Port 0 lets the system choose a port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// The address for other nodes (RPC). Port 0 lets the system choose a port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub rpc: SocketAddr,
    /// The address to register for other nodes, if it differs from --rpc.
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Option<SocketAddr>,
    /// The WebSocket URL to hand out to clients, if it differs from ws://ADDRESS/ws of --listen, with --tls-cert wss://ADDRESS/ws: behind a gateway, the
    /// gateway's URL.
    #[arg(long, value_name = "URL")]
    pub websocket: Option<String>,
    /// The registry in which nodes discover each other.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// The node's name, which clients and logs see. Without it, the client address of --listen.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The engines of the cluster.
    #[command(flatten)]
    pub engines: EngineArguments,
    /// TLS, and the origins of pages.
    #[command(flatten)]
    pub security: SecurityArguments,
    /// The limits of clients.
    #[command(flatten)]
    pub limits: LimitArguments,
    /// Removes messages after this time, such as 90d, 12h. Without it, messages are kept.
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    pub retain: Option<Duration>,
    /// The file with the secret of the cluster, at least 32 bytes, the same for all nodes. It signs the tokens of users,
    /// and nodes prove it to each other. Without it, only this node accepts the tokens that it issues, and --rpc has to
    /// be a loopback address.
    #[arg(long, value_name = "FILE")]
    pub secret: Option<PathBuf>,
    /// The password file: one line user:hash per user, as printed by --hash.
    #[arg(long, value_name = "FILE", conflicts_with = "dev_login")]
    pub users: Option<PathBuf>,
    /// Accepts any user name with any password. For development only.
    #[arg(long)]
    pub dev_login: bool,
    /// Which devices of one user may be logged in at the same time.
    #[arg(long, value_enum, default_value_t = Devices::All)]
    pub devices: Devices,
    /// Rejects a login that conflicts with an existing session, instead of ending that session.
    #[arg(long)]
    pub refuse: bool,
}

/// The devices of one user that may be logged in at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Devices {
    /// All devices.
    All,
    /// One device per platform.
    OnePerPlatform,
    /// One device.
    Single,
}

/// A node that is bound to its addresses but does not serve clients yet.
#[derive(Debug)]
pub struct Started {
    node: Arc<Node>,
    edge: Edge,
    secret: Secret,
    accounts: Accounts,
    listen: SocketAddr,
    scheme: &'static str,
}

/// An error of [`NodeArguments::start`].
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client address cannot be bound, or the certificate for clients cannot be used.
    #[error("cannot listen for clients on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// An engine cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The secret file cannot be used.
    #[error("invalid --secret file")]
    Secret(#[from] SecretError),
    /// The password file cannot be used.
    #[error("invalid --users file")]
    Users(#[from] UsersError),
    /// The node fails to start.
    #[error("cannot start the node")]
    Node(#[from] rpc_core::Error),
}

/// Parses a number of seconds, minutes, hours or days: `90s`, `15m`, `12h`, `90d`.
fn parse_age(text: &str) -> Result<Duration, String> {
    let invalid = || "expected a number and one of s, m, h, d, such as 90d".to_owned();
    let unit = text.chars().last().ok_or_else(invalid)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(invalid()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| invalid())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "the time is too long".to_owned())
}

impl NodeArguments {
    /// Starts the node. It serves clients once [`Started::run_until`] is polled.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read, an address cannot be bound, or the registry URL is invalid.
    pub async fn start(self) -> Result<Started, StartError> {
        let secret = self.secret()?;
        let accounts = self.accounts()?;
        let listen = self.listen;
        let edge = Edge::bind(listen, self.security.apply(self.limits.edge()))
            .await
            .map_err(|error| StartError::Listen(listen, error))?;
        let listen = edge.local_address().map_err(|error| StartError::Listen(listen, error))?;
        let websocket =
            self.websocket.clone().unwrap_or_else(|| format!("{}://{listen}/ws", self.security.scheme("ws")));
        let config = NodeConfig::new(self.registry.connect().await?, websocket)
            .with_listen(self.rpc)
            .with_advertise(self.advertise)
            .with_tls(self.security.nodes())
            .with_secret(self.secret.is_some().then(|| secret.clone()))
            .with_name(Some(self.name.clone().unwrap_or_else(|| listen.to_string())))
            .with_retain(self.retain)
            .with_policy(self.policy());
        let config = self.engines.apply(config).await?;
        let node = Arc::new(Node::start(config).await?);
        let scheme = self.security.scheme("http");
        Ok(Started { node, edge, secret, accounts, listen, scheme })
    }

    fn secret(&self) -> Result<Secret, SecretError> {
        match &self.secret {
            Some(path) => Secret::read(path),
            None => {
                contained(|| warn!("no --secret: only this node accepts the tokens that it issues"));
                Ok(Secret::random())
            }
        }
    }

    fn accounts(&self) -> Result<Accounts, UsersError> {
        match &self.users {
            Some(path) => Ok(Accounts::File(Users::read(path)?)),
            None if self.dev_login => {
                contained(|| warn!("--dev-login: ANY CLIENT CAN LOG IN AS ANY USER WITH ANY PASSWORD"));
                Ok(Accounts::Anyone)
            }
            None => {
                contained(|| {
                    warn!("neither --users nor --dev-login: only tokens that another system signed are accepted")
                });
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
    /// Returns the node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns the address for clients.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Serves clients until `stop` is ready or an administrator drains the node, then drains it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the node stops immediately without draining.
    pub async fn run_until(self, stop: impl Future<Output = ()>) {
        let node = Arc::clone(&self.node);
        let stop = async move {
            // Both branches are cancel-safe as far as this future is concerned: it ends with the first one.
            tokio::select! {
                () = stop => {}
                () = node.drain_requested() => {}
            }
        };
        self.edge.run_until(self.node, self.secret, self.accounts, stop).await;
    }
}

impl std::fmt::Display for Started {
    /// Formats the line that a command prints once the node listens.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (node, scheme, clients, nodes) = (self.node.name(), self.scheme, self.listen, self.node.rpc_address());
        write!(formatter, "node {node} serves clients on {scheme}://{clients}/ and nodes on {nodes}")
    }
}
