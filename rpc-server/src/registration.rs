//! [`Registration`]: what a server lists of itself in its registry.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::{join_all, try_join_all};
use rpc_core::{Code, Codec, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tracing::{info, warn};

/// What a server lists of itself in its registry.
pub(crate) struct Registration {
    registry: Arc<dyn Registry>,
    services: Vec<ServiceId>,
    instance: Instance,
}

impl Registration {
    pub(crate) fn new(registry: Arc<dyn Registry>, services: Vec<ServiceId>, mut instance: Instance) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        instance = instance
            .with_metadata("protocol", "msnb")
            .with_metadata("codecs", Codec::ALL.map(Codec::name).join(","))
            .with_metadata("started", started.to_string());
        Self { registry, services, instance }
    }

    /// Lists all services at once: one call to a registry takes longer than a hundred side by side.
    pub(crate) async fn register(&self) -> Result<(), Error> {
        let registrations = self.services.iter().map(|service| self.registry.register(service, self.instance.clone()));
        let outcomes = try_join_all(registrations).await?;
        let pending = outcomes.iter().filter(|outcome| **outcome == RegisterOutcome::Pending).count();
        let (address, services) = (self.instance.address(), outcomes.len() - pending);
        if pending == 0 {
            info!(%address, services, "registered");
        } else {
            warn!(%address, services, pending, "the registry has not confirmed all registrations; trying again in the background");
        }
        Ok(())
    }

    /// Takes all services off the list. What fails is the registry's to finish, and must not keep the server from draining.
    pub(crate) async fn deregister(&self) {
        let address = self.instance.address();
        let outcomes = join_all(self.services.iter().map(|service| self.registry.deregister(service, address))).await;
        for error in outcomes.into_iter().filter_map(Result::err) {
            warn!(%error, %address, "could not deregister");
        }
        info!(%address, "deregistered");
    }
}

/// The address to be listed for a server that listens on `listen`: one that consumers of this registry can reach.
pub(crate) async fn advertised(registry: &dyn Registry, listen: SocketAddr) -> Result<SocketAddr, Error> {
    let reachable = registry.reachable_ip();
    if listen.ip().is_unspecified() {
        return Ok(SocketAddr::new(reachable.await?, listen.port()));
    }
    // Whoever finds a loopback address in a registry elsewhere connects to itself.
    if listen.ip().is_loopback()
        && let Ok(ip) = reachable.await
        && !ip.is_loopback()
    {
        return Err(Error::not_executed(Code::FailedPrecondition, unreachable_from_elsewhere(listen, ip)));
    }
    Ok(listen)
}

fn unreachable_from_elsewhere(listen: SocketAddr, reachable: IpAddr) -> String {
    format!(
        "consumers of this registry reach this machine at {reachable}, but the server listens on {listen} only; listen on \
         0.0.0.0:{port} or name an address with `advertise`",
        port = listen.port()
    )
}
