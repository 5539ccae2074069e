//! [`offload`]: long work of one peer, outside of the tasks of the runtime.

use std::{
    fmt,
    num::NonZero,
    panic::resume_unwind,
    sync::{Arc, OnceLock},
    thread::available_parallelism,
};

use tokio::{runtime::Handle, sync::Semaphore};

use crate::{Code, Status};

/// The limit on the concurrent long work of one peer. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct PeerWork(OnceLock<Arc<Semaphore>>);

impl PeerWork {
    fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(self.0.get_or_init(|| Arc::new(Semaphore::new(MAX_PER_PEER))))
    }
}

/// Two peers are equal whatever work they have.
impl PartialEq for PeerWork {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for PeerWork {}

impl fmt::Debug for PeerWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerWork").finish_non_exhaustive()
    }
}

/// Runs `work` for `peer` on a thread for blocking work, so that it delays no task of the runtime.
///
/// A connection has one such work at a time, and all connections together leave one processor to the tasks. Outside of a
/// runtime, the work runs at once.
///
/// # Errors
///
/// `Unavailable` if the runtime shuts down.
///
/// # Panics
///
/// Propagates a panic of `work`.
///
/// # Cancel safety
///
/// Dropping the future drops work that has not started; work that has started ends first.
pub(crate) async fn offload<R: Send + 'static>(
    peer: &PeerWork,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Status> {
    let Ok(runtime) = Handle::try_current() else { return Ok(work()) };
    // The connection's permit first, so that each connection has one place in the line of the process.
    let permits = (peer.permits().acquire_owned().await, process_permits().acquire_owned().await);
    let running = runtime.spawn_blocking(move || {
        let _permits = permits;
        work()
    });
    match running.await {
        Ok(result) => Ok(result),
        Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
        Err(_) => Err(Status::new(Code::Unavailable, "the runtime shuts down")),
    }
}

fn process_permits() -> Arc<Semaphore> {
    static PERMITS: OnceLock<Arc<Semaphore>> = OnceLock::new();
    let processors = || available_parallelism().map_or(1, NonZero::get);
    Arc::clone(PERMITS.get_or_init(|| Arc::new(Semaphore::new((processors() - 1).max(1)))))
}

/// The number of works of one connection that run at the same time.
const MAX_PER_PEER: usize = 1;

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::mpsc::sync_channel,
        task::{Context, Waker},
    };

    use super::*;

    /// One test, because all works of the process share permits.
    #[tokio::test]
    async fn peer_has_one_work_at_a_time() {
        let (peer, cx) = (PeerWork::default(), &mut Context::from_waker(Waker::noop()));
        let free = || peer.permits().available_permits();
        let (release, released) = sync_channel::<()>(0);
        let mut first = pin!(offload(&peer, move || released.recv().is_ok()));
        assert!(first.as_mut().poll(cx).is_pending());
        assert_eq!(free(), 0, "the work holds the permit");
        let mut second = pin!(offload(&peer, || 7));
        assert!(second.as_mut().poll(cx).is_pending());
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(true));
        assert_eq!(second.await, Ok(7));
        assert_eq!(free(), MAX_PER_PEER);

        let (release, released) = sync_channel::<()>(0);
        let mut dropped = Box::pin(offload(&peer, move || released.recv().is_ok()));
        assert!(dropped.as_mut().poll(cx).is_pending());
        drop(dropped);
        assert_eq!(free(), 0, "the work has started");
        release.send(()).unwrap();
        assert_eq!(offload(&peer, || 7).await, Ok(7));
    }

    #[test]
    fn work_runs_at_once_outside_of_a_runtime() {
        let peer = PeerWork::default();
        let work = pin!(offload(&peer, || 7));
        assert!(work.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
