//! [`ClientCore`]: the state that a client's clones and calls share.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_core::{BoxFuture, Discovery, Error, ServiceId, descriptor::Contract, transport::Connect};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    compatibility::Compatibility,
    config::ClientConfig,
    connection::{channel::Channel, credentials::Credentials},
    counters::{ClientCounts, Counters},
    discovery::{outliers::FailureKind, services::Services},
    endpoint::pool::EndpointPool,
    retry_budget::RetryBudget,
    rng::RngSource,
    rules::source::RulesSource,
};

/// The state that a client's clones and calls share.
///
/// All threads read it, so it shares no cache line with the reference count before it.
#[repr(align(128))]
pub(crate) struct ClientCore {
    config: Arc<ClientConfig>,
    services: Services,
    pool: Arc<EndpointPool>,
    retries: RetryBudget,
    compatibility: Compatibility,
    describe: Describe,
    rules: Arc<RulesSource>,
}

/// Requests the description of a service from the server at an address.
pub(crate) type Describe =
    fn(Arc<ClientCore>, SocketAddr, &ServiceId, Duration) -> BoxFuture<'static, Result<Contract, Error>>;

impl ClientCore {
    pub(crate) fn new(
        config: ClientConfig,
        discovery: Option<Arc<dyn Discovery>>,
        connector: Arc<dyn Connect>,
        credentials: Credentials,
        describe: Describe,
        rules: Arc<RulesSource>,
    ) -> Self {
        let config = Arc::new(config);
        Self {
            services: Services::new(discovery, config.cache_directory.clone(), rules.feed()),
            pool: EndpointPool::new(Arc::clone(&config), connector, credentials),
            retries: RetryBudget::new(Instant::now()),
            compatibility: Compatibility::default(),
            describe,
            rules,
            config,
        }
    }

    pub(crate) fn rules(&self) -> &Arc<RulesSource> {
        &self.rules
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    pub(crate) fn pool(&self) -> &Arc<EndpointPool> {
        &self.pool
    }

    pub(crate) fn rng(&self) -> &RngSource {
        self.pool.rng()
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.pool.counters()
    }

    pub(crate) fn counts(&self) -> ClientCounts {
        self.counters().counts(self.retries.calls())
    }

    pub(crate) fn compatibility(&self) -> &Compatibility {
        &self.compatibility
    }

    /// Requests the description of a service from the server at an address.
    pub(crate) fn describe(
        self: &Arc<Self>,
        address: SocketAddr,
        service: &ServiceId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Contract, Error>> {
        (self.describe)(Arc::clone(self), address, service, timeout)
    }

    /// Counts the start of a call.
    pub(crate) fn count_call(&self) {
        self.retries.count_call();
    }

    /// Takes a retry or a hedge from the retry budget.
    ///
    /// Returns false, and counts that, when the budget is spent.
    pub(crate) fn take_retry(&self) -> bool {
        let taken = self.retries.take(Instant::now());
        if !taken {
            Counters::count(&self.counters().retries_denied);
        }
        taken
    }

    /// Records that the peer of `channel` answered a call.
    pub(crate) fn record_answer(&self, channel: &Channel) {
        if channel.record_answer() {
            self.handle_probe_answer(channel);
        }
    }

    /// Handles the answer of a provider that has returned from an ejection.
    #[cold]
    fn handle_probe_answer(&self, channel: &Channel) {
        if let Some(endpoint) = self.pool.find(channel.address())
            && endpoint.handle_probe_answer(Instant::now())
        {
            endpoint.changes().notify();
        }
    }

    /// Handles an attempt, sent at `sent_at`, that failed because of its provider.
    pub(crate) fn handle_failure(&self, service: &ServiceId, channel: &Channel, sent_at: Instant, kind: FailureKind) {
        if !self.config.outlier_ejection {
            return;
        }
        let Some(providers) = self.services.find(service) else { return };
        if providers.handle_failure(channel, sent_at, kind, Instant::now()) {
            Counters::count(&self.counters().ejections);
            if let Some(endpoint) = self.pool.find(channel.address()) {
                endpoint.changes().notify();
            }
        }
    }

    /// Starts the cooldown that the peer of `channel` requested.
    pub(crate) fn start_cooldown(&self, channel: &Channel, time: Duration) {
        if channel.start_cooldown(time)
            && let Some(endpoint) = self.pool.find(channel.address())
        {
            endpoint.changes().notify();
        }
    }

    /// Starts the tasks again that were interrupted, on the runtime of the caller.
    ///
    /// A client of several runtimes therefore survives the end of each. Does nothing outside of a runtime.
    pub(crate) fn resume(&self) {
        if Handle::try_current().is_ok() && self.pool.lifecycle().take_interruption() {
            self.pool.resume();
            self.services.resume(&self.pool);
        }
    }

    /// Closes the client after its calls in flight have ended.
    pub(crate) async fn close(&self) {
        // The flag precedes the notifications: a call that they wake must find it.
        self.pool.lifecycle().close();
        self.services.clear();
        self.pool.close().await;
    }
}
