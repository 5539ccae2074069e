//! [`Counters`]: what a client counts; and [`ClientCounts`], what it tells of that.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rpc_core::transport::Traffic;

/// What a client counts. Nothing of it is counted for a call that is answered at once; the calls themselves are counted by
/// the budget of retries.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) repeated: AtomicU64,
    pub(crate) not_repeated: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) not_connected: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) strays: AtomicU64,
    pub(crate) traffic: Arc<Traffic>,
}

/// What a client has counted since it was made, all its clones together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCounts {
    /// Calls that were begun.
    pub calls: u64,
    /// Requests that were sent again, because an earlier attempt failed or was silent.
    pub repeated: u64,
    /// Requests that were not sent again, because the budget for that was spent.
    pub not_repeated: u64,
    /// Connections that were made.
    pub connected: u64,
    /// Attempts to connect that failed.
    pub not_connected: u64,
    /// Addresses that were given up after failing too often.
    pub evicted: u64,
    /// Frames that came for no call.
    pub strays: u64,
    /// Bytes that were read. Each connection adds what it read when something happens on it, a tenth of a second after it did
    /// so before at the earliest.
    pub bytes_read: u64,
    /// Bytes that were written, as exact as `bytes_read`.
    pub bytes_written: u64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn counts(&self, calls: u64) -> ClientCounts {
        let (bytes_read, bytes_written) = self.traffic.bytes();
        ClientCounts {
            calls,
            repeated: self.repeated.load(Relaxed),
            not_repeated: self.not_repeated.load(Relaxed),
            connected: self.connected.load(Relaxed),
            not_connected: self.not_connected.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            strays: self.strays.load(Relaxed),
            bytes_read,
            bytes_written,
        }
    }
}
