//! [`Endpoint`]: one socket address and the connections to it.
//!
//! | topic | module |
//! |---|---|
//! | all endpoints of a client | `pool` |
//! | one connection of an endpoint | `lane`, its state `connection_state` |
//! | the state of an endpoint, for programs | `state` |
//! | ejecting an endpoint whose calls fail | `ejection` |
//! | connecting and reconnecting | `watchdog`, its delays `backoff`, its rate `connect_budget` |
//! | connects that fail for lack of local resources | `shortage` |
//! | the end of the client, and interrupted tasks | `lifecycle` |

mod backoff;
mod connect_budget;
pub(crate) mod connection_state;
pub(crate) mod ejection;
mod lane;
pub(crate) mod lifecycle;
pub(crate) mod pool;
mod shortage;
pub(crate) mod state;
mod watchdog;

use std::{
    net::SocketAddr,
    ops::Add,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rpc_core::Instance;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use self::{
    backoff::Backoff,
    connection_state::ConnectionState,
    ejection::{Ejection, Phase},
    lane::Lane,
    state::EndpointState,
};
use crate::{
    changes::{ChangeNotifier, Subscribers},
    connection::{channel::Channel, in_flight::CallCounts, latency::LogSum, load::Load},
    statistics::ProviderCounts,
};

/// One socket address with its connections: `ClientConfig::lanes`, usually one.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    /// The name in the provider's certificate, if its instance states one.
    certificate_name: RwLock<Option<Arc<str>>>,
    /// The zone that the provider has registered.
    zone: RwLock<String>,
    lanes: Vec<Lane>,
    ejection: Ejection,
    retired: CancellationToken,
    changes: Arc<ChangeNotifier>,
    reconnects_eagerly: AtomicBool,
}

/// How long an endpoint waits between two connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reconnect {
    /// The delays grow to the limit of [`Backoff`].
    Normally,
    /// The delays stay below [`Backoff::MAX_EAGER_DELAY`], because a service has few providers left.
    Eagerly,
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr, lanes: usize, reconnect: Reconnect, subscribers: Subscribers) -> Self {
        Self {
            address,
            certificate_name: RwLock::default(),
            zone: RwLock::default(),
            lanes: std::iter::repeat_with(Lane::default).take(lanes).collect(),
            ejection: Ejection::default(),
            retired: CancellationToken::new(),
            changes: Arc::new(ChangeNotifier::new(subscribers)),
            reconnects_eagerly: AtomicBool::new(reconnect == Reconnect::Eagerly),
        }
    }

    /// Creates the endpoint of a closed client, which never connects.
    pub(crate) fn closed(address: SocketAddr, subscribers: Subscribers) -> Self {
        let endpoint = Self::new(address, 1, Reconnect::Normally, subscribers);
        endpoint.set_connection(0, ConnectionState::Retired);
        endpoint.retire();
        endpoint
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the notifier of this endpoint's changes.
    pub(crate) fn changes(&self) -> &Arc<ChangeNotifier> {
        &self.changes
    }

    /// Returns the name in the provider's certificate, if its instance states one.
    pub(crate) fn certificate_name(&self) -> Option<Arc<str>> {
        self.certificate_name.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the zone and the certificate's name from an instance's metadata. The name applies to the next connection.
    pub(crate) fn update_metadata(&self, instance: &Instance) {
        let name = instance.metadata().get(Instance::TLS_NAME).map(|name| Arc::from(name.as_str()));
        *self.certificate_name.write().unwrap_or_else(PoisonError::into_inner) = name;
        let zone = instance.metadata().get(Instance::ZONE).cloned().unwrap_or_default();
        *self.zone.write().unwrap_or_else(PoisonError::into_inner) = zone;
    }

    /// Returns the least loaded channel that is eligible for calls.
    pub(crate) fn eligible_channel(&self) -> Option<Arc<Channel>> {
        if let [only] = &self.lanes[..] {
            return only.state().eligible_channel().cloned();
        }
        let eligible = self.lanes.iter().filter_map(|lane| lane.state().eligible_channel().cloned());
        eligible.min_by_key(|channel| channel.load().map_or(u32::MAX, |load| load.in_flight))
    }

    /// Returns the channel of an endpoint with one connection, whatever its state is.
    pub(crate) fn only_channel(&self) -> Option<Arc<Channel>> {
        let [only] = &self.lanes[..] else { return None };
        only.state().channel().cloned()
    }

    /// Returns the load of the channel that [`eligible_channel`](Self::eligible_channel) returns.
    ///
    /// Returns `None` if no channel is eligible or `filter` rejects it.
    pub(crate) fn load(&self, filter: impl FnOnce(&Arc<Channel>) -> bool) -> Option<Load> {
        if let [only] = &self.lanes[..] {
            // A pick compares several endpoints, and increments the reference count of the picked one only.
            let state = only.state();
            return state.eligible_channel().filter(|channel| filter(channel)).map(|channel| channel.current_load());
        }
        self.eligible_channel().filter(filter)?.load()
    }

    /// Returns the numbers of calls on the present connections.
    pub(crate) fn call_counts(&self) -> CallCounts {
        let counts = self.lanes.iter().filter_map(|lane| lane.state().channel().map(|channel| channel.counts()));
        counts.fold(CallCounts::default(), Add::add)
    }

    /// Returns the sum of the logarithms of the latencies on the present connections.
    pub(crate) fn latencies(&self) -> LogSum {
        let sums = self.lanes.iter().filter_map(|lane| lane.state().channel().map(|channel| channel.latencies()));
        sums.fold(LogSum::default(), Add::add)
    }

    /// Returns the counts of the provider, for metrics.
    pub(crate) fn provider_counts(&self) -> ProviderCounts {
        let CallCounts { started, answered } = self.call_counts();
        ProviderCounts {
            address: self.address,
            zone: self.zone.read().unwrap_or_else(PoisonError::into_inner).clone(),
            started,
            answered,
            failed: self.ejection.failures(),
            ejections: self.ejection.total(),
        }
    }

    pub(crate) fn ejection(&self) -> &Ejection {
        &self.ejection
    }

    /// Ends an ejection whose time has passed. Returns the time until the next change.
    pub(crate) fn advance_ejection(&self, now: Instant) -> Option<Duration> {
        let (ended, next) = self.ejection.advance(now);
        if ended {
            self.expect_probe();
        }
        next
    }

    /// Handles the first answer after [`expect_probe`](Self::expect_probe). Returns whether the endpoint is back in use.
    pub(crate) fn handle_probe_answer(&self, now: Instant) -> bool {
        let returned = self.ejection.record_answer(now);
        if !returned && self.ejection.phase() == Phase::Probation {
            self.expect_probe();
        }
        returned
    }

    /// Requests a report of the next answer on each connection.
    fn expect_probe(&self) {
        self.lanes
            .iter()
            .for_each(|lane| lane.state().channel().into_iter().for_each(|channel| channel.expect_probe()));
    }

    /// Returns the best state of the connections.
    pub(crate) fn state(&self) -> EndpointState {
        let states = self.lanes.iter().map(|lane| EndpointState::from(&**lane.state()));
        let best = states.min_by_key(EndpointState::rank).unwrap_or(EndpointState::Retired);
        match (best, self.ejection.remaining(Instant::now())) {
            (EndpointState::Ready { in_flight }, Some((cause, remaining))) => {
                EndpointState::Ejected { in_flight, remaining, cause: cause.to_string() }
            }
            (best, _) => best,
        }
    }

    /// Returns whether a connection is open, although its peer may be unresponsive or in cooldown.
    pub(crate) fn is_alive(&self) -> bool {
        self.any_channel(Channel::is_open)
    }

    /// Returns whether a channel of this endpoint is eligible for calls.
    pub(crate) fn is_eligible(&self) -> bool {
        self.any_channel(Channel::is_eligible)
    }

    /// Returns whether an event is pending that may make a channel eligible soon: a connect, or the answer to a probe.
    pub(crate) fn is_pending(&self) -> bool {
        self.lanes.iter().any(Lane::is_pending)
    }

    /// Returns whether too many connects have failed: all lanes are at the limit, and none is connected.
    ///
    /// A server may accept fewer connections than the client has lanes. The lanes that it accepts stay in use.
    pub(crate) fn has_failed(&self) -> bool {
        self.lanes.iter().all(|lane| lane.failures() >= Backoff::MAX_FAILURES) && !self.is_alive()
    }

    /// Returns whether a requested connect has not begun.
    pub(crate) fn is_connect_requested(&self) -> bool {
        self.lanes.iter().any(Lane::awaits_requested_connect)
    }

    /// Returns when the first cooldown of a connection ends.
    pub(crate) fn cooldown_until(&self) -> Option<Instant> {
        let cooldown = |lane: &Lane| lane.state().channel().and_then(|channel| channel.cooldown_until());
        self.lanes.iter().filter_map(cooldown).min()
    }

    pub(crate) fn reconnect(&self) -> Reconnect {
        if self.reconnects_eagerly.load(Ordering::Relaxed) { Reconnect::Eagerly } else { Reconnect::Normally }
    }

    /// Sets how long the endpoint waits between two connects, from the next failure on.
    pub(crate) fn set_reconnect(&self, reconnect: Reconnect) {
        self.reconnects_eagerly.store(reconnect == Reconnect::Eagerly, Ordering::Relaxed);
    }

    /// Requests connects before their backoffs have passed. Returns whether any connection waits for its backoff.
    pub(crate) fn request_connect(&self) -> bool {
        self.lanes.iter().fold(false, |any, lane| lane.request_connect() | any)
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
        for lane in &self.lanes {
            if let Some(channel) = lane.state().channel() {
                channel.retire();
            }
        }
        self.changes.notify();
    }

    /// Returns whether a connection has bytes that its driver has not taken, such as those of one-way calls.
    pub(crate) fn has_output(&self) -> bool {
        self.any_channel(Channel::has_output)
    }

    /// Aborts the watchdogs and with them the connections.
    pub(crate) fn abort(&self) {
        self.retired.cancel();
        self.lanes.iter().for_each(Lane::abort);
    }

    /// Returns the connections.
    pub(super) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Changes the state of a connection.
    pub(crate) fn set_connection(&self, lane: usize, state: ConnectionState) {
        if matches!(state, ConnectionState::Connected(_)) {
            self.ejection.end();
        }
        self.lanes[lane].set(state);
        self.changes.notify();
    }

    fn any_channel(&self, condition: impl Fn(&Channel) -> bool) -> bool {
        self.lanes.iter().any(|lane| lane.state().channel().is_some_and(|channel| condition(channel)))
    }
}
