//! [`Http2Handler`] and [`Http2Requests`]: the traits of an endpoint that answers requests of HTTP/2.

use std::fmt;

use hyper::{HeaderMap, Request, Response, body::Incoming, header::CONTENT_TYPE};
use rpc_core::BoxFuture;

use super::{
    answer::Http2Body,
    limits::Http2Limits,
    tasks::{Http2Task, Tasks},
};
use crate::endpoint::connection::EndpointConnection;

/// Answers requests of HTTP/2: see [`EndpointHandler::http2`](crate::EndpointHandler::http2).
pub trait Http2Handler: Send + Sync + 'static {
    /// Returns the limits of connections. The server applies the strictest of all its endpoints.
    fn limits(&self) -> Http2Limits;

    /// Returns whether a request belongs to this endpoint, by its headers.
    ///
    /// The server asks the endpoints in their order. The first endpoint receives the requests that none accepts.
    fn accepts(&self, request: &Request<Incoming>) -> bool;

    /// Returns the state with which the endpoint answers the requests of one connection.
    fn connect(&self, connection: Http2Connection) -> Box<dyn Http2Requests>;
}

/// Answers the requests of one connection.
pub trait Http2Requests: Send + Sync + 'static {
    /// Answers a request. The server drops the future if the caller resets the stream or the connection ends.
    ///
    /// A body whose length has an upper bound must be read by the caller within [`Http2Limits::write_stall`]; one
    /// without a bound is a stream, whose caller may pause.
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Http2Body>>;
}

/// A connection of HTTP/2. Clones share it.
#[derive(Clone)]
pub struct Http2Connection {
    endpoint: EndpointConnection,
    tasks: Tasks,
}

impl Http2Connection {
    pub(super) fn new(endpoint: EndpointConnection, tasks: Tasks) -> Self {
        Self { endpoint, tasks }
    }

    /// Returns the connection through which an endpoint calls the services. Its stream is taken.
    pub fn endpoint(&self) -> &EndpointConnection {
        &self.endpoint
    }

    /// Spawns a task that ends with the connection, or when the returned guard is dropped.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Http2Task {
        self.tasks.spawn(work)
    }
}

impl fmt::Debug for Http2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Connection").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Returns whether the content of a request is that of gRPC in any form, such as `application/grpc+json`.
///
/// Endpoints decide by it which of them [accepts](Http2Handler::accepts) a request.
pub fn is_grpc_content(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    content_type.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
}

/// The begin of the types of content of gRPC.
const GRPC: &[u8] = b"application/grpc";

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn content_of_grpc_is_recognized_in_any_form() {
        let any = |value: &'static str| {
            is_grpc_content(&[(CONTENT_TYPE, HeaderValue::from_static(value))].into_iter().collect())
        };
        assert!(any("Application/grpc-web") && any("application/grpc") && !any("application/json") && !any(""));
    }
}
