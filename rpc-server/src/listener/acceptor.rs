//! [`Acceptor`]: accepts connections within limits, and owns their tasks.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{self, Waker},
    time::Duration,
};

use bytes::BytesMut;
use rpc_core::{
    Code, Peer, contained, deadline_after,
    transport::{Accept, Driver, FrameReader, Io, Outbox},
};
use tokio::{
    io::AsyncWrite,
    runtime::Handle,
    task::{Id, JoinError, JoinSet},
    time::{Instant, timeout},
};
use tracing::{debug, error, warn};

use super::{
    detect::{Detected, detect},
    handshake::{self, Claimed, Established, Handshake},
    threads::{ConnectionThreads, accept_for},
};
use crate::{
    connection::{Connection, STREAM_END_TIME, Shared, goaway},
    counters::Counters,
    credentials::Proved,
    endpoint::{self, EndpointHandler, Prefixed},
    peer_warnings::Subject,
};

/// Accepts connections within limits, and owns their tasks: dropping the acceptor ends them.
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    /// The endpoints, which claim connections of other protocols.
    endpoints: Arc<[Arc<dyn EndpointHandler>]>,
    tasks: JoinSet<()>,
    /// The threads that serve connections; without threads, the runtime of the acceptor serves them.
    threads: ConnectionThreads,
    /// In the order of their acceptance.
    open: BTreeMap<Id, OpenConnection>,
    /// The number of open connections by [`Peer::network`].
    per_ip: HashMap<Option<IpAddr>, usize>,
    last_warning: Option<Instant>,
}

struct OpenConnection {
    outbox: Arc<Outbox>,
    ip: Option<IpAddr>,
    thread: Option<usize>,
}

impl Acceptor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        endpoints: Arc<[Arc<dyn EndpointHandler>]>,
        threads: ConnectionThreads,
    ) -> Self {
        let (open, per_ip) = (BTreeMap::new(), HashMap::new());
        Self { shared, endpoints, tasks: JoinSet::new(), threads, open, per_ip, last_warning: None }
    }

    /// Accepts connections forever.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(crate) async fn accept_from(&mut self, listener: &dyn Accept) {
        let shared = Arc::clone(&self.shared);
        let mut credentials_changed = pin!(shared.credentials.until_changed());
        loop {
            let thread = self.threads.least_loaded();
            let runtime = thread.map_or_else(Handle::current, |number| self.threads.runtime(number).clone());
            tokio::select! {
                // Ended tasks come first, because they free capacity.
                biased;
                // All futures are cancel safe: the next iteration takes the connection or the ended task.
                Some(ended) = self.tasks.join_next_with_id() => self.remove(ended),
                () = &mut credentials_changed => {
                    // Each connection checks whether the credentials of its peer are still accepted.
                    self.wake_all();
                    credentials_changed.set(shared.credentials.until_changed());
                }
                accepted = accept_for(&runtime, listener.accept()) => match accepted {
                    Ok((io, peer)) => self.admit(io, peer, thread, &runtime),
                    Err(error) => self.pause_after(error).await,
                },
            }
        }
    }

    /// Starts the drain: every connection sends GOAWAY.
    pub(crate) fn send_goaway(&self) {
        self.shared.draining.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Ends the streams of all connections, and waits until the connections have ended, at most for [`STREAM_END_TIME`].
    pub(crate) async fn end_streams(&mut self) {
        if self.shared.concurrency.streams() == 0 {
            return;
        }
        self.shared.ends_streams.store(true, Ordering::Release);
        self.wake_all();
        // Connections with handlers that run may remain; the caller aborts them.
        let _ = timeout(STREAM_END_TIME, self.until_empty()).await;
    }

    fn wake_all(&self) {
        for open in self.open.values() {
            open.outbox.wake();
        }
        self.shared.endpoints_woken.notify_waiters();
    }

    /// Waits until every connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time; open connections stay open.
    pub(crate) async fn until_empty(&mut self) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.remove(ended);
        }
    }

    /// Aborts the remaining tasks, and waits until they have ended.
    pub(crate) async fn abort(&mut self) {
        self.tasks.abort_all();
        self.until_empty().await;
    }

    fn admit(&mut self, io: Box<dyn Io>, peer: Peer, thread: Option<usize>, runtime: &Handle) {
        let ip = peer.network();
        if let Err(limit) = self.check_limits(ip) {
            return self.reject(io, ip, limit);
        }
        contained(|| debug!(peer = ?peer.address, "connection opened"));
        let counters = &self.shared.counters;
        Counters::count(&counters.accepted);
        let outbox = Arc::new(Outbox::new(self.shared.config.transport.outbox).for_results());
        let (shared, connection_outbox) = (Arc::clone(&self.shared), Arc::clone(&outbox));
        let endpoints = &self.endpoints;
        let task = if shared.credentials.is_empty() && !endpoints.is_empty() {
            self.tasks.spawn_on(serve_detected(shared, connection_outbox, io, peer, Arc::clone(endpoints)), runtime)
        } else if shared.credentials.is_empty() {
            // The driver is created inside the block: an async block stores a future that is moved into it twice.
            let work = async move { drop(driver(&shared, &connection_outbox, io, peer, Proved::default()).await) };
            self.tasks.spawn_on(work, runtime)
        } else {
            self.tasks
                .spawn_on(serve_after_handshake(shared, connection_outbox, io, peer, Arc::clone(endpoints)), runtime)
        };
        *self.per_ip.entry(ip).or_default() += 1;
        if let Some(number) = thread {
            self.threads.add(number);
        }
        self.open.insert(task.id(), OpenConnection { outbox, ip, thread });
        counters.open.store(self.open.len(), Ordering::Relaxed);
    }

    /// Checks the limits of connections.
    ///
    /// # Errors
    ///
    /// The setting that another connection would exceed.
    fn check_limits(&self, ip: Option<IpAddr>) -> Result<(), &'static str> {
        let config = &self.shared.config;
        if self.open.len() >= config.max_connections {
            return Err("connection limit reached (ServerConfig::max_connections)");
        }
        if self.open_from(ip) >= config.max_connections_per_ip {
            return Err("connection limit of this address reached (ServerConfig::max_connections_per_ip)");
        }
        Ok(())
    }

    fn open_from(&self, ip: Option<IpAddr>) -> usize {
        self.per_ip.get(&ip).copied().unwrap_or(0)
    }

    /// Closes a connection above a limit. Without TLS, the peer receives GOAWAY.
    ///
    /// The GOAWAY names the setting but no number: the peer has not proved an identity, and the numbers would tell it
    /// how many connections fill the server.
    fn reject(&mut self, io: Box<dyn Io>, ip: Option<IpAddr>, limit: &'static str) {
        Counters::count(&self.shared.counters.connections_rejected);
        if self.may_warn() {
            let (open, from_ip) = (self.open.len(), self.open_from(ip));
            contained(|| warn!(?ip, open, from_ip, limit, "rejecting connections above the limit"));
        }
        if !self.shared.credentials.is_encrypted() {
            write_goaway(io, limit);
        }
    }

    /// Pauses after an error that would repeat at once, such as a lack of file descriptors.
    ///
    /// Errors of a single peer need no pause.
    async fn pause_after(&mut self, error: io::Error) {
        match error.kind() {
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {
                contained(|| debug!(%error, "accept failed"));
            }
            _ => {
                if self.may_warn() {
                    contained(|| warn!(%error, "accept failed; retrying every {ACCEPT_RETRY_DELAY:?}"));
                }
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }

    /// Limits the rate of warnings, so that peers cannot fill the log.
    fn may_warn(&mut self) -> bool {
        let now = Instant::now();
        let may = self.last_warning.is_none_or(|at| now.duration_since(at) >= WARNING_INTERVAL);
        if may {
            self.last_warning = Some(now);
        }
        may
    }

    fn remove(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(failed) => {
                if failed.is_panic() {
                    contained(|| error!(%failed, "the task of a connection panicked, which is a bug in msnb"));
                }
                failed.id()
            }
        };
        let Some(OpenConnection { ip, thread, .. }) = self.open.remove(&id) else { return };
        if let Some(number) = thread {
            self.threads.remove(number);
        }
        self.shared.counters.open.store(self.open.len(), Ordering::Relaxed);
        if let Some(count) = self.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
    }
}

fn driver(
    shared: &Arc<Shared>,
    outbox: &Arc<Outbox>,
    io: Box<dyn Io>,
    peer: Peer,
    proved: Proved,
) -> Driver<Box<dyn Io>, Connection> {
    let connection = Connection::new(Arc::clone(shared), Arc::clone(outbox), peer, proved);
    Driver::new(io, connection, Arc::clone(outbox), shared.config.transport.clone())
        .with_traffic(Arc::clone(&shared.counters.traffic))
}

/// Serves a connection without credentials after its first bytes, which belong to msnb or to an endpoint.
async fn serve_detected(
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    mut io: Box<dyn Io>,
    peer: Peer,
    endpoints: Arc<[Arc<dyn EndpointHandler>]>,
) {
    let mut start = BytesMut::new();
    let deadline = deadline_after(Instant::now(), shared.config.read_idle);
    // A draining server would wait for a connection that sends nothing, and a peer that sends nothing calls nothing.
    let detected = tokio::select! {
        detected = Box::pin(detect(&mut io, &mut start, &endpoints, deadline)) => detected,
        () = until_draining(&shared) => Ok(Detected::Msnb),
    };
    match detected {
        Ok(Detected::Endpoint(handler)) => {
            let claimed =
                Claimed { handler, io, start: start.freeze(), peer, proved: Proved::default(), protocol: None };
            serve_endpoint(shared, claimed).await;
        }
        Ok(Detected::Msnb) => {
            let mut reader = FrameReader::new(shared.config.transport.max_frame);
            shared.counters.traffic.add(start.len() as u64, 0);
            reader.read_buffer().extend_from_slice(&start);
            drop(start);
            drop(driver(&shared, &outbox, io, peer, Proved::default()).with_reader(reader).await);
        }
        Ok(Detected::Silent) => {
            contained(|| debug!(peer = ?peer.address, "connection sent nothing"));
        }
        Err(error) => {
            contained(|| debug!(peer = ?peer.address, %error, "connection closed before its first bytes"));
        }
    }
}

async fn until_draining(shared: &Shared) {
    loop {
        let mut woken = pin!(shared.endpoints_woken.notified());
        // Registered before the check, so that a change in between is not missed.
        woken.as_mut().enable();
        if shared.draining.load(Ordering::Acquire) {
            return;
        }
        woken.await;
    }
}

async fn serve_endpoint(shared: Arc<Shared>, claimed: Claimed) {
    let Claimed { handler, io, start, peer, proved, protocol } = claimed;
    let address = peer.address;
    let io = Prefixed::new(start, io, Arc::clone(&shared.counters.traffic));
    endpoint::serve(shared, handler, io, peer, proved, protocol).await;
    contained(|| debug!(peer = ?address, "connection of an endpoint closed"));
}

async fn serve_after_handshake(
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    io: Box<dyn Io>,
    peer: Peer,
    endpoints: Arc<[Arc<dyn EndpointHandler>]>,
) {
    let (address, network, counters) = (peer.address, peer.network(), &shared.counters);
    // Boxed, so that the connection does not keep the memory of its handshake.
    let handshake = Box::pin(handshake::run(
        &shared.credentials,
        io,
        peer,
        shared.config.handshake_time,
        &counters.traffic,
        &endpoints,
    ));
    match handshake.await {
        Ok(Handshake::Endpoint(claimed)) => serve_endpoint(Arc::clone(&shared), claimed).await,
        Ok(Handshake::Msnb(Established { io, peer, proved, reader, socket_writes })) => {
            contained(|| debug!(peer = ?address, identity = %peer.identity(), "handshake finished"));
            let driver = driver(&shared, &outbox, io, peer, proved).with_reader(reader);
            drop(driver.with_socket_writes(socket_writes).await);
        }
        Err(error) => {
            Counters::count(&counters.handshakes_failed);
            let warns = error.is_rejection() && shared.warnings.is_due(Subject::Handshake, network, Instant::now());
            let peer = address.map(tracing::field::display);
            contained(|| match warns {
                true => warn!(peer, %error, "handshake failed; further warnings about this peer follow after 10 s"),
                false => debug!(peer, %error, "handshake failed"),
            });
        }
    }
}

/// Writes GOAWAY without waiting.
///
/// The buffer of a new socket has capacity for it; otherwise the peer sees only the close.
fn write_goaway(mut io: Box<dyn Io>, message: &'static str) {
    let mut bytes = BytesMut::new();
    goaway(Code::ResourceExhausted, message).write(&mut bytes);
    let _ = Pin::new(&mut io).poll_write(&mut task::Context::from_waker(Waker::noop()), &bytes);
}

/// The pause of the accept loop when the system lacks file descriptors or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The minimum time between two warnings of a server about rejected or failed connections.
///
/// The counters of the server contain all of them.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
