//! [`Lane`]: one connection of an endpoint and its watchdog.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use arc_swap::{ArcSwap, Guard};
use tokio::{sync::Notify, task::AbortHandle};

use super::connection_state::ConnectionState;

/// One connection of an endpoint and its watchdog.
#[derive(Debug)]
pub(crate) struct Lane {
    state: ArcSwap<ConnectionState>,
    /// The consecutive failures of the watchdog.
    failures: AtomicU32,
    /// Whether the watchdog's task was dropped before its end, and no other one has replaced it.
    interrupted: AtomicBool,
    /// Whether a call has requested a connect since the last one began.
    is_requested: AtomicBool,
    requested: Notify,
    watchdog: Mutex<Option<AbortHandle>>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            state: ArcSwap::from_pointee(ConnectionState::Connecting),
            failures: AtomicU32::new(0),
            interrupted: AtomicBool::new(false),
            is_requested: AtomicBool::new(false),
            requested: Notify::new(),
            watchdog: Mutex::default(),
        }
    }
}

impl Lane {
    pub(crate) fn state(&self) -> Guard<Arc<ConnectionState>> {
        self.state.load()
    }

    pub(crate) fn set(&self, state: ConnectionState) {
        if matches!(state, ConnectionState::Connecting) {
            self.is_requested.store(false, Ordering::Release);
        }
        self.state.store(Arc::new(state));
    }

    /// Requests a connect before the backoff has passed. Returns false if the watchdog does not wait for it.
    pub(crate) fn request_connect(&self) -> bool {
        let waits = matches!(**self.state(), ConnectionState::Backoff(_));
        if waits {
            self.is_requested.store(true, Ordering::Release);
            self.requested.notify_one();
        }
        waits
    }

    /// Returns whether an event is pending that may make the channel eligible soon.
    pub(crate) fn is_pending(&self) -> bool {
        self.state().is_pending() || self.awaits_requested_connect()
    }

    /// Returns whether a connect is requested and the watchdog waits.
    pub(crate) fn awaits_requested_connect(&self) -> bool {
        self.is_connect_requested() && matches!(**self.state(), ConnectionState::Backoff(_))
    }

    /// Returns whether a connect is requested that has not begun.
    fn is_connect_requested(&self) -> bool {
        self.is_requested.load(Ordering::Acquire)
    }

    /// Waits until a connect is requested.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(crate) async fn connect_requested(&self) {
        // An earlier request may have left its permit.
        while !self.is_connect_requested() {
            self.requested.notified().await;
        }
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
