//! [`completes`] and [`log`]: contain panics, so that a task does not end.
//!
//! A panic may come from outside of this crate: a subscriber of `tracing` may panic when it cannot write a log line,
//! for instance because the disk is full.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures_util::FutureExt as _;

/// Runs `work` and returns whether it completed. After a panic, pauses and returns `false`: the caller runs it again.
///
/// `work` must change its state before it logs, so that it can continue from there.
pub(crate) async fn completes(task: &'static str, work: impl Future<Output = ()>) -> bool {
    if AssertUnwindSafe(work).catch_unwind().await.is_ok() {
        return true;
    }
    log(|| tracing::error!(task, "a task of the registry panicked; it starts again"));
    tokio::time::sleep(RESTART_PAUSE).await;
    false
}

/// Emits a log event. If the subscriber panics, the event is lost.
pub(crate) fn log(event: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(event));
}

/// The pause after a panic.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn panicking_task_starts_again_after_a_pause() {
        let start = tokio::time::Instant::now();
        let mut runs = 0;
        while !completes("test", async {
            runs += 1;
            assert_eq!(runs, 3, "a deliberate panic");
        })
        .await
        {}
        assert_eq!((runs, start.elapsed()), (3, 2 * RESTART_PAUSE));
    }
}
