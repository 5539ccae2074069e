//! [`Client`]: calls services.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use rpc_core::{Caller, Encode, Explanation, Request, ServiceId};
use tokio::sync::watch;

use crate::{
    call::{future::ClientCall, target::Target},
    client_core::ClientCore,
    counters::ClientCounts,
    endpoint::state::EndpointState,
};

/// Calls services.
///
/// A client is cheap to clone, and its clones share provider lists, connections and the retry budget. The connections
/// close when the last clone and the last call are dropped.
#[derive(Clone)]
pub struct Client(Arc<ClientCore>);

impl Client {
    pub(crate) fn new(core: ClientCore) -> Self {
        Self(Arc::new(core))
    }

    /// Closes the client after its calls in flight have ended.
    ///
    /// The client makes no new connections, and new calls fail with `Unavailable`. Every call has a deadline, so this
    /// resolves.
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped, the remaining connections still close when their calls have ended.
    pub async fn close(&self) {
        self.0.services().clear();
        self.0.pool().close().await;
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
        self.0.pool().changes().subscribe()
    }

    /// Returns the counts since the client was built.
    pub fn counts(&self) -> ClientCounts {
        self.0.counts()
    }

    /// Returns the providers of a service and their states, and whether the list is an old one from disk.
    ///
    /// A service that this client has not called has no providers here.
    pub fn explain(&self, service: &ServiceId) -> Explanation {
        let target = self.0.services().find(service).map(Target::Service);
        target.map_or_else(Explanation::default, |target| target.explain(&self.0))
    }
}

impl Caller for Client {
    type Calling<A: Encode + Send + 'static> = ClientCall<A>;

    fn call<A: Encode + Send + 'static>(&self, request: Request<A>) -> ClientCall<A> {
        ClientCall::new(Arc::clone(&self.0), request)
    }

    fn into_call<A: Encode + Send + 'static>(self, request: Request<A>) -> ClientCall<A> {
        ClientCall::new(self.0, request)
    }

    fn default_timeout(&self) -> Duration {
        self.0.config().timeout
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("registry", &self.0.services().registry_url())
            .field("services", &self.0.services().len())
            .finish_non_exhaustive()
    }
}
