//! [`Counters`]: what a server counts; and [`ServerHandle`], through which a program reads it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use rpc_core::transport::Traffic;

use crate::connection::Shared;

/// What a server counts. Nothing of it is counted for a call that is served, only for connections and refusals.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    state: AtomicU8,
    pub(crate) open: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) crowded: AtomicU64,
    pub(crate) overloaded: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) strays: AtomicU64,
    pub(crate) traffic: Arc<Traffic>,
}

/// Tells how a server is doing, also after it has ended. Cheap to clone.
#[derive(Clone)]
pub struct ServerHandle(Arc<Shared>);

/// Where a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerState {
    /// It is bound and does not run yet.
    Starting,
    /// It serves.
    Serving,
    /// It was asked to end: it is leaving the registry's list, or finishes what runs.
    Draining,
    /// It has ended.
    Ended,
}

/// What a server has counted since it was bound, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerCounts {
    /// Connections that are open.
    pub connections: usize,
    /// Connections that were let in.
    pub accepted: u64,
    /// Connections that were turned away, being over a bound.
    pub turned_away: u64,
    /// Handlers that run, or wait for something; those that were done at once never counted.
    pub running: usize,
    /// Calls that wait because as many run as may.
    pub queued: usize,
    /// Requests that were refused because they were too long, or their head was not understood.
    pub malformed: u64,
    /// Requests that were refused because no service here has the method.
    pub unknown: u64,
    /// Requests that were refused because their connection had as many calls as it may.
    pub crowded: u64,
    /// Requests that were refused because the server had as many calls as it may.
    pub overloaded: u64,
    /// Requests whose deadline had passed before they were begun.
    pub late: u64,
    /// Frames that came for no call.
    pub strays: u64,
    /// Bytes that were read. Each connection adds what it read when something happens on it, a tenth of a second after it did
    /// so before at the earliest.
    pub bytes_read: u64,
    /// Bytes that were written, as exact as `bytes_read`.
    pub bytes_written: u64,
}

impl Counters {
    pub(crate) fn enter(&self, state: ServerState) {
        self.state.store(state as u8, Relaxed);
    }

    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    fn state(&self) -> ServerState {
        match self.state.load(Relaxed) {
            0 => ServerState::Starting,
            1 => ServerState::Serving,
            2 => ServerState::Draining,
            _ => ServerState::Ended,
        }
    }
}

impl ServerHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Where the server is in its life. It drains from the moment when it is asked to end.
    pub fn state(&self) -> ServerState {
        self.0.counters.state()
    }

    /// What it has counted so far.
    pub fn counts(&self) -> ServerCounts {
        let (counters, load) = (&self.0.counters, &self.0.load);
        let (bytes_read, bytes_written) = counters.traffic.bytes();
        ServerCounts {
            connections: counters.open.load(Relaxed),
            accepted: counters.accepted.load(Relaxed),
            turned_away: counters.turned_away.load(Relaxed),
            running: load.running(),
            queued: load.queued(),
            malformed: counters.malformed.load(Relaxed),
            unknown: counters.unknown.load(Relaxed),
            crowded: counters.crowded.load(Relaxed),
            overloaded: counters.overloaded.load(Relaxed),
            late: counters.late.load(Relaxed),
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
