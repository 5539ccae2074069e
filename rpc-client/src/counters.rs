//! [`Counters`], which a client increments, and [`ClientCounts`], a copy of their values.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rpc_core::transport::Traffic;

use crate::statistics::RouteCounts;

/// The counters of a client.
///
/// A call that succeeds at the first attempt updates none of them; the retry budget counts the calls.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) retries: AtomicU64,
    pub(crate) retries_denied: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) connect_failures: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) ejections: AtomicU64,
    pub(crate) strays: AtomicU64,
    /// The retries and the hedges by route.
    routes: Mutex<BTreeMap<&'static str, (u64, u64)>>,
    pub(crate) traffic: Arc<Traffic>,
}

/// The counts of a client and all its clones since its creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCounts {
    /// Calls started.
    pub calls: u64,
    /// Retries and hedges sent: requests beyond the first attempt of their call.
    pub retries: u64,
    /// Retries and hedges not sent because the retry budget was spent.
    pub retries_denied: u64,
    /// Connections established.
    pub connects: u64,
    /// Connects that failed.
    pub connect_failures: u64,
    /// Addresses evicted after too many failures in a row.
    pub evictions: u64,
    /// Ejections of providers whose calls failed while those of others succeeded.
    pub ejections: u64,
    /// Frames received that matched no call.
    pub strays: u64,
    /// Bytes read. A connection adds its bytes when it is active, at most once every 100 ms.
    pub bytes_read: u64,
    /// Bytes written, with the same delay as `bytes_read`.
    pub bytes_written: u64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// Counts an attempt of a method after the first one of its call.
    pub(crate) fn count_repeat(&self, route: &'static str, is_hedge: bool) {
        Self::count(&self.retries);
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let (retries, hedges) = routes.entry(route).or_default();
        *(if is_hedge { hedges } else { retries }) += 1;
    }

    pub(crate) fn routes(&self) -> Vec<RouteCounts> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes
            .iter()
            .map(|(route, (retries, hedges))| RouteCounts { route, retries: *retries, hedges: *hedges })
            .collect()
    }

    pub(crate) fn counts(&self, calls: u64) -> ClientCounts {
        let (bytes_read, bytes_written) = self.traffic.bytes();
        ClientCounts {
            calls,
            retries: self.retries.load(Relaxed),
            retries_denied: self.retries_denied.load(Relaxed),
            connects: self.connects.load(Relaxed),
            connect_failures: self.connect_failures.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
            ejections: self.ejections.load(Relaxed),
            strays: self.strays.load(Relaxed),
            bytes_read,
            bytes_written,
        }
    }
}
