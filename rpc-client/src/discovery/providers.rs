//! [`Providers`]: the address cache, one list for each service, fed by the registry.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use rpc_core::{Addresses, Instance, ServiceId};
use tokio::{
    sync::{Notify, futures::Notified},
    time::{Instant, sleep_until},
};
use tracing::{debug, info};

use crate::{
    connection::channel::Channel,
    discovery::balance::{Balance, Weights},
    discovery::snapshot::Snapshots,
    endpoint::pool::Channels,
    endpoint::{Endpoint, EndpointState},
    rng::Chance,
};

/// The providers of one service.
#[derive(Debug)]
pub(crate) struct Providers {
    service: ServiceId,
    current: ArcSwap<Snapshot>,
    /// Told when there is another.
    published: Notify,
    /// Whose turn it is.
    turn: AtomicUsize,
}

/// The providers of one service at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Whether the registry has answered yet.
    pub(crate) answered: bool,
    /// Whether this is the list on disk, because it has not.
    pub(crate) stale: bool,
    /// Those that may be called.
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    weights: Weights,
    /// Those that an operator has disabled in the registry.
    pub(crate) disabled: Vec<SocketAddr>,
}

impl Providers {
    pub(crate) fn new(service: ServiceId) -> Self {
        Self { service, current: ArcSwap::default(), published: Notify::new(), turn: AtomicUsize::new(0) }
    }

    pub(crate) fn service(&self) -> &ServiceId {
        &self.service
    }

    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// A channel of one provider that takes calls and is `usable`.
    pub(crate) fn choose(
        &self,
        balance: Balance,
        affinity: Option<u64>,
        chance: &Chance,
        usable: impl Fn(&Arc<Channel>) -> bool,
    ) -> Option<Arc<Channel>> {
        let snapshot = self.snapshot();
        let channel = |index: usize| snapshot.endpoints[index].channel().filter(&usable);
        if snapshot.endpoints.len() == 1 {
            return channel(0);
        }
        let index = match affinity {
            Some(key) => {
                let state = foldhash::quality::FixedState::default();
                let hash = |index: usize| state.hash_one((key, snapshot.endpoints[index].address()));
                snapshot.weights.rendezvous(hash, |index| channel(index).is_some())?
            }
            None => {
                let load = |index| channel(index).and_then(|channel| channel.load());
                balance.choose(&snapshot.weights, &self.turn, &mut chance.draws(), load)?
            }
        };
        channel(index)
    }

    /// Resolves with the first snapshot that is published after this call, not after the first poll.
    pub(crate) fn next(&self) -> Notified<'_> {
        self.published.notified()
    }

    fn publish(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
        self.published.notify_waiters();
    }
}

/// Keeps a service's list in step with the registry and with what the endpoints say; runs until it is dropped.
pub(crate) async fn follow(
    providers: Arc<Providers>,
    mut addresses: Addresses,
    channels: Arc<Channels>,
    mut snapshots: Snapshots,
) {
    let mut known = Known { channels: Arc::clone(&channels), entries: BTreeMap::new() };
    let mut registry_lives = true;
    let patience_ends = Instant::now() + channels.config().registry_patience;
    let mut from_disk: Option<Arc<[Instance]>> = None;
    loop {
        // Before the look, so that no change after it is missed.
        let changed = channels.changes().next();
        let now = Instant::now();
        let answer = addresses.borrow_and_update().clone();
        if answer.is_none() && from_disk.is_none() && now >= patience_ends {
            from_disk = Some(snapshots.load().await);
        }
        let stale = answer.is_none() && from_disk.as_ref().is_some_and(|list| !list.is_empty());
        let listed = answer.as_ref().or(from_disk.as_ref().filter(|_| stale));
        let next = known.update(listed.map(|list| &**list), now);
        let snapshot = known.snapshot(answer.is_some(), stale);
        if snapshot_differs(&providers.snapshot(), &snapshot) {
            debug!(service = %providers.service, providers = snapshot.endpoints.len(), stale, "providers changed");
            providers.publish(snapshot);
            channels.changes().tell_outside();
        }
        if answer.is_some() {
            let instances = known.instances();
            if instances.is_empty() && known.has_disabled() {
                snapshots.remove().await;
            } else {
                snapshots.keep(instances).await;
            }
        }
        let patience_ends = (answer.is_none() && from_disk.is_none()).then_some(patience_ends);
        let next = [next, patience_ends, snapshots.due()].into_iter().flatten().min();
        // All of them are safe to drop: what is missed now is seen in the next round.
        tokio::select! {
            biased;
            told = addresses.changed(), if registry_lives => registry_lives = told.is_ok(),
            () = changed => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

/// What is known of the providers of a service, between one list and the next.
struct Known {
    channels: Arc<Channels>,
    /// In order, so that what happens to them does.
    entries: BTreeMap<SocketAddr, Entry>,
}

struct Entry {
    instance: Instance,
    standing: Standing,
}

enum Standing {
    Listed(Arc<Endpoint>),
    /// The registry lists it no more, but it lives: a registry that was restarted says nothing true for a while. That it is
    /// silent or rests just now is no reason to believe the registry; if it is dead, its connection soon is.
    Delisted {
        endpoint: Arc<Endpoint>,
        since: Instant,
    },
    /// It failed too often, and is tried again at this time if it is still listed then.
    Evicted {
        until: Instant,
    },
}

impl Known {
    /// Takes in the registry's list and the endpoints' states; says when to look again.
    fn update(&mut self, listed: Option<&[Instance]>, now: Instant) -> Option<Instant> {
        let listed = listed?;
        for instance in listed {
            self.take_in(instance, now);
        }
        let listed: HashMap<SocketAddr, &Instance> =
            listed.iter().map(|instance| (instance.address(), instance)).collect();
        let grace = self.channels.config().delisted_grace;
        let channels = Arc::clone(&self.channels);
        // A list that would leave nobody to call is not believed.
        let leaves_somebody = self.entries.iter().any(|(address, entry)| {
            listed.contains_key(address)
                && entry.instance.is_enabled()
                && entry.standing.endpoint().is_some_and(|endpoint| endpoint.lives())
        });
        self.entries.retain(|address, entry| {
            let expires = |since| leaves_somebody && now >= since + grace;
            entry.settle(listed.contains_key(address), expires, now, &channels)
        });
        // Whoever outstays its grace is looked at again when a list or a state changes.
        self.entries.values().filter_map(|entry| entry.look_again_at(grace)).filter(|at| *at > now).min()
    }

    fn take_in(&mut self, instance: &Instance, now: Instant) {
        let address = instance.address();
        let Some(entry) = self.entries.get_mut(&address) else {
            let standing = Standing::Listed(self.channels.list(instance));
            self.entries.insert(address, Entry { instance: instance.clone(), standing });
            return;
        };
        // A provider that registers again says when it was started.
        let said_anew = entry.instance != *instance;
        entry.instance = instance.clone();
        if said_anew && let Some(endpoint) = entry.standing.endpoint() {
            endpoint.describe(instance);
        }
        match &entry.standing {
            Standing::Listed(_) => {}
            Standing::Delisted { endpoint, .. } => entry.standing = Standing::Listed(Arc::clone(endpoint)),
            Standing::Evicted { until } if said_anew || now >= *until => {
                info!(%address, "an evicted provider is still listed and is tried again");
                entry.standing = Standing::Listed(self.channels.list(instance));
            }
            Standing::Evicted { .. } => {}
        }
    }

    /// The providers that are listed and may be called, and whether each of them answers now.
    fn instances(&self) -> Vec<(Instance, bool)> {
        let listed = self.entries.values().filter(|entry| !matches!(entry.standing, Standing::Delisted { .. }));
        let listed = listed.filter(|entry| entry.instance.is_enabled());
        listed
            .map(|entry| {
                let answers = entry.standing.endpoint().is_some_and(|endpoint| endpoint.channel().is_some());
                (entry.instance.clone(), answers)
            })
            .collect()
    }

    fn has_disabled(&self) -> bool {
        self.entries.values().any(|entry| !entry.instance.is_enabled())
    }

    fn snapshot(&self, answered: bool, stale: bool) -> Snapshot {
        let (enabled, disabled): (Vec<_>, Vec<_>) =
            self.entries.values().partition(|entry| entry.instance.is_enabled());
        let disabled = disabled.into_iter().map(|entry| entry.instance.address()).collect();
        let (endpoints, weights) = enabled
            .into_iter()
            .filter_map(|entry| Some((Arc::clone(entry.standing.endpoint()?), entry.instance.weight())))
            .unzip();
        Snapshot { answered, stale, endpoints, weights: Weights::new(weights), disabled }
    }
}

impl Entry {
    /// Draws the consequences of the list and of the endpoint's own state; `false` when the entry is to go.
    fn settle(
        &mut self,
        listed: bool,
        expires: impl FnOnce(Instant) -> bool,
        now: Instant,
        channels: &Channels,
    ) -> bool {
        let Some(endpoint) = self.standing.endpoint().cloned() else { return listed };
        match (listed, endpoint.state()) {
            (true, EndpointState::Evicted(_)) => {
                channels.unlist(&endpoint);
                self.standing = Standing::Evicted { until: now + EVICTED_FOR };
                true
            }
            (true, _) => true,
            (false, _) => {
                let since = match self.standing {
                    Standing::Delisted { since, .. } => since,
                    Standing::Listed(_) | Standing::Evicted { .. } => now,
                };
                let stays = endpoint.lives() && !expires(since);
                if stays {
                    self.standing = Standing::Delisted { endpoint, since };
                } else {
                    channels.unlist(&endpoint);
                }
                stays
            }
        }
    }

    fn look_again_at(&self, grace: Duration) -> Option<Instant> {
        match self.standing {
            Standing::Listed(_) => None,
            Standing::Delisted { since, .. } => Some(since + grace),
            Standing::Evicted { until } => Some(until),
        }
    }
}

impl Standing {
    fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        match self {
            Self::Listed(endpoint) | Self::Delisted { endpoint, .. } => Some(endpoint),
            Self::Evicted { .. } => None,
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        for entry in self.entries.values() {
            entry.standing.endpoint().into_iter().for_each(|endpoint| self.channels.unlist(endpoint));
        }
    }
}

fn snapshot_differs(old: &Snapshot, new: &Snapshot) -> bool {
    (old.answered, old.stale) != (new.answered, new.stale)
        || old.weights != new.weights
        || old.disabled != new.disabled
        || old.endpoints.len() != new.endpoints.len()
        || old.endpoints.iter().zip(&new.endpoints).any(|(old, new)| !Arc::ptr_eq(old, new))
}

/// How long an evicted address stays out while the registry goes on listing it.
const EVICTED_FOR: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use rpc_core::transport::{Outbox, Tcp};

    use super::*;
    use crate::{config::ClientConfig, connection::credentials::Credentials, endpoint::Lane};

    /// Also when the registry forgets it: it may have been restarted, and the provider lives.
    #[tokio::test]
    async fn disabled_provider_is_not_called_until_enabled() {
        let (config, credentials) = (Arc::new(ClientConfig::default()), Credentials::default());
        let channels = Channels::new(config, Arc::new(Tcp), credentials);
        let mut known = Known { channels, entries: BTreeMap::new() };
        let now = Instant::now();
        let [one, other] = [1, 2].map(|port| Instance::new(([127, 0, 0, 1], port).into()));
        let disabled = one.clone().with_enabled(false);
        known.update(Some(&[one.clone(), other.clone()]), now);
        for endpoint in &known.snapshot(true, false).endpoints {
            let channel = Channel::new(endpoint.address(), Arc::new(Outbox::new(1000)), 1, Arc::default());
            assert!(channel.prove());
            endpoint.enter(0, Lane::Connected(Arc::new(channel)));
        }
        let called = |known: &Known| {
            let snapshot = known.snapshot(true, false);
            (snapshot.endpoints.iter().map(|endpoint| endpoint.address()).collect::<Vec<_>>(), snapshot.disabled)
        };

        known.update(Some(&[disabled.clone(), other.clone()]), now);
        assert_eq!(called(&known), (vec![other.address()], vec![one.address()]));
        assert_eq!(known.instances(), [(other.clone(), true)]);
        known.update(Some(&[]), now);
        assert_eq!(called(&known), (vec![other.address()], vec![one.address()]));
        // One that is disabled is no reason to give up the other.
        known.update(Some(&[disabled]), now + Duration::from_secs(3600));
        assert_eq!(called(&known), (vec![other.address()], vec![one.address()]));
        known.update(Some(&[one.clone(), other.clone()]), now);
        assert_eq!(called(&known), (vec![one.address(), other.address()], vec![]));
    }

    /// What its next connection expects of a certificate is what the registry says, also after the registry was silent about it.
    #[tokio::test]
    async fn a_provider_that_is_listed_again_is_known_by_what_it_says_then() {
        let (config, credentials) = (Arc::new(ClientConfig::default()), Credentials::default());
        let channels = Channels::new(config, Arc::new(Tcp), credentials);
        let mut known = Known { channels, entries: BTreeMap::new() };
        let (address, now) = (SocketAddr::from(([127, 0, 0, 1], 1)), Instant::now());
        let named = |name: &str| Instance::new(address).with_metadata(Instance::TLS_NAME, name);

        known.update(Some(&[named("old")]), now);
        let endpoint = Arc::clone(&known.snapshot(true, false).endpoints[0]);
        let channel = Channel::new(address, Arc::new(Outbox::new(1000)), 1, Arc::default());
        assert!(channel.prove());
        endpoint.enter(0, Lane::Connected(Arc::new(channel)));
        known.update(Some(&[]), now);
        assert!(matches!(known.entries[&address].standing, Standing::Delisted { .. }));

        known.update(Some(&[named("new")]), now);
        assert_eq!(known.instances(), [(named("new"), true)]);
        assert!(Arc::ptr_eq(&endpoint, &known.snapshot(true, false).endpoints[0]));
        assert_eq!(endpoint.certificate_name().as_deref(), Some("new"));
    }
}
