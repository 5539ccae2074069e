//! [`HttpConfig`]: the limits and times of the endpoint.

use std::time::Duration;

use rpc_core::{Code, Error};

/// The limits and times of [`Http`](crate::Http). A time of `Duration::MAX` is unlimited.
///
/// If another endpoint of the server, such as that of gRPC, answers requests of HTTP/2 as well, the stricter limit of both
/// applies to their connections.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpConfig {
    /// The largest head of a request in bytes; default 16 KiB.
    ///
    /// The range is 8 KiB to 1 MiB. The endpoint answers a larger one with 431 and closes the connection. A higher value lets
    /// one caller occupy more memory.
    pub max_head: usize,
    /// The maximum number of headers of a request; default 64.
    ///
    /// As `max_head`.
    pub max_headers: usize,
    /// The largest body of a request in bytes; default 4 MiB.
    ///
    /// The endpoint answers a larger one with 413 and closes the connection. `TransportConfig::max_frame` limits the arguments
    /// in any case. A higher value lets one caller occupy more memory.
    pub max_body: usize,
    /// The time in which the head of a request must arrive after its first byte; default 5 s.
    ///
    /// The endpoint closes the connection then. A higher value lets callers that send slowly hold connections longer.
    pub head_time: Duration,
    /// The time in which the body of a request must arrive; default 5 s.
    ///
    /// The time is extended by one second for each 64 KiB that arrived. The endpoint answers with 408 and closes the connection
    /// then. A higher value lets callers that send slowly hold requests longer.
    pub body_time: Duration,
    /// The time without a request after which the endpoint closes a connection; default 75 s.
    ///
    /// Callers with a pool of connections should close theirs earlier: a request that crosses the close fails. A higher value
    /// lets unused connections hold a part of `ServerConfig::max_connections` longer.
    pub idle_time: Duration,
    /// The time in which a blocked response must make progress by 16 KiB; default 10 s.
    ///
    /// The endpoint closes the connection of a caller that does not read. A higher value lets such callers hold memory longer.
    pub write_stall: Duration,
    /// The maximum number of requests in progress on one connection of HTTP/2; default 100.
    ///
    /// A higher value lets one connection use more of the server.
    pub max_streams: u32,
    /// The maximum number of requests that a caller of HTTP/2 resets before the endpoint has accepted them; default 20.
    ///
    /// The endpoint closes the connection above it. A higher value lets a caller cause more work without waiting for answers.
    pub max_resets: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            max_head: 16 << 10,
            max_headers: 64,
            max_body: 4 << 20,
            head_time: Duration::from_secs(5),
            body_time: Duration::from_secs(5),
            idle_time: Duration::from_secs(75),
            write_stall: Duration::from_secs(10),
            max_streams: 100,
            max_resets: 20,
        }
    }
}

impl HttpConfig {
    rpc_core::setters! {
        with_max_head(max_head: usize)
        with_max_headers(max_headers: usize)
        with_max_body(max_body: usize)
        with_head_time(head_time: Duration)
        with_body_time(body_time: Duration)
        with_idle_time(idle_time: Duration)
        with_write_stall(write_stall: Duration)
        with_max_streams(max_streams: u32)
        with_max_resets(max_resets: usize)
    }

    /// Rejects a config with which the endpoint could not serve.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let reject =
            |problem: String| Err(Error::not_executed(Code::InvalidArgument, format!("HttpConfig::{problem}")));
        match self {
            Self { max_head, .. } if !(MIN_HEAD..=MAX_HEAD).contains(max_head) => {
                reject(format!("max_head is {max_head}, must be {MIN_HEAD} to {MAX_HEAD}"))
            }
            Self { max_headers: 0, .. } => reject("max_headers must not be 0".to_owned()),
            Self { max_body: 0, .. } => reject("max_body must not be 0".to_owned()),
            Self { head_time: Duration::ZERO, .. } => reject("head_time must not be 0".to_owned()),
            Self { body_time: Duration::ZERO, .. } => reject("body_time must not be 0".to_owned()),
            Self { idle_time: Duration::ZERO, .. } => reject("idle_time must not be 0".to_owned()),
            Self { write_stall: Duration::ZERO, .. } => reject("write_stall must not be 0".to_owned()),
            Self { max_streams: 0, .. } => reject("max_streams must not be 0".to_owned()),
            _ => Ok(()),
        }
    }
}

/// hyper needs a buffer of this length for a head.
const MIN_HEAD: usize = 8 << 10;
/// A connection may occupy this much memory before it has a request.
const MAX_HEAD: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_serve_no_request_are_rejected() {
        let default = HttpConfig::default;
        assert!(default().validate().is_ok());
        for config in [
            default().with_max_head(MIN_HEAD - 1),
            default().with_max_head(MAX_HEAD + 1),
            default().with_max_headers(0),
            default().with_max_body(0),
            default().with_head_time(Duration::ZERO),
            default().with_body_time(Duration::ZERO),
            default().with_idle_time(Duration::ZERO),
            default().with_write_stall(Duration::ZERO),
            default().with_max_streams(0),
        ] {
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}
