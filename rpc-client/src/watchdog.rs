//! [`Endpoint`]: one address, and the watchdog task that keeps a living channel to it.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use rpc_core::{
    Code, Error, Phase,
    transport::{Driver, Outbox},
};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{backoff::Backoff, channel::Channel, config::ClientConfig, connection::Connection};

/// One address, and what its watchdog knows of it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    state: RwLock<State>,
    retired: CancellationToken,
    watchdog: OnceLock<AbortHandle>,
}

/// How an address is doing.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// An attempt to connect is under way.
    Connecting,
    /// There is a connection.
    Ready(Arc<Channel>),
    /// The last attempt failed, or the connection was lost; the next attempt waits its time.
    Backoff(Arc<Error>),
    /// Too many attempts have failed; there will be no other.
    Evicted(Arc<Error>),
    /// The address is not wanted any more.
    Retired,
}

/// What a watchdog needs of its client.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) config: Arc<ClientConfig>,
    /// Told whenever an endpoint's state changes.
    pub(crate) changes: watch::Sender<()>,
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            state: RwLock::new(State::Connecting),
            retired: CancellationToken::new(),
            watchdog: OnceLock::new(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The channel, if there is one that takes calls.
    pub(crate) fn channel(&self) -> Option<Arc<Channel>> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Ready(channel) if channel.is_open() => Some(Arc::clone(channel)),
            _ => None,
        }
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Makes no new connection, and ends the one there is once nothing is in flight on it.
    pub(crate) fn retire(&self) {
        self.retired.cancel();
        if let State::Ready(channel) = self.state() {
            channel.retire();
        }
    }

    /// Ends the watchdog, and with it the connection, at once.
    pub(crate) fn abort(&self) {
        self.retired.cancel();
        if let Some(watchdog) = self.watchdog.get() {
            watchdog.abort();
        }
    }

    pub(crate) fn watched_by(&self, watchdog: AbortHandle) {
        // Set once, by who made the endpoint.
        let _ = self.watchdog.set(watchdog);
    }

    fn enter(&self, state: State, surroundings: &Surroundings) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        surroundings.changes.send_replace(());
    }
}

/// The watchdog: connects, and connects again with growing delays, until the address is not wanted any more or has failed too
/// often.
pub(crate) async fn watch(endpoint: Arc<Endpoint>, surroundings: Surroundings) {
    let mut backoff = Backoff::default();
    let last = loop {
        if endpoint.is_retired() {
            break State::Retired;
        }
        endpoint.enter(State::Connecting, &surroundings);
        let (error, proved) = attempt(&endpoint, &surroundings).await;
        if endpoint.is_retired() {
            break State::Retired;
        }
        let error = Arc::new(error);
        if proved {
            backoff.proved();
        } else if !backoff.failed() {
            warn!(address = %endpoint.address, %error, failures = backoff.failures(), "evicted");
            break State::Evicted(error);
        }
        let delay = backoff.delay(rand::random());
        debug!(address = %endpoint.address, %error, failures = backoff.failures(), ?delay, "will connect again");
        endpoint.enter(State::Backoff(error), &surroundings);
        // Both are safe to drop.
        tokio::select! {
            () = sleep(delay) => {}
            () = endpoint.retired.cancelled() => {}
        }
    };
    endpoint.enter(last, &surroundings);
}

/// Connects and stays until the connection is over; says why, and whether the peer had proved to be alive.
async fn attempt(endpoint: &Endpoint, surroundings: &Surroundings) -> (Error, bool) {
    let (address, config) = (endpoint.address, &surroundings.config);
    let unavailable =
        |message: String| Error::new(Code::Unavailable, message).with_peer(address).with_phase(Phase::Connect);
    let connected = timeout(config.connect_timeout, TcpStream::connect(address));
    let stream = tokio::select! {
        connected = connected => match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return (unavailable(format!("cannot connect: {error}")).with_source(error), false),
            Err(_) => return (unavailable(format!("cannot connect within {:?}", config.connect_timeout)), false),
        },
        // Nothing was sent on a connection that is not there yet.
        () = endpoint.retired.cancelled() => return (unavailable("not wanted any more".to_owned()), false),
    };
    if let Err(error) = stream.set_nodelay(true) {
        return (unavailable("the connection broke before it began".to_owned()).with_source(error), false);
    }
    let outbox = Arc::new(Outbox::new(config.transport.outbox));
    let channel = Arc::new(Channel::new(address, Arc::clone(&outbox), config.max_in_flight));
    let role = Connection::new(Arc::clone(&channel), Arc::clone(&outbox), config, surroundings.changes.clone());
    let driver = Driver::new(stream, role, outbox, config.transport.clone());
    info!(%address, "connected");
    endpoint.enter(State::Ready(Arc::clone(&channel)), surroundings);
    if endpoint.is_retired() {
        // `retire` looked for a channel before there was this one.
        channel.retire();
    }
    let reason = driver.await;
    info!(%address, %reason, "connection over");
    let error = unavailable(format!("the connection was lost: {reason}")).with_source(reason);
    (error, channel.is_proved())
}
