//! [`Metrics`]: metrics for Prometheus.

mod calls;
mod watched;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::{encoding::text::encode, registry::Registry};
use rpc_client::Client;
use rpc_core::{
    Code, Error, Reply,
    layer::{ClientLayer, ClientNext, IncomingCall, OutgoingCall, Served, ServerLayer, ServerNext},
};
use rpc_server::{ServerHandle, ServerState};

use self::{
    calls::{Calls, Outcome},
    watched::Watched,
};
use crate::outcome;

/// Metrics of calls, servers and clients for Prometheus.
///
/// The text format is [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/). Clones share the same
/// metrics.
///
/// | metric | scope |
/// |---|---|
/// | `msnb_server_calls_total{route,code}`, `msnb_server_call_seconds{route}`, `msnb_server_in_flight{route}` | the handlers of a server with this layer; the duration includes the layers inside of this one |
/// | `msnb_client_calls_total{route,code}`, `msnb_client_call_seconds{route}`, `msnb_client_in_flight{route}` | the calls of a client with this layer; a call counts once, whatever its number of attempts |
/// | `msnb_server_connections`, `_running`, `_unsent`, `_streams`, `_queued`, `_accepted_total`, `_turned_away_total`, `_unproved_total`, `_refused_total{reason}`, `_once_discarded_total`, `_strays_total`, `_bytes_read_total`, `_bytes_written_total` | the sum of the servers of [`watch_server`](Self::watch_server) |
/// | `msnb_client_channels{state}`, `_requests_repeated_total`, `_requests_not_repeated_total`, `_connected_total`, `_not_connected_total`, `_evicted_total`, `_strays_total`, `_bytes_read_total`, `_bytes_written_total` | the sum of the clients of [`watch_client`](Self::watch_client) |
///
/// A `route` comes from a served or called contract, never from a peer: requests for unknown methods count in
/// `msnb_server_refused_total{reason="unknown"}`. Routes beyond the first 1 000 count as `other`.
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
    /// Creates metrics without any servers or clients.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let served = Calls::register(registry.sub_registry_with_prefix("msnb_server"), "served");
        let called = Calls::register(registry.sub_registry_with_prefix("msnb_client"), "made");
        let watched = Arc::new(Watched::default());
        registry.register_collector(Box::new(Arc::clone(&watched)));
        Self(Arc::new(Inner { registry: Mutex::new(registry), served, called, watched }))
    }

    /// Adds the counts and the state of a server, for as long as these metrics exist.
    pub fn watch_server(&self, server: ServerHandle) {
        self.0.watched.add_server(server);
    }

    /// Adds the counts of a client.
    ///
    /// The metrics hold a clone of the client, so dropping the other clones does not close it: use `Client::close`.
    pub fn watch_client(&self, client: Client) {
        self.0.watched.add_client(client);
    }

    /// Adds metrics of the program through `register`.
    pub fn register<R>(&self, register: impl FnOnce(&mut Registry) -> R) -> R {
        register(&mut self.registry())
    }

    /// Returns all metrics in the text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Only a collector of the program can fail. The text then ends with the metrics before it.
        let _ = encode(&mut text, &self.registry());
        text
    }

    /// Returns the state of a server that does not serve, or `Starting` if there is no server yet.
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
    async fn serve(&self, arrival: &IncomingCall, next: ServerNext<'_>) -> Served {
        let _call = self.0.served.start(arrival.method().route(), Outcome::Of(arrival.context()));
        next.run().await
    }
}

impl ClientLayer for Metrics {
    async fn call(&self, call: OutgoingCall, next: ClientNext<'_>) -> Result<Reply, Error> {
        let mut in_flight = self.0.called.start(call.method.route(), Outcome::Known(Code::Cancelled));
        let outcome = next.run(call).await;
        in_flight.outcome = Outcome::Known(outcome::called(&outcome));
        outcome
    }
}
