//! [`Node`]: a node of the cluster.

mod assembly;
pub(crate) mod context;
mod drain;
mod engines;
mod login;

pub use login::{Login, LoginError};

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use assembly::Assembly;
use context::NodeContext;
use engines::Engines;
use rpc_client::{Client, ClientConfig};
use rpc_core::{Code, Error, contained};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    cluster::view::NodeInfo,
    config::NodeConfig,
    directory::{ClaimError, ClaimRejection, REPLACED, SessionEntry},
    identity::NodeId,
    membership::{Membership, NewMember},
    session::{
        client_session::Session,
        local_sessions::Sink,
        outbox::{Outbound, Outbox},
        pair_session::{PairOutbound, PairSession, Side},
        queue::Queue,
    },
    store::MonitoredStore,
};

/// The state of a node and its engines, see [`Node::health`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether the node accepts logins, see [`Node::is_ready`].
    pub accepts_logins: bool,
    /// Whether the store has answered the last read and the last write.
    ///
    /// The node probes the store with a read at each [`NodeConfig::beat`], and with a write while writes fail.
    pub store_answers: bool,
    /// Whether the directory has answered the last renewal of the lease.
    pub directory_answers: bool,
}

impl Health {
    /// Returns whether the node can serve new clients.
    pub fn is_healthy(self) -> bool {
        self.accepts_logins && self.store_answers && self.directory_answers
    }
}

/// A node of the cluster, with a part of all sessions.
///
/// # Drop
///
/// Dropping the node stops it like a crash, except that it deregisters. [`drain`](Self::drain) stops it gracefully.
pub struct Node {
    context: Arc<NodeContext>,
    rpc_address: SocketAddr,
    membership: Arc<dyn Membership>,
    store: Arc<MonitoredStore>,
    stop: CancellationToken,
    drain_rate: u32,
    /// The node's tasks, which hold the context and end with the node.
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Node {
    /// Starts a node. It discovers the other nodes in the background; logins wait until then.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an invalid configuration, `Unavailable` if the address cannot be bound or an engine does not
    /// answer.
    pub async fn start(config: NodeConfig) -> Result<Self, Error> {
        validate(&config)?;
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            let message = format!("cannot listen on {} (NodeConfig::listen): {error}", config.listen);
            Error::not_executed(Code::Unavailable, message).with_source(error)
        })?;
        let local = listener.local_addr().map_err(|error| {
            Error::not_executed(Code::Internal, "reading the listener's address failed").with_source(error)
        })?;
        let address = match config.advertise {
            Some(address) => address,
            None if local.ip().is_unspecified() => (config.registry.reachable_ip().await?, local.port()).into(),
            None => local,
        };
        let mut client = Client::builder().config(ClientConfig::default().with_cache_directory(None));
        if let Some(secret) = &config.secret {
            client = client.token(secret.token_of_nodes());
        }
        if let Some(tls) = &config.tls {
            client = client.tls(tls.client.clone());
        }
        let client = client.build()?;
        let engines = Engines::open(&config, &client).await?;
        let member = NewMember { address, websocket: config.websocket.clone() };
        let id = engines.membership.join(member).await?;
        let Assembly { context, stop, tasks } =
            assembly::assemble(&config, listener, (id, address), client, &engines).await?;
        contained(|| info!(node = context.local.name(), %id, %address, "node started"));
        let (drain_rate, membership) = (config.drain_rate.max(1), engines.membership);
        let store = engines.store;
        Ok(Self { context, rpc_address: address, membership, store, stop, drain_rate, tasks: tasks.into() })
    }

    /// Returns the id of this run of the node.
    pub fn id(&self) -> NodeId {
        self.context.local.id()
    }

    /// Returns the node's name.
    pub fn name(&self) -> &str {
        self.context.local.name()
    }

    /// Returns the address at which other nodes reach this one.
    pub fn rpc_address(&self) -> SocketAddr {
        self.rpc_address
    }

    /// Returns the nodes that are alive in this node's view, this one and draining ones included.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let mut nodes = self.context.router.view().nodes.clone();
        if let Some(local) = nodes.iter_mut().find(|node| node.id == self.id()) {
            *local = self.context.local.info();
        }
        nodes
    }

    /// Returns the number of this node's sessions and sides of rooms.
    pub fn connections(&self) -> usize {
        self.context.sessions.len()
    }

    /// Returns whether the node accepts logins.
    ///
    /// It does if it is not draining and holds its lease in the directory.
    pub fn is_ready(&self) -> bool {
        let NodeContext { local, lease, .. } = &*self.context;
        !local.is_draining() && lease.is_held()
    }

    /// Returns the state of the node and its engines.
    pub fn health(&self) -> Health {
        Health {
            accepts_logins: self.is_ready(),
            store_answers: self.store.is_available(),
            directory_answers: self.context.lease.answers(),
        }
    }

    /// Waits until an administrator drains the node, see [`Admin::drain`](crate::Admin::drain).
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn drain_requested(&self) {
        self.context.drain.notified().await;
    }

    /// Starts a session, and ends the sessions that it replaces by the policy.
    ///
    /// # Errors
    ///
    /// [`LoginError::Taken`] if another session wins by the policy, [`LoginError::Unavailable`] if the node drains or
    /// the directory does not answer within 5 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the session.
    pub async fn login(&self, login: Login) -> Result<(Session, Outbound), LoginError> {
        let Login { user, device, platform } = login;
        let (id, outbox) = (self.context.session_ids.next(), Arc::new(Outbox::new()));
        let entry = SessionEntry { user: user.clone(), device: device.clone(), platform, node: self.id(), session: id };
        // Inserted before it is registered: a node that finds the session in the directory must be able to deliver to
        // it.
        self.context.sessions.insert(entry.clone(), Sink::Client(Arc::clone(&outbox)));
        // From here on, dropping the session removes it again.
        let session = Session::new((user.clone(), device), id, Arc::clone(&outbox), Arc::clone(&self.context));
        let session = self.register(entry, session).await?;
        let context = Arc::clone(&self.context);
        self.context.tasks.spawn(async move { context.presence.announce(&user).await });
        Ok((session, Outbound(outbox)))
    }

    /// Takes a side of a pairing room. The other side may connect to another node, and later.
    ///
    /// # Errors
    ///
    /// [`LoginError::Taken`] if the side is taken, [`LoginError::Unavailable`] if the node drains, the directory does
    /// not answer within 5 s, or the channel is invalid, see [`PairSession::is_channel`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future frees the side.
    pub async fn pair(&self, channel: &str, side: Side) -> Result<(PairSession, PairOutbound), LoginError> {
        if !PairSession::is_channel(channel) {
            let message = "the channel of a room has to be 32 ASCII letters, digits or underscores";
            return Err(LoginError::Unavailable(message.to_owned()));
        }
        let id = self.context.session_ids.next();
        let queue = Arc::new(Queue::new(Outbound::MAX_FRAMES, Outbound::MAX_BYTES));
        let entry = SessionEntry::of_room(channel, side.name(), self.id(), id);
        self.context.sessions.insert(entry.clone(), Sink::Room(Arc::clone(&queue)));
        let session = PairSession::new(channel.to_owned(), side, id, Arc::clone(&self.context));
        let session = self.register(entry, session).await?;
        Ok((session, PairOutbound(queue)))
    }

    /// Ends all sessions of a user on all nodes; returns their number.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the directory does not answer.
    pub async fn kick(&self, user: &str, reason: &str) -> Result<usize, Error> {
        let located = self.context.delivery.locate(vec![user.to_owned()]).await;
        let located = located.map_err(|error| Error::not_executed(Code::Unavailable, error.to_string()))?;
        let entries: Vec<_> = located.into_iter().flatten().collect();
        let count = entries.len();
        self.context.terminator.terminate(entries, reason);
        Ok(count)
    }

    /// Registers a session in the directory.
    ///
    /// A task of its own claims it: when the caller's future is dropped, the session is dropped after the directory has
    /// answered, and not while the directory may still register it.
    async fn register<S: Send + 'static>(&self, entry: SessionEntry, session: S) -> Result<S, LoginError> {
        if self.context.local.is_draining() {
            return Err(LoginError::Unavailable("this node is draining".to_owned()));
        }
        let context = Arc::clone(&self.context);
        let claim = self.context.tasks.spawn(async move {
            let replaced = context.lease.claim(&entry).await?;
            context.terminator.terminate(replaced, REPLACED);
            Ok(session)
        });
        let stopped = |_| Err(ClaimError::Unavailable("this node is shutting down".to_owned()));
        claim.await.unwrap_or_else(stopped).map_err(|error| match error {
            ClaimError::Rejected(ClaimRejection::Taken) => LoginError::Taken,
            error => LoginError::Unavailable(error.to_string()),
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        self.context.sessions.close_all();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).field("address", &self.rpc_address).finish_non_exhaustive()
    }
}

fn validate(config: &NodeConfig) -> Result<(), Error> {
    let invalid = |message: String| Err(Error::not_executed(Code::InvalidArgument, message));
    let NodeConfig { lease, beat, .. } = config;
    if config.secret.is_none() && !config.listen.ip().is_loopback() {
        let listen = config.listen;
        return invalid(format!("NodeConfig::secret is required to listen for other nodes at {listen}"));
    }
    if *lease < MIN_LEASE {
        return invalid(format!("NodeConfig::lease is {lease:?}, minimum is {MIN_LEASE:?}"));
    }
    if *beat > *lease / 2 {
        return invalid(format!("NodeConfig::beat is {beat:?}, maximum is half of the lease of {lease:?}"));
    }
    Ok(())
}

/// The minimum lease: three hellos have to fit in, also on a loaded machine.
const MIN_LEASE: Duration = Duration::from_millis(300);
