//! [`Endpoint`] and [`EndpointHandler`]: the traits that another protocol implements.

use std::sync::Arc;

use rpc_core::{BoxFuture, Error, Service, ServiceId};

use super::connection::EndpointConnection;
#[cfg(feature = "http2")]
use super::http2::Http2Handler;

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

/// Serves the connections of another protocol, or the requests of HTTP/2 that belong to it.
pub trait EndpointHandler: Send + Sync + 'static {
    /// Returns the ALPN protocols of the endpoint, the preferred one first. They have no effect without TLS.
    ///
    /// Default: none, for an endpoint without connections of its own.
    fn protocols(&self) -> &[&'static [u8]] {
        &[]
    }

    /// Returns whether a connection that begins with these bytes belongs to the endpoint; `None` if that needs more bytes.
    ///
    /// The server asks once for each read, until it has 64 bytes. Connections of msnb are not offered. Default: none belongs
    /// to it.
    fn matches(&self, start: &[u8]) -> Option<bool> {
        let _ = start;
        Some(false)
    }

    /// Serves one connection. The server drops the future if the connection must end at once.
    ///
    /// The future must end soon after [`EndpointConnection::draining`] resolves and the calls in progress have ended.
    /// Default: closes the connection.
    fn serve(&self, connection: EndpointConnection) -> BoxFuture<'static, ()> {
        Box::pin(async { drop(connection) })
    }

    /// Returns the handler of requests of HTTP/2. Default: none.
    ///
    /// The server itself serves the connections of HTTP/2 of endpoints that have one, so that several endpoints may answer
    /// the requests of one connection.
    #[cfg(feature = "http2")]
    fn http2(&self) -> Option<Arc<dyn Http2Handler>> {
        None
    }

    /// Returns the entries under which the server also registers its address. Default: none.
    fn registrations(&self) -> Vec<EndpointEntry> {
        Vec::new()
    }
}

/// An entry of the registry for the callers of an endpoint.
#[derive(Debug, Clone)]
#[must_use]
pub struct EndpointEntry {
    pub(crate) id: ServiceId,
    pub(crate) metadata: Vec<(String, String)>,
}

impl EndpointEntry {
    /// Creates an entry with the address, the weight and the metadata of the server, except those of msnb itself.
    ///
    /// Only callers that use the protocol of the endpoint may find it: see [`ServiceId::unversioned`].
    pub fn new(id: ServiceId) -> Self {
        Self { id, metadata: Vec::new() }
    }

    /// Adds metadata, which replaces that of the server.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }
}
