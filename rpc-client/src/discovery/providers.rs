//! [`ServiceProviders`]: the current provider list of one service.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use rpc_core::ServiceId;
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use super::{
    affinity::AddressHashes,
    balance::{Balance, Shares},
    balancer::{Balancer, ProviderSnapshot},
    comparison::Comparison,
    plan::{Group, Plan},
    traits::Traits,
};
use crate::{
    connection::{channel::Channel, load::Load},
    endpoint::{Endpoint, state::EndpointState},
    rng::RngSource,
    statistics::ServiceStatus,
};

/// The current provider list of one service.
///
/// The follower publishes lists; callers pick from them without a lock.
#[derive(Debug)]
pub(crate) struct ServiceProviders {
    service: ServiceId,
    current: ArcSwap<ProviderList>,
    /// Wakes the calls that wait for a provider, the longest waiting one first.
    ready: Notify,
    /// Wakes the calls that wait only while a provider may accept calls soon.
    exhausted: Notify,
    /// Wakes the programs that wait until the state of no provider is pending.
    settled: Notify,
    /// Notified when an endpoint of the list changes.
    endpoints: Arc<Notify>,
    /// Whether the follower's task was dropped, and no other one has replaced it.
    interrupted: AtomicBool,
    /// The position of round robin.
    turn: AtomicUsize,
    /// Whether calls have affinity keys, whose owners may be any providers.
    uses_keys: AtomicBool,
    /// When the registry reported the present list.
    listed_at: Mutex<Option<Instant>>,
    /// The calls of the providers before the present window.
    comparison: Mutex<Comparison>,
    /// The providers with incompatible contracts that the follower has not yet replaced in the subset.
    incompatible: Mutex<Vec<SocketAddr>>,
}

/// The choice of a provider that a call requests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Selection<'a> {
    pub(crate) balance: Balance,
    /// The policy of the program, which replaces `balance`.
    pub(crate) balancer: Option<&'a dyn Balancer>,
    /// The hash of the affinity key.
    pub(crate) affinity: Option<u64>,
    pub(crate) tag: Option<&'a str>,
    /// Whether only providers with the tag may be picked.
    pub(crate) forces_tag: bool,
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
    /// Whether more than half of `endpoints` are ejected, so that calls treat them like the others.
    ///
    /// The services that list an endpoint share its ejection, and each of them ejects at most half of its own list.
    pub(crate) ignores_ejections: bool,
    /// The channels of `endpoints` with one connection, when the list was made.
    ///
    /// A pick reads them in place of the endpoint, as long as they accept calls.
    pub(super) channels: Vec<Option<Arc<Channel>>>,
    /// The facts in the registrations of `endpoints`.
    pub(super) traits: Vec<Traits>,
    /// The shares of `endpoints`.
    pub(super) plan: Plan,
    /// The hashes of the addresses of `endpoints`.
    pub(super) hashes: AddressHashes,
    /// The providers to which the client does not connect, because it uses a subset.
    pub(crate) outside: Vec<SocketAddr>,
    /// The providers that receive no calls because their weight is 0 and that of others is not.
    pub(crate) weightless: Vec<SocketAddr>,
    /// The providers that an operator has disabled in the registry.
    pub(crate) disabled: Vec<SocketAddr>,
}

impl ServiceProviders {
    pub(crate) fn new(service: ServiceId) -> Self {
        Self {
            service,
            current: ArcSwap::default(),
            ready: Notify::new(),
            exhausted: Notify::new(),
            settled: Notify::new(),
            endpoints: Arc::default(),
            interrupted: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            uses_keys: AtomicBool::new(false),
            listed_at: Mutex::default(),
            comparison: Mutex::default(),
            incompatible: Mutex::default(),
        }
    }

    pub(crate) fn service(&self) -> &ServiceId {
        &self.service
    }

    pub(crate) fn list(&self) -> Guard<Arc<ProviderList>> {
        self.current.load()
    }

    /// Picks a channel that is eligible for calls and passes `filter`.
    ///
    /// The order of preference: providers with the tag of the call, then those without a tag, in both cases first those
    /// that are not ejected.
    pub(crate) fn pick(
        &self,
        selection: Selection<'_>,
        rng: &RngSource,
        filter: impl Fn(&Arc<Channel>) -> bool,
    ) -> Option<Arc<Channel>> {
        let list = self.list();
        if selection.affinity.is_some() && !list.outside.is_empty() {
            self.use_keys();
            return None;
        }
        let load = |index: usize| list.load(index, &filter);
        let load_if_admitted = |index: usize| {
            let admitted = list.ignores_ejections || list.endpoints[index].ejection().admits();
            if admitted { load(index) } else { None }
        };
        let tagged = list.plan.group(selection.tag);
        let untagged = if selection.tag.is_some() && !selection.forces_tag { list.plan.group(None) } else { None };
        let groups = || [tagged, untagged].into_iter().flatten();
        let index = groups()
            .find_map(|group| self.pick_index(&list, group, selection, rng, load_if_admitted))
            .or_else(|| groups().find_map(|group| self.pick_index(&list, group, selection, rng, load)))?;
        list.endpoints[index].ejection().take_permit();
        list.channel(index).cloned().or_else(|| list.endpoints[index].eligible_channel()).filter(&filter)
    }

    /// Picks one of the providers of a group for which `load` returns a load.
    fn pick_index(
        &self,
        list: &ProviderList,
        group: &Group,
        selection: Selection<'_>,
        rng: &RngSource,
        load: impl Fn(usize) -> Option<Load>,
    ) -> Option<usize> {
        if let Some(key) = selection.affinity {
            let score = |index| list.hashes.score(index, key);
            return group.owners().rendezvous(score, |index| load(index).is_some());
        }
        if let Some(balancer) = selection.balancer {
            return list.select(balancer, group, rng.number(), load);
        }
        let (capacities, zones) = (list.plan.capacities(), list.plan.zones());
        let mut random = rng.split();
        let mut pick =
            |draws, zones| selection.balance.pick(Shares { draws, capacities, zones }, &self.turn, &mut random, &load);
        match group.near().and_then(|near| pick(near, Some(zones))) {
            Some(index) => Some(index),
            None => pick(group.all(), None),
        }
    }

    /// Returns a future that resolves when a provider accepts calls.
    ///
    /// It counts events after this call, not after its first poll.
    pub(crate) fn ready(&self) -> Notified<'_> {
        self.ready.notified()
    }

    /// Returns a future that resolves when no provider may accept calls soon: none is pending or in a cooldown.
    ///
    /// It counts events like [`ready`](Self::ready).
    pub(crate) fn exhausted(&self) -> Notified<'_> {
        self.exhausted.notified()
    }

    /// Returns a future that resolves when the state of no provider is pending, counted like [`ready`](Self::ready).
    pub(crate) fn settled(&self) -> Notified<'_> {
        self.settled.notified()
    }

    /// Wakes the calls whose wait the states of the providers may end.
    ///
    /// Other changes wake no call: otherwise the cost would grow with the product of providers and waiting calls. In a
    /// cooldown of a provider, calls wait for its end.
    pub(super) fn wake_calls(&self) {
        let list = self.list();
        if list.is_ready() {
            self.ready.notify_waiters();
        }
        if list.is_settled() {
            self.settled.notify_waiters();
            if list.cooldown_until().is_none() {
                self.exhausted.notify_waiters();
            }
        }
    }

    /// Wakes all calls that wait for a provider.
    pub(super) fn wake_all_calls(&self) {
        self.ready.notify_waiters();
        self.exhausted.notify_waiters();
        self.settled.notify_waiters();
    }

    /// Returns the notification of changes of the listed endpoints, for the follower.
    pub(super) fn endpoints(&self) -> &Arc<Notify> {
        &self.endpoints
    }

    /// Requests connections to all providers, because the call has an affinity key.
    #[cold]
    fn use_keys(&self) {
        if !self.uses_keys.swap(true, Ordering::AcqRel) {
            self.endpoints.notify_one();
        }
    }

    /// Returns whether calls have affinity keys.
    pub(crate) fn uses_keys(&self) -> bool {
        self.uses_keys.load(Ordering::Acquire)
    }

    /// Requests the replacement of a provider whose contract is incompatible.
    ///
    /// Returns whether the client uses a subset, so that other providers may replace it.
    #[cold]
    pub(crate) fn report_incompatible(&self, address: SocketAddr) -> bool {
        if self.list().outside.is_empty() {
            return false;
        }
        let mut incompatible = self.lock_incompatible();
        if !incompatible.contains(&address) {
            incompatible.push(address);
        }
        drop(incompatible);
        self.endpoints.notify_one();
        true
    }

    /// Returns whether the follower has not yet replaced a provider whose contract is incompatible.
    pub(crate) fn is_replacing(&self) -> bool {
        !self.lock_incompatible().is_empty()
    }

    /// Returns the providers whose contracts are incompatible, which the follower replaces.
    pub(super) fn incompatible(&self) -> Vec<SocketAddr> {
        self.lock_incompatible().clone()
    }

    /// Records that the follower has handled the first `count` reports of incompatible contracts.
    pub(super) fn clear_incompatible(&self, count: usize) {
        self.lock_incompatible().drain(..count);
    }

    fn lock_incompatible(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.incompatible.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the registry reported a list.
    pub(super) fn set_listed(&self, now: Instant) {
        *self.listed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Returns the status of the list at `now`.
    pub(crate) fn status(&self, now: Instant) -> ServiceStatus {
        let list = self.list();
        let listed_at = *self.listed_at.lock().unwrap_or_else(PoisonError::into_inner);
        ServiceStatus {
            service: self.service.clone(),
            providers: list.endpoints.len(),
            is_stale: list.stale,
            age: listed_at.map(|at| now.saturating_duration_since(at)),
        }
    }

    /// Locks the comparison of failures, which no successful call does.
    pub(super) fn comparison(&self) -> MutexGuard<'_, Comparison> {
        self.comparison.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a list without a follower.
    #[cfg(feature = "bench")]
    pub(crate) fn publish_for_benchmark(
        &self,
        instances: Vec<rpc_core::Instance>,
        connect: impl Fn(&rpc_core::Instance) -> Arc<Endpoint>,
        warmth: impl Fn(usize) -> f64,
        zone: Option<&str>,
    ) {
        let traits: Vec<Traits> = instances.iter().map(Traits::of).collect();
        let endpoints: Vec<_> = instances.iter().map(connect).collect();
        let member = |(number, traits): (usize, _)| super::plan::Member {
            traits,
            weight: instances[number].weight(),
            warmth: warmth(number),
            is_usable: true,
        };
        let plan = Plan::new(&traits.iter().enumerate().map(member).collect::<Vec<_>>(), zone);
        let hashes = AddressHashes::new(endpoints.iter().map(|endpoint| endpoint.address()));
        let channels = endpoints.iter().map(|endpoint| endpoint.only_channel()).collect();
        self.publish(ProviderList { answered: true, endpoints, channels, plan, traits, hashes, ..Default::default() });
    }

    pub(super) fn publish(&self, list: ProviderList) {
        self.current.store(Arc::new(list));
    }

    /// Records that the follower's task was dropped.
    pub(super) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
    }

    /// Returns whether the caller must start another follower.
    pub(super) fn take_interruption(&self) -> bool {
        self.interrupted.load(Ordering::Acquire) && self.interrupted.swap(false, Ordering::AcqRel)
    }
}

impl ProviderList {
    /// Returns the channel of a provider at the time of the list, if it accepts calls.
    fn channel(&self, index: usize) -> Option<&Arc<Channel>> {
        self.channels.get(index)?.as_ref().filter(|channel| channel.is_eligible())
    }

    /// Returns the load of a provider, if its channel accepts calls and passes `filter`.
    fn load(&self, index: usize, filter: impl Fn(&Arc<Channel>) -> bool) -> Option<Load> {
        match self.channel(index) {
            Some(channel) => filter(channel).then(|| channel.current_load()),
            // It has another connection by now, or several.
            None => self.endpoints[index].load(filter),
        }
    }

    /// Returns the state of one of its endpoints for calls of this service.
    pub(super) fn state(&self, endpoint: &Endpoint) -> EndpointState {
        match endpoint.state() {
            EndpointState::Ejected { in_flight, .. } if self.ignores_ejections => EndpointState::Ready { in_flight },
            state => state,
        }
    }

    /// Selects one of the providers of a group for which `load` returns a load, by the policy of the program.
    fn select(
        &self,
        balancer: &dyn Balancer,
        group: &Group,
        random: u64,
        load: impl Fn(usize) -> Option<Load>,
    ) -> Option<usize> {
        let usable = (0..self.endpoints.len()).filter(|index| group.contains(*index));
        let usable: Vec<(usize, Load)> = usable.filter_map(|index| Some((index, load(index)?))).collect();
        if usable.is_empty() {
            return None;
        }
        let snapshot = |(index, load): &(usize, Load)| ProviderSnapshot {
            address: self.endpoints[*index].address(),
            weight: self.plan.capacities()[*index],
            zone: self.traits[*index].zone.as_deref(),
            is_far: group.is_far(*index),
            in_flight: load.in_flight,
            latency: (load.latency > 0).then(|| Duration::from_nanos(load.latency)),
        };
        let snapshots: Vec<_> = usable.iter().map(snapshot).collect();
        Some(usable.get(balancer.select(&snapshots, random)?)?.0)
    }

    /// Returns the number of ejected endpoints.
    pub(super) fn ejected(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.ejection().is_active()).count()
    }

    /// Returns whether fewer than half of the providers accept calls and are not ejected.
    pub(super) fn is_short(&self) -> bool {
        let usable = self.endpoints.iter().filter(|one| one.is_eligible() && !one.ejection().is_active());
        usable.count() * 2 < self.endpoints.len()
    }

    /// Ends the ejections whose time has passed. Returns the time until the next change of one.
    pub(super) fn advance_ejections(&self, now: Instant) -> Option<Duration> {
        self.endpoints.iter().filter_map(|endpoint| endpoint.advance_ejection(now)).min()
    }

    /// Requests connects to some of the providers that wait for their backoff, beginning with number `first`.
    ///
    /// Returns whether any was requested. With many providers, the first few decide whether the network is back.
    pub(crate) fn request_connects(&self, first: usize) -> bool {
        let count = self.endpoints.len();
        let in_turn = (0..count).map(|offset| &self.endpoints[(first + offset) % count]);
        in_turn.filter(|endpoint| endpoint.request_connect()).take(MAX_REQUESTED).count() > 0
    }

    /// Returns whether a requested connect has not begun.
    pub(crate) fn is_connect_requested(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.is_connect_requested())
    }

    /// Returns whether the registry has answered, or the list on disk is in use.
    pub(crate) fn is_known(&self) -> bool {
        self.answered || self.stale
    }

    /// Returns whether a provider accepts calls.
    pub(crate) fn is_ready(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.is_eligible())
    }

    /// Returns whether no answer of the registry or of a provider is pending that may make a provider ready soon.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_known() && !self.endpoints.iter().any(|endpoint| endpoint.is_pending())
    }

    /// Returns when the first cooldown of a provider ends.
    pub(crate) fn cooldown_until(&self) -> Option<Instant> {
        self.endpoints.iter().filter_map(|endpoint| endpoint.cooldown_until()).min()
    }

    /// Returns whether callers can distinguish the two lists.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        (self.answered, self.stale, self.ignores_ejections) != (other.answered, other.stale, other.ignores_ejections)
            || self.traits != other.traits
            || self.outside != other.outside
            || (&self.weightless, &self.disabled) != (&other.weightless, &other.disabled)
            || self.endpoints.len() != other.endpoints.len()
            || self.endpoints.iter().zip(&other.endpoints).any(|(one, other)| !Arc::ptr_eq(one, other))
    }

    /// Returns whether the two lists differ in shares or channels, which programs do not observe.
    pub(super) fn draws_differ_from(&self, other: &Self) -> bool {
        let identity = |channel: &Option<Arc<Channel>>| channel.as_ref().map(Arc::as_ptr);
        self.plan != other.plan || !self.channels.iter().map(identity).eq(other.channels.iter().map(identity))
    }
}

/// The connects that one call without a provider requests.
const MAX_REQUESTED: usize = 8;
