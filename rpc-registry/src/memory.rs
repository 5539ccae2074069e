//! [`Memory`]: an in-process registry.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use rpc_core::{Addresses, BoxFuture, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio::sync::watch;

use crate::{
    Administration, InstanceChange, address,
    watches::{self, Publisher},
};

/// An in-process registry for tests: `memory:` or `memory:name`.
///
/// All handles with one name share their lists; handles with different names are isolated. Lists outlive the handles
/// and are kept until the process ends.
pub struct Memory {
    store: Arc<Store>,
    url: String,
}

/// The latest list of each service that was registered or watched.
type Store = Mutex<HashMap<ServiceId, Publisher>>;

impl Memory {
    /// Opens the registry with this name in this process. The empty name is valid.
    pub fn named(name: &str) -> Self {
        static STORES: LazyLock<Mutex<HashMap<String, Arc<Store>>>> = LazyLock::new(Mutex::default);
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        let store = Arc::clone(stores.entry(name.to_owned()).or_default());
        Self { store, url: format!("memory:{name}") }
    }

    fn update(&self, service: &ServiceId, update: impl FnOnce(&mut Vec<Instance>)) {
        let mut services = self.lock();
        let publisher = services.entry(service.clone()).or_insert_with(empty);
        let mut list = publisher.borrow().as_deref().unwrap_or_default().to_vec();
        update(&mut list);
        list.sort_by_key(Instance::address);
        watches::publish(publisher, list);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceId, Publisher>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for Memory {
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async move {
            address::check_connectable(&instance)?;
            self.update(service, |list| {
                list.retain(|other| other.address() != instance.address());
                list.push(instance);
            });
            Ok(RegisterOutcome::Confirmed)
        })
    }

    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.update(service, |list| list.retain(|other| other.address() != address));
            Ok(())
        })
    }
}

impl Discovery for Memory {
    fn watch(&self, service: &ServiceId) -> Addresses {
        self.lock().entry(service.clone()).or_insert_with(empty).subscribe()
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn is_cacheable(&self) -> bool {
        false
    }
}

impl Administration for Memory {
    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async {
            let services = self.lock();
            let listed = services.iter().filter(|(_, list)| list.borrow().as_deref().is_some_and(|l| !l.is_empty()));
            let mut names: Vec<_> = listed.map(|(service, _)| service.to_string()).collect();
            names.sort();
            Ok(names)
        })
    }

    fn instances<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Vec<Instance>, Error>> {
        Box::pin(async move {
            let Ok(service) = service.parse::<ServiceId>() else { return Ok(Vec::new()) };
            let list = self.lock().get(&service).and_then(|list| list.borrow().clone());
            Ok(list.map(|list| list.to_vec()).unwrap_or_default())
        })
    }

    /// As specified by the trait. The change applies until the provider registers again.
    fn change<'a>(
        &'a self,
        service: &'a str,
        address: SocketAddr,
        change: InstanceChange,
    ) -> BoxFuture<'a, Result<Option<Instance>, Error>> {
        Box::pin(async move {
            let Ok(service) = service.parse::<ServiceId>() else { return Ok(None) };
            let mut changed = None;
            self.update(&service, |list| {
                if let Some(instance) = list.iter_mut().find(|instance| instance.address() == address) {
                    *instance = change.apply(instance.clone());
                    changed = Some(instance.clone());
                }
            });
            Ok(changed)
        })
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Memory").field(&self.url).finish()
    }
}

/// Returns the publisher of a service without providers.
fn empty() -> Publisher {
    watch::Sender::new(Some(Arc::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    fn instance(port: u16) -> Instance {
        Instance::new(([127, 0, 0, 1], port).into())
    }

    fn ports(addresses: &Addresses) -> Vec<u16> {
        addresses.borrow().as_ref().unwrap().iter().map(|instance| instance.address().port()).collect()
    }

    #[tokio::test]
    async fn handles_with_one_name_share_lists() {
        let (one, same, other) = (Memory::named("m1"), Memory::named("m1"), Memory::named("m2"));
        let (seen, unseen) = (same.watch(&SERVICE), other.watch(&SERVICE));

        one.register(&SERVICE, instance(2)).await.unwrap();
        one.register(&SERVICE, instance(1)).await.unwrap();
        assert_eq!((ports(&seen), ports(&unseen)), (vec![1, 2], vec![]));

        same.deregister(&SERVICE, instance(2).address()).await.unwrap();
        same.deregister(&SERVICE, instance(2).address()).await.unwrap();
        assert_eq!(ports(&seen), [1]);
    }

    #[tokio::test]
    async fn second_registration_replaces_the_first() {
        let memory = Memory::named("m3");
        memory.register(&SERVICE, instance(1)).await.unwrap();
        memory.register(&SERVICE, instance(1).with_weight(2.0)).await.unwrap();
        assert_eq!(memory.watch(&SERVICE).borrow().as_deref(), Some(&[instance(1).with_weight(2.0)][..]));
    }
}
