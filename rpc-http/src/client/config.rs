//! [`HttpCallerConfig`]: the limits and times of a caller.

use std::time::Duration;

use rpc_core::CallOptions;

/// The limits and times of [`HttpCaller`](crate::HttpCaller).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpCallerConfig {
    /// The timeout of calls for which neither the call nor the method sets one; default 5 s.
    pub timeout: Duration,
    /// The time in which a connection must be opened; default 1 s.
    ///
    /// A lower value finds unreachable providers earlier.
    pub connect_timeout: Duration,
    /// The maximum number of connections to one provider; default 64.
    ///
    /// A connection carries one call at a time. Further calls wait, until their deadlines. A higher value lets this program use
    /// more of one provider.
    pub max_connections: usize,
    /// The time for which an unused connection is kept; default 4 s.
    ///
    /// It must be shorter than that of the providers: a request that crosses the close of its connection fails.
    pub idle_time: Duration,
    /// The largest body of a response in bytes; default 8 MiB.
    ///
    /// A higher value lets one response use more memory.
    pub max_body: usize,
    /// The attempts that may follow the first one; default 2.
    ///
    /// An attempt follows if the earlier one certainly did not execute, or the method is idempotent.
    pub retries: u32,
}

impl Default for HttpCallerConfig {
    fn default() -> Self {
        Self {
            timeout: CallOptions::DEFAULT_TIMEOUT,
            connect_timeout: Duration::from_secs(1),
            max_connections: 64,
            idle_time: Duration::from_secs(4),
            max_body: 8 << 20,
            retries: 2,
        }
    }
}

impl HttpCallerConfig {
    rpc_core::setters! {
        with_timeout(timeout: Duration)
        with_connect_timeout(connect_timeout: Duration)
        with_max_connections(max_connections: usize)
        with_idle_time(idle_time: Duration)
        with_max_body(max_body: usize)
        with_retries(retries: u32)
    }
}
