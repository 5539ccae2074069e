//! The interfaces of a registry: [`Registry`] for providers, [`Discovery`] for consumers.
//!
//! The crate `rpc-registry` implements them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{BoxFuture, Error, Instance, ServiceId};

/// The instances of a service: `None` until the registry has answered, then its latest complete list.
///
/// The sender exists while the backend watches. When it is dropped, such as at the end of the backend's runtime, a client
/// keeps the last list and watches again: after 1 s, and after pauses that double up to 30 s.
pub type Addresses = watch::Receiver<Option<Arc<[Instance]>>>;

/// The state of a registration when [`Registry::register`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterOutcome {
    /// The registry has confirmed the registration.
    Confirmed,
    /// The registry is unreachable or has not answered in time. The backend keeps trying.
    Pending,
}

/// Registers providers.
pub trait Registry: Send + Sync + 'static {
    /// Registers `instance` as a provider of `service`.
    ///
    /// The backend keeps it registered until [`deregister`](Self::deregister) or the end of this process, across
    /// restarts and outages of the registry.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` or `PermissionDenied` if the registry rejects this process, `InvalidArgument` if it cannot
    /// represent this instance. An unreachable registry is not an error: the backend keeps trying, and the outcome is
    /// [`Pending`](RegisterOutcome::Pending).
    ///
    /// # Cancel safety
    ///
    /// After the future is dropped, the instance may or may not be registered. Call [`deregister`](Self::deregister) to
    /// remove it.
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>>;

    /// Deregisters the provider at `address`. Succeeds if it is not registered.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the registry did not confirm within the backend's time limit; the backend keeps trying.
    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>>;

    /// Returns the IP address under which consumers of this registry reach this machine.
    ///
    /// This is the local address of the route to the registry. The default implementation returns loopback, for a
    /// registry that serves only one machine.
    ///
    /// # Errors
    ///
    /// `Unavailable` if this machine has no route to the registry.
    fn reachable_ip(&self) -> BoxFuture<'_, Result<IpAddr, Error>> {
        Box::pin(async { Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)) })
    }
}

/// Finds providers.
pub trait Discovery: Send + Sync + 'static {
    /// Watches the providers of `service`.
    ///
    /// Watches of the same service share one subscription, which ends when every receiver is dropped.
    ///
    /// Never fails and never waits: while the registry is unreachable, the list stays `None`.
    fn watch(&self, service: &ServiceId) -> Addresses;

    /// Returns the registry's address for messages, without secrets, such as `nacos://127.0.0.1:8848`.
    fn url(&self) -> &str;

    /// Returns whether clients keep the lists of this registry on disk, for a start while it is unreachable.
    ///
    /// The default implementation returns `true`. A registry without a server, which every process can read by itself,
    /// returns `false`.
    fn is_cacheable(&self) -> bool {
        true
    }
}
