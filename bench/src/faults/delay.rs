//! The duration of the calls of a provider.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::sleep;

/// The duration of calls in ms.
static DELAY: AtomicU64 = AtomicU64::new(0);

/// Sets the duration of calls, in ms.
pub(super) fn set(delay: u64) {
    DELAY.store(delay, Ordering::Relaxed);
}

/// Waits for the duration of a call.
pub(super) async fn delayed() {
    let delay = DELAY.load(Ordering::Relaxed);
    if delay > 0 {
        sleep(Duration::from_millis(delay)).await;
    }
}
