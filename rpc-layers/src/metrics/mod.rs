//! [`Metrics`]: numbers for Prometheus.

mod calls;
mod watched;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::{encoding::text::encode, registry::Registry};
use rpc_client::Client;
use rpc_core::{
    Code, Error, Reply,
    layer::{Arrival, ClientLayer, ClientNext, Outgoing, Served, ServerLayer, ServerNext},
};
use rpc_server::{ServerHandle, ServerState};

use self::{
    calls::{Calls, Outcome},
    watched::Watched,
};
use crate::outcome;

/// Numbers for Prometheus about calls, servers and clients, in the text format of
/// [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/). Clones are the same.
///
/// | metric | of what |
/// |---|---|
/// | `msnb_server_calls_total{route,code}`, `msnb_server_call_seconds{route}`, `msnb_server_in_flight{route}` | the handlers of a server with this as a layer; the time is that of the handler and of the layers behind this one |
/// | `msnb_client_calls_total{route,code}`, `msnb_client_call_seconds{route}`, `msnb_client_in_flight{route}` | the calls of a client with this as a layer, each counted once however often it was sent |
/// | `msnb_server_connections`, `_running`, `_queued`, `_accepted_total`, `_turned_away_total`, `_unproved_total`, `_refused_total{reason}`, `_strays_total`, `_bytes_read_total`, `_bytes_written_total` | the servers of [`watch_server`](Self::watch_server), together |
/// | `msnb_client_channels{state}`, `_requests_repeated_total`, `_requests_not_repeated_total`, `_connected_total`, `_not_connected_total`, `_evicted_total`, `_strays_total`, `_bytes_read_total`, `_bytes_written_total` | the clients of [`watch_client`](Self::watch_client), together |
///
/// A `route` is one of a registered service or of a contract that is called, and never what a peer sent: calls of methods
/// that nobody serves are in `msnb_server_refused_total{reason="unknown"}`. Beyond 1 000 of them a route is called `other`.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Mutex<Registry>,
    served: Calls,
    called: Calls,
    watched: Arc<Watched>,
}

impl Metrics {
    /// Counts nothing yet.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let served = Calls::register(registry.sub_registry_with_prefix("msnb_server"), "served");
        let called = Calls::register(registry.sub_registry_with_prefix("msnb_client"), "made");
        let watched = Arc::new(Watched::default());
        registry.register_collector(Box::new(Arc::clone(&watched)));
        Self(Arc::new(Inner { registry: Mutex::new(registry), served, called, watched }))
    }

    /// Shows what this server counts, and whether it drains. It is shown for as long as these metrics live.
    pub fn watch_server(&self, server: ServerHandle) {
        self.0.watched.add_server(server);
    }

    /// Shows what this client counts. These metrics keep it open: a client whose last clone they hold is closed by
    /// `Client::close`.
    pub fn watch_client(&self, client: Client) {
        self.0.watched.add_client(client);
    }

    /// Lets `register` add metrics of your own.
    pub fn register<R>(&self, register: impl FnOnce(&mut Registry) -> R) -> R {
        register(&mut self.registry())
    }

    /// All numbers, as Prometheus reads them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail; a collector of somebody's own may, and what stands before it is shown.
        let _ = encode(&mut text, &self.registry());
        text
    }

    /// Why a load balancer should not send calls here: a server of [`watch_server`](Self::watch_server) that does not serve, or that
    /// there is none yet.
    pub(crate) fn out_of_service(&self) -> Option<ServerState> {
        self.0.watched.out_of_service()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerLayer for Metrics {
    async fn serve(&self, arrival: &Arrival, next: ServerNext<'_>) -> Served {
        let _call = self.0.served.begin(arrival.method().route(), Outcome::Of(arrival.context()));
        next.run().await
    }
}

impl ClientLayer for Metrics {
    async fn call(&self, call: Outgoing, next: ClientNext<'_>) -> Result<Reply, Error> {
        let mut begun = self.0.called.begin(call.method.route(), Outcome::Known(Code::Cancelled));
        let outcome = next.run(call).await;
        begun.outcome = Outcome::Known(outcome::called(&outcome));
        outcome
    }
}
