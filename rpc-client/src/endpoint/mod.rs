//! [`Endpoint`]: one socket address and the connections to it.
//!
//! | topic | module |
//! |---|---|
//! | all endpoints of a client | `pool` |
//! | the state of one connection of an endpoint | `connection_state` |
//! | the state of an endpoint, for programs | `state` |
//! | connecting and reconnecting | `watchdog`, its delays `backoff`, its rate `connect_budget` |

mod backoff;
mod connect_budget;
pub(crate) mod connection_state;
pub(crate) mod pool;
pub(crate) mod state;
mod watchdog;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use arc_swap::ArcSwap;
use rpc_core::Instance;
use tokio::{task::AbortHandle, time::Instant};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use self::{connection_state::ConnectionState, state::EndpointState};
use crate::connection::channel::Channel;

/// One socket address with its connections: `ClientConfig::lanes`, usually one.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    /// The name in the provider's certificate, if its instance states one.
    certificate_name: RwLock<Option<Arc<str>>>,
    connections: Vec<ArcSwap<ConnectionState>>,
    retired: CancellationToken,
    watchdogs: Mutex<Vec<AbortHandle>>,
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr, connections: usize) -> Self {
        Self {
            address,
            certificate_name: RwLock::default(),
            connections: std::iter::repeat_with(|| ArcSwap::from_pointee(ConnectionState::Connecting))
                .take(connections)
                .collect(),
            retired: CancellationToken::new(),
            watchdogs: Mutex::default(),
        }
    }

    /// Creates the endpoint of a closed client, which never connects.
    pub(crate) fn closed(address: SocketAddr) -> Self {
        let endpoint = Self::new(address, 1);
        endpoint.set_connection(0, ConnectionState::Retired);
        endpoint.retire();
        endpoint
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the name in the provider's certificate, if its instance states one.
    pub(crate) fn certificate_name(&self) -> Option<Arc<str>> {
        self.certificate_name.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the certificate's name from an instance's metadata. It applies to the next connection.
    pub(crate) fn update_metadata(&self, instance: &Instance) {
        let name = instance.metadata().get(Instance::TLS_NAME).map(|name| Arc::from(name.as_str()));
        *self.certificate_name.write().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Returns the least loaded channel that is eligible for calls.
    pub(crate) fn eligible_channel(&self) -> Option<Arc<Channel>> {
        if let [only] = &self.connections[..] {
            return only.load().eligible_channel().cloned();
        }
        let eligible = self.connections.iter().filter_map(|connection| connection.load().eligible_channel().cloned());
        eligible.min_by_key(|channel| channel.load().unwrap_or(usize::MAX))
    }

    /// Returns the best state of the connections.
    pub(crate) fn state(&self) -> EndpointState {
        let states = self.connections.iter().map(|connection| EndpointState::from(&**connection.load()));
        states.min_by_key(EndpointState::rank).unwrap_or(EndpointState::Retired)
    }

    /// Returns whether a connection is open, although its peer may be unresponsive or in cooldown.
    pub(crate) fn is_alive(&self) -> bool {
        self.any_channel(Channel::is_open)
    }

    /// Returns whether a connection awaits the answer to a probe.
    ///
    /// The connection is then eligible again or closed.
    pub(crate) fn is_unresponsive(&self) -> bool {
        self.any_channel(Channel::is_unresponsive)
    }

    /// Returns when the first cooldown of a connection ends.
    pub(crate) fn cooldown_until(&self) -> Option<Instant> {
        let cooldown = |connection: &ArcSwap<ConnectionState>| {
            connection.load().channel().and_then(|channel| channel.cooldown_until())
        };
        self.connections.iter().filter_map(cooldown).min()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Resolves when the endpoint is retired.
    pub(crate) fn retired(&self) -> WaitForCancellationFuture<'_> {
        self.retired.cancelled()
    }

    /// Makes no new connections, and ends the present ones when no call is in flight on them.
    pub(crate) fn retire(&self) {
        self.retired.cancel();
        for connection in &self.connections {
            if let Some(channel) = connection.load().channel() {
                channel.retire();
            }
        }
    }

    /// Aborts the watchdogs and with them the connections.
    pub(crate) fn abort(&self) {
        self.retired.cancel();
        self.watchdogs.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|task| task.abort());
    }

    pub(crate) fn add_watchdog(&self, watchdog: AbortHandle) {
        self.watchdogs.lock().unwrap_or_else(PoisonError::into_inner).push(watchdog);
    }

    /// Returns the number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn set_connection(&self, index: usize, state: ConnectionState) {
        self.connections[index].store(Arc::new(state));
    }

    fn any_channel(&self, condition: impl Fn(&Channel) -> bool) -> bool {
        self.connections.iter().any(|connection| connection.load().channel().is_some_and(|channel| condition(channel)))
    }
}
