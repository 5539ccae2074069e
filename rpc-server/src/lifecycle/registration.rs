//! [`Registration`]: the entries of a server in its registry.

use std::{
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{self, Poll, Waker},
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::{join_all, try_join_all};
use rpc_core::{Code, Codec, Error, Instance, RegisterOutcome, Registry, Service, ServiceId, contained};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::endpoint::EndpointEntry;

/// The entries of a server in its registry, one for each service.
pub(super) struct Registration {
    registry: Arc<dyn Registry>,
    /// The services, each with the entry of the server.
    services: Vec<(ServiceId, Instance)>,
    address: SocketAddr,
}

/// A [`Registration`] that ends with its server.
///
/// # Drop
///
/// Dropping it deregisters the server, unless [`deregister`](Self::deregister) has completed: a server that is aborted or
/// panics must not stay registered. The deregistration begins before the drop ends, and so before a later server of the
/// same address registers; it completes in the background.
pub(super) struct Registered {
    registration: Arc<Registration>,
    /// Owns the task that deregisters after a drop.
    tasks: TaskTracker,
    runtime: Handle,
    ended: bool,
}

impl Registration {
    pub(super) fn new(
        registry: Arc<dyn Registry>,
        services: &[(ServiceId, Arc<dyn Service>)],
        mut instance: Instance,
    ) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        instance = instance
            .with_metadata("protocol", "msnb")
            .with_metadata("codecs", Codec::ALL.map(Codec::name).join(","))
            .with_metadata(Instance::STARTED, started.to_string());
        let entry = |(id, service): &(ServiceId, Arc<dyn Service>)| {
            let instance = match service.contract() {
                Some(contract) => {
                    instance.clone().with_metadata(Instance::CONTRACT, format!("{:016x}", contract.digest()))
                }
                None => instance.clone(),
            };
            (id.clone(), instance)
        };
        Self { registry, address: instance.address(), services: services.iter().map(entry).collect() }
    }

    /// Adds the entries of endpoints, whose callers do not use msnb.
    ///
    /// They do not state the protocol of msnb; a client of msnb asks for a version, which they do not have.
    pub(super) fn with_endpoints(mut self, entries: Vec<EndpointEntry>, is_encrypted: bool) -> Self {
        let Some((_, entry)) = self.services.first() else { return self };
        let own = ["protocol", "codecs", Instance::CONTRACT];
        let metadata = entry.metadata().iter().filter(|(key, _)| !own.contains(&key.as_str()));
        let instance = Instance::new(self.address).with_weight(entry.weight());
        let mut instance = metadata.fold(instance, |instance, (key, value)| instance.with_metadata(key, value));
        if is_encrypted {
            // Spring Cloud then calls it by https.
            instance = instance.with_metadata("secure", "true");
        }
        let with_metadata = |EndpointEntry { id, metadata }: EndpointEntry| {
            let instance = instance.clone();
            (id, metadata.into_iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value)))
        };
        self.services.extend(entries.into_iter().map(with_metadata));
        self
    }

    /// Registers all services concurrently.
    ///
    /// A registry serves a hundred concurrent requests in less time than a hundred sequential ones.
    async fn register(&self) -> Result<(), Error> {
        let registrations =
            self.services.iter().map(|(service, instance)| self.registry.register(service, instance.clone()));
        let outcomes = try_join_all(registrations).await?;
        let pending = outcomes.iter().filter(|outcome| **outcome == RegisterOutcome::Pending).count();
        let (address, services) = (self.address, outcomes.len() - pending);
        contained(|| {
            if pending == 0 {
                info!(%address, services, "registered");
            } else {
                warn!(
                    %address, services, pending,
                    "the registry has not confirmed all registrations; trying again in the background"
                );
            }
        });
        Ok(())
    }

    /// Deregisters all services.
    ///
    /// An error is only logged, because it must not keep the server from draining: the registry removes the entry by
    /// itself later.
    async fn deregister(&self) {
        let address = self.address;
        let deregistrations = self.services.iter().map(|(service, _)| self.registry.deregister(service, address));
        let outcomes = join_all(deregistrations).await;
        contained(|| {
            for error in outcomes.into_iter().filter_map(Result::err) {
                warn!(%error, %address, "deregistration failed");
            }
            info!(%address, "deregistered");
        });
    }
}

impl Registered {
    /// Creates the guard of a registration that is about to begin, within a runtime.
    pub(super) fn new(registration: Registration, tasks: TaskTracker) -> Self {
        Self { registration: Arc::new(registration), tasks, runtime: Handle::current(), ended: false }
    }

    /// Registers all services. If the registry rejects one, deregisters the others.
    pub(super) async fn register(&mut self) -> Result<(), Error> {
        let outcome = self.registration.register().await;
        if outcome.is_err() {
            self.registration.deregister().await;
            self.ended = true;
        }
        outcome
    }

    /// Registers all services again with these tags. A registry that rejects them keeps the earlier ones.
    pub(super) async fn set_tags(&mut self, tags: &str) {
        let Registration { registry, services, address } = &*self.registration;
        let tagged = |(service, instance): &(ServiceId, Instance)| {
            (service.clone(), instance.clone().with_metadata(Instance::TAGS, tags))
        };
        let (registry, address) = (Arc::clone(registry), *address);
        let services = services.iter().map(tagged).collect();
        self.registration = Arc::new(Registration { registry, services, address });
        if let Err(error) = self.registration.register().await {
            contained(|| warn!(%error, %address, tags, "the registry rejects the tags"));
        }
    }

    /// Deregisters all services.
    pub(super) async fn deregister(mut self) {
        self.registration.deregister().await;
        self.ended = true;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let registration = Arc::clone(&self.registration);
        let mut deregistration = Box::pin(async move { registration.deregister().await });
        // A registry that panics must not end the program, if a panic has dropped the server.
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let _runtime = self.runtime.enter();
            deregistration.as_mut().poll(&mut task::Context::from_waker(Waker::noop()))
        }));
        if matches!(begun, Ok(Poll::Pending)) {
            // A runtime that is shutting down drops the task; the registry then removes the entries when they expire.
            self.tasks.spawn_on(deregistration, &self.runtime);
        }
    }
}

/// Checks the tags of a server, and returns them as one metadata value.
///
/// # Errors
///
/// `InvalidArgument` for a tag that is empty, too long, or has other characters than letters, digits, `.`, `_` and `-`.
pub(super) fn check_tags(tags: &[String]) -> Result<String, Error> {
    let legal = |tag: &String| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        (1..=MAX_TAG).contains(&tag.len()) && tag.bytes().all(legal)
    };
    match tags.iter().find(|tag| !legal(tag)) {
        None => Ok(tags.join(",")),
        Some(tag) => {
            let message = format!("tag {tag:?} is invalid, must be 1 to {MAX_TAG} letters, digits, `.`, `_` and `-`");
            Err(Error::not_executed(Code::InvalidArgument, message))
        }
    }
}

/// The longest tag in bytes.
const MAX_TAG: usize = 64;

/// Returns an address of a server that listens on `listen` which consumers of the registry can reach.
///
/// # Errors
///
/// `FailedPrecondition` for a loopback address where the consumers are on other machines.
pub(super) async fn advertised(registry: &dyn Registry, listen: SocketAddr) -> Result<SocketAddr, Error> {
    let reachable = registry.reachable_ip();
    if listen.ip().is_unspecified() {
        return Ok(SocketAddr::new(reachable.await?, listen.port()));
    }
    // A consumer on another machine that finds a loopback address would connect to its own machine.
    if listen.ip().is_loopback()
        && let Ok(ip) = reachable.await
        && !ip.is_loopback()
    {
        return Err(Error::not_executed(Code::FailedPrecondition, unreachable_address(listen, ip)));
    }
    Ok(listen)
}

fn unreachable_address(listen: SocketAddr, reachable: IpAddr) -> String {
    format!(
        "consumers of this registry reach this machine at {reachable}, but the server listens on {listen} only; listen on \
         0.0.0.0:{port} or set an address with `ServerBuilder::advertise`",
        port = listen.port()
    )
}
