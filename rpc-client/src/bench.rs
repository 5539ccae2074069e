//! The private data structures on the path of a call, for the benchmarks of the package `bench`.
//!
//! Not a public API.

use std::{net::SocketAddr, sync::atomic::AtomicUsize, task::Waker};

use rand::Rng;
use rpc_core::frame::Frame;
use tokio::time::Instant;

use crate::{
    connection::in_flight::{CallId, CallStatus, Delivered, InFlightTable, NewCall, Outcome},
    connection::load::Load,
    discovery::{
        affinity::AddressHashes,
        balance::{Balance, Shares},
        weights::Weights,
    },
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
        let call = NewCall {
            sent_at: deadline,
            deadline,
            hedge_at: None,
            has_waited: false,
            has_streams: false,
            waker: Waker::noop(),
        };
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
        let shares = Shares { draws: &self.weights, capacities: self.weights.each() };
        balance.pick(shares, &self.turn, random, |index| Some(Load { in_flight: load(index)? as u32, latency: 1000 }))
    }

    /// Picks the provider of the affinity key with this hash.
    #[inline]
    pub fn pick_by_key(&self, key: u64) -> Option<usize> {
        self.weights.rendezvous(|index| self.hashes.score(index, key), |_| true)
    }
}
