//! [`Counters`]: the counters of a server, and its [`ServerState`].

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use rpc_core::transport::Traffic;

/// The state of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerState {
    /// The server is bound and does not serve yet.
    Starting,
    /// The server serves calls.
    Serving,
    /// A shutdown was requested: the server deregisters, or waits for running handlers.
    Draining,
    /// The server has ended.
    Ended,
}

/// The counters of a server.
///
/// Only connections and rejections are counted: a served call updates no counter.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    state: AtomicU8,
    pub(crate) open: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) connections_rejected: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) denied: AtomicU64,
    pub(crate) connection_full: AtomicU64,
    pub(crate) overloaded: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) strays: AtomicU64,
    pub(crate) traffic: Arc<Traffic>,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn state(&self) -> ServerState {
        match self.state.load(Relaxed) {
            0 => ServerState::Starting,
            1 => ServerState::Serving,
            2 => ServerState::Draining,
            _ => ServerState::Ended,
        }
    }

    pub(crate) fn set_state(&self, state: ServerState) {
        self.state.store(state as u8, Relaxed);
    }
}
