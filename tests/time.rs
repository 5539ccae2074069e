//! [`in_time`], [`until_ok`], [`until_error`] and [`Task`]: nothing hangs, and nothing outlives its test.

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

/// Tries until it succeeds.
///
/// # Panics
///
/// As [`in_time`].
pub async fn until_ok<T, E>(attempt: impl AsyncFn() -> Result<T, E>) -> T {
    in_time(async {
        loop {
            match attempt().await {
                Ok(success) => return success,
                // What fails at once lets nobody else go on.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

/// Tries until it fails with an error that is `wanted`.
///
/// # Panics
///
/// As [`in_time`].
pub async fn until_error<T, E>(attempt: impl AsyncFn() -> Result<T, E>, wanted: impl Fn(&E) -> bool) -> E {
    in_time(async {
        loop {
            match attempt().await {
                Err(error) if wanted(&error) => return error,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await
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
