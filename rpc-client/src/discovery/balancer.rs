//! [`Balancer`]: a load-balancing policy of the program.

use std::{fmt, net::SocketAddr, time::Duration};

/// A load-balancing policy of the program, set by [`ClientConfig::with_balancer`](crate::ClientConfig::with_balancer).
///
/// The client first applies tags, ejections and the exclusions of the call; the policy selects one of the remaining
/// providers. Both methods run in the tasks of callers, on every attempt, so they must not block.
///
/// # Examples
///
/// A policy that selects the provider with the fewest failures of late, and among equals the least loaded one:
///
/// ```
/// use std::{collections::HashMap, net::SocketAddr, sync::Mutex};
///
/// use rpc_client::{AttemptRecord, Balancer, Client, ClientConfig, ProviderSnapshot};
///
/// #[derive(Debug, Default)]
/// struct FewestFailures {
///     failures: Mutex<HashMap<SocketAddr, u32>>,
/// }
///
/// impl Balancer for FewestFailures {
///     fn select(&self, providers: &[ProviderSnapshot<'_>], _random: u64) -> Option<usize> {
///         let failures = self.failures.lock().unwrap();
///         let cost = |index: &usize| {
///             let provider = &providers[*index];
///             (failures.get(&provider.address).copied().unwrap_or(0), provider.in_flight)
///         };
///         (0..providers.len()).min_by_key(cost)
///     }
///
///     fn record(&self, attempt: &AttemptRecord) {
///         let mut failures = self.failures.lock().unwrap();
///         let count = failures.entry(attempt.address).or_default();
///         // Each answer forgives half of the failures.
///         *count = if attempt.is_failure { *count + 1 } else { *count / 2 };
///     }
/// }
///
/// let config = ClientConfig::default().with_balancer(FewestFailures::default());
/// let client = Client::builder().config(config).build().unwrap();
/// ```
pub trait Balancer: fmt::Debug + Send + Sync + 'static {
    /// Selects one of the providers by its index, or none.
    ///
    /// There is at least one provider. `random` is uniformly distributed; with it, the selection needs no random numbers of
    /// its own and is a pure function. Without a selection, or with an index that is out of range, the call waits or fails as
    /// if no provider accepted it.
    fn select(&self, providers: &[ProviderSnapshot<'_>], random: u64) -> Option<usize>;

    /// Records the end of an attempt that was sent.
    ///
    /// The default implementation does nothing.
    fn record(&self, attempt: &AttemptRecord) {
        let _ = attempt;
    }
}

/// A provider at the moment of a selection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProviderSnapshot<'a> {
    /// The address of the provider.
    pub address: SocketAddr,
    /// The weight in the registry, reduced by slow start, relative to the mean of all providers.
    pub weight: f64,
    /// The zone in which the provider runs.
    pub zone: Option<&'a str>,
    /// Whether zone affinity prefers other providers to this one.
    pub is_far: bool,
    /// The calls of this client in flight, and its open streams.
    pub in_flight: u32,
    /// The peak EWMA of the latency; `None` before the first answer.
    pub latency: Option<Duration>,
}

/// The end of an attempt that was sent.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// The address of the provider.
    pub address: SocketAddr,
    /// The time from the sending of the request.
    pub latency: Duration,
    /// Whether the attempt failed because of the provider: with `Unavailable`, `Internal`, `Unknown` or `DataLoss`, or
    /// without an answer in time.
    ///
    /// Other errors are answers of the service.
    pub is_failure: bool,
}
