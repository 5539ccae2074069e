//! [`Node`]: a node of the cluster, from its start to its end.

mod assembly;
mod drain;

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rpc_core::{Code, Error};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cluster::delivery::Delivery,
    cluster::local_node::Me,
    cluster::router::NodeRouter,
    cluster::view::NodeInfo,
    config::{DirectoryChoice, NodeConfig},
    conversation::Homes,
    directory::{ClaimError, Directory, Entry, redis::Lease},
    identity::{Epoch, NodeId, NodeKey, SessionId},
    presence::Presence,
    session::client_session::Session,
    session::local_sessions::{Sessions, Sink},
    session::outbox::{Outbound, Outbox},
    session::pair_session::{PairOutbound, PairSession, Side},
    session::queue::Queue,
    session::terminator::Kicks,
    snowflake::Snowflake,
    store::{Store as _, StoreError, redb::RedbStore},
};

/// A node of the cluster: it has sessions, and forwards to the nodes that have others.
///
/// # Drop
///
/// Dropped, it ends at once, as a crash would end it, except that the registry is told. [`drain`](Self::drain) ends it in order.
pub struct Node {
    parts: Arc<Parts>,
    rpc_address: SocketAddr,
    stop: CancellationToken,
    drain_rate: u32,
    /// They hold parts, and end with the node.
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// What sessions need of their node.
pub(crate) struct Parts {
    pub(crate) me: Arc<Me>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) router: Arc<NodeRouter>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) kicks: Arc<Kicks>,
    pub(crate) homes: Arc<Homes>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) ids: Arc<Snowflake>,
    /// What sessions have asked for and what they leave behind.
    pub(crate) tasks: TaskTracker,
}

/// Who logs in, once it is known to be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Which user.
    pub user: String,
    /// On which of the user's devices; a device has one session.
    pub device: String,
    /// What kind of device it is: `web`, `ios`.
    pub platform: String,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another session stands, and the policy is to refuse; or the side of the room is taken.
    #[error("another session stands")]
    Taken,
    /// This node cannot tell now, or leaves: another node, or this one later, may.
    #[error("{0}")]
    Unavailable(String),
}

impl Node {
    /// Starts a node. It finds the others by itself; until it has, logins wait.
    ///
    /// # Errors
    ///
    /// `Unavailable` when it cannot listen or its store cannot be opened, `InvalidArgument` for numbers that make no sense.
    pub async fn start(config: NodeConfig) -> Result<Self, Error> {
        if config.copies == 0 || config.lease < MIN_LEASE || config.beat > config.lease / 2 {
            let message = "a node needs 1 copy at least, a lease of 300 ms at least, and two beats in it";
            return Err(Error::not_executed(Code::InvalidArgument, message));
        }
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            Error::not_executed(Code::Unavailable, format!("cannot listen on {}: {error}", config.listen))
                .with_source(error)
        })?;
        let local = listener
            .local_addr()
            .map_err(|error| Error::not_executed(Code::Internal, "the listener has no address").with_source(error))?;
        let address = match config.advertise {
            Some(address) => address,
            None if local.ip().is_unspecified() => (config.registry.reachable_ip().await?, local.port()).into(),
            None => local,
        };
        let path = config.store.clone();
        let store = tokio::task::spawn_blocking(move || RedbStore::open(path.as_deref())).await;
        let store = store.unwrap_or_else(|error| Err(StoreError(error.to_string()))).map_err(store_error)?;
        let likely = NodeKey { id: config.id.unwrap_or_else(|| number_of(address)), epoch: now() };
        let lease = match &config.directory {
            DirectoryChoice::Embedded => None,
            DirectoryChoice::Redis(url) => {
                Some(Lease::take(url, (config.id, likely), address, (config.beat, config.lease)).await?)
            }
        };
        let key = lease.as_ref().map_or(likely, Lease::node);
        let ids = Arc::new(Snowflake::new(key.id));
        ids.above(store.greatest_message().await.map_err(store_error)?);
        assembly::assemble(config, listener, (key, address), lease, Arc::new(store), ids).await
    }

    /// Which node it is, in which life.
    pub fn key(&self) -> NodeKey {
        self.parts.me.key()
    }

    /// Where other nodes reach it.
    pub fn rpc_address(&self) -> SocketAddr {
        self.rpc_address
    }

    /// The nodes that live, this one too, as it sees them: for the gate. Those that leave say so.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let mut nodes = self.parts.router.view().nodes.clone();
        if let Some(mine) = nodes.iter_mut().find(|node| node.key == self.key()) {
            *mine = self.parts.me.info();
        }
        nodes
    }

    /// Sessions and sides of rooms that it has.
    pub fn connections(&self) -> usize {
        self.parts.sessions.len()
    }

    /// Whether it takes logins: it does not leave, is not cut off from the others, and the directory answers.
    pub fn is_ready(&self) -> bool {
        !self.parts.me.is_draining() && self.parts.router.sound_view().is_some() && self.parts.directory.is_ready()
    }

    /// Lets a device in, and by the policy others out.
    ///
    /// # Errors
    ///
    /// When the policy lets another session stand, or nobody can tell now whether there is one.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the device is not in.
    pub async fn login(&self, login: Login) -> Result<(Session, Outbound), Refused> {
        let Login { user, device, platform } = login;
        let (id, outbox) = (SessionId(self.parts.ids.next()), Arc::new(Outbox::new()));
        let entry = Entry { user: user.clone(), device: device.clone(), platform, node: self.key(), session: id };
        // Here before it is in the directory: one who finds it there shall find it here.
        self.parts.sessions.insert(entry.clone(), Sink::Client(Arc::clone(&outbox)));
        // From here on its drop undoes everything.
        let session = Session::new((user.clone(), device), id, Arc::clone(&outbox), Arc::clone(&self.parts));
        let session = self.claim(entry, session).await?;
        let parts = Arc::clone(&self.parts);
        self.parts.tasks.spawn(async move { parts.presence.announce(&user).await });
        Ok((session, Outbound(outbox)))
    }

    /// Takes a side of a pairing room. The other side may be on another node, and may come later.
    ///
    /// # Errors
    ///
    /// When the side is taken, or nobody can tell now whether it is; and for a channel that is none: see
    /// [`PairSession::is_channel`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, the side is free.
    pub async fn pair(&self, channel: &str, side: Side) -> Result<(PairSession, PairOutbound), Refused> {
        if !PairSession::is_channel(channel) {
            return Err(Refused::Unavailable("a channel has 32 letters, digits or underscores".to_owned()));
        }
        let id = SessionId(self.parts.ids.next());
        let queue = Arc::new(Queue::new(Outbound::MAX_FRAMES, Outbound::MAX_BYTES));
        let entry = Entry::of_room(channel, side.name(), self.key(), id);
        self.parts.sessions.insert(entry.clone(), Sink::Room(Arc::clone(&queue)));
        let session = PairSession::new(channel.to_owned(), side, id, Arc::clone(&self.parts));
        let session = self.claim(entry, session).await?;
        Ok((session, PairOutbound(queue)))
    }

    /// Ends all sessions of a user, wherever they are; says how many there were.
    pub async fn kick(&self, user: &str, reason: &str) -> usize {
        let entries: Vec<_> = self.parts.delivery.locate(vec![user.to_owned()]).await.into_iter().flatten().collect();
        let count = entries.len();
        self.parts.kicks.kick(entries, reason);
        count
    }

    /// Lets a session in. Not a part of the caller's future: when that is dropped, the session is given up once the directory has
    /// answered, and not while it may still enter it.
    async fn claim<S: Send + 'static>(&self, entry: Entry, session: S) -> Result<S, Refused> {
        if self.parts.me.is_draining() {
            return Err(Refused::Unavailable("this node leaves".to_owned()));
        }
        let parts = Arc::clone(&self.parts);
        let claiming = self.parts.tasks.spawn(async move { parts.directory.claim(entry).await.map(|()| session) });
        let ending = |_| Err(ClaimError::Unavailable("this node ends".to_owned()));
        claiming.await.unwrap_or_else(ending).map_err(|error| match error {
            ClaimError::Taken => Refused::Taken,
            ClaimError::TooMany => Refused::Unavailable("the user has as many sessions as there may be".to_owned()),
            ClaimError::Unavailable(why) => Refused::Unavailable(why),
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.parts.homes.0.working.stop();
        self.parts.sessions.close_all();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("key", &self.key()).field("address", &self.rpc_address).finish_non_exhaustive()
    }
}

/// The number of a node that was given none: the same each time it starts on its address.
fn number_of(address: SocketAddr) -> NodeId {
    let hash = Sha256::digest(address.to_string());
    let number = u16::from_be_bytes([hash[0], hash[1]]) % (NodeId::MAX + 1);
    NodeId::new(number).expect("it is in range by the remainder")
}

fn now() -> Epoch {
    Epoch(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

fn store_error(error: StoreError) -> Error {
    Error::not_executed(Code::Unavailable, error.to_string()).with_source(error)
}

/// The shortest lease: three hellos have to fit in, on a machine that is busy.
const MIN_LEASE: Duration = Duration::from_millis(300);
