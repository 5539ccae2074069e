//! [`Channels`]: the channel cache.

use std::{net::SocketAddr, sync::Arc};

use dashmap::{DashMap, Entry};
use rpc_core::{Instance, transport::Connect};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    changes::Changes,
    config::ClientConfig,
    connection::credentials::Credentials,
    counters::Counters,
    endpoint::Endpoint,
    endpoint::watchdog::{Surroundings, watch},
    planted::{Bug, planted},
    retry_budget::ConnectBudget,
    rng::Chance,
};

/// One endpoint for each socket address, and so at most one connect at a time and one channel. Owns their watchdogs.
pub(crate) struct Channels {
    endpoints: DashMap<SocketAddr, Listed, foldhash::fast::RandomState>,
    watchdogs: TaskTracker,
    surroundings: Surroundings,
}

#[derive(Debug)]
struct Listed {
    endpoint: Arc<Endpoint>,
    /// How many services list the address.
    services: usize,
}

impl Channels {
    pub(crate) fn new(config: Arc<ClientConfig>, connector: Arc<dyn Connect>, credentials: Credentials) -> Arc<Self> {
        let connects = match config.seed {
            None => ConnectBudget::of_process(),
            Some(_) => Arc::new(ConnectBudget::new(Instant::now())),
        };
        let chance = Arc::new(Chance::new(config.seed));
        let (changes, counters) = Default::default();
        let surroundings = Surroundings { config, connector, credentials, connects, chance, changes, counters };
        Arc::new(Self { endpoints: DashMap::default(), watchdogs: TaskTracker::new(), surroundings })
    }

    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.surroundings.config
    }

    pub(crate) fn chance(&self) -> &Chance {
        &self.surroundings.chance
    }

    /// Told whenever an endpoint or a list of providers changed.
    pub(crate) fn changes(&self) -> &Changes {
        &self.surroundings.changes
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.surroundings.counters
    }

    /// The endpoint of an instance that a service lists. It stays until as many calls of [`unlist`](Self::unlist).
    pub(crate) fn list(self: &Arc<Self>, instance: &Instance) -> Arc<Endpoint> {
        self.enter(instance.address(), Some(instance))
    }

    /// The endpoint of an address that a caller names. It stays while a service lists it too, or until it is evicted or the
    /// client is closed.
    pub(crate) fn named(self: &Arc<Self>, address: SocketAddr) -> Arc<Endpoint> {
        // The map's lock is let go before the endpoint is entered.
        let known = self.endpoints.get(&address).map(|listed| Arc::clone(&listed.endpoint));
        known.filter(|endpoint| !endpoint.is_retired()).unwrap_or_else(|| self.enter(address, None))
    }

    /// One service lists the endpoint no more; the last one ends it.
    pub(crate) fn unlist(&self, endpoint: &Arc<Endpoint>) {
        let mut key = endpoint.address();
        if planted(Bug::EvictionKeyDiffers) {
            key.set_port(0);
        }
        // Compared by identity: another endpoint may stand at the address by now.
        let removed = self.endpoints.remove_if_mut(&key, |_, listed| {
            let same = Arc::ptr_eq(&listed.endpoint, endpoint);
            if same {
                listed.services = listed.services.saturating_sub(1);
            }
            same && listed.services == 0
        });
        if removed.is_some() {
            endpoint.retire();
        }
    }

    /// Every endpoint there is, by address.
    pub(crate) fn all(&self) -> Vec<Arc<Endpoint>> {
        let mut all: Vec<_> = self.endpoints.iter().map(|listed| Arc::clone(&listed.endpoint)).collect();
        all.sort_unstable_by_key(|endpoint| endpoint.address());
        all
    }

    /// Whether no more connections are made.
    pub(crate) fn is_closed(&self) -> bool {
        self.watchdogs.is_closed()
    }

    /// Lets every connection finish what is in flight, and waits for that.
    pub(crate) async fn close(&self) {
        self.watchdogs.close();
        self.changes().tell();
        self.all().iter().for_each(|endpoint| endpoint.retire());
        self.watchdogs.wait().await;
    }

    fn enter(self: &Arc<Self>, address: SocketAddr, listed: Option<&Instance>) -> Arc<Endpoint> {
        let services = usize::from(listed.is_some());
        // The entry is locked: of many callers at once, one makes the endpoint.
        let entry = self.endpoints.entry(address);
        // `close` says so before it goes through the entries: either it finds this one, or it is known here.
        if self.is_closed() {
            return Arc::new(Endpoint::closed(address));
        }
        if let Entry::Occupied(mut occupied) = entry {
            if !occupied.get().endpoint.is_retired() && !planted(Bug::TwoConnectsForOneAddress) {
                occupied.get_mut().services += services;
                listed.into_iter().for_each(|instance| occupied.get().endpoint.describe(instance));
                return Arc::clone(&occupied.get().endpoint);
            }
            let endpoint = self.start(address, listed);
            occupied.insert(Listed { endpoint: Arc::clone(&endpoint), services });
            return endpoint;
        }
        let endpoint = self.start(address, listed);
        entry.insert(Listed { endpoint: Arc::clone(&endpoint), services });
        endpoint
    }

    fn start(self: &Arc<Self>, address: SocketAddr, listed: Option<&Instance>) -> Arc<Endpoint> {
        let endpoint = Arc::new(Endpoint::new(address, self.config().lanes));
        // Before there is a watchdog that asks.
        listed.into_iter().for_each(|instance| endpoint.describe(instance));
        for lane in 0..endpoint.lanes() {
            let (watched, surroundings, channels) =
                (Arc::clone(&endpoint), self.surroundings.clone(), Arc::downgrade(self));
            let task = self.watchdogs.spawn(async move {
                watch(Arc::clone(&watched), lane, surroundings).await;
                // However it ended, a new endpoint is made when the address is wanted again.
                if let Some(channels) = channels.upgrade() {
                    let any = planted(Bug::FreshChannelRemoved);
                    channels.endpoints.remove_if(&address, |_, listed| any || Arc::ptr_eq(&listed.endpoint, &watched));
                }
            });
            endpoint.watched_by(task.abort_handle());
        }
        endpoint
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        self.endpoints.iter().for_each(|listed| listed.endpoint.abort());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use rpc_core::{BoxFuture, transport::Io};
    use tokio::{sync::Barrier, task::JoinSet, time::timeout};

    use super::*;

    /// Connects never succeed, and are counted.
    #[derive(Clone, Default)]
    struct Nowhere(Arc<AtomicUsize>);

    impl Connect for Nowhere {
        fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        }
    }

    fn channels() -> (Arc<Channels>, Nowhere) {
        let nowhere = Nowhere::default();
        (
            Channels::new(
                Arc::new(ClientConfig::default().with_seed(Some(1))),
                Arc::new(nowhere.clone()),
                Credentials::default(),
            ),
            nowhere,
        )
    }

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_hundred_first_calls_to_an_address_make_one_connection() {
        for _ in 0..200 {
            let ((channels, nowhere), barrier) = (channels(), Arc::new(Barrier::new(100)));
            let mut callers = JoinSet::new();
            for _ in 0..100 {
                let (channels, barrier) = (Arc::clone(&channels), Arc::clone(&barrier));
                callers.spawn(async move {
                    barrier.wait().await;
                    channels.named(address(1))
                });
            }
            let endpoints = callers.join_all().await;
            assert!(endpoints.iter().all(|endpoint| Arc::ptr_eq(endpoint, &endpoints[0])));
            timeout(Duration::from_secs(10), channels.close()).await.unwrap();
            assert!(nowhere.0.load(Ordering::SeqCst) <= 1);
        }
    }

    /// Whoever lists an address has a living endpoint, the one that everybody finds, until it unlists it, whatever others do
    /// meanwhile; and afterwards nothing is left.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_listed_endpoint_lives_while_others_come_and_go() {
        let (channels, _) = channels();
        let mut services = JoinSet::new();
        for service in 0..8_u16 {
            let channels = Arc::clone(&channels);
            services.spawn(async move {
                for round in 0..3_000_u16 {
                    let address = address(1 + (service + round) % 2);
                    let endpoint = channels.list(&Instance::new(address));
                    if round % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    assert!(!endpoint.is_retired());
                    assert!(Arc::ptr_eq(&endpoint, &channels.named(address)));
                    channels.unlist(&endpoint);
                }
            });
        }
        services.join_all().await;
        assert!(channels.all().is_empty());
        timeout(Duration::from_secs(10), channels.close()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_close_ends_what_is_made_at_the_same_time() {
        for _ in 0..500 {
            let (channels, _) = channels();
            let mut callers = JoinSet::new();
            for port in 1..5 {
                let channels = Arc::clone(&channels);
                callers.spawn(async move { channels.named(address(port)) });
            }
            timeout(Duration::from_secs(10), channels.close()).await.unwrap();
            for endpoint in callers.join_all().await {
                assert!(endpoint.is_retired());
            }
            timeout(Duration::from_secs(10), channels.close()).await.unwrap();
        }
    }
}
