//! [`Services`]: the services that a client has called.

use std::{
    ops::Deref,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use dashmap::{DashMap, Entry};
use rpc_core::{Discovery, ServiceId};
use tokio::task::JoinSet;

use super::{follow::follow, providers::ServiceProviders, snapshot::Snapshot, watch::Watch};
use crate::endpoint::{lifecycle::Lifecycle, pool::EndpointPool};

/// The services that a client has called, each with the task that keeps its provider list up to date.
pub(crate) struct Services {
    discovery: Option<Arc<dyn Discovery>>,
    cache_directory: Option<PathBuf>,
    /// Whether this client has removed the old files of `cache_directory`.
    cleaned: Arc<AtomicBool>,
    services: DashMap<ServiceId, FollowedService, foldhash::fast::RandomState>,
}

struct FollowedService {
    providers: Arc<ServiceProviders>,
    follower: JoinSet<()>,
}

impl Services {
    pub(crate) fn new(discovery: Option<Arc<dyn Discovery>>, cache_directory: Option<PathBuf>) -> Self {
        // A list that every process can get without a server needs no copy.
        let cache_directory = cache_directory.filter(|_| discovery.as_ref().is_some_and(|d| d.is_cacheable()));
        Self { discovery, cache_directory, cleaned: Arc::default(), services: DashMap::default() }
    }

    /// Returns the URL of the registry, for messages.
    pub(crate) fn registry_url(&self) -> &str {
        self.discovery.as_ref().map_or("no registry", |discovery| discovery.url())
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

    /// Returns the providers of a service if the client follows it. The result locks a part of the map.
    pub(crate) fn get(&self, service: &ServiceId) -> Option<impl Deref<Target = Arc<ServiceProviders>>> {
        self.services.get(service).map(|known| known.map(|known| &known.providers))
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
        let all: Vec<_> = self.services.iter().map(|known| Arc::clone(&known.providers)).collect();
        for providers in all.iter().filter(|providers| providers.take_interruption()) {
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
        let watch = Watch::new(Arc::clone(discovery), service.clone());
        let directory = self.cache_directory.as_deref();
        let snapshot = Snapshot::new(directory, discovery.url(), service, &self.cleaned);
        let pool = Arc::clone(pool);
        let mut follower = JoinSet::new();
        follower.spawn(async move { follow(&guard.providers, watch, pool, snapshot).await });
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
