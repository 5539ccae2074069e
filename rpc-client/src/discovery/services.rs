//! [`Services`]: the services that a client has called.

use std::{ops::Deref, path::PathBuf, sync::Arc};

use dashmap::DashMap;
use rpc_core::{Discovery, ServiceId};
use tokio::task::JoinSet;

use super::{follow::follow, providers::ServiceProviders, snapshot::SnapshotFile};
use crate::endpoint::pool::EndpointPool;

/// The services that a client has called, each with the task that keeps its provider list up to date.
pub(crate) struct Services {
    discovery: Option<Arc<dyn Discovery>>,
    cache_directory: Option<PathBuf>,
    services: DashMap<ServiceId, FollowedService, foldhash::fast::RandomState>,
}

struct FollowedService {
    providers: Arc<ServiceProviders>,
    _follower: JoinSet<()>,
}

impl Services {
    pub(crate) fn new(discovery: Option<Arc<dyn Discovery>>, cache_directory: Option<PathBuf>) -> Self {
        Self { discovery, cache_directory, services: DashMap::default() }
    }

    /// Returns the URL of the registry, for messages.
    pub(crate) fn registry_url(&self) -> &str {
        self.discovery.as_ref().map_or("no registry", |discovery| discovery.url())
    }

    /// Returns the number of services that the client follows.
    pub(crate) fn len(&self) -> usize {
        self.services.len()
    }

    /// Stops following all services.
    pub(crate) fn clear(&self) {
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
        let entry = self.services.entry(service.clone()).or_insert_with(|| {
            let providers = Arc::new(ServiceProviders::new(service.clone()));
            let addresses = discovery.watch(service);
            let snapshot = SnapshotFile::new(self.cache_directory.as_deref(), discovery.url(), service);
            let mut follower = JoinSet::new();
            follower.spawn(follow(Arc::clone(&providers), addresses, Arc::clone(pool), snapshot));
            FollowedService { providers, _follower: follower }
        });
        Some(Arc::clone(&entry.providers))
    }
}
