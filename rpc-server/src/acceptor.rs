//! [`Acceptor`]: lets connections in, within bounds, and owns their tasks.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{self, Waker},
    time::Duration,
};

use rpc_core::{
    Code, Peer,
    transport::{Accept, Driver, Io, Outbox},
};
use tokio::{
    io::AsyncWrite,
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tracing::{debug, error, warn};

use crate::{
    connection::{Connection, Shared},
    counters::Counters,
    entrance::{Entered, goaway},
};

/// Lets connections in, within bounds, and owns their tasks: dropped, it ends them.
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// In the order in which they came.
    open: BTreeMap<Id, Open>,
    /// By [`Peer::network`].
    per_ip: HashMap<Option<IpAddr>, usize>,
    /// When a warning was last said.
    warned: Option<Instant>,
}

struct Open {
    outbox: Arc<Outbox>,
    ip: Option<IpAddr>,
}

impl Acceptor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, tasks: JoinSet::new(), open: BTreeMap::new(), per_ip: HashMap::new(), warned: None }
    }

    /// Accepts connections until the future is dropped, which is safe at any time.
    pub(crate) async fn accept_from(&mut self, listener: &dyn Accept) {
        loop {
            tokio::select! {
                // Ended tasks first: they make room.
                biased;
                // Both are cancel-safe: a connection or an ended task that is not taken now is taken next.
                Some(ended) = self.tasks.join_next_with_id() => self.forget(ended),
                accepted = listener.accept() => match accepted {
                    Ok((io, peer)) => self.admit(io, peer),
                    Err(error) => self.rest_after(error).await,
                },
            }
        }
    }

    /// Says goodbye on every connection.
    pub(crate) fn say_goodbye(&self) {
        self.shared.draining.store(true, Ordering::Release);
        for open in self.open.values() {
            open.outbox.wake();
        }
    }

    /// Waits until every connection is over.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time; what is still open then stays open.
    pub(crate) async fn until_empty(&mut self) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.forget(ended);
        }
    }

    /// Ends the tasks that are left, and waits for that.
    pub(crate) async fn abort(&mut self) {
        self.tasks.abort_all();
        self.until_empty().await;
    }

    fn admit(&mut self, io: Box<dyn Io>, peer: Peer) {
        let config = &self.shared.config;
        let ip = peer.network();
        let from_ip = self.per_ip.get(&ip).copied().unwrap_or(0);
        if self.open.len() >= config.max_connections || from_ip >= config.max_connections_per_ip {
            Counters::count(&self.shared.counters.turned_away);
            if self.shared.entrance.is_encrypted() {
                drop(io)
            } else {
                turn_away(io)
            };
            if self.may_warn() {
                warn!(?ip, open = self.open.len(), from_ip, "connections over the limit are refused");
            }
            return;
        }
        debug!(peer = ?peer.address, "connection opened");
        let counters = &self.shared.counters;
        Counters::count(&counters.accepted);
        let outbox = Arc::new(Outbox::new(config.transport.outbox));
        let task = if self.shared.entrance.is_open() {
            // Made inside, because a future that is moved into an async block has its place there twice.
            let (shared, outbox) = (Arc::clone(&self.shared), Arc::clone(&outbox));
            self.tasks.spawn(async move { drop(drive(&shared, &outbox, io, peer).await) })
        } else {
            self.tasks.spawn(enter(Arc::clone(&self.shared), Arc::clone(&outbox), io, peer))
        };
        *self.per_ip.entry(ip).or_default() += 1;
        self.open.insert(task.id(), Open { outbox, ip });
        counters.open.store(self.open.len(), Ordering::Relaxed);
    }

    /// An accept that fails for want of file descriptors fails again at once; one that fails for the peer's sake does not.
    async fn rest_after(&mut self, error: io::Error) {
        match error.kind() {
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {
                debug!(%error, "accept");
            }
            _ => {
                if self.may_warn() {
                    warn!(%error, "cannot accept connections; trying again every {ACCEPT_REST:?}");
                }
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }

    /// Whether it is time for another warning: whoever comes too often shall not fill the log.
    fn may_warn(&mut self) -> bool {
        let now = Instant::now();
        let may = self.warned.is_none_or(|at| now.duration_since(at) >= WARN_EVERY);
        if may {
            self.warned = Some(now);
        }
        may
    }

    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(failed) => {
                if failed.is_panic() {
                    error!(%failed, "a connection's task panicked, which is a bug of msnb");
                }
                failed.id()
            }
        };
        let Some(Open { ip, .. }) = self.open.remove(&id) else { return };
        self.shared.counters.open.store(self.open.len(), Ordering::Relaxed);
        if let Some(count) = self.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
    }
}

fn drive(shared: &Arc<Shared>, outbox: &Arc<Outbox>, io: Box<dyn Io>, peer: Peer) -> Driver<Box<dyn Io>, Connection> {
    let connection = Connection::new(Arc::clone(shared), Arc::clone(outbox), peer);
    Driver::new(io, connection, Arc::clone(outbox), shared.config.transport.clone())
        .counted_in(Arc::clone(&shared.counters.traffic))
}

/// Serves a connection once it has proved itself.
async fn enter(shared: Arc<Shared>, outbox: Arc<Outbox>, io: Box<dyn Io>, peer: Peer) {
    let (address, counters) = (peer.address, &shared.counters);
    // Boxed, because what it takes to enter is not needed as long as the connection lives.
    match Box::pin(shared.entrance.enter(io, peer, shared.config.handshake_time, &counters.traffic)).await {
        Ok(Entered { io, peer, reader }) => {
            debug!(peer = ?address, identity = %peer.identity(), "connection entered");
            drop(drive(&shared, &outbox, io, peer).with_reader(reader).await);
        }
        Err(why) => {
            Counters::count(&counters.unproved);
            debug!(peer = ?address, %why, "connection turned away");
        }
    }
}

/// Tells a peer why it is not let in. A fresh socket takes that many bytes at once, and if not, the peer sees the end only.
fn turn_away(mut io: Box<dyn Io>) {
    let mut bytes = bytes::BytesMut::new();
    goaway(Code::ResourceExhausted, "the server has as many connections as it may").write(&mut bytes);
    let _ = Pin::new(&mut io).poll_write(&mut task::Context::from_waker(Waker::noop()), &bytes);
}

/// How long the accept loop rests when the system has no file descriptors or memory left.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Between two warnings of a server that it refuses connections or gets none; all of them are counted.
const WARN_EVERY: Duration = Duration::from_secs(10);
