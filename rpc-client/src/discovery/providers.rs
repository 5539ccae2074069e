//! [`ServiceProviders`]: the current provider list of one service.

use std::{
    hash::BuildHasher,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
};

use arc_swap::{ArcSwap, Guard};
use rpc_core::ServiceId;
use tokio::sync::{Notify, futures::Notified};

use super::balance::{Balance, Weights};
use crate::{connection::channel::Channel, endpoint::Endpoint, rng::RngSource};

/// The current provider list of one service.
///
/// The follower publishes lists; callers pick from them without a lock.
#[derive(Debug)]
pub(crate) struct ServiceProviders {
    service: ServiceId,
    current: ArcSwap<ProviderList>,
    /// Notified when the follower publishes a list.
    published: Notify,
    /// The position of round robin.
    turn: AtomicUsize,
}

/// The providers of one service at one moment.
#[derive(Debug, Default)]
pub(crate) struct ProviderList {
    /// Whether the registry has answered.
    pub(crate) answered: bool,
    /// Whether this is the list on disk, which the client uses until the registry answers.
    pub(crate) stale: bool,
    /// The providers that may be called.
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// The weights of `endpoints`.
    pub(super) weights: Weights,
    /// The providers that an operator has disabled in the registry.
    pub(crate) disabled: Vec<SocketAddr>,
}

impl ServiceProviders {
    pub(crate) fn new(service: ServiceId) -> Self {
        Self { service, current: ArcSwap::default(), published: Notify::new(), turn: AtomicUsize::new(0) }
    }

    pub(crate) fn service(&self) -> &ServiceId {
        &self.service
    }

    pub(crate) fn list(&self) -> Guard<Arc<ProviderList>> {
        self.current.load()
    }

    /// Picks a channel that is eligible for calls and passes `filter`.
    pub(crate) fn pick(
        &self,
        balance: Balance,
        affinity: Option<u64>,
        rng: &RngSource,
        filter: impl Fn(&Arc<Channel>) -> bool,
    ) -> Option<Arc<Channel>> {
        let list = self.list();
        let channel = |index: usize| list.endpoints[index].eligible_channel().filter(&filter);
        if list.endpoints.len() == 1 {
            return channel(0);
        }
        let index = match affinity {
            Some(key) => {
                let state = foldhash::quality::FixedState::default();
                let hash = |index: usize| state.hash_one((key, list.endpoints[index].address()));
                list.weights.rendezvous(hash, |index| channel(index).is_some())?
            }
            None => {
                let load = |index| channel(index).and_then(|channel| channel.load());
                balance.pick(&list.weights, &self.turn, &mut rng.rng(), load)?
            }
        };
        channel(index)
    }

    /// Returns a future that resolves with the first list published after this call, not its first poll.
    pub(crate) fn next(&self) -> Notified<'_> {
        self.published.notified()
    }

    pub(super) fn publish(&self, list: ProviderList) {
        self.current.store(Arc::new(list));
        self.published.notify_waiters();
    }
}

impl ProviderList {
    /// Returns whether callers can distinguish the two lists.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        (self.answered, self.stale) != (other.answered, other.stale)
            || self.weights != other.weights
            || self.disabled != other.disabled
            || self.endpoints.len() != other.endpoints.len()
            || self.endpoints.iter().zip(&other.endpoints).any(|(one, other)| !Arc::ptr_eq(one, other))
    }
}
