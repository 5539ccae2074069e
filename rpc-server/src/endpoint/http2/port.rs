//! [`Http2Port`]: claims the connections of HTTP/2 for all endpoints that answer their requests.

use std::sync::Arc;

use rpc_core::BoxFuture;

use super::{frames::PREFACE, handlers::Handlers, serving};
use crate::endpoint::{connection::EndpointConnection, handler::EndpointHandler};

/// The endpoints of a server that answer requests of HTTP/2.
pub(crate) struct Http2Port(Arc<Handlers>);

impl Http2Port {
    /// Returns the handler of HTTP/2 for a server with these endpoints; `None` if none of them answers its requests.
    pub(crate) fn new(endpoints: &[Arc<dyn EndpointHandler>]) -> Option<Self> {
        let handlers = Handlers::new(endpoints.iter().filter_map(|endpoint| endpoint.http2()).collect())?;
        Some(Self(Arc::new(handlers)))
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

    use super::{super::limits::Http2Limits, *};

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
