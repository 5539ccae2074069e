//! [`NodeConfig`]: the configuration of a node.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rpc_core::tls::{ClientTls, ServerTls};
use rpc_registry::Backend;

use crate::{
    auth::Secret,
    backplane::Backplane,
    directory::{Directory, Policy},
    membership::Membership,
    store::MessageStore,
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
    /// The node's name for people; default its address.
    pub name: Option<String>,
    /// The secret of the cluster, which nodes prove to each other; the same for all nodes.
    ///
    /// Required unless the node listens at a loopback address. Without it, every program that reaches the address can
    /// read and send messages of all users.
    pub secret: Option<Secret>,
    /// TLS between nodes; default none.
    pub tls: Option<NodeTls>,
    /// The storage of conversations and messages.
    pub store: StoreChoice,
    /// The directory of all sessions.
    pub directory: DirectoryChoice,
    /// The list of the cluster's nodes.
    pub membership: MembershipChoice,
    /// The message queue for messages that all nodes receive; default none: they go over the links between nodes.
    pub backplane: Option<Arc<dyn Backplane>>,
    /// The age above which messages are removed; default none: they are kept.
    pub retain: Option<Duration>,
    /// The rules for concurrent logins of one user.
    ///
    /// By default only logins of the same device do, and the later one replaces the earlier one.
    pub policy: Policy,
    /// The time for which the directory keeps the sessions of a node after a renewal; default 9 s, minimum 300 ms.
    ///
    /// The node closes its sessions when it could not renew its lease for this time. A longer lease keeps the sessions
    /// of a failed node for longer; with a shorter one, a loaded node may lose its sessions.
    pub lease: Duration,
    /// The interval of renewals and hellos; default a third of the lease, maximum half of it.
    pub beat: Duration,
    /// The time between a change of a user's sessions and the presence check; default 5 s.
    pub presence_delay: Duration,
    /// The number of clients per second that a draining node sends to other nodes; default 500.
    pub drain_rate: u32,
}

/// TLS between nodes: each node presents its certificate, and accepts only nodes with one of the same authority.
///
/// The nodes read changed files again.
#[derive(Clone, Debug)]
pub struct NodeTls {
    pub(crate) server: ServerTls,
    pub(crate) client: ClientTls,
}

impl NodeTls {
    /// Creates the settings from PEM files: the certificate of the node, its private key, and the certificate of the
    /// authority.
    ///
    /// A certificate has to contain the IP address at which others reach the node, unless
    /// [`with_name`](Self::with_name) sets a name.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>, authority: impl Into<PathBuf>) -> Self {
        let (certificate, key, authority) = (certificate.into(), key.into(), authority.into());
        let server = ServerTls::new(certificate.clone(), key.clone()).client_ca(authority.clone());
        Self { server, client: ClientTls::new(authority).certificate(certificate, key) }
    }

    /// Requires this DNS name in the certificate of every node, in place of its IP address.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.client = self.client.server_name(name);
        self
    }
}

/// The storage of conversations and messages.
#[derive(Clone)]
#[non_exhaustive]
pub enum StoreChoice {
    /// The memory of this node, which other nodes use too. The messages are lost when the process ends.
    Memory,
    /// A file of this node, which other nodes use too.
    File(PathBuf),
    /// The store of another node, by its address for nodes.
    Node(SocketAddr),
    /// A store that the program provides.
    Custom(Arc<dyn MessageStore>),
}

/// The directory of all sessions.
#[derive(Clone)]
#[non_exhaustive]
pub enum DirectoryChoice {
    /// The memory of the node that has the store; of this node if the store is not a node's.
    StoringNode,
    /// A directory that the program provides.
    Custom(Arc<dyn Directory>),
}

/// The list of the cluster's nodes.
#[derive(Clone)]
#[non_exhaustive]
pub enum MembershipChoice {
    /// The nodes register in [`NodeConfig::registry`].
    Registry,
    /// A membership that the program provides.
    Custom(Arc<dyn Membership>),
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
            name: None,
            secret: None,
            tls: None,
            store: StoreChoice::Memory,
            directory: DirectoryChoice::StoringNode,
            membership: MembershipChoice::Registry,
            backplane: None,
            retain: None,
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
        with_name(name: Option<String>)
        with_secret(secret: Option<Secret>)
        with_tls(tls: Option<NodeTls>)
        with_store(store: StoreChoice)
        with_directory(directory: DirectoryChoice)
        with_membership(membership: MembershipChoice)
        with_backplane(backplane: Option<Arc<dyn Backplane>>)
        with_retain(retain: Option<Duration>)
        with_policy(policy: Policy)
        with_beat(beat: Duration)
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
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
