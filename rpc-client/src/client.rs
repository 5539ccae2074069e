//! [`Client`]: calls services.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use rpc_core::{
    BoxFuture, CallOptions, Caller, Encode, Error, Explanation, PreparedCall, Request, ServiceClient, ServiceId,
    descriptor::Contract, reflection::ReflectionClient,
};
use tokio::{sync::watch, time::Instant};

use crate::{
    call::{future::ClientCall, target::Target, warm_up::warm_up},
    client_core::ClientCore,
    counters::ClientCounts,
    endpoint::state::EndpointState,
    rules::Rules,
    statistics::{ProviderCounts, RouteCounts, ServiceStatus},
};

/// Calls services.
///
/// A client is cheap to clone, and its clones share provider lists, connections and the retry budget. The connections
/// close when the last clone and the last call are dropped. They write queued one-way calls for at most 1 s longer, if
/// their runtimes run for so long; a program that ends waits for [`close`](Self::close) instead.
///
/// A connection runs on the runtime of the call that first needed it, and that runtime must keep running while others
/// use the client. When it shuts down, the connection is lost, and the next call connects again on its own runtime. A
/// client may therefore be a `static`.
#[derive(Clone)]
pub struct Client(Arc<ClientCore>);

impl Client {
    pub(crate) fn new(core: ClientCore) -> Self {
        Self(Arc::new(core))
    }

    /// Closes the client after its calls in flight have ended.
    ///
    /// It writes queued one-way calls, unless a peer reads nothing for `TransportConfig::write_stall`. The client makes no
    /// new connections, and new calls fail with `Unavailable`. Every call has a deadline, so this resolves.
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped, the remaining connections still close when their calls have ended.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Resolves a service and connects to its providers, so that the first call finds a connection.
    ///
    /// Returns when at least one provider accepts calls and no connect to another one is in progress. `S` is a client
    /// that `#[rpc_service]` generates.
    ///
    /// # Errors
    ///
    /// As a call: `Unavailable` or `Unauthenticated` when no provider accepts calls by then, or within
    /// [`ClientConfig::timeout`](crate::ClientConfig::timeout); `FailedPrecondition` when the client has no registry.
    /// The client continues to connect, so a later call may succeed.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time; the client continues to connect.
    ///
    /// # Examples
    ///
    /// ```
    /// use rpc_client::Client;
    /// use rpc_core::rpc_service;
    ///
    /// #[rpc_service(name = "demo.Greeter", version = "1.0")]
    /// trait Greeter {
    ///     async fn hello(&self, name: String) -> String;
    /// }
    ///
    /// async fn start(client: Client) -> Result<GreeterClient<Client>, rpc_core::Error> {
    ///     client.warm_up::<GreeterClient<_>>().await?;
    ///     Ok(GreeterClient::new(client))
    /// }
    /// ```
    pub async fn warm_up<S: ServiceClient<Caller = Self>>(&self) -> Result<(), Error> {
        warm_up(&self.0, S::service_id()).await
    }

    /// Returns every address that this client uses, with its state.
    pub fn endpoints(&self) -> Vec<(SocketAddr, EndpointState)> {
        let endpoints = self.0.pool().all();
        endpoints.iter().map(|endpoint| (endpoint.address(), endpoint.state())).collect()
    }

    /// Returns a receiver that is notified when an address changes its state or a provider list changes.
    ///
    /// The current state is in [`endpoints`](Self::endpoints) and [`explain`](Self::explain). One notification may
    /// cover several changes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.pool().subscribers().subscribe()
    }

    /// Returns the counts since the client was built.
    pub fn counts(&self) -> ClientCounts {
        self.0.counts()
    }

    /// Returns the counts of each provider on its present connections, sorted by address.
    pub fn provider_counts(&self) -> Vec<ProviderCounts> {
        self.0.pool().all().iter().map(|endpoint| endpoint.provider_counts()).collect()
    }

    /// Returns the retries and hedges of each method that had any, sorted by route.
    pub fn route_counts(&self) -> Vec<RouteCounts> {
        self.0.counters().routes()
    }

    /// Returns the services that the client has called, with the age of their provider lists.
    pub fn services(&self) -> Vec<ServiceStatus> {
        let now = Instant::now();
        self.0.services().all().iter().map(|providers| providers.status(now)).collect()
    }

    /// Replaces the rules of calls; `None` removes them. Calls that have begun keep theirs.
    ///
    /// A program calls it when its source of configuration reports a change. A rule continues the counts of an earlier one
    /// with the same name and the same methods. A change of
    /// [`ClientBuilder::rules_file`](crate::ClientBuilder::rules_file) replaces these rules in turn.
    pub fn set_rules(&self, rules: Option<Rules>) {
        self.0.rules().set(rules);
    }

    /// Returns the providers of a service and their states, and whether the list is an old one from disk.
    ///
    /// A service that this client has not called has no providers here.
    pub fn explain(&self, service: &ServiceId) -> Explanation {
        let target = self.0.services().find(service).map(Target::Service);
        let mut explanation = target.map_or_else(Explanation::default, |target| target.explain(&self.0, None));
        explanation.rule = self.0.rules().names_for(service);
        explanation
    }
}

impl Caller for Client {
    type Calling<A: Encode + Send + 'static> = ClientCall<A>;

    fn call<A: Encode + Send + 'static>(&self, request: Request<A>) -> ClientCall<A> {
        ClientCall::new(Arc::clone(&self.0), request)
    }

    fn prepare<A: Encode + Send + 'static>(self, request: Request<A>) -> PreparedCall<Self, A> {
        PreparedCall::Calling(ClientCall::new(self.0, request))
    }

    fn options_mut<A: Encode + Send + 'static>(calling: &mut ClientCall<A>) -> Option<&mut CallOptions> {
        calling.options_mut()
    }

    fn parts<A: Encode + Clone + Send + 'static>(calling: &ClientCall<A>) -> Option<(Self, A, CallOptions)> {
        let (core, request) = calling.unpolled()?;
        Some((Self(core), request.arguments.clone(), request.options.clone()))
    }

    fn default_timeout(&self) -> Duration {
        self.0.config().timeout
    }
}

/// Requests the description of a service from the server at `address`.
pub(crate) fn describe(
    core: Arc<ClientCore>,
    address: SocketAddr,
    service: &ServiceId,
    timeout: Duration,
) -> BoxFuture<'static, Result<Contract, Error>> {
    let call = ReflectionClient::new(Client(core)).describe(service.to_string());
    Box::pin(call.address(address).timeout(timeout))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("registry", &self.0.services().registry_url())
            .field("services", &self.0.services().len())
            .finish_non_exhaustive()
    }
}
