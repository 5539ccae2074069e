//! [`run`]: file system work off the runtime's worker threads.

use std::io;

/// Runs `work` on a thread that may block.
///
/// If the caller drops the future, `work` still runs to its end.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
