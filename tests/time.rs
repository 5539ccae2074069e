//! [`in_time`], [`until_ok`], [`until_error`] and [`Task`]: tests do not hang, and tasks do not outlive their test.

use std::time::Duration;

use tokio::task::JoinSet;

/// Waits for `work`.
///
/// # Panics
///
/// Panics after 60 s, far more than any work takes even on a machine that is busy with other tests.
pub async fn in_time<T>(work: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("the work exceeded 60 s")
}

/// Repeats `attempt` until it succeeds, and returns its value.
///
/// # Panics
///
/// Panics after the limit of [`in_time`].
pub async fn until_ok<T, E>(attempt: impl AsyncFn() -> Result<T, E>) -> T {
    in_time(async {
        loop {
            match attempt().await {
                Ok(success) => return success,
                // An attempt that fails without waiting must not starve other tasks.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

/// Repeats `attempt` until it fails with an error that `wanted` accepts, and returns the error.
///
/// # Panics
///
/// Panics after the limit of [`in_time`].
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

/// A task that runs beside its test. Dropping this value aborts it.
#[derive(Debug)]
pub struct Task<T>(JoinSet<T>);

impl<T: Send + 'static> Task<T> {
    /// Spawns `work`.
    pub fn begin(work: impl IntoFuture<Output = T, IntoFuture: Send + 'static>) -> Self {
        let mut task = JoinSet::new();
        task.spawn(work.into_future());
        Self(task)
    }

    /// Waits for the task and returns its output.
    ///
    /// # Panics
    ///
    /// Panics after the limit of [`in_time`], or if the task panicked.
    pub async fn end(mut self) -> T {
        in_time(self.0.join_next()).await.expect("the set holds one task").expect("the task does not panic")
    }

    /// Drops the work at its current await point.
    pub async fn abort(mut self) {
        self.0.shutdown().await;
    }
}

/// Limit of every wait: far more than any test needs.
const LONG: Duration = Duration::from_secs(60);
