//! The private data structures on the path of a call, for the benchmarks of the package `bench`.
//!
//! Not a public API.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    task::Waker,
};

use rand::Rng;
use rpc_core::{
    Instance, ServiceId,
    frame::Frame,
    transport::{Outbox, TransportConfig},
};
use tokio::time::Instant;

use crate::{
    changes::Subscribers,
    connection::{
        channel::Channel,
        in_flight::{CallId, CallStatus, Delivered, InFlightTable, NewCall, Outcome},
        load::Load,
    },
    discovery::{
        affinity::AddressHashes,
        balance::{Balance, Shares},
        providers::{Selection, ServiceProviders},
        weights::Weights,
    },
    endpoint::{Endpoint, Reconnect, connection_state::ConnectionState},
    rng::RngSource,
};

/// The in-flight table of a connection.
#[derive(Debug)]
pub struct InFlightCalls(InFlightTable);

/// A call in the table.
#[derive(Debug, Clone, Copy)]
pub struct InFlightCall(CallId);

impl InFlightCalls {
    /// Creates a table with `count` calls that are not answered and expire at `deadline`.
    ///
    /// # Panics
    ///
    /// Panics if the table has fewer than `count` slots.
    pub fn with_calls(count: usize, deadline: Instant) -> Self {
        let mut calls = Self(InFlightTable::new(InFlightTable::MAX));
        for _ in 0..count {
            calls.insert(deadline).expect("the table has a free slot");
        }
        calls
    }

    /// Inserts a call, unless the table is full.
    #[inline]
    pub fn insert(&mut self, deadline: Instant) -> Option<InFlightCall> {
        let call = NewCall::until(deadline);
        self.0.insert(call).map(InFlightCall)
    }

    /// Delivers a response. Returns whether a caller waits for it.
    #[inline]
    pub fn deliver(&mut self, call: InFlightCall, response: Frame) -> bool {
        matches!(self.0.deliver(call.0.as_u32(), Outcome::Response(response)), Delivered::Accepted(..))
    }

    /// Takes the response of a call, if it has arrived.
    #[inline]
    pub fn poll(&mut self, call: InFlightCall) -> Option<Frame> {
        match self.0.poll(call.0, Waker::noop()) {
            CallStatus::Ended(Outcome::Response(response)) => Some(response),
            _ => None,
        }
    }

    /// Ends the calls that have expired by `now`. Returns their number.
    #[inline]
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        self.0.expire(now, |_, _| expired += 1);
        expired
    }
}

/// The weights of a provider list, with the state of the policies.
#[derive(Debug)]
pub struct WeightedProviders {
    weights: Weights,
    hashes: AddressHashes,
    turn: AtomicUsize,
}

impl WeightedProviders {
    /// Creates a list with one provider for each weight.
    pub fn new(weights: Vec<f64>) -> Self {
        let address = |number| SocketAddr::from(([127, 0, 0, 1], number as u16));
        let hashes = AddressHashes::new((0..weights.len()).map(address));
        Self { weights: Weights::new(weights), hashes, turn: AtomicUsize::new(0) }
    }

    /// Picks one of the providers for which `load` returns a number of calls in flight.
    #[inline]
    pub fn pick(
        &self,
        balance: Balance,
        random: &mut impl Rng,
        load: impl Fn(usize) -> Option<usize>,
    ) -> Option<usize> {
        let shares = Shares { draws: &self.weights, capacities: self.weights.each(), zones: None };
        balance.pick(shares, &self.turn, random, |index| {
            Some(Load { in_flight: load(index)? as u32, latency: 1000, typical: 160 })
        })
    }

    /// Picks the provider of the affinity key with this hash.
    #[inline]
    pub fn pick_by_key(&self, key: u64) -> Option<usize> {
        self.weights.rendezvous(|index| self.hashes.score(index, key), |_| true)
    }
}

/// The providers of a service with open connections, zones, tags and slow starts.
#[derive(Debug)]
pub struct RoutedProviders {
    providers: ServiceProviders,
    random: RngSource,
}

impl RoutedProviders {
    /// Creates `count` providers in three zones, of which a fifth has a tag and a fifth is in its slow start.
    pub fn new(count: usize) -> Self {
        let instances = (0..count).map(|number| {
            let instance = Instance::new(([127, 0, 0, 1], number as u16).into()).with_weight(1.0 + (number % 4) as f64);
            let instance = instance.with_metadata(Instance::ZONE, ["a", "b", "c"][number % 3]);
            if number % 5 == 4 { instance.with_metadata(Instance::TAGS, "gray") } else { instance }
        });
        let providers = ServiceProviders::new(ServiceId::from_static("bench.Echo", "1.0"));
        let connected = |instance: &Instance| {
            let endpoint = Endpoint::new(instance.address(), 1, Reconnect::Normally, Subscribers::default());
            let outbox = Arc::new(Outbox::new(1000));
            let channel = Channel::new(instance.address(), outbox, 1024, Arc::default(), &TransportConfig::default());
            channel.prove();
            endpoint.set_connection(0, ConnectionState::Connected(Arc::new(channel)));
            Arc::new(endpoint)
        };
        let warmth = |number: usize| if number.is_multiple_of(5) { 0.4 } else { 1.0 };
        providers.publish_for_benchmark(instances.collect(), connected, warmth, Some("a"));
        Self { providers, random: RngSource::new(None) }
    }

    /// Picks a channel for a call with this tag. Returns whether there is one.
    pub fn pick(&self, balance: Balance, tag: Option<&str>) -> bool {
        let selection = Selection { balance, tag, ..Default::default() };
        self.providers.pick(selection, &self.random, |_| true).is_some()
    }
}
