//! [`Fixed`]: a constant list of addresses.

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use futures_util::future::join_all;
use rpc_core::{Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Administration,
    address::{HostPort, RESOLVE_INTERVAL},
    supervision::{completes, log},
    tasks::Tasks,
    throttle::Throttle,
    watches::{self, Publisher},
};

/// A constant list of addresses, the same for every service: `fixed:host:port,host:port`.
///
/// Host names are resolved at construction, and again every 10 s; after a failed lookup the previous addresses stay. A
/// name with several addresses yields one provider for each; of a name with IPv4 and IPv6 addresses only the IPv4
/// addresses count. Registering and deregistering have no effect.
#[derive(Debug)]
pub struct Fixed {
    publisher: Arc<Publisher>,
    url: String,
    /// The task that resolves host names again, if there are any.
    _tasks: Option<Tasks>,
}

impl Fixed {
    /// Resolves a comma-separated list of `host:port` addresses.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if an address is not of the form `host:port`, `Unavailable` if a host name cannot be resolved.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its time driver enabled.
    pub async fn new(addresses: &str) -> Result<Self, Error> {
        let hosts: Vec<_> =
            addresses.split(',').map(|address| HostPort::parse(address.trim(), None)).collect::<Result<_, _>>()?;
        let names: Vec<_> = hosts.iter().map(HostPort::to_string).collect();
        let mut resolved = Vec::new();
        for host in hosts {
            let addresses = host.resolve().await.map_err(|cause| {
                Error::not_executed(Code::Unavailable, format!("cannot resolve `{host}`")).with_source(cause)
            })?;
            resolved.push(Host { host, addresses });
        }
        let publisher = Arc::new(watch::Sender::new(Some(list(&resolved).into())));
        let tasks = resolved.iter().any(|host| host.host.is_name()).then(Tasks::new);
        if let Some(tasks) = &tasks {
            tasks.spawn(refresh(resolved, Arc::clone(&publisher), tasks.stop().clone()));
        }
        Ok(Self { publisher, url: format!("fixed:{}", names.join(",")), _tasks: tasks })
    }
}

/// An entry of the list with its latest addresses.
struct Host {
    host: HostPort,
    addresses: Vec<SocketAddr>,
}

fn list(hosts: &[Host]) -> Vec<Instance> {
    let mut addresses: Vec<_> = hosts.iter().flat_map(|host| host.addresses.iter().copied()).collect();
    addresses.sort();
    addresses.dedup();
    addresses.into_iter().map(Instance::new).collect()
}

/// Resolves the host names periodically until `stop` is cancelled.
async fn refresh(mut hosts: Vec<Host>, publisher: Arc<Publisher>, stop: CancellationToken) {
    let warnings = Throttle::default();
    let resolve = |host: HostPort| async move { host.resolve().await };
    // Cancel-safe: a dropped lookup changes nothing.
    tokio::select! {
        () = stop.cancelled() => {}
        () = async { while !completes("fixed", follow(&mut hosts, &publisher, &warnings, resolve)).await {} } => {}
    }
}

/// Resolves the host names periodically and publishes their addresses, until it is dropped.
async fn follow<R, F>(hosts: &mut [Host], publisher: &Publisher, warnings: &Throttle, resolve: R)
where
    R: Fn(HostPort) -> F,
    F: Future<Output = io::Result<Vec<SocketAddr>>>,
{
    loop {
        sleep(RESOLVE_INTERVAL).await;
        let names = hosts.iter_mut().filter(|host| host.host.is_name());
        let lookups = join_all(names.map(async |host| match resolve(host.host.clone()).await {
            Ok(addresses) => {
                host.addresses = addresses;
                None
            }
            Err(error) => Some((host.host.to_string(), error)),
        }));
        let failure = lookups.await.into_iter().flatten().next();
        watches::publish(publisher, list(hosts));
        if let Some((host, error)) = failure
            && warnings.allow(Instant::now())
        {
            log(
                || tracing::warn!(host, %error, "cannot resolve a host name of `fixed:`; its previous addresses stay in use"),
            );
        }
    }
}

impl Registry for Fixed {
    fn register<'a>(&'a self, _: &'a ServiceId, _: Instance) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async { Ok(RegisterOutcome::Confirmed) })
    }

    fn deregister<'a>(&'a self, _: &'a ServiceId, _: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

impl Discovery for Fixed {
    fn watch(&self, _: &ServiceId) -> Addresses {
        self.publisher.subscribe()
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn is_cacheable(&self) -> bool {
        false
    }
}

/// Every service has the same addresses, so that there is no list of services.
impl Administration for Fixed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_service_has_the_same_addresses() {
        let fixed = Fixed::new("127.0.0.1:2, 127.0.0.1:1,127.0.0.1:2").await.unwrap();
        let list = fixed.watch(&ServiceId::from_static("any", "1")).borrow().clone().unwrap();
        let ports: Vec<_> = list.iter().map(|instance| instance.address().port()).collect();
        assert_eq!(ports, [1, 2]);
        assert_eq!(fixed.url(), "fixed:127.0.0.1:2,127.0.0.1:1,127.0.0.1:2");
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_resolved_again() {
        let host = |text, port| {
            let host = HostPort::parse(text, None).unwrap();
            Host { host, addresses: vec![([10, 0, 0, 1], port).into()] }
        };
        let mut hosts = [host("a:1", 1), host("b:2", 2), host("10.0.0.1:3", 3)];
        let publisher = watch::Sender::new(Some(list(&hosts).into()));
        let mut addresses = publisher.subscribe();
        let warnings = Throttle::default();
        // The first name has two other addresses now, and the second does not resolve.
        let resolve = |host: HostPort| async move {
            match host.host.as_str() {
                "a" => Ok(vec![([10, 0, 0, 3], host.port).into(), ([10, 0, 0, 2], host.port).into()]),
                "b" => Err(io::ErrorKind::NotFound.into()),
                other => panic!("{other} is an address"),
            }
        };
        addresses.mark_unchanged();
        tokio::select! {
            () = follow(&mut hosts, &publisher, &warnings, resolve) => {}
            changed = addresses.changed() => changed.unwrap(),
        }
        let list: Vec<_> = addresses.borrow().as_deref().unwrap().iter().map(Instance::address).collect();
        let expected = ["10.0.0.1:2", "10.0.0.1:3", "10.0.0.2:1", "10.0.0.3:1"];
        assert_eq!(list, expected.map(|address| address.parse::<SocketAddr>().unwrap()));
    }

    #[tokio::test]
    async fn new_rejects_addresses_without_a_port() {
        for bad in ["", "localhost", "localhost:1,"] {
            assert_eq!(Fixed::new(bad).await.unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }
}
