//! [`Grpc`]: the options of the endpoint, and binding it to a server.

use std::sync::Arc;

use rpc_core::Error;
use rpc_server::{Endpoint, EndpointEntry, EndpointHandler, EndpointServices, Http2Handler};

use super::{calls::Calls, config::GrpcConfig, dubbo::dubbo_entries, files::Files, routes::Routes, state::State};

/// gRPC on the port of a server, for `rpc_server::ServerBuilder::endpoint`.
///
/// Every service whose trait has `#[rpc_service]` is a gRPC service. docs/GRPC.md specifies messages, statuses and limits.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Grpc {
    config: GrpcConfig,
    tokens_without_tls: bool,
    dubbo: bool,
}

impl Grpc {
    /// Creates an endpoint with default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether callers may send tokens without TLS, such as behind a proxy that ends TLS. Default: `false`.
    ///
    /// gRPC sends the secret of a token itself, which everyone on the network path can read then.
    pub fn tokens_without_tls(mut self, accepted: bool) -> Self {
        self.tokens_without_tls = accepted;
        self
    }

    /// Sets whether the server registers each service also for consumers of Dubbo, which call it by Triple. Default: `false`.
    ///
    /// The entry is that of a Dubbo provider without a version and a group, whose interface is the service of the `.proto`
    /// file: `providers:demo.greeter.v1_0.Greeter::`. docs/DUBBO.md describes the consumer.
    pub fn dubbo(mut self, registered: bool) -> Self {
        self.dubbo = registered;
        self
    }

    /// Sets the limits and times of the endpoint.
    pub fn config(mut self, config: GrpcConfig) -> Self {
        self.config = config;
        self
    }
}

impl Endpoint for Grpc {
    fn bind(self: Box<Self>, offered: EndpointServices<'_>) -> Result<Arc<dyn EndpointHandler>, Error> {
        let Self { config, tokens_without_tls, dubbo } = *self;
        config.validate()?;
        let routes = Routes::new(offered.services);
        let files = Files::new(routes.protos());
        let entries = if dubbo { dubbo_entries(routes.protos())? } else { Vec::new() };
        let max_arguments = offered.max_frame;
        let state = Arc::new(State { config, tokens_without_tls, routes, files, max_arguments });
        Ok(Arc::new(Handler { state, entries }))
    }
}

/// The endpoint of a server.
struct Handler {
    state: Arc<State>,
    entries: Vec<EndpointEntry>,
}

impl EndpointHandler for Handler {
    fn http2(&self) -> Option<Arc<dyn Http2Handler>> {
        Some(Arc::new(Calls(Arc::clone(&self.state))))
    }

    fn registrations(&self) -> Vec<EndpointEntry> {
        self.entries.clone()
    }
}
