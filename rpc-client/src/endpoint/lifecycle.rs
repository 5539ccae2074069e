//! [`Lifecycle`]: whether a client is closed, and whether one of its tasks was interrupted.

use std::sync::atomic::{AtomicU8, Ordering};

/// The state that a call checks before it uses a client.
///
/// A task of the client is interrupted if it is dropped before its end: its runtime shut down, or it panicked. The next
/// call restarts interrupted tasks, on its own runtime.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle(AtomicU8);

impl Lifecycle {
    /// Returns whether the client is open and none of its tasks was interrupted.
    pub(crate) fn is_running(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Closes the client for good.
    pub(crate) fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Records that a task was interrupted. The task must be marked as such before.
    pub(crate) fn interrupt(&self) {
        self.0.fetch_or(INTERRUPTED, Ordering::AcqRel);
    }

    /// Returns whether a task was interrupted and no call has restarted it.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.0.load(Ordering::Acquire) & INTERRUPTED != 0
    }

    /// Returns whether a task was interrupted since the last call of this method.
    pub(crate) fn take_interruption(&self) -> bool {
        // Load first: a load does not take the cache line from other callers.
        self.is_interrupted() && self.0.fetch_and(!INTERRUPTED, Ordering::AcqRel) & INTERRUPTED != 0
    }
}

const CLOSED: u8 = 1;
const INTERRUPTED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interruption_is_taken_once_and_close_stays() {
        let lifecycle = Lifecycle::default();
        assert!(lifecycle.is_running() && !lifecycle.take_interruption());
        lifecycle.interrupt();
        assert!(!lifecycle.is_running() && !lifecycle.is_closed() && lifecycle.is_interrupted());
        assert!(lifecycle.take_interruption() && !lifecycle.take_interruption());
        assert!(lifecycle.is_running());
        lifecycle.close();
        lifecycle.interrupt();
        assert!(lifecycle.take_interruption() && lifecycle.is_closed() && !lifecycle.is_running());
    }
}
