//! [`in_time`] and [`Task`]: nothing hangs, and nothing outlives its test.

use std::time::Duration;

use tokio::task::JoinSet;

/// Waits for `work`.
///
/// # Panics
///
/// When it takes longer than anything does, even on a machine that is busy with other tests.
pub async fn in_time<T>(work: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("it happens in time")
}

/// Work that goes on while its test does other things. It is dropped when this is.
#[derive(Debug)]
pub struct Task<T>(JoinSet<T>);

impl<T: Send + 'static> Task<T> {
    /// Begins `work`.
    pub fn begin(work: impl IntoFuture<Output = T, IntoFuture: Send + 'static>) -> Self {
        let mut task = JoinSet::new();
        task.spawn(work.into_future());
        Self(task)
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    ///
    /// When it takes very long, or panicked.
    pub async fn end(mut self) -> T {
        in_time(self.0.join_next()).await.expect("one task was begun").expect("the task does not panic")
    }

    /// Drops the work where it stands.
    pub async fn drop_it(mut self) {
        self.0.shutdown().await;
    }
}

/// Far more than any test waits for.
const LONG: Duration = Duration::from_secs(60);
