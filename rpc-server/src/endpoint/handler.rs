//! [`Endpoint`] and [`EndpointHandler`]: the traits that another protocol implements.

use std::sync::Arc;

use rpc_core::{BoxFuture, Error, Service, ServiceId};

use super::EndpointConnection;

/// Another protocol on the port of a server, such as HTTP, before the server is bound.
///
/// See [`ServerBuilder::endpoint`](crate::ServerBuilder::endpoint).
pub trait Endpoint: Send + 'static {
    /// Checks the options of the endpoint against the server, and returns its handler.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for options with which the endpoint cannot serve; the server then does not bind.
    fn bind(self: Box<Self>, services: EndpointServices<'_>) -> Result<Arc<dyn EndpointHandler>, Error>;
}

/// The services of a server and the properties that an endpoint must know.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct EndpointServices<'a> {
    /// The services, by the ids under which the server serves them: their own, and those of their major versions.
    pub services: &'a [(ServiceId, Arc<dyn Service>)],
    /// Whether callers must present a token.
    pub requires_token: bool,
    /// Whether the server requires TLS.
    pub is_encrypted: bool,
    /// The longest frame of a call, in bytes: the limit of arguments and results.
    pub max_frame: usize,
}

/// Serves the connections of another protocol.
pub trait EndpointHandler: Send + Sync + 'static {
    /// Returns the ALPN protocols of the endpoint, the preferred one first. They have no effect without TLS.
    fn protocols(&self) -> &[&'static [u8]];

    /// Returns whether a connection that begins with these bytes belongs to the endpoint; `None` if that needs more bytes.
    ///
    /// The server asks once for each read, until it has 64 bytes. Connections of msnb are not offered.
    fn matches(&self, start: &[u8]) -> Option<bool>;

    /// Serves one connection. The server drops the future if the connection must end at once.
    ///
    /// The future must end soon after [`EndpointConnection::draining`] resolves and the calls in progress have ended.
    fn serve(&self, connection: EndpointConnection) -> BoxFuture<'static, ()>;

    /// Returns the ids under which the server also registers its address. Default: none.
    ///
    /// Only callers that use the protocol of the endpoint may find them: see [`ServiceId::unversioned`].
    fn registrations(&self) -> Vec<ServiceId> {
        Vec::new()
    }
}
