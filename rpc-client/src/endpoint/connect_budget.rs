//! [`ConnectBudget`]: a limit on the rate of connects.

use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use rpc_core::TokenBucket;
use tokio::time::{Instant, sleep};

/// A limit on connects: 256 per second, accumulated up to 1024.
///
/// It keeps a thousand flapping peers from causing a connect storm.
#[derive(Debug)]
pub(crate) struct ConnectBudget(Mutex<TokenBucket>);

impl ConnectBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(TokenBucket::new(MAX_SAVED, CONNECTS_PER_SECOND, now)))
    }

    /// Returns the budget that all clients of this process share.
    pub(crate) fn of_process() -> Arc<Self> {
        static BUDGET: LazyLock<Arc<ConnectBudget>> = LazyLock::new(|| Arc::new(ConnectBudget::new(Instant::now())));
        Arc::clone(&BUDGET)
    }

    /// Waits for the permit of one connect.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(crate) async fn permit(&self) {
        loop {
            let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
            match taken {
                Ok(()) => return,
                // Timers have a resolution of one millisecond; a shorter wait would not let paused time advance.
                Err(wait) => sleep(wait.max(Duration::from_millis(1))).await,
            }
        }
    }
}

/// Covers the start of a client among a thousand providers.
const MAX_SAVED: f64 = 1024.0;
const CONNECTS_PER_SECOND: f64 = 256.0;
