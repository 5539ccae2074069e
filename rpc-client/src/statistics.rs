//! [`ProviderCounts`], [`ServiceStatus`] and [`RouteCounts`]: the numbers of a client for metrics.

use std::{net::SocketAddr, time::Duration};

use rpc_core::ServiceId;

/// The calls of one provider on its present connections.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderCounts {
    /// The address of the provider.
    pub address: SocketAddr,
    /// The zone that the provider has registered; empty if none.
    pub zone: String,
    /// The attempts that were sent.
    pub started: u64,
    /// The attempts that the provider answered, with any status.
    pub answered: u64,
    /// The attempts that failed because of the provider, since the client uses it.
    pub failed: u64,
    /// The ejections of the provider, since the client uses it.
    pub ejections: u64,
}

/// The provider list of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// The service.
    pub service: ServiceId,
    /// The providers that may be called.
    pub providers: usize,
    /// Whether the list comes from the disk, because the registry has not answered.
    pub is_stale: bool,
    /// The time since the registry reported the list; `None` if it has not.
    pub age: Option<Duration>,
}

/// The additional attempts of the calls of one method.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteCounts {
    /// The method, `service:version/method`.
    pub route: &'static str,
    /// The attempts after a failed one.
    pub retries: u64,
    /// The attempts while an earlier one was not answered.
    pub hedges: u64,
}
