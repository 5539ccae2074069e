//! [`Http`]: the options of the endpoint, and binding it to a server.

use std::sync::{Arc, OnceLock};

use rpc_core::{BoxFuture, Code, Error, ServiceId};
use rpc_server::{Endpoint, EndpointConnection, EndpointEntry, EndpointHandler, EndpointServices, Http2Handler};

use super::{
    config::HttpConfig,
    connection::{self, PROTOCOLS},
    exchange::State,
    http2::Http2,
    origins::Origins,
    routes::Routes,
};

/// HTTP/1.1 and HTTP/2 on the port of a server, for `rpc_server::ServerBuilder::endpoint`.
///
/// Callers send JSON: `POST /demo.Greeter:1.0/hello` with an object of the parameters by name, or the verb and the path of
/// `#[rpc(http = "GET /greetings/{name}")]`. docs/HTTP.md specifies requests and responses.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Http {
    config: HttpConfig,
    origins: Origins,
    names: Vec<String>,
    tokens_without_tls: bool,
}

impl Http {
    /// Creates an endpoint with default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers the server also under this name, for callers that find services of HTTP in the registry, such as Spring Cloud.
    ///
    /// The name must be a host name: letters, digits, `-` and `.`; the last label begins with a letter. Default: none. The
    /// list that such callers keep may be old: see docs/HTTP.md for the time that a server must wait before it ends.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Accepts requests of web pages of this origin, such as `https://shop.example`.
    ///
    /// Default: none. The endpoint rejects requests with another `Origin` before a handler executes.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.allow(origin.into());
        self
    }

    /// Accepts requests of all web pages.
    pub fn allow_any_origin(mut self) -> Self {
        self.origins.allow_any();
        self
    }

    /// Sets whether callers may send tokens without TLS, such as behind a proxy that ends TLS. Default: `false`.
    ///
    /// HTTP sends the secret of a token itself, which everyone on the network path can read then.
    pub fn tokens_without_tls(mut self, accepted: bool) -> Self {
        self.tokens_without_tls = accepted;
        self
    }

    /// Sets the limits and times of the endpoint.
    pub fn config(mut self, config: HttpConfig) -> Self {
        self.config = config;
        self
    }
}

impl Endpoint for Http {
    fn bind(self: Box<Self>, offered: EndpointServices<'_>) -> Result<Arc<dyn EndpointHandler>, Error> {
        let Self { config, origins, names, tokens_without_tls } = *self;
        config.validate()?;
        let names: Result<Vec<_>, _> = names.into_iter().map(host_name).collect();
        let state = State {
            config,
            origins,
            tokens_without_tls,
            routes: Routes::new(offered.services)?,
            services: offered.services.to_vec(),
            openapi: OnceLock::new(),
        };
        Ok(Arc::new(Handler { state: Arc::new(state), names: names? }))
    }
}

/// The endpoint of a server.
struct Handler {
    state: Arc<State>,
    names: Vec<ServiceId>,
}

impl EndpointHandler for Handler {
    fn protocols(&self) -> &[&'static [u8]] {
        &PROTOCOLS
    }

    fn matches(&self, start: &[u8]) -> Option<bool> {
        connection::matches(start)
    }

    fn serve(&self, connection: EndpointConnection) -> BoxFuture<'static, ()> {
        Box::pin(connection::serve(Arc::clone(&self.state), connection))
    }

    fn http2(&self) -> Option<Arc<dyn Http2Handler>> {
        Some(Arc::new(Http2(Arc::clone(&self.state))))
    }

    fn registrations(&self) -> Vec<EndpointEntry> {
        self.names.iter().cloned().map(EndpointEntry::new).collect()
    }
}

/// Checks a name that callers put into a URL.
fn host_name(name: String) -> Result<ServiceId, Error> {
    let legal = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(legal)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    if name.len() > MAX_NAME
        || !name.split('.').all(legal)
        || !last.starts_with(|first: char| first.is_ascii_alphabetic())
    {
        let message = format!(
            "service name {name:?} is not a host name: letters, digits, `-` and `.`, whose last label begins with a letter \
             (Http::service_name)"
        );
        return Err(Error::not_executed(Code::InvalidArgument, message));
    }
    ServiceId::unversioned(name)
}

/// The longest label of a host name, in bytes.
const MAX_LABEL: usize = 63;
/// The longest host name, in bytes.
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_are_host_names() {
        for name in ["orders", "demo.Greeter", "demo.Greeter-v1", "1.0.demo.Greeter", &"a".repeat(63)] {
            assert_eq!(host_name(name.to_owned()).unwrap().to_string(), *name);
        }
        let long = "a.".repeat(127);
        for name in ["", "demo.Greeter:1.0", "demo_greeter", "greeter.1", "-a", "a-", "a..b", &"a".repeat(64), &long] {
            assert_eq!(host_name((*name).to_owned()).unwrap_err().code(), Code::InvalidArgument, "{name}");
        }
    }
}
