//! [`EndpointPool`]: the endpoints of a client.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use dashmap::{DashMap, Entry};
use rpc_core::{Code, Error, Instance, contained, transport::Connect};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{
    Endpoint, Reconnect,
    connect_budget::ConnectBudget,
    connection_state::ConnectionState,
    lifecycle::Lifecycle,
    watchdog::{WatchdogContext, watch},
};
use crate::{
    changes::Subscribers, config::ClientConfig, connection::credentials::Credentials, counters::Counters,
    rng::RngSource,
};

/// The endpoints of a client, one for each socket address.
///
/// So an address has at most `ClientConfig::lanes` connections.
///
/// The pool owns the endpoints' watchdogs.
pub(crate) struct EndpointPool {
    endpoints: DashMap<SocketAddr, PooledEndpoint, foldhash::fast::RandomState>,
    lifecycle: Arc<Lifecycle>,
    watchdogs: TaskTracker,
    /// The runtime of the watchdog that was started last.
    runtime: Mutex<Option<Handle>>,
    subscribers: Subscribers,
    /// The key of this client in the choice of subsets of providers.
    subset_key: OnceLock<u64>,
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
        let (shortages, counters) = Default::default();
        let context = WatchdogContext { config, connector, credentials, connects, shortages, rng, counters };
        Arc::new(Self {
            endpoints: DashMap::default(),
            lifecycle: Arc::default(),
            watchdogs: TaskTracker::new(),
            runtime: Mutex::default(),
            subscribers: Subscribers::default(),
            subset_key: OnceLock::new(),
            context,
        })
    }

    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.context.config
    }

    pub(crate) fn rng(&self) -> &RngSource {
        &self.context.rng
    }

    /// Returns the key of this client in the choice of subsets of providers.
    pub(crate) fn subset_key(&self) -> u64 {
        *self.subset_key.get_or_init(|| self.rng().number())
    }

    /// Returns the notifier of the programs that observe the client.
    pub(crate) fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.context.counters
    }

    pub(crate) fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.lifecycle
    }

    /// Returns the endpoint of an instance that a service lists, and notifies `follower` of its changes.
    ///
    /// It stays in the pool until the matching [`release`](Self::release). `reconnect` applies if the pool has no
    /// endpoint of the address yet.
    pub(crate) fn reference(
        self: &Arc<Self>,
        instance: &Instance,
        reconnect: Reconnect,
        follower: &Arc<Notify>,
    ) -> Arc<Endpoint> {
        let endpoint = self.insert(instance.address(), Some(instance), reconnect);
        endpoint.changes().add_follower(follower);
        endpoint
    }

    /// Returns the endpoint of an address that a caller names.
    ///
    /// It stays while a service references it too, or until it is evicted or the client closes.
    pub(crate) fn get_or_insert(self: &Arc<Self>, address: SocketAddr) -> Arc<Endpoint> {
        // The map's lock is released before `insert` takes it again.
        let known = self.find(address);
        known
            .filter(|endpoint| !endpoint.is_retired())
            .unwrap_or_else(|| self.insert(address, None, Reconnect::Normally))
    }

    /// Returns the endpoint of an address, if the pool has one.
    pub(crate) fn find(&self, address: SocketAddr) -> Option<Arc<Endpoint>> {
        self.endpoints.get(&address).map(|pooled| Arc::clone(&pooled.endpoint))
    }

    /// Releases one reference of a service; the last one retires the endpoint.
    pub(crate) fn release(&self, endpoint: &Arc<Endpoint>, follower: &Arc<Notify>) {
        endpoint.changes().remove_follower(follower);
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
        self.lifecycle.is_closed()
    }

    /// Starts another watchdog for each one that was interrupted, on the runtime of the caller.
    pub(crate) fn resume(self: &Arc<Self>) {
        for endpoint in self.all() {
            for (index, lane) in endpoint.lanes().iter().enumerate() {
                if lane.take_interruption() {
                    endpoint.set_connection(index, ConnectionState::Connecting);
                    self.start_watchdog(&endpoint, index);
                }
            }
        }
    }

    /// Retires every endpoint and waits until the calls in flight have ended.
    pub(crate) async fn close(&self) {
        self.lifecycle.close();
        self.watchdogs.close();
        self.subscribers.notify();
        self.all().iter().for_each(|endpoint| endpoint.retire());
        self.watchdogs.wait().await;
    }

    fn insert(
        self: &Arc<Self>,
        address: SocketAddr,
        instance: Option<&Instance>,
        reconnect: Reconnect,
    ) -> Arc<Endpoint> {
        let references = usize::from(instance.is_some());
        let create = || {
            let endpoint = Endpoint::new(address, self.config().lanes, reconnect, self.subscribers.clone());
            // The watchdogs read the metadata, so it precedes them.
            instance.into_iter().for_each(|instance| endpoint.update_metadata(instance));
            Arc::new(endpoint)
        };
        // The entry holds the map's lock: of many concurrent callers one creates the endpoint.
        let entry = self.endpoints.entry(address);
        // `close` sets its flag before it visits the entries: either it visits this one, or this check sees the flag.
        if self.is_closed() {
            return Arc::new(Endpoint::closed(address, self.subscribers.clone()));
        }
        let endpoint = match entry {
            Entry::Occupied(mut occupied) if !occupied.get().endpoint.is_retired() => {
                occupied.get_mut().references += references;
                instance.into_iter().for_each(|instance| occupied.get().endpoint.update_metadata(instance));
                return Arc::clone(&occupied.get().endpoint);
            }
            Entry::Occupied(mut occupied) => {
                let endpoint = create();
                occupied.insert(PooledEndpoint { endpoint: Arc::clone(&endpoint), references });
                endpoint
            }
            Entry::Vacant(vacant) => {
                let endpoint = create();
                vacant.insert(PooledEndpoint { endpoint: Arc::clone(&endpoint), references });
                endpoint
            }
        };
        // The lock is released: a runtime that shuts down drops a task at once, and the guard below needs the map.
        (0..endpoint.lanes().len()).for_each(|index| self.start_watchdog(&endpoint, index));
        endpoint
    }

    fn start_watchdog(self: &Arc<Self>, endpoint: &Arc<Endpoint>, index: usize) {
        let guard = WatchdogGuard {
            pool: Arc::downgrade(self),
            lifecycle: Arc::clone(&self.lifecycle),
            endpoint: Arc::clone(endpoint),
            index,
        };
        let context = self.context.clone();
        *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Handle::try_current().ok();
        let task = self.watchdogs.spawn(async move { watch(&guard.endpoint, guard.index, &context).await });
        endpoint.lanes()[index].set_watchdog(task.abort_handle());
    }
}

/// Closes the connections. Those with queued one-way calls write them first, within [`FLUSH_TIME`].
///
/// The client may be dropped outside of a runtime, so the time is measured on the runtime of a connection.
impl Drop for EndpointPool {
    fn drop(&mut self) {
        let (writing, idle): (Vec<_>, Vec<_>) = self.all().into_iter().partition(|endpoint| endpoint.has_output());
        idle.iter().for_each(|endpoint| endpoint.abort());
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(runtime) = runtime.filter(|_| !writing.is_empty()) else { return };
        writing.iter().for_each(|endpoint| endpoint.retire());
        let watchdogs = self.watchdogs.clone();
        watchdogs.close();
        // The task owns itself: it ends with the watchdogs, or ends them.
        runtime.spawn(async move {
            if timeout(FLUSH_TIME, watchdogs.wait()).await.is_err() {
                for endpoint in writing.iter().filter(|endpoint| endpoint.has_output()) {
                    let address = endpoint.address();
                    contained(|| warn!(%address, limit = ?FLUSH_TIME, "a dropped client did not write its one-way calls in time"));
                }
                writing.iter().for_each(|endpoint| endpoint.abort());
            }
        });
    }
}

/// The time for which a dropped client writes queued one-way calls.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Handles the end of a watchdog's task, also when its runtime shuts down or the task panics.
struct WatchdogGuard {
    pool: Weak<EndpointPool>,
    lifecycle: Arc<Lifecycle>,
    endpoint: Arc<Endpoint>,
    index: usize,
}

impl Drop for WatchdogGuard {
    fn drop(&mut self) {
        if self.endpoint.is_retired() {
            // The next caller of this address needs a new endpoint.
            if let Some(pool) = self.pool.upgrade() {
                pool.endpoints
                    .remove_if(&self.endpoint.address(), |_, pooled| Arc::ptr_eq(&pooled.endpoint, &self.endpoint));
            }
            return;
        }
        let error = Error::not_executed(Code::Unavailable, INTERRUPTED).with_peer(self.endpoint.address());
        let lane = &self.endpoint.lanes()[self.index];
        lane.set(ConnectionState::Backoff(Arc::new(error)));
        // In this order: a caller that reads the flag of the client finds the mark of the lane, and a caller that the
        // notification wakes finds both.
        lane.interrupt();
        self.lifecycle.interrupt();
        self.endpoint.changes().notify();
    }
}

/// The message of an endpoint whose watchdog was dropped.
const INTERRUPTED: &str = "the connection's task was dropped with its runtime, the next call connects again";

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
                let follower = Arc::new(Notify::new());
                for round in 0..3_000_u16 {
                    let address = address(1 + (service + round) % 2);
                    let endpoint = pool.reference(&Instance::new(address), Reconnect::Normally, &follower);
                    if round % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    assert!(!endpoint.is_retired());
                    assert!(Arc::ptr_eq(&endpoint, &pool.get_or_insert(address)));
                    pool.release(&endpoint, &follower);
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
