//! [`Http2Port`]: claims the connections of HTTP/2 for all endpoints that answer their requests.

use std::sync::Arc;

use hyper::{Request, body::Incoming};
use rpc_core::BoxFuture;

use super::{frames::PREFACE, handler::Http2Handler, limits::Http2Limits, serving};
use crate::endpoint::{connection::EndpointConnection, handler::EndpointHandler};

/// The endpoints of a server that answer requests of HTTP/2.
pub(crate) struct Http2Port(Arc<Handlers>);

/// The handlers of the endpoints, of which there is at least one.
pub(super) struct Handlers {
    pub(super) all: Vec<Arc<dyn Http2Handler>>,
    pub(super) limits: Http2Limits,
}

impl Http2Port {
    /// Returns the handler of HTTP/2 for a server with these endpoints; `None` if none of them answers its requests.
    pub(crate) fn new(endpoints: &[Arc<dyn EndpointHandler>]) -> Option<Self> {
        let all: Vec<_> = endpoints.iter().filter_map(|endpoint| endpoint.http2()).collect();
        let limits = all.first()?.limits();
        let limits = all.iter().fold(limits, |limits, handler| limits.strictest(&handler.limits()));
        Some(Self(Arc::new(Handlers { all, limits })))
    }
}

impl Handlers {
    /// Returns the position of the handler that answers a request.
    pub(super) fn position(&self, request: &Request<Incoming>) -> usize {
        self.all.iter().position(|handler| handler.accepts(request)).unwrap_or(0)
    }
}

impl EndpointHandler for Http2Port {
    fn protocols(&self) -> &[&'static [u8]] {
        &[b"h2"]
    }

    fn matches(&self, start: &[u8]) -> Option<bool> {
        if start.starts_with(PREFACE) {
            return Some(true);
        }
        if PREFACE.starts_with(start) { None } else { Some(false) }
    }

    fn serve(&self, connection: EndpointConnection) -> BoxFuture<'static, ()> {
        Box::pin(serving::serve(Arc::clone(&self.0), connection))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn first_bytes_of_http2_are_known() {
        let time = Duration::from_secs(1);
        let limits = Http2Limits {
            max_head: 0,
            max_streams: 0,
            max_resets: 0,
            max_idle_frames: 0,
            head_time: time,
            idle_time: time,
            ping_interval: time,
            ping_time: time,
            write_stall: time,
        };
        let port = Http2Port(Arc::new(Handlers { all: Vec::new(), limits }));
        assert_eq!(port.matches(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nx"), Some(true));
        for start in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert_eq!(port.matches(start.as_bytes()), None, "{start}");
        }
        for start in ["msnb", "GET / HTTP/1.1", "POST ", "PRI x", "\x16\x03\x01"] {
            assert_eq!(port.matches(start.as_bytes()), Some(false), "{start}");
        }
    }
}
