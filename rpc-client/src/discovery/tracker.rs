//! [`Tracker`]: the follower's record of each provider between two lists.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rpc_core::{Instance, contained, deadline_after};
use tokio::{sync::Notify, time::Instant};
use tracing::info;

use super::{
    affinity::AddressHashes,
    plan::{Member, Plan},
    providers::ProviderList,
    slow_start::warmth,
    standing::{Standing, StandingRecord},
    subset::{Candidate, MAX_WITHOUT_SUBSET, Order, subset},
    traits::Traits,
};
use crate::endpoint::{Endpoint, Reconnect, pool::EndpointPool, state::EndpointState};

/// The providers of one service, from one list of the registry to the next.
///
/// It holds a pool reference for each endpoint.
pub(crate) struct Tracker {
    pool: Arc<EndpointPool>,
    /// Notified when an endpoint of the service changes.
    follower: Arc<Notify>,
    /// Sorted by address, so that a seed repeats the order of events.
    providers: BTreeMap<SocketAddr, TrackedProvider>,
    /// The endpoints that left the list and still have their references.
    removed: Vec<Arc<Endpoint>>,
    /// Whether the registry or the disk has provided a list.
    has_list: bool,
    /// Whether calls require connections to all providers.
    uses_all: bool,
    /// Whether the client uses a subset of the providers.
    has_subset: bool,
    /// When the passage of time alone may change the subset.
    subset_check: Option<Instant>,
}

struct TrackedProvider {
    instance: Instance,
    traits: Traits,
    /// When the provider started, if that was less than the time of slow start before it was listed.
    started: Option<Instant>,
    standing: StandingRecord,
    listing: Listing,
}

/// Whether the registry lists a provider, and whether the client uses it.
enum Listing {
    Listed(Arc<Endpoint>),
    /// The registry stopped listing the provider, but its connection is open.
    ///
    /// The client keeps using it for a grace period, because a restarted registry lists nothing for a while. An
    /// unresponsive peer or one in cooldown stays too: if it is dead, its connection closes soon.
    Delisted {
        endpoint: Arc<Endpoint>,
        since: Instant,
    },
    /// The client does not connect to the provider, because it uses a subset of the providers.
    Outside,
    /// Too many connects failed.
    ///
    /// The client connects again after this time if the registry still lists the provider.
    Evicted {
        until: Instant,
    },
}

impl Tracker {
    pub(crate) fn new(pool: Arc<EndpointPool>, follower: Arc<Notify>) -> Self {
        Self {
            pool,
            follower,
            providers: BTreeMap::new(),
            removed: Vec::new(),
            has_list: false,
            uses_all: false,
            has_subset: false,
            subset_check: None,
        }
    }

    /// Applies the registry's list and the endpoints' states.
    ///
    /// Returns when to call this again at the latest. The caller publishes the list and then calls
    /// [`release_removed`](Self::release_removed).
    pub(crate) fn update(&mut self, listed: Option<&[Instance]>, now: Instant) -> Option<Instant> {
        let listed = listed?;
        for instance in listed {
            self.apply(instance, now);
        }
        self.has_list = true;
        let listed: HashMap<SocketAddr, &Instance> =
            listed.iter().map(|instance| (instance.address(), instance)).collect();
        let grace = self.pool.config().delisted_grace;
        let mut removed = std::mem::take(&mut self.removed);
        // Ignore a list that would remove every provider that answers.
        let any_listed_alive = self.providers.iter().any(|(address, provider)| {
            listed.contains_key(address)
                && provider.instance.is_enabled()
                && provider.listing.endpoint().is_some_and(|endpoint| endpoint.is_alive())
        });
        self.providers.retain(|address, provider| {
            let expires = |since| any_listed_alive && now >= deadline_after(since, grace);
            provider.advance(listed.contains_key(address), expires, now, &mut removed)
        });
        self.removed = removed;
        self.select_subset(now);
        self.keep_enough();
        // A provider that outlasts its grace period needs no timer: a list or a state change triggers the next update.
        let checks = self.providers.values().filter_map(|provider| provider.next_check(grace));
        checks.chain(self.subset_check).filter(|at| *at > now).min()
    }

    /// Releases the endpoints that left the list, after the list without them is published.
    ///
    /// In this order no call finds only retired endpoints and fails, although the next list has others.
    pub(crate) fn release_removed(&mut self) {
        self.removed.drain(..).for_each(|endpoint| self.pool.release(&endpoint, &self.follower));
    }

    /// Connects to the providers of the subset, and releases the endpoints of the others.
    ///
    /// Every provider is in the subset if there are at most [`MAX_WITHOUT_SUBSET`].
    fn select_subset(&mut self, now: Instant) {
        let config = Arc::clone(self.pool.config());
        let (called, _) = self.enabled();
        let size = config.subset.filter(|_| called.len() > MAX_WITHOUT_SUBSET && !self.uses_all);
        let standings: HashMap<SocketAddr, Standing> = match size {
            None => HashMap::new(),
            Some(_) => self.providers.iter_mut().map(|(address, provider)| (*address, provider.observe(now))).collect(),
        };
        let (called, _) = self.enabled();
        let changes = called.iter().filter(|_| size.is_some()).filter_map(|one| one.standing.next_change(now));
        let next_change = changes.min();
        let outside: Vec<SocketAddr> = match size {
            None => Vec::new(),
            Some(size) => {
                let standing = |provider: &TrackedProvider| standings[&provider.instance.address()];
                let candidates: Vec<_> = called.iter().map(|provider| provider.candidate(standing(provider))).collect();
                let order = match config.client_number {
                    Some(number) => Order::Numbered(number),
                    None => Order::Random(self.pool.subset_key()),
                };
                let chosen = subset(&candidates, order, size, config.zone.as_deref());
                let outside = candidates.iter().zip(chosen).filter(|(_, chosen)| !chosen);
                outside.map(|(candidate, _)| candidate.address).collect()
            }
        };
        (self.has_subset, self.subset_check) = (!outside.is_empty(), next_change);
        let outside: HashSet<SocketAddr> = outside.into_iter().collect();
        for (address, provider) in &mut self.providers {
            match (&provider.listing, outside.contains(address)) {
                (Listing::Listed(endpoint) | Listing::Delisted { endpoint, .. }, true) => {
                    self.removed.push(Arc::clone(endpoint));
                    provider.listing = Listing::Outside;
                }
                (Listing::Evicted { .. }, true) => provider.listing = Listing::Outside,
                (Listing::Outside, false) => {
                    let endpoint = self.pool.reference(&provider.instance, Reconnect::Normally, &self.follower);
                    provider.listing = Listing::Listed(endpoint);
                }
                _ => {}
            }
        }
    }

    /// Connects to all providers from now on, whatever their number is.
    pub(crate) fn use_all(&mut self) {
        self.uses_all = true;
    }

    /// Records that the contract of a provider is incompatible, so that another one replaces it in the subset.
    ///
    /// At most [`MAX_INCOMPATIBLE`] providers are replaced, so that a client whose contract is too new for all of them does
    /// not connect to each.
    pub(crate) fn set_incompatible(&mut self, address: SocketAddr, now: Instant) {
        let known = self.providers.values().filter(|provider| provider.standing.is_incompatible(now)).count();
        if let Some(provider) = self.providers.get_mut(&address).filter(|_| known < MAX_INCOMPATIBLE) {
            provider.standing.set_incompatible(now);
        }
    }

    /// Reconnects to the evicted providers if fewer than half of those that receive calls are usable.
    ///
    /// This is the panic threshold: such a fault is rather one of the network or of all providers, whose end the client
    /// must notice soon.
    fn keep_enough(&mut self) {
        let (called, _) = self.enabled();
        let endpoints = || called.iter().filter_map(|provider| provider.listing.endpoint());
        let usable = endpoints().filter(|one| one.is_eligible() && !one.ejection().is_active()).count();
        let is_short = usable * 2 < called.iter().filter(|one| !matches!(one.listing, Listing::Outside)).count();
        let reconnect = if is_short { Reconnect::Eagerly } else { Reconnect::Normally };
        endpoints().for_each(|endpoint| endpoint.set_reconnect(reconnect));
        if !is_short {
            return;
        }
        let evicted = called.into_iter().filter(|provider| matches!(provider.listing, Listing::Evicted { .. }));
        let evicted: Vec<Instance> = evicted.map(|provider| provider.instance.clone()).collect();
        for instance in evicted {
            let endpoint = self.reference(&instance, Reconnect::Eagerly);
            let provider = self.providers.get_mut(&instance.address());
            provider.into_iter().for_each(|provider| provider.listing = Listing::Listed(Arc::clone(&endpoint)));
        }
    }

    /// Returns the enabled providers that receive calls, and those that receive none because their weight is 0.
    ///
    /// If all weights are 0, all providers receive calls.
    fn enabled(&self) -> (Vec<&TrackedProvider>, Vec<&TrackedProvider>) {
        let enabled = || self.providers.values().filter(|provider| provider.instance.is_enabled());
        let has_weight = |provider: &&TrackedProvider| provider.instance.weight() > 0.0;
        if enabled().any(|provider| has_weight(&provider)) {
            enabled().partition(has_weight)
        } else {
            (enabled().collect(), Vec::new())
        }
    }

    fn reference(&self, instance: &Instance, reconnect: Reconnect) -> Arc<Endpoint> {
        self.pool.reference(instance, reconnect, &self.follower)
    }

    /// Applies one instance of the registry's list.
    fn apply(&mut self, instance: &Instance, now: Instant) {
        let address = instance.address();
        // A provider that registers again has a new start time in its metadata.
        let registered_anew = self.providers.get(&address).is_none_or(|provider| provider.instance != *instance);
        let read = registered_anew.then(|| {
            let traits = Traits::of(instance);
            let started = self.started(&traits, now);
            (traits, started)
        });
        let Some(provider) = self.providers.get_mut(&address) else {
            let (traits, started) = read.unwrap_or_default();
            // `select_subset` decides whether the client connects to it.
            let listing = Listing::Outside;
            let (instance, standing) = (instance.clone(), StandingRecord::default());
            self.providers.insert(address, TrackedProvider { instance, traits, started, standing, listing });
            return;
        };
        if let Some((traits, started)) = read {
            if provider.traits.start() != traits.start() {
                provider.started = started;
            }
            (provider.instance, provider.traits) = (instance.clone(), traits);
            provider.standing.forget_incompatibility();
            provider.listing.endpoint().into_iter().for_each(|endpoint| endpoint.update_metadata(instance));
        }
        match &provider.listing {
            Listing::Listed(_) | Listing::Outside => {}
            Listing::Delisted { endpoint, .. } => provider.listing = Listing::Listed(Arc::clone(endpoint)),
            Listing::Evicted { until } if registered_anew || now >= *until => {
                provider.listing = Listing::Listed(self.pool.reference(instance, Reconnect::Normally, &self.follower));
                contained(|| info!(%address, "reconnecting to an evicted provider that the registry still lists"));
            }
            Listing::Evicted { .. } => {}
        }
    }

    /// Returns when a provider started that is listed at `now`, if its registration states it and it is in its slow start.
    ///
    /// A client with a seed does not read the system's clock: a provider starts when it joins the list.
    fn started(&self, traits: &Traits, now: Instant) -> Option<Instant> {
        let config = self.pool.config();
        let age = match config.seed {
            None => traits.age(SystemTime::now()),
            Some(_) => self.has_list.then_some(Duration::ZERO),
        };
        age.filter(|age| *age < config.slow_start).and_then(|age| now.checked_sub(age))
    }

    /// Returns the listed and enabled providers, each with whether it answers now.
    pub(crate) fn enabled_instances(&self) -> Vec<(Instance, bool)> {
        let listed = self.providers.values().filter(|provider| !matches!(provider.listing, Listing::Delisted { .. }));
        let enabled = listed.filter(|provider| provider.instance.is_enabled());
        enabled
            .map(|provider| {
                let answers = provider.listing.endpoint().is_some_and(|endpoint| endpoint.eligible_channel().is_some());
                (provider.instance.clone(), answers)
            })
            .collect()
    }

    /// Returns whether an operator has disabled any provider.
    pub(crate) fn has_disabled(&self) -> bool {
        self.providers.values().any(|provider| !provider.instance.is_enabled())
    }

    /// Returns the list to publish at `now`.
    pub(crate) fn list(&self, answered: bool, stale: bool, now: Instant) -> ProviderList {
        let (called, weightless) = self.enabled();
        let weightless = weightless.into_iter().map(|provider| provider.instance.address()).collect();
        let disabled = self.providers.values().filter(|provider| !provider.instance.is_enabled());
        let disabled = disabled.map(|provider| provider.instance.address()).collect();
        let outside = called.iter().filter(|provider| matches!(provider.listing, Listing::Outside));
        let outside = outside.map(|provider| provider.instance.address()).collect();
        let called: Vec<_> =
            called.into_iter().filter_map(|provider| Some((provider, provider.listing.endpoint()?))).collect();
        called.iter().for_each(|(_, endpoint)| _ = endpoint.advance_ejection(now));
        let window = self.pool.config().slow_start;
        let members = called.iter().map(|(provider, endpoint)| {
            let since = provider.started.max(endpoint.ejection().returned());
            Member {
                traits: &provider.traits,
                weight: provider.instance.weight(),
                warmth: since.map_or(1.0, |since| warmth(now.saturating_duration_since(since), window)),
                is_usable: endpoint.is_eligible() && !endpoint.ejection().is_active(),
            }
        });
        // The subset has the shares of the zones already.
        let zone = self.pool.config().zone.as_deref().filter(|_| !self.has_subset);
        let plan = Plan::new(&members.collect::<Vec<_>>(), zone);
        let traits = called.iter().map(|(provider, _)| provider.traits.clone()).collect();
        let endpoints: Vec<_> = called.into_iter().map(|(_, endpoint)| Arc::clone(endpoint)).collect();
        let channels = endpoints.iter().map(|endpoint| endpoint.only_channel()).collect();
        let hashes = AddressHashes::new(endpoints.iter().map(|endpoint| endpoint.address()));
        let mut list = ProviderList {
            answered,
            stale,
            endpoints,
            channels,
            ignores_ejections: false,
            traits,
            plan,
            hashes,
            outside,
            weightless,
            disabled,
        };
        let ejected = list.ejected();
        list.ignores_ejections = ejected > 0 && (!list.permits_ejections(ejected) || list.is_short());
        list
    }
}

impl TrackedProvider {
    /// Observes whether the provider works.
    fn observe(&mut self, now: Instant) -> Standing {
        match &self.listing {
            Listing::Evicted { .. } => self.standing.observe_evicted(now),
            Listing::Outside => self.standing.observe_none(now),
            Listing::Listed(endpoint) | Listing::Delisted { endpoint, .. } => self.standing.observe(endpoint, now),
        }
    }

    /// Returns the provider as a candidate for a subset.
    fn candidate(&self, standing: Standing) -> Candidate<'_> {
        Candidate {
            address: self.instance.address(),
            zone: self.traits.zone.as_deref(),
            tags: &self.traits.tags,
            weight: self.instance.weight(),
            standing,
            is_member: !matches!(self.listing, Listing::Outside),
        }
    }

    /// Applies whether the registry lists the provider, and its endpoint's state.
    ///
    /// Adds the endpoint to `removed` if it leaves the list. Returns false when the provider is to be removed.
    fn advance(
        &mut self,
        listed: bool,
        expires: impl FnOnce(Instant) -> bool,
        now: Instant,
        removed: &mut Vec<Arc<Endpoint>>,
    ) -> bool {
        let Some(endpoint) = self.listing.endpoint().cloned() else { return listed };
        if listed {
            if matches!(endpoint.state(), EndpointState::Evicted(_)) {
                removed.push(endpoint);
                self.listing = Listing::Evicted { until: now + EVICTED_FOR };
            }
            return true;
        }
        let since = match self.listing {
            Listing::Delisted { since, .. } => since,
            Listing::Listed(_) | Listing::Outside | Listing::Evicted { .. } => now,
        };
        let keep = endpoint.is_alive() && !expires(since);
        if keep {
            self.listing = Listing::Delisted { endpoint, since };
        } else {
            removed.push(endpoint);
        }
        keep
    }

    /// Returns when the passage of time alone may change the provider.
    fn next_check(&self, grace: Duration) -> Option<Instant> {
        match self.listing {
            Listing::Listed(_) | Listing::Outside => None,
            Listing::Delisted { since, .. } => Some(deadline_after(since, grace)),
            Listing::Evicted { until } => Some(until),
        }
    }
}

impl Listing {
    fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        match self {
            Self::Listed(endpoint) | Self::Delisted { endpoint, .. } => Some(endpoint),
            Self::Outside | Self::Evicted { .. } => None,
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.release_removed();
        for provider in self.providers.values() {
            let endpoint = provider.listing.endpoint();
            endpoint.into_iter().for_each(|endpoint| self.pool.release(endpoint, &self.follower));
        }
    }
}

/// How long an evicted address stays out of use while the registry continues to list it.
const EVICTED_FOR: Duration = Duration::from_secs(30);
/// The largest number of providers that a client replaces in its subset because of their contracts.
const MAX_INCOMPATIBLE: usize = 100;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rpc_core::{
        ServiceId,
        transport::{Outbox, Tcp},
    };

    use super::*;
    use crate::{
        config::ClientConfig,
        connection::{channel::Channel, credentials::Credentials},
        discovery::{
            balance::Balance,
            providers::{Selection, ServiceProviders},
        },
        endpoint::{connection_state::ConnectionState, ejection::EjectionCause},
    };

    /// A restarted registry that lists nothing for a while does not enable a disabled provider.
    #[tokio::test]
    async fn disabled_provider_is_not_called_until_enabled() {
        let (config, credentials) = (Arc::new(ClientConfig::default()), Credentials::default());
        let pool = EndpointPool::new(config, Arc::new(Tcp), credentials);
        let mut tracker = Tracker::new(pool, Arc::default());
        let now = Instant::now();
        let [one, other] = [1, 2].map(|port| Instance::new(([127, 0, 0, 1], port).into()));
        let disabled = one.clone().with_enabled(false);
        tracker.update(Some(&[one.clone(), other.clone()]), now);
        for endpoint in &tracker.list(true, false, Instant::now()).endpoints {
            let channel =
                Channel::new(endpoint.address(), Arc::new(Outbox::new(1000)), 1, Arc::default(), &Default::default());
            assert!(channel.prove());
            endpoint.set_connection(0, ConnectionState::Connected(Arc::new(channel)));
        }
        let called = |tracker: &Tracker| {
            let list = tracker.list(true, false, Instant::now());
            (list.endpoints.iter().map(|endpoint| endpoint.address()).collect::<Vec<_>>(), list.disabled)
        };

        tracker.update(Some(&[disabled.clone(), other.clone()]), now);
        assert_eq!(called(&tracker), (vec![other.address()], vec![one.address()]));
        assert_eq!(tracker.enabled_instances(), [(other.clone(), true)]);
        tracker.update(Some(&[]), now);
        assert_eq!(called(&tracker), (vec![other.address()], vec![one.address()]));
        // A list with only a disabled provider does not remove the other one.
        tracker.update(Some(&[disabled]), now + Duration::from_secs(3600));
        assert_eq!(called(&tracker), (vec![other.address()], vec![one.address()]));
        tracker.update(Some(&[one.clone(), other.clone()]), now);
        assert_eq!(called(&tracker), (vec![one.address(), other.address()], vec![]));
    }

    /// An operator takes a provider out of use with weight 0, also while no other one can be called.
    #[tokio::test]
    async fn provider_of_weight_zero_is_called_only_if_all_are() {
        let (config, credentials) = (Arc::new(ClientConfig::default()), Credentials::default());
        let pool = EndpointPool::new(config, Arc::new(Tcp), credentials);
        let mut tracker = Tracker::new(pool, Arc::default());
        let (now, address) = (Instant::now(), |port| SocketAddr::from(([127, 0, 0, 1], port)));
        let weighted = |port: u16, weight| Instance::new(address(port)).with_weight(weight);
        let called = |tracker: &Tracker| {
            let list = tracker.list(true, false, Instant::now());
            (list.endpoints.iter().map(|endpoint| endpoint.address()).collect::<Vec<_>>(), list.weightless)
        };
        tracker.update(Some(&[weighted(1, 0.0), weighted(2, 1.0), weighted(3, 2.0)]), now);
        assert_eq!(called(&tracker), (vec![address(2), address(3)], vec![address(1)]));
        let evict = |tracker: &mut Tracker, port| {
            let list = tracker.list(true, false, Instant::now());
            let endpoint = list.endpoints.iter().find(|endpoint| endpoint.address() == address(port)).unwrap();
            let error = rpc_core::Error::not_executed(rpc_core::Code::Unavailable, "refused");
            endpoint.set_connection(0, ConnectionState::Evicted(Arc::new(error)));
            endpoint.retire();
        };
        evict(&mut tracker, 2);
        let listed = [weighted(1, 0.0), weighted(2, 1.0), weighted(3, 0.0)];
        tracker.update(Some(&listed), now);
        let list = tracker.list(true, false, Instant::now());
        assert_eq!(
            called(&tracker),
            (vec![address(2)], vec![address(1), address(3)]),
            "the panic threshold counts {list:?}"
        );
        tracker.update(Some(&[weighted(1, 0.0), weighted(3, 0.0)]), now);
        assert_eq!(called(&tracker), (vec![address(1), address(3)], vec![]));
    }

    /// Another service that lists the same addresses has ejected most of them.
    #[tokio::test]
    async fn ejections_of_most_providers_are_ignored() {
        let (config, credentials) = (Arc::new(ClientConfig::default()), Credentials::default());
        let pool = EndpointPool::new(config, Arc::new(Tcp), credentials);
        let (mut tracker, now) = (Tracker::new(Arc::clone(&pool), Arc::default()), Instant::now());
        let instances = [1, 2, 3].map(|port| Instance::new(([127, 0, 0, 1], port).into()));
        tracker.update(Some(&instances), now);
        let endpoints = tracker.list(true, false, now).endpoints;
        for endpoint in &endpoints {
            let channel =
                Channel::new(endpoint.address(), Arc::new(Outbox::new(1000)), 1, Arc::default(), &Default::default());
            assert!(channel.prove());
            endpoint.set_connection(0, ConnectionState::Connected(Arc::new(channel)));
        }
        let picked = |list: ProviderList| {
            let providers = ServiceProviders::new(ServiceId::from_static("demo.Greeter", "1.0"));
            providers.publish(list);
            let selection = Selection { balance: Balance::RoundRobin, ..Default::default() };
            let pick = || providers.pick(selection, pool.rng(), |_| true);
            (0..3).map(|_| pick().unwrap().address().port()).collect::<BTreeSet<_>>()
        };
        assert_eq!(picked(tracker.list(true, false, now)), [1, 2, 3].into());
        let duration = endpoints[0].ejection().begin(EjectionCause::Probe, now);
        assert_eq!(picked(tracker.list(true, false, now)), [2, 3].into());
        endpoints[1].ejection().begin(EjectionCause::Probe, now + duration / 2);
        assert_eq!(picked(tracker.list(true, false, now)), [1, 2, 3].into(), "two of three are ejected");
        assert_eq!(picked(tracker.list(true, false, now + duration)), [1, 3].into(), "one of three is ejected");
    }

    /// The next connection expects the certificate name of the latest listing.
    ///
    /// This holds also when the registry listed nothing in between.
    #[tokio::test]
    async fn relisted_provider_has_its_new_metadata() {
        let (config, credentials) = (Arc::new(ClientConfig::default()), Credentials::default());
        let pool = EndpointPool::new(config, Arc::new(Tcp), credentials);
        let mut tracker = Tracker::new(pool, Arc::default());
        let (address, now) = (SocketAddr::from(([127, 0, 0, 1], 1)), Instant::now());
        let named = |name: &str| Instance::new(address).with_metadata(Instance::TLS_NAME, name);

        tracker.update(Some(&[named("old")]), now);
        let endpoint = Arc::clone(&tracker.list(true, false, Instant::now()).endpoints[0]);
        let channel = Channel::new(address, Arc::new(Outbox::new(1000)), 1, Arc::default(), &Default::default());
        assert!(channel.prove());
        endpoint.set_connection(0, ConnectionState::Connected(Arc::new(channel)));
        tracker.update(Some(&[]), now);
        assert!(matches!(tracker.providers[&address].listing, Listing::Delisted { .. }));

        tracker.update(Some(&[named("new")]), now);
        assert_eq!(tracker.enabled_instances(), [(named("new"), true)]);
        assert!(Arc::ptr_eq(&endpoint, &tracker.list(true, false, Instant::now()).endpoints[0]));
        assert_eq!(endpoint.certificate_name().as_deref(), Some("new"));
    }

    fn connect(endpoint: &Endpoint) {
        let outbox = Arc::new(Outbox::new(1000));
        let channel = Channel::new(endpoint.address(), outbox, 1, Arc::default(), &Default::default());
        assert!(channel.prove());
        endpoint.set_connection(0, ConnectionState::Connected(Arc::new(channel)));
    }

    fn disconnect(endpoint: &Endpoint) {
        let error = rpc_core::Error::not_executed(rpc_core::Code::Unavailable, "refused");
        endpoint.set_connection(0, ConnectionState::Backoff(Arc::new(error)));
    }

    /// A tracker of 150 providers, of which the client uses 20.
    struct Subset {
        tracker: Tracker,
        listed: Vec<Instance>,
        start: Instant,
    }

    impl Subset {
        fn new() -> Self {
            let (config, credentials) = (Arc::new(ClientConfig::default()), Credentials::default());
            let pool = EndpointPool::new(config, Arc::new(Tcp), credentials);
            let listed = (1..=150).map(|port| Instance::new(([127, 0, 0, 1], port).into())).collect();
            Self { tracker: Tracker::new(pool, Arc::default()), listed, start: Instant::now() }
        }

        /// Returns the members after an update.
        fn update(&mut self, millis: u64) -> Vec<SocketAddr> {
            let now = self.start + Duration::from_millis(millis);
            self.tracker.update(Some(&self.listed), now);
            self.tracker.release_removed();
            self.endpoints().iter().map(|endpoint| endpoint.address()).collect()
        }

        fn endpoints(&self) -> Vec<Arc<Endpoint>> {
            self.tracker.list(true, false, self.start).endpoints
        }

        /// Connects the members that are not connected.
        fn connect_all(&self) {
            self.endpoints().iter().filter(|endpoint| !endpoint.is_eligible()).for_each(|endpoint| connect(endpoint));
        }
    }

    /// Its provider fails again and again.
    #[tokio::test]
    async fn subset_does_not_flap_with_a_member() {
        let mut subset = Subset::new();
        let members = subset.update(0);
        subset.connect_all();
        assert_eq!((members.len(), subset.update(31_000)), (20, members.clone()));
        let faulty = Arc::clone(&subset.endpoints()[3]);
        disconnect(&faulty);
        assert_eq!(subset.update(32_000), members);
        connect(&faulty);
        assert_eq!(subset.update(32_500), members, "it was down for a moment");
        disconnect(&faulty);
        subset.update(70_000);
        let with_replacement = subset.update(71_000);
        assert_eq!(with_replacement.len(), 21);
        subset.connect_all();
        for round in 0..10 {
            disconnect(&faulty);
            assert_eq!(subset.update(72_000 + 4_000 * round), with_replacement, "round {round}");
            assert_eq!(subset.update(74_000 + 4_000 * round), with_replacement, "round {round}");
            connect(&faulty);
            assert_eq!(subset.update(75_000 + 4_000 * round), with_replacement, "round {round}");
        }
        // The last connection was made at 111 s.
        assert_eq!(subset.update(140_900), with_replacement);
        assert_eq!(subset.update(141_000), members);
    }

    /// A client whose contract is too new for all providers does not connect to each.
    #[tokio::test]
    async fn incompatible_members_are_replaced_up_to_a_limit() {
        let mut subset = Subset::new();
        let (mut members, mut replaced) = (subset.update(0), BTreeSet::new());
        subset.connect_all();
        for round in 0..20 {
            for address in &members {
                subset.tracker.set_incompatible(*address, subset.start);
                replaced.insert(*address);
            }
            let next = subset.update(round);
            assert_eq!(next.len(), 20);
            if round < 4 {
                assert!(next.iter().all(|address| !replaced.contains(address)), "round {round}");
            }
            members = next;
            subset.connect_all();
        }
        assert_eq!(replaced.len(), MAX_INCOMPATIBLE + 20);
        // A provider that registers again may have another contract.
        let first = *replaced.iter().next().unwrap();
        subset.listed.iter_mut().filter(|instance| instance.address() == first).for_each(|instance| {
            *instance = instance.clone().with_metadata("version", "2");
        });
        subset.update(100);
        assert!(!subset.tracker.providers[&first].standing.is_incompatible(subset.start));
    }
}
