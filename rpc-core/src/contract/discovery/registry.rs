//! The seams to a registry: [`Registry`] for providers, [`Discovery`] for consumers.
//!
//! The backends live in the crate `rpc-registry`; nothing else knows which registry it talks to.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{BoxFuture, Error, Instance, ServiceId};

/// What a registry last said of a service: `None` until it has answered once, then always its newest whole list.
///
/// The sender stays alive as long as the backend watches; a receiver whose sender is gone keeps the last list.
pub type Addresses = watch::Receiver<Option<Arc<[Instance]>>>;

/// How far a registration has come when [`Registry::register`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterOutcome {
    /// The registry has confirmed it.
    Confirmed,
    /// The registry is out of reach or has not answered in time. The backend goes on trying.
    Pending,
}

/// Where a provider announces itself.
pub trait Registry: Send + Sync + 'static {
    /// Lists `instance` as a provider of `service`, and keeps it listed until [`deregister`](Self::deregister), or until this
    /// process ends, whatever happens to the registry meanwhile.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` or `PermissionDenied` when the registry refuses the caller, `InvalidArgument` when it could never
    /// list this instance. A registry that is merely out of reach is no error: the backend goes on trying, and the outcome is
    /// [`Pending`](RegisterOutcome::Pending).
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have registered; deregister to be sure.
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>>;

    /// Takes the provider at `address` off the list. Taking off what is not listed succeeds.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the registry could not be told within the backend's time; the backend goes on trying.
    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>>;

    /// The address of this machine under which consumers of this registry reach it: the local address of the route to the
    /// registry. Loopback for a registry that serves one machine only, which is the default.
    ///
    /// # Errors
    ///
    /// `Unavailable` when this machine has no route to the registry.
    fn reachable_ip(&self) -> BoxFuture<'_, Result<IpAddr, Error>> {
        Box::pin(async { Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)) })
    }
}

/// Where a consumer finds providers.
pub trait Discovery: Send + Sync + 'static {
    /// Watches the providers of `service`. Watching the same service again shares the work. The watch ends once every receiver
    /// of it is dropped.
    ///
    /// Never fails and never waits: a registry out of reach shows as a list that stays `None`.
    fn watch(&self, service: &ServiceId) -> Addresses;

    /// The registry's address for messages, without secrets, such as `nacos://127.0.0.1:8848`.
    fn url(&self) -> &str;
}
