//! [`Tasks`]: the tasks of a connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::rt::Executor;
use tokio::task::{AbortHandle, JoinSet};

/// The tasks of a connection, which end with it. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct OwnedTask(AbortHandle);

impl Tasks {
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> OwnedTask {
        OwnedTask(self.lock().spawn(work))
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

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}
