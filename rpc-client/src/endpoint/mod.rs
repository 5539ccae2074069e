//! [`Endpoint`]: one address, and what its watchdogs know of it.

pub(crate) mod backoff;
pub(crate) mod pool;
pub(crate) mod watchdog;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use arc_swap::ArcSwap;

use rpc_core::{Error, Instance};
use tokio::{task::AbortHandle, time::Instant};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::connection::channel::Channel;

/// One address, with its lanes: as many connections as were asked for, usually one.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    /// The name that its certificate has, where it says so.
    certificate_name: RwLock<Option<Arc<str>>>,
    lanes: Vec<ArcSwap<Lane>>,
    retired: CancellationToken,
    watchdogs: Mutex<Vec<AbortHandle>>,
}

/// How one of the connections to an address is doing.
#[derive(Debug, Clone)]
pub(crate) enum Lane {
    /// An attempt to connect is under way.
    Connecting,
    /// There is a connection; whether it takes calls, it knows itself.
    Connected(Arc<Channel>),
    /// The last attempt failed, or the connection was lost; the next attempt waits its time.
    Backoff(Arc<Error>),
    /// Too many attempts have failed; there will be no other.
    Evicted(Arc<Error>),
    /// The address is not wanted any more.
    Retired,
}

/// How an address is doing, as a program may see it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EndpointState {
    /// A connection is being made, or has not been answered on yet.
    Connecting,
    /// It answers.
    Ready {
        /// Calls that wait for its answers.
        in_flight: usize,
    },
    /// It is connected and takes no calls for now: it is silent, asked to be left alone, or said goodbye.
    Passed,
    /// It was lost, or could not be reached; it will be tried again.
    Backoff(Arc<Error>),
    /// It could not be reached so often that it is left alone.
    Evicted(Arc<Error>),
    /// It is not wanted any more.
    Retired,
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr, lanes: usize) -> Self {
        Self {
            address,
            certificate_name: RwLock::default(),
            lanes: std::iter::repeat_with(|| ArcSwap::from_pointee(Lane::Connecting)).take(lanes).collect(),
            retired: CancellationToken::new(),
            watchdogs: Mutex::default(),
        }
    }

    /// The endpoint of a client that is closed: there will be no connection.
    pub(crate) fn closed(address: SocketAddr) -> Self {
        let endpoint = Self::new(address, 1);
        endpoint.enter(0, Lane::Retired);
        endpoint.retire();
        endpoint
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name that its certificate has, where it says so.
    pub(crate) fn certificate_name(&self) -> Option<Arc<str>> {
        self.certificate_name.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what an instance says of itself; it counts for the next connection.
    pub(crate) fn describe(&self, instance: &Instance) {
        let name = instance.metadata().get(Instance::TLS_NAME).map(|name| Arc::from(name.as_str()));
        *self.certificate_name.write().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// The least loaded channel that takes calls now.
    pub(crate) fn channel(&self) -> Option<Arc<Channel>> {
        if let [only] = &self.lanes[..] {
            return only.load().usable().cloned();
        }
        let usable = self.lanes.iter().filter_map(|lane| lane.load().usable().cloned());
        usable.min_by_key(|channel| channel.load().unwrap_or(usize::MAX))
    }

    /// How the best of the lanes is doing.
    pub(crate) fn state(&self) -> EndpointState {
        let states = self.lanes.iter().map(|lane| EndpointState::from(&**lane.load()));
        states.min_by_key(EndpointState::rank).unwrap_or(EndpointState::Retired)
    }

    /// Whether there is a connection that takes calls, or will when its peer has answered or rested: one that is not dead yet.
    pub(crate) fn lives(&self) -> bool {
        self.lanes.iter().any(|lane| matches!(&**lane.load(), Lane::Connected(channel) if channel.is_open()))
    }

    /// Whether a connection is looked into, and will soon take calls again or be gone.
    pub(crate) fn is_silent(&self) -> bool {
        self.lanes.iter().any(|lane| matches!(&**lane.load(), Lane::Connected(channel) if channel.is_silent()))
    }

    /// When the first of its connections that rest has rested.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        let rests = |lane: &ArcSwap<Lane>| match &**lane.load() {
            Lane::Connected(channel) => channel.rests_until(),
            _ => None,
        };
        self.lanes.iter().filter_map(rests).min()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Resolves once the address is not wanted any more.
    pub(crate) fn retired(&self) -> WaitForCancellationFuture<'_> {
        self.retired.cancelled()
    }

    /// Makes no new connection, and ends those that there are once nothing is in flight on them.
    pub(crate) fn retire(&self) {
        self.retired.cancel();
        for lane in &self.lanes {
            if let Lane::Connected(channel) = &**lane.load() {
                channel.retire();
            }
        }
    }

    /// Ends the watchdogs, and with them the connections, at once.
    pub(crate) fn abort(&self) {
        self.retired.cancel();
        self.watchdogs.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|task| task.abort());
    }

    pub(crate) fn watched_by(&self, watchdog: AbortHandle) {
        self.watchdogs.lock().unwrap_or_else(PoisonError::into_inner).push(watchdog);
    }

    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    pub(crate) fn enter(&self, lane: usize, state: Lane) {
        self.lanes[lane].store(Arc::new(state));
    }
}

impl Lane {
    /// The channel, if it takes calls now.
    fn usable(&self) -> Option<&Arc<Channel>> {
        match self {
            Self::Connected(channel) if channel.is_usable() => Some(channel),
            _ => None,
        }
    }
}

impl EndpointState {
    /// Why it was lost or could not be reached.
    pub(crate) fn failure(&self) -> Option<&Error> {
        match self {
            Self::Backoff(error) | Self::Evicted(error) => Some(error),
            Self::Connecting | Self::Ready { .. } | Self::Passed | Self::Retired => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Ready { .. } => 0,
            Self::Connecting => 1,
            Self::Passed => 2,
            Self::Backoff(_) => 3,
            Self::Evicted(_) => 4,
            Self::Retired => 5,
        }
    }
}

impl From<&Lane> for EndpointState {
    fn from(lane: &Lane) -> Self {
        match lane {
            Lane::Connecting => Self::Connecting,
            Lane::Connected(channel) => match channel.load() {
                Some(in_flight) => Self::Ready { in_flight },
                None if channel.is_proved() => Self::Passed,
                None => Self::Connecting,
            },
            Lane::Backoff(error) => Self::Backoff(Arc::clone(error)),
            Lane::Evicted(error) => Self::Evicted(Arc::clone(error)),
            Lane::Retired => Self::Retired,
        }
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Ready { in_flight } => write!(f, "ready, {in_flight} calls in flight"),
            Self::Passed => f.write_str("connected, takes no calls for now"),
            Self::Backoff(error) => write!(f, "will be tried again: {error}"),
            Self::Evicted(error) => {
                write!(f, "left alone after {} failures: {error}", crate::endpoint::backoff::Backoff::MAX_FAILURES)
            }
            Self::Retired => f.write_str("not listed any more"),
        }
    }
}
