//! [`OccupiedThread`]: a runtime without a free thread for blocking work.

use std::sync::mpsc::{RecvError, SyncSender, sync_channel};

use tokio::{
    runtime::Builder,
    task::{JoinHandle, spawn_blocking},
};

/// The only thread of a runtime for blocking work, which waits until the test releases it.
#[derive(Debug)]
pub struct OccupiedThread {
    release: SyncSender<()>,
    thread: JoinHandle<Result<(), RecvError>>,
}

impl OccupiedThread {
    /// Runs a test on a runtime whose only thread for blocking work is occupied.
    pub fn run(test: impl AsyncFnOnce(Self)) {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        runtime.expect("the runtime is built").block_on(async {
            let (release, released) = sync_channel(1);
            test(Self { release, thread: spawn_blocking(move || released.recv()) }).await;
        });
    }

    /// Releases the thread.
    pub async fn release(self) {
        drop(self.release);
        self.thread.await.expect("the thread does not panic").expect_err("nothing is sent");
    }
}
