//! The service with which a server reports its counters.
//!
//! Servers of rpc-server serve it after `ServerBuilder::admin(true)`. It is an ordinary service: access rules and layers
//! apply. A server does not register it, so a caller names the address of a server. Calls use MessagePack, so that servers
//! and callers of different versions understand each other.

use serde::{Deserialize, Serialize};

use crate::rpc_service;

/// Reports the counters of a server.
#[rpc_service(name = "msnb.Admin", version = "1.0", codec = "messagepack", crate = "crate")]
pub trait Admin {
    /// Returns the counters since the start of the server, and its current numbers.
    #[rpc(idempotent)]
    async fn counters(&self) -> ServerCounters;
}

/// The counters of a server since its start, and its current numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct ServerCounters {
    /// `starting`, `serving`, `draining` or `ended`.
    pub state: String,
    /// The time since the start in milliseconds.
    pub uptime_ms: u64,
    /// Open connections.
    pub connections: u64,
    /// Handlers that run or wait for something. Handlers that finish in their first poll are not counted.
    pub running: u64,
    /// Calls that wait because the limit of running handlers is reached.
    pub queued: u64,
    /// Calls with streams that have not ended.
    pub streams: u64,
    /// Requests that the server rejected before a handler started, for any reason.
    pub rejected: u64,
    /// Bytes read; with TLS, bytes after decryption.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// The methods of all services, except those with which the server describes itself.
    pub methods: Vec<MethodCounters>,
}

/// The counters of a method.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct MethodCounters {
    /// The route, such as `demo.Greeter:1.0/hello`.
    pub route: String,
    /// Calls that have ended, of any outcome.
    pub calls: u64,
    /// Calls that the service answered with its own error.
    pub errors: u64,
    /// Calls that ended with another code, including those that their callers have cancelled.
    pub failed: u64,
    /// Calls that have not ended.
    pub running: u64,
    /// The numbers of calls by their duration, from the shortest to the longest, without empty ranges.
    pub latencies: Vec<LatencyCount>,
}

/// The number of calls with about the same duration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LatencyCount {
    /// The longest duration of the range in microseconds. A range is at most a quarter of its shortest duration wide.
    pub up_to_us: u64,
    /// The number of calls.
    pub calls: u64,
}

impl MethodCounters {
    /// Creates the counters of a method without calls.
    pub fn new(route: String) -> Self {
        Self { route, ..Self::default() }
    }
}

impl LatencyCount {
    /// Creates a count of calls with durations up to `up_to_us`.
    pub fn new(up_to_us: u64, calls: u64) -> Self {
        Self { up_to_us, calls }
    }
}
