//! [`ServerHandle`]: reads the state and the counts of a server.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use rpc_core::Error;

use super::registration::check_tags;
use crate::{connection::Shared, counters::ServerState};

/// Reads the state and the counts of a server, also after it has ended. Cheap to clone.
#[derive(Clone)]
pub struct ServerHandle(Arc<Shared>);

/// Counts of a server since it was bound, and its current numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerCounts {
    /// Open connections.
    pub connections: usize,
    /// Accepted connections, including those whose handshake failed.
    pub accepted: u64,
    /// Connections rejected because of a connection limit.
    pub connections_rejected: u64,
    /// Connections whose TLS handshake or token proof failed.
    pub handshakes_failed: u64,
    /// Handlers that run or wait for something. Handlers that finish in their first poll are not counted.
    pub running: usize,
    /// Results that are compressed or wait for their client to read earlier ones, and whose handlers do not count as
    /// running.
    pub unsent: usize,
    /// Calls with streams that have not ended. Those that were accepted do not count as running.
    pub streams: usize,
    /// Calls queued because the limit of running handlers is reached.
    pub queued: usize,
    /// Requests rejected because they were too long or their head was malformed.
    pub malformed: u64,
    /// Requests rejected because no service of this server has the method, or not as the once method that the caller
    /// requires.
    pub unknown: u64,
    /// Requests rejected because their caller may not call the method.
    pub denied: u64,
    /// Requests rejected because of the limit of calls on one connection.
    pub connection_full: u64,
    /// Requests rejected because of the limits of running and queued calls of the server.
    pub overloaded: u64,
    /// Requests whose deadline passed before their handler started.
    pub late: u64,
    /// Stored answers of once calls that were discarded before [`ServerConfig::once_kept`] had passed.
    ///
    /// [`ServerConfig::once_kept`]: crate::ServerConfig::once_kept
    pub once_discarded: u64,
    /// Frames for unknown calls.
    pub strays: u64,
    /// Bytes read; with TLS, bytes after decryption.
    ///
    /// Each connection adds its bytes when it is active, at most every 100 ms.
    pub bytes_read: u64,
    /// Bytes written, with the same delay as `bytes_read`.
    pub bytes_written: u64,
}

impl ServerHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Returns the state of the server. `Draining` begins when the shutdown is requested.
    pub fn state(&self) -> ServerState {
        self.0.counters.state()
    }

    /// Replaces the tags of the server in its registry, such as `gray`; only calls with one of them use it.
    ///
    /// A server without tags serves the calls without a tag. The server registers again in the background; clients apply
    /// the change when the registry reports it. Without effect if the server has no registry or has ended.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a tag with other characters than letters, digits, `.`, `_` and `-`, or of more than 64 bytes.
    pub fn set_tags<T: Into<String>>(&self, tags: impl IntoIterator<Item = T>) -> Result<(), Error> {
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        self.0.tags.send_replace(Some(check_tags(&tags)?));
        Ok(())
    }

    /// Returns the counts of the server.
    pub fn counts(&self) -> ServerCounts {
        let (counters, concurrency) = (&self.0.counters, &self.0.concurrency);
        let (bytes_read, bytes_written) = counters.traffic.bytes();
        ServerCounts {
            connections: counters.open.load(Relaxed),
            accepted: counters.accepted.load(Relaxed),
            connections_rejected: counters.connections_rejected.load(Relaxed),
            handshakes_failed: counters.handshakes_failed.load(Relaxed),
            running: concurrency.running(),
            unsent: concurrency.unsent(),
            streams: concurrency.streams(),
            queued: concurrency.queued(),
            malformed: counters.malformed.load(Relaxed),
            unknown: counters.unknown.load(Relaxed),
            denied: counters.denied.load(Relaxed),
            connection_full: counters.connection_full.load(Relaxed),
            overloaded: counters.overloaded.load(Relaxed),
            late: counters.late.load(Relaxed),
            once_discarded: self.0.once.discarded(),
            strays: counters.strays.load(Relaxed),
            bytes_read,
            bytes_written,
        }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("state", &self.state()).field("counts", &self.counts()).finish()
    }
}
