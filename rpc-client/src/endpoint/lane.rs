//! [`Lane`]: one connection of an endpoint and its watchdog.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use arc_swap::{ArcSwap, Guard};
use tokio::task::AbortHandle;

use super::connection_state::ConnectionState;

/// One connection of an endpoint and its watchdog.
#[derive(Debug)]
pub(crate) struct Lane {
    state: ArcSwap<ConnectionState>,
    /// The consecutive failures of the watchdog.
    failures: AtomicU32,
    /// Whether the watchdog's task was dropped before its end, and no other one has replaced it.
    interrupted: AtomicBool,
    watchdog: Mutex<Option<AbortHandle>>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            state: ArcSwap::from_pointee(ConnectionState::Connecting),
            failures: AtomicU32::new(0),
            interrupted: AtomicBool::new(false),
            watchdog: Mutex::default(),
        }
    }
}

impl Lane {
    pub(crate) fn state(&self) -> Guard<Arc<ConnectionState>> {
        self.state.load()
    }

    pub(crate) fn set(&self, state: ConnectionState) {
        self.state.store(Arc::new(state));
    }

    /// Returns the consecutive failures of the watchdog.
    pub(crate) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn set_failures(&self, failures: u32) {
        self.failures.store(failures, Ordering::Relaxed);
    }

    /// Records that the watchdog's task was dropped before its end.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
    }

    /// Returns whether the caller must start another watchdog.
    pub(crate) fn take_interruption(&self) -> bool {
        self.interrupted.load(Ordering::Acquire) && self.interrupted.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn set_watchdog(&self, watchdog: AbortHandle) {
        *self.watchdog.lock().unwrap_or_else(PoisonError::into_inner) = Some(watchdog);
    }

    /// Aborts the watchdog and with it the connection.
    pub(crate) fn abort(&self) {
        let watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner).take();
        watchdog.into_iter().for_each(|task| task.abort());
    }
}
