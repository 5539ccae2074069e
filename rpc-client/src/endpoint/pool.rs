//! [`EndpointPool`]: the endpoints of a client.

use std::{net::SocketAddr, sync::Arc};

use dashmap::{DashMap, Entry};
use rpc_core::{Instance, transport::Connect};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    Endpoint,
    connect_budget::ConnectBudget,
    watchdog::{WatchdogContext, watch},
};
use crate::{
    changes::ChangeNotifier, config::ClientConfig, connection::credentials::Credentials, counters::Counters,
    rng::RngSource,
};

/// The endpoints of a client, one for each socket address.
///
/// So an address has at most `ClientConfig::lanes` connections.
///
/// The pool owns the endpoints' watchdogs.
pub(crate) struct EndpointPool {
    endpoints: DashMap<SocketAddr, PooledEndpoint, foldhash::fast::RandomState>,
    watchdogs: TaskTracker,
    context: WatchdogContext,
}

#[derive(Debug)]
struct PooledEndpoint {
    endpoint: Arc<Endpoint>,
    /// The number of services that list the address.
    references: usize,
}

impl EndpointPool {
    pub(crate) fn new(config: Arc<ClientConfig>, connector: Arc<dyn Connect>, credentials: Credentials) -> Arc<Self> {
        let connects = match config.seed {
            None => ConnectBudget::of_process(),
            Some(_) => Arc::new(ConnectBudget::new(Instant::now())),
        };
        let rng = Arc::new(RngSource::new(config.seed));
        let (changes, counters) = Default::default();
        let context = WatchdogContext { config, connector, credentials, connects, rng, changes, counters };
        Arc::new(Self { endpoints: DashMap::default(), watchdogs: TaskTracker::new(), context })
    }

    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.context.config
    }

    pub(crate) fn rng(&self) -> &RngSource {
        &self.context.rng
    }

    /// Returns the notifier of changes of endpoints and provider lists.
    pub(crate) fn changes(&self) -> &ChangeNotifier {
        &self.context.changes
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.context.counters
    }

    /// Returns the endpoint of an instance that a service lists.
    ///
    /// It stays in the pool until the matching [`release`](Self::release).
    pub(crate) fn reference(self: &Arc<Self>, instance: &Instance) -> Arc<Endpoint> {
        self.insert(instance.address(), Some(instance))
    }

    /// Returns the endpoint of an address that a caller names.
    ///
    /// It stays while a service references it too, or until it is evicted or the client closes.
    pub(crate) fn get_or_insert(self: &Arc<Self>, address: SocketAddr) -> Arc<Endpoint> {
        // The map's lock is released before `insert` takes it again.
        let known = self.endpoints.get(&address).map(|pooled| Arc::clone(&pooled.endpoint));
        known.filter(|endpoint| !endpoint.is_retired()).unwrap_or_else(|| self.insert(address, None))
    }

    /// Releases one reference of a service; the last one retires the endpoint.
    pub(crate) fn release(&self, endpoint: &Arc<Endpoint>) {
        // Compare identities: another endpoint may have taken the address meanwhile.
        let removed = self.endpoints.remove_if_mut(&endpoint.address(), |_, pooled| {
            let same = Arc::ptr_eq(&pooled.endpoint, endpoint);
            if same {
                pooled.references = pooled.references.saturating_sub(1);
            }
            same && pooled.references == 0
        });
        if removed.is_some() {
            endpoint.retire();
        }
    }

    /// Returns all endpoints, sorted by address.
    pub(crate) fn all(&self) -> Vec<Arc<Endpoint>> {
        let mut all: Vec<_> = self.endpoints.iter().map(|pooled| Arc::clone(&pooled.endpoint)).collect();
        all.sort_unstable_by_key(|endpoint| endpoint.address());
        all
    }

    /// Returns whether the pool makes no more connections.
    pub(crate) fn is_closed(&self) -> bool {
        self.watchdogs.is_closed()
    }

    /// Retires every endpoint and waits until the calls in flight have ended.
    pub(crate) async fn close(&self) {
        self.watchdogs.close();
        self.changes().notify();
        self.all().iter().for_each(|endpoint| endpoint.retire());
        self.watchdogs.wait().await;
    }

    fn insert(self: &Arc<Self>, address: SocketAddr, instance: Option<&Instance>) -> Arc<Endpoint> {
        let references = usize::from(instance.is_some());
        // The entry holds the map's lock: of many concurrent callers one creates the endpoint.
        let entry = self.endpoints.entry(address);
        // `close` sets its flag before it visits the entries: either it visits this one, or this check sees the flag.
        if self.is_closed() {
            return Arc::new(Endpoint::closed(address));
        }
        if let Entry::Occupied(mut occupied) = entry {
            if !occupied.get().endpoint.is_retired() {
                occupied.get_mut().references += references;
                instance.into_iter().for_each(|instance| occupied.get().endpoint.update_metadata(instance));
                return Arc::clone(&occupied.get().endpoint);
            }
            let endpoint = self.spawn_endpoint(address, instance);
            occupied.insert(PooledEndpoint { endpoint: Arc::clone(&endpoint), references });
            return endpoint;
        }
        let endpoint = self.spawn_endpoint(address, instance);
        entry.insert(PooledEndpoint { endpoint: Arc::clone(&endpoint), references });
        endpoint
    }

    fn spawn_endpoint(self: &Arc<Self>, address: SocketAddr, instance: Option<&Instance>) -> Arc<Endpoint> {
        let endpoint = Arc::new(Endpoint::new(address, self.config().lanes));
        // The watchdogs read the metadata, so it precedes them.
        instance.into_iter().for_each(|instance| endpoint.update_metadata(instance));
        for index in 0..endpoint.connections() {
            let (watched, context, pool) = (Arc::clone(&endpoint), self.context.clone(), Arc::downgrade(self));
            let task = self.watchdogs.spawn(async move {
                watch(Arc::clone(&watched), index, context).await;
                // The watchdog has ended, so the next caller of this address needs a new endpoint.
                if let Some(pool) = pool.upgrade() {
                    pool.endpoints.remove_if(&address, |_, pooled| Arc::ptr_eq(&pooled.endpoint, &watched));
                }
            });
            endpoint.add_watchdog(task.abort_handle());
        }
        endpoint
    }
}

impl Drop for EndpointPool {
    fn drop(&mut self) {
        self.endpoints.iter().for_each(|pooled| pooled.endpoint.abort());
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

    /// A connector whose connects never finish; it counts them.
    #[derive(Clone, Default)]
    struct NeverConnects(Arc<AtomicUsize>);

    impl Connect for NeverConnects {
        fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        }
    }

    fn pool() -> (Arc<EndpointPool>, NeverConnects) {
        let connector = NeverConnects::default();
        (
            EndpointPool::new(
                Arc::new(ClientConfig::default().with_seed(Some(1))),
                Arc::new(connector.clone()),
                Credentials::default(),
            ),
            connector,
        )
    }

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn hundred_concurrent_first_calls_connect_once() {
        for _ in 0..200 {
            let ((pool, connector), barrier) = (pool(), Arc::new(Barrier::new(100)));
            let mut callers = JoinSet::new();
            for _ in 0..100 {
                let (pool, barrier) = (Arc::clone(&pool), Arc::clone(&barrier));
                callers.spawn(async move {
                    barrier.wait().await;
                    pool.get_or_insert(address(1))
                });
            }
            let endpoints = callers.join_all().await;
            assert!(endpoints.iter().all(|endpoint| Arc::ptr_eq(endpoint, &endpoints[0])));
            timeout(Duration::from_secs(10), pool.close()).await.unwrap();
            assert!(connector.0.load(Ordering::SeqCst) <= 1);
        }
    }

    /// Every caller finds the referenced endpoint, and the pool does not retire it before its release.
    ///
    /// This holds whatever other services do. After the last release the pool is empty.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn referenced_endpoint_survives_other_services() {
        let (pool, _) = pool();
        let mut services = JoinSet::new();
        for service in 0..8_u16 {
            let pool = Arc::clone(&pool);
            services.spawn(async move {
                for round in 0..3_000_u16 {
                    let address = address(1 + (service + round) % 2);
                    let endpoint = pool.reference(&Instance::new(address));
                    if round % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    assert!(!endpoint.is_retired());
                    assert!(Arc::ptr_eq(&endpoint, &pool.get_or_insert(address)));
                    pool.release(&endpoint);
                }
            });
        }
        services.join_all().await;
        assert!(pool.all().is_empty());
        timeout(Duration::from_secs(10), pool.close()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn close_retires_endpoints_created_concurrently() {
        for _ in 0..500 {
            let (pool, _) = pool();
            let mut callers = JoinSet::new();
            for port in 1..5 {
                let pool = Arc::clone(&pool);
                callers.spawn(async move { pool.get_or_insert(address(port)) });
            }
            timeout(Duration::from_secs(10), pool.close()).await.unwrap();
            for endpoint in callers.join_all().await {
                assert!(endpoint.is_retired());
            }
            timeout(Duration::from_secs(10), pool.close()).await.unwrap();
        }
    }
}
