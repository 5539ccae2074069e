//! [`Services`]: the services that a client has called.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use dashmap::{DashMap, Entry};
use rpc_core::{Discovery, ServiceId};
use tokio::task::JoinSet;

use super::{
    follow::follow, known::KnownServices, providers::ServiceProviders, rule_feed::RuleFeed, snapshot::Snapshot,
    watch::Watch,
};
use crate::endpoint::{lifecycle::Lifecycle, pool::EndpointPool};

/// The services that a client has called, each with the tasks that keep its provider list and its rules up to date.
pub(crate) struct Services {
    discovery: Option<Arc<dyn Discovery>>,
    cache_directory: Option<PathBuf>,
    /// Whether this client has removed the old files of `cache_directory`.
    cleaned: Arc<AtomicBool>,
    rules: Option<Arc<RuleFeed>>,
    services: DashMap<ServiceId, FollowedService, foldhash::fast::RandomState>,
    /// The first services, which calls find without a write to memory that other threads use.
    known: KnownServices,
}

struct FollowedService {
    providers: Arc<ServiceProviders>,
    follower: JoinSet<()>,
}

impl Services {
    pub(crate) fn new(
        discovery: Option<Arc<dyn Discovery>>,
        cache_directory: Option<PathBuf>,
        rules: Option<RuleFeed>,
    ) -> Self {
        // A list that every process can get without a server needs no copy.
        let cache_directory = cache_directory.filter(|_| discovery.as_ref().is_some_and(|d| d.is_cacheable()));
        Self {
            discovery,
            cache_directory,
            cleaned: Arc::default(),
            rules: rules.map(Arc::new),
            services: DashMap::default(),
            known: KnownServices::default(),
        }
    }

    /// Returns the URL of the registry, for messages.
    pub(crate) fn registry_url(&self) -> &str {
        self.discovery.as_ref().map_or("no registry", |discovery| discovery.url())
    }

    /// Returns the providers of all services, sorted by service.
    pub(crate) fn all(&self) -> Vec<Arc<ServiceProviders>> {
        let mut all: Vec<_> = self.services.iter().map(|known| Arc::clone(&known.providers)).collect();
        all.sort_unstable_by(|one, other| one.service().cmp(other.service()));
        all
    }

    /// Returns the number of services that the client follows.
    pub(crate) fn len(&self) -> usize {
        self.services.len()
    }

    /// Stops following all services of a closed client, and wakes the calls that wait for their providers.
    pub(crate) fn clear(&self) {
        self.services.iter().for_each(|known| known.providers.wake_all_calls());
        self.services.clear();
    }

    /// Executes `read` with the providers of a service, if the client follows it.
    pub(crate) fn with<T>(&self, service: &'static ServiceId, read: impl FnOnce(&ServiceProviders) -> T) -> Option<T> {
        if let Some(providers) = self.known.get(service) {
            return Some(read(providers));
        }
        let providers = self.find(service)?;
        self.known.insert(service, &providers);
        Some(read(&providers))
    }

    /// Returns the providers of a service if the client follows it, as a reference of its own.
    pub(crate) fn find(&self, service: &ServiceId) -> Option<Arc<ServiceProviders>> {
        self.services.get(service).map(|known| Arc::clone(&known.providers))
    }

    /// Follows a service. Returns `None` if the client has no registry.
    pub(crate) fn follow(&self, service: &ServiceId, pool: &Arc<EndpointPool>) -> Option<Arc<ServiceProviders>> {
        let discovery = self.discovery.as_ref()?;
        let providers = Arc::new(ServiceProviders::new(service.clone()));
        match self.services.entry(service.clone()) {
            Entry::Occupied(known) => return Some(Arc::clone(&known.get().providers)),
            Entry::Vacant(vacant) => {
                vacant.insert(FollowedService { providers: Arc::clone(&providers), follower: JoinSet::new() });
            }
        }
        // The lock is released: the registry's code and a runtime that shuts down may use the client.
        self.start_follower(&providers, discovery, pool);
        Some(providers)
    }

    /// Starts another follower for each one that was interrupted, on the runtime of the caller.
    pub(crate) fn resume(&self, pool: &Arc<EndpointPool>) {
        let Some(discovery) = &self.discovery else { return };
        for providers in self.all().iter().filter(|providers| providers.take_interruption()) {
            self.start_follower(providers, discovery, pool);
        }
    }

    fn start_follower(
        &self,
        providers: &Arc<ServiceProviders>,
        discovery: &Arc<dyn Discovery>,
        pool: &Arc<EndpointPool>,
    ) {
        let service = providers.service();
        let guard = FollowerGuard { providers: Arc::clone(providers), lifecycle: Arc::clone(pool.lifecycle()) };
        let watch = Watch::new({
            let (discovery, service) = (Arc::clone(discovery), service.clone());
            move || discovery.watch(&service)
        });
        let directory = self.cache_directory.as_deref();
        let snapshot = Snapshot::new(directory, discovery.url(), service, &self.cleaned);
        let pool = Arc::clone(pool);
        let mut follower = JoinSet::new();
        follower.spawn(async move { follow(&guard.providers, watch, pool, snapshot).await });
        if let Some(feed) = &self.rules {
            follower.spawn(Arc::clone(feed).follow(service.clone()));
        }
        // `clear` may have removed the service; the follower then ends here.
        if let Some(mut known) = self.services.get_mut(service) {
            known.follower = follower;
        }
    }
}

/// Marks a follower as interrupted when its task is dropped: its runtime shut down, or the task panicked.
struct FollowerGuard {
    providers: Arc<ServiceProviders>,
    lifecycle: Arc<Lifecycle>,
}

impl Drop for FollowerGuard {
    fn drop(&mut self) {
        // In this order, as in the guard of a watchdog.
        self.providers.interrupt();
        self.lifecycle.interrupt();
        self.providers.wake_all_calls();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        net::SocketAddr,
        sync::atomic::Ordering,
        task::{Context, Wake, Waker},
    };

    use rpc_core::{
        Addresses, BoxFuture, Instance,
        transport::{Connect, Io},
    };
    use tokio::{sync::watch, task::yield_now};

    use super::*;
    use crate::{config::ClientConfig, connection::credentials::Credentials};

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    /// A registry whose list a test sets.
    #[derive(Default)]
    struct Listing(watch::Sender<Option<Arc<[Instance]>>>);

    impl Listing {
        fn set(&self, port: u16) {
            self.0.send_replace(Some([Instance::new(([127, 0, 0, 1], port).into())].into()));
        }
    }

    impl Discovery for Listing {
        fn watch(&self, _: &ServiceId) -> Addresses {
            self.0.subscribe()
        }

        fn url(&self) -> &str {
            "test://listing"
        }
    }

    /// A connector whose connects never finish.
    struct NeverConnects;

    impl Connect for NeverConnects {
        fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
            Box::pin(std::future::pending())
        }
    }

    /// Looks for retired endpoints in the list at the time of a notification.
    struct Inspection {
        providers: Arc<ServiceProviders>,
        notified: AtomicBool,
        retired: AtomicBool,
    }

    impl Wake for Inspection {
        fn wake(self: Arc<Self>) {
            self.notified.store(true, Ordering::SeqCst);
            let retired = self.providers.list().endpoints.iter().any(|endpoint| endpoint.is_retired());
            self.retired.fetch_or(retired, Ordering::SeqCst);
        }
    }

    /// Executes `change` and waits until `done`. Returns whether the list had a retired endpoint at the first change.
    async fn lists_retired(
        providers: &Arc<ServiceProviders>,
        pool: &Arc<EndpointPool>,
        change: impl FnOnce(),
        done: impl Fn() -> bool,
    ) -> bool {
        let (notified, retired) = Default::default();
        let inspection = Arc::new(Inspection { providers: Arc::clone(providers), notified, retired });
        let mut subscriber = pool.subscribers().subscribe();
        let mut changed = Box::pin(subscriber.changed());
        let waker = Waker::from(Arc::clone(&inspection));
        assert!(changed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        change();
        while !(done() && inspection.notified.load(Ordering::SeqCst)) {
            yield_now().await;
        }
        inspection.retired.load(Ordering::SeqCst)
    }

    /// A call that picks from the list would fail, although another list follows.
    #[tokio::test]
    async fn endpoints_are_retired_after_they_left_the_list() {
        let (listing, config) = (Arc::new(Listing::default()), Arc::new(ClientConfig::default()));
        let pool = EndpointPool::new(config, Arc::new(NeverConnects), Credentials::default());
        let services = Services::new(Some(Arc::clone(&listing) as _), None, None);
        let providers = services.follow(&SERVICE, &pool).unwrap();
        let lists = |port| providers.list().endpoints.iter().any(|endpoint| endpoint.address().port() == port);
        listing.set(1);
        while !lists(1) {
            yield_now().await;
        }
        assert!(!lists_retired(&providers, &pool, || listing.set(2), || lists(2)).await, "the list changed");
        let is_empty = || pool.all().is_empty();
        assert!(!lists_retired(&providers, &pool, || services.clear(), is_empty).await, "the follower was dropped");
    }
}
