//! [`Tasks`]: the tasks of one handle, and the runtime on which they run.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The owner of the tasks of one handle. Dropping it stops them.
///
/// The tasks run on the runtime on which the handle was opened. Once that runtime has ended, new ones run on the
/// runtime of the caller that starts them.
#[derive(Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    runtime: Mutex<Runtime>,
}

#[derive(Debug)]
struct Runtime {
    handle: Handle,
    /// Refers to a value that a task of the runtime owns: the runtime drops it when it ends.
    alive: Weak<()>,
}

impl Tasks {
    /// Uses the current runtime.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub(crate) fn new() -> Self {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let runtime = Mutex::new(Runtime::new(Handle::current(), &tracker, &stop));
        Self { tracker, stop, runtime }
    }

    /// Returns the token that is cancelled when the handle is dropped.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task, which ends when [`stop`](Self::stop) is cancelled.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if runtime.alive.strong_count() == 0
            && let Ok(current) = Handle::try_current()
        {
            *runtime = Runtime::new(current, &self.tracker, &self.stop);
        }
        self.tracker.spawn_on(task, &runtime.handle);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Runtime {
    fn new(handle: Handle, tracker: &TaskTracker, stop: &CancellationToken) -> Self {
        let (owned, stop) = (Arc::new(()), stop.clone());
        let alive = Arc::downgrade(&owned);
        let sentinel = async move {
            stop.cancelled().await;
            drop(owned);
        };
        tracker.spawn_on(sentinel, &handle);
        Self { handle, alive }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{runtime, sync::oneshot};

    use super::*;

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn tasks_move_to_a_living_runtime() {
        let (first, second) = (runtime(), runtime());
        let tasks = first.block_on(async { Tasks::new() });
        drop(first);
        second.block_on(async {
            let (sender, receiver) = oneshot::channel();
            tasks.spawn(async move { _ = sender.send(()) });
            receiver.await.expect("the task runs");
        });
    }

    #[test]
    fn tasks_stay_on_the_runtime_of_the_handle() {
        let (first, second) = (runtime(), runtime());
        let tasks = first.block_on(async { Tasks::new() });
        let (sender, receiver) = oneshot::channel();
        second.block_on(async { tasks.spawn(async move { _ = sender.send(Handle::current().id()) }) });
        drop(second);
        let id = first.block_on(receiver).expect("the task runs");
        assert_eq!(id, first.handle().id());
    }
}
