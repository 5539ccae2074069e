//! [`Several`]: several registries as one, for the migration from one to another.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures_util::future::{join_all, select_all};
use rpc_core::{Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio_util::sync::CancellationToken;

use crate::{
    Administration, Backend, InstanceChange,
    supervision::completes,
    tasks::Tasks,
    watches::{Watch, Watches},
};

/// Several registries as one: `nacos://a:8848,zookeeper://b:2181`.
///
/// A provider registers in all of them. A consumer finds the providers that any of them lists, from when the first has
/// answered. A provider that several list has the weight and the metadata of the first, and is disabled if any of them
/// lists it as disabled.
pub struct Several {
    backends: Vec<Arc<dyn Backend>>,
    url: String,
    watches: Arc<Watches>,
    tasks: Tasks,
}

impl Several {
    /// Combines registries.
    ///
    /// # Panics
    ///
    /// If `backends` is empty, and outside a Tokio runtime.
    pub fn new(backends: Vec<Arc<dyn Backend>>) -> Self {
        assert!(!backends.is_empty(), "there is no registry");
        let urls: Vec<&str> = backends.iter().map(|backend| backend.url()).collect();
        let url = urls.join(",");
        Self { backends, url, watches: Arc::default(), tasks: Tasks::new() }
    }

    /// Returns the results of all registries, or the first error after all have answered.
    async fn all<'a, T>(
        &'a self,
        ask: impl Fn(&'a dyn Backend) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<Vec<T>, Error> {
        join_all(self.backends.iter().map(|backend| ask(&**backend))).await.into_iter().collect()
    }
}

impl Registry for Several {
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async move {
            let outcomes = self.all(|backend| backend.register(service, instance.clone())).await?;
            let is_confirmed = outcomes.iter().all(|outcome| *outcome == RegisterOutcome::Confirmed);
            Ok(if is_confirmed { RegisterOutcome::Confirmed } else { RegisterOutcome::Pending })
        })
    }

    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { self.all(|backend| backend.deregister(service, address)).await.map(drop) })
    }

    fn reachable_ip(&self) -> BoxFuture<'_, Result<IpAddr, Error>> {
        Box::pin(async {
            let mut last = Error::not_executed(Code::Unavailable, "there is no registry");
            for backend in &self.backends {
                match backend.reachable_ip().await {
                    Ok(ip) => return Ok(ip),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

impl Discovery for Several {
    fn watch(&self, service: &ServiceId) -> Addresses {
        let (receiver, watch) = self.watches.watch(service);
        if let Some(watch) = watch {
            self.tasks.spawn(run(watch, self.backends.clone(), self.tasks.stop().clone()));
        }
        receiver
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn is_cacheable(&self) -> bool {
        self.backends.iter().any(|backend| backend.is_cacheable())
    }
}

impl Administration for Several {
    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async {
            let services = self.all(|backend| backend.services()).await?;
            Ok(services.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect())
        })
    }

    fn instances<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Vec<Instance>, Error>> {
        Box::pin(async move { Ok(merged(self.all(|backend| backend.instances(service)).await?)) })
    }

    /// As specified by the trait. The change is made in each registry that lists the instance.
    fn change<'a>(
        &'a self,
        service: &'a str,
        address: SocketAddr,
        change: InstanceChange,
    ) -> BoxFuture<'a, Result<Option<Instance>, Error>> {
        Box::pin(async move {
            let changed = self.all(|backend| backend.change(service, address, change)).await?;
            Ok(changed.into_iter().flatten().next())
        })
    }
}

/// Publishes the merged lists until the watch has no receivers or `stop` is cancelled.
async fn run(watch: Watch, backends: Vec<Arc<dyn Backend>>, stop: CancellationToken) {
    // Cancel-safe: the next list is complete.
    tokio::select! {
        () = stop.cancelled() => {}
        () = async { while !completes("several registries", follow(&watch, &backends)).await {} } => {}
    }
}

async fn follow(watch: &Watch, backends: &[Arc<dyn Backend>]) {
    let mut lists: Vec<Addresses> = backends.iter().map(|backend| backend.watch(watch.service())).collect();
    loop {
        let known: Vec<Vec<Instance>> =
            lists.iter_mut().filter_map(|list| list.borrow_and_update().as_deref().map(<[_]>::to_vec)).collect();
        if !known.is_empty() {
            watch.publish(merged(known));
        }
        let changed = select_all(lists.iter_mut().map(|list| Box::pin(list.changed())));
        // Both futures are cancel-safe.
        tokio::select! {
            () = watch.closed() => {
                if watch.end_if_unwatched() {
                    return;
                }
            }
            // A backend whose watch ended has lost its runtime, and this task runs on the same one.
            (changed, ..) = changed => if changed.is_err() { return },
        }
    }
}

/// Returns the instances of several lists, sorted by address.
fn merged(lists: Vec<Vec<Instance>>) -> Vec<Instance> {
    let mut instances = BTreeMap::<SocketAddr, Instance>::new();
    for instance in lists.into_iter().flatten() {
        let is_enabled = instance.is_enabled();
        let known = instances.entry(instance.address()).or_insert(instance);
        if !is_enabled {
            *known = known.clone().with_enabled(false);
        }
    }
    instances.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    fn instance(port: u16) -> Instance {
        Instance::new(([127, 0, 0, 1], port).into())
    }

    #[tokio::test]
    async fn providers_of_all_registries_are_found() {
        let [one, other] = ["several-one", "several-other"].map(|name| Arc::new(Memory::named(name)));
        let several = Several::new(vec![Arc::clone(&one) as _, Arc::clone(&other) as _]);
        assert_eq!(several.url(), "memory:several-one,memory:several-other");
        let mut addresses = several.watch(&SERVICE);
        let mut until = async |wanted: &[Instance]| {
            addresses.wait_for(|list| list.as_deref() == Some(wanted)).await.unwrap();
        };
        one.register(&SERVICE, instance(1)).await.unwrap();
        other.register(&SERVICE, instance(2)).await.unwrap();
        until(&[instance(1), instance(2)]).await;
        // A provider that registers in both is listed once.
        several.register(&SERVICE, instance(3)).await.unwrap();
        until(&[instance(1), instance(2), instance(3)]).await;
        one.deregister(&SERVICE, instance(3).address()).await.unwrap();
        other.deregister(&SERVICE, instance(2).address()).await.unwrap();
        until(&[instance(1), instance(3)]).await;
        several.deregister(&SERVICE, instance(3).address()).await.unwrap();
        until(&[instance(1)]).await;
    }

    #[test]
    fn provider_is_disabled_if_one_registry_says_so() {
        let first = instance(1).with_weight(2.0);
        let lists = vec![vec![first.clone()], vec![instance(1).with_enabled(false), instance(2)]];
        assert_eq!(merged(lists), [first.with_enabled(false), instance(2)]);
    }
}
