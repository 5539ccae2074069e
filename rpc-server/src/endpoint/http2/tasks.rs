//! [`Tasks`]: the tasks of a connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::rt::Executor;
use tokio::task::{AbortHandle, JoinSet};

/// The tasks of a connection, which end with it. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// A task of a connection of HTTP/2 that ends when this is dropped, or with the connection.
#[derive(Debug)]
pub struct Http2Task(AbortHandle);

impl Tasks {
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Http2Task {
        Http2Task(self.lock().spawn(work))
    }

    /// Ends all tasks.
    pub(super) fn abort(&self) {
        self.lock().abort_all();
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, call: F) {
        self.lock().spawn(call);
    }
}

impl Drop for Http2Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
