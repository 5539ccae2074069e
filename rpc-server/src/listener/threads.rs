//! [`ConnectionThreads`]: threads that each serve a part of the connections.

use std::{io, pin::pin, thread};

use rpc_core::BoxFuture;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Threads that each serve a part of the connections, with a runtime for each thread.
///
/// A connection stays on its thread, and so do the handlers of its calls. Dropping the threads ends their tasks.
pub(crate) struct ConnectionThreads {
    threads: Vec<ConnectionThread>,
    _stop: DropGuard,
}

struct ConnectionThread {
    runtime: Handle,
    open: usize,
}

impl ConnectionThreads {
    /// Starts `count` threads.
    ///
    /// # Errors
    ///
    /// The error of the system that prevents a thread or its runtime.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let threads: io::Result<_> = (0..count).map(|number| ConnectionThread::start(number, stop.clone())).collect();
        Ok(Self { threads: threads?, _stop: guard })
    }

    /// Returns the number of the thread with the fewest open connections, or `None` without threads.
    pub(crate) fn least_loaded(&self) -> Option<usize> {
        (0..self.threads.len()).min_by_key(|&number| self.threads[number].open)
    }

    /// Returns the runtime of a thread.
    pub(crate) fn runtime(&self, number: usize) -> &Handle {
        &self.threads[number].runtime
    }

    /// Counts a connection that a thread serves.
    pub(crate) fn add(&mut self, number: usize) {
        self.threads[number].open += 1;
    }

    /// Counts the end of a connection.
    pub(crate) fn remove(&mut self, number: usize) {
        self.threads[number].open -= 1;
    }
}

impl ConnectionThread {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        // The thread drops the runtime, because a runtime must not be dropped inside of another one.
        thread::Builder::new()
            .name(format!("msnb-server-{number}"))
            .spawn(move || runtime.block_on(stop.cancelled()))?;
        Ok(Self { runtime: handle, open: 0 })
    }
}

/// Polls `accepting` in the context of `runtime`, so that this runtime drives the accepted connection.
///
/// # Cancel safety
///
/// As `accepting`.
pub(crate) async fn accept_for<T>(runtime: &Handle, accepting: BoxFuture<'_, T>) -> T {
    let mut accepting = pin!(accepting);
    std::future::poll_fn(|context| {
        let _entered = runtime.enter();
        accepting.as_mut().poll(context)
    })
    .await
}
