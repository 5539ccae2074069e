//! [`ServerAdmin`]: the service that reports the counters of its server.

use std::sync::{Arc, OnceLock, Weak};

use rpc_core::admin::{Admin, ServerCounters};
use tokio::time::Instant;

use super::handle::ServerHandle;
use crate::{call::measured::MethodCounts, connection::Shared, counters::ServerState};

/// Reports the counters of a server.
pub(super) struct ServerAdmin {
    begun: Instant,
    methods: Vec<Arc<[MethodCounts]>>,
    /// The state of the server, whose dispatcher owns this service.
    server: Arc<OnceLock<Weak<Shared>>>,
}

impl ServerAdmin {
    /// Creates the service. The counters are empty until `server` is set.
    pub(super) fn new(methods: Vec<Arc<[MethodCounts]>>, server: Arc<OnceLock<Weak<Shared>>>) -> Self {
        Self { begun: Instant::now(), methods, server }
    }
}

impl Admin for ServerAdmin {
    async fn counters(&self) -> ServerCounters {
        let mut counters = ServerCounters::default();
        let Some(shared) = self.server.get().and_then(Weak::upgrade) else { return counters };
        let handle = ServerHandle::new(shared);
        let counts = handle.counts();
        counters.state = match handle.state() {
            ServerState::Starting => "starting",
            ServerState::Serving => "serving",
            ServerState::Draining => "draining",
            ServerState::Ended => "ended",
        }
        .to_owned();
        counters.uptime_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        counters.connections = counts.connections as u64;
        counters.running = counts.running as u64;
        counters.queued = counts.queued as u64;
        counters.streams = counts.streams as u64;
        counters.rejected = counts.malformed
            + counts.unknown
            + counts.denied
            + counts.connection_full
            + counts.overloaded
            + counts.late;
        (counters.bytes_read, counters.bytes_written) = (counts.bytes_read, counts.bytes_written);
        counters.methods = self.methods.iter().flat_map(|methods| methods.iter()).map(MethodCounts::read).collect();
        counters
    }
}
