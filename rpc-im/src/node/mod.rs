//! [`Node`]: a node of the cluster.

mod assembly;
pub(crate) mod context;
mod drain;
mod login;

pub use login::{Login, LoginError};

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use assembly::{Assembly, store_error};
use context::NodeContext;
use rpc_core::{Code, Error, contained};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    cluster::view::NodeInfo,
    config::{DirectoryChoice, NodeConfig},
    directory::{ClaimError, SessionEntry, redis::NodeLease},
    identity::{Epoch, NodeId, NodeKey, SessionId},
    session::{
        client_session::Session,
        local_sessions::Sink,
        outbox::{Outbound, Outbox},
        pair_session::{PairOutbound, PairSession, Side},
        queue::Queue,
    },
    snowflake::Snowflake,
    store::{Store as _, StoreError, redb::RedbStore},
};

/// A node of the cluster, with a part of all sessions.
///
/// # Drop
///
/// Dropping the node stops it like a crash, except that it deregisters. [`drain`](Self::drain) stops it gracefully.
pub struct Node {
    context: Arc<NodeContext>,
    rpc_address: SocketAddr,
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
    /// `InvalidArgument` for an invalid configuration, `Unavailable` if the address cannot be bound, the store cannot
    /// be opened or Redis does not answer, `AlreadyExists` if another node holds the node id in Redis.
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
        let path = config.store.clone();
        let store = tokio::task::spawn_blocking(move || RedbStore::open(path.as_deref())).await;
        let store = store.unwrap_or_else(|error| Err(StoreError(error.to_string()))).map_err(store_error)?;
        let likely = NodeKey { id: config.id.unwrap_or_else(|| default_id(address)), epoch: current_epoch() };
        let lease = match &config.directory {
            DirectoryChoice::Embedded => None,
            DirectoryChoice::Redis(url) => {
                Some(NodeLease::acquire(url, (config.id, likely), address, (config.beat, config.lease)).await?)
            }
        };
        let key = lease.as_ref().map_or(likely, NodeLease::node);
        let ids = Arc::new(Snowflake::new(key.id));
        ids.advance_past(store.greatest_message().await.map_err(store_error)?);
        let Assembly { context, stop, tasks } =
            assembly::assemble(&config, listener, (key, address), lease, Arc::new(store), ids).await?;
        contained(|| info!(node = %key, %address, "node started"));
        let drain_rate = config.drain_rate.max(1);
        Ok(Self { context, rpc_address: address, stop, drain_rate, tasks: tasks.into() })
    }

    /// Returns the node's id and epoch.
    pub fn key(&self) -> NodeKey {
        self.context.local.key()
    }

    /// Returns the address at which other nodes reach this one.
    pub fn rpc_address(&self) -> SocketAddr {
        self.rpc_address
    }

    /// Returns the nodes that are alive in this node's view, this one and draining ones included.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let mut nodes = self.context.router.view().nodes.clone();
        if let Some(local) = nodes.iter_mut().find(|node| node.key == self.key()) {
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
    /// It does if it is not draining, belongs to the majority, and the directory answers.
    pub fn is_ready(&self) -> bool {
        let NodeContext { local, router, directory, .. } = &*self.context;
        !local.is_draining() && router.majority_view().is_some() && directory.is_ready()
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
        let (id, outbox) = (SessionId(self.context.ids.next()), Arc::new(Outbox::new()));
        let entry =
            SessionEntry { user: user.clone(), device: device.clone(), platform, node: self.key(), session: id };
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
        let id = SessionId(self.context.ids.next());
        let queue = Arc::new(Queue::new(Outbound::MAX_FRAMES, Outbound::MAX_BYTES));
        let entry = SessionEntry::of_room(channel, side.name(), self.key(), id);
        self.context.sessions.insert(entry.clone(), Sink::Room(Arc::clone(&queue)));
        let session = PairSession::new(channel.to_owned(), side, id, Arc::clone(&self.context));
        let session = self.register(entry, session).await?;
        Ok((session, PairOutbound(queue)))
    }

    /// Ends all sessions of a user on all nodes; returns their number.
    pub async fn kick(&self, user: &str, reason: &str) -> usize {
        let located = self.context.delivery.locate(vec![user.to_owned()]).await;
        let entries: Vec<_> = located.into_iter().flatten().collect();
        let count = entries.len();
        self.context.terminator.terminate(entries, reason);
        count
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
        let claim = self.context.tasks.spawn(async move { context.directory.claim(entry).await.map(|()| session) });
        let stopped = |_| Err(ClaimError::Unavailable("this node is shutting down".to_owned()));
        claim.await.unwrap_or_else(stopped).map_err(|error| match error {
            ClaimError::Taken => LoginError::Taken,
            ClaimError::TooMany => {
                LoginError::Unavailable("the user has the maximum number of sessions (UserSessions::MAX)".to_owned())
            }
            ClaimError::Unavailable(message) => LoginError::Unavailable(message),
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.context.conversations.stop();
        self.context.sessions.close_all();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("key", &self.key()).field("address", &self.rpc_address).finish_non_exhaustive()
    }
}

fn validate(config: &NodeConfig) -> Result<(), Error> {
    let invalid = |message: String| Err(Error::not_executed(Code::InvalidArgument, message));
    let NodeConfig { copies, lease, beat, .. } = config;
    if *copies == 0 {
        return invalid("NodeConfig::copies is 0, minimum is 1".to_owned());
    }
    if *lease < MIN_LEASE {
        return invalid(format!("NodeConfig::lease is {lease:?}, minimum is {MIN_LEASE:?}"));
    }
    if *beat > *lease / 2 {
        return invalid(format!("NodeConfig::beat is {beat:?}, maximum is half of the lease of {lease:?}"));
    }
    Ok(())
}

/// Returns the id of a node without a configured one, which is the same at each start on this address.
fn default_id(address: SocketAddr) -> NodeId {
    let hash = Sha256::digest(address.to_string());
    let number = u16::from_be_bytes([hash[0], hash[1]]) % (NodeId::MAX + 1);
    NodeId::new(number).expect("the remainder is at most NodeId::MAX")
}

fn current_epoch() -> Epoch {
    Epoch(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

/// The minimum lease: three hellos have to fit in, also on a loaded machine.
const MIN_LEASE: Duration = Duration::from_millis(300);
