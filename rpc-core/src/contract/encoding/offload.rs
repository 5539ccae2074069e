//! [`offload`]: long work of one peer, outside of the tasks of the runtime.

use std::{
    fmt,
    num::NonZero,
    panic::resume_unwind,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::available_parallelism,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{Code, Status};

/// The place of one peer in the line of the process for long work, and the places of one of its connections for results
/// that are compressed. Clones share them.
///
/// All connections of a peer share one place in the line, so that each peer starts work in turn, however many connections
/// it has. The default has no places: each work waits for itself, and results have no limit.
#[derive(Clone, Default)]
pub struct PeerWork(Option<Places>);

#[derive(Clone)]
struct Places {
    /// Works that wait for a permit of the process.
    works: Arc<Semaphore>,
    /// Encoded results that are compressed and sent.
    results: Arc<Semaphore>,
}

/// A place for an encoded result that is compressed and then sent.
#[derive(Debug)]
pub(crate) struct ResultPlace {
    /// `None` if there is no limit.
    _permit: Option<OwnedSemaphorePermit>,
}

impl ResultPlace {
    /// The place of a result that never waits to be sent.
    pub(crate) const UNLIMITED: Self = Self { _permit: None };
}

impl PeerWork {
    /// Creates the place of a peer.
    pub fn of_peer() -> Self {
        let [works, results] = [PLACES_PER_PEER, RESULTS_PER_CONNECTION].map(|count| Arc::new(Semaphore::new(count)));
        Self(Some(Places { works, results }))
    }

    /// Returns the place of the same peer with the places of another connection: results that wait on one connection
    /// hold up none of another one.
    #[must_use]
    pub fn for_connection(&self) -> Self {
        let results = Arc::new(Semaphore::new(RESULTS_PER_CONNECTION));
        Self(self.0.as_ref().map(|places| Places { works: Arc::clone(&places.works), results }))
    }

    /// Returns a place for an encoded result, if one is free.
    pub(crate) fn try_result_place(&self) -> Option<ResultPlace> {
        let permit = self.0.as_ref().map(|places| Arc::clone(&places.results).try_acquire_owned()).transpose();
        Some(ResultPlace { _permit: permit.ok()? })
    }

    /// Waits for a place for an encoded result.
    pub(crate) async fn result_place(&self) -> ResultPlace {
        let permit = match &self.0 {
            // The semaphore is never closed.
            Some(places) => Arc::clone(&places.results).acquire_owned().await.ok(),
            None => None,
        };
        ResultPlace { _permit: permit }
    }

    /// Waits for a permit of the process, behind the other work of this peer.
    async fn permit(&self, process: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        // Freed when this peer has its permit: its next work then joins the line behind those of other peers.
        let _place = match &self.0 {
            Some(places) => Some(places.works.acquire().await),
            None => None,
        };
        // The semaphore is never closed.
        Arc::clone(process).acquire_owned().await.ok()
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
/// All connections together leave one processor to the tasks, and peers take turns. Outside of a runtime, the work runs
/// at once.
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
/// Dropping the future drops work that has not started, with all that it holds; work that has started ends first.
pub(crate) async fn offload<R: Send + 'static>(
    peer: &PeerWork,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Status> {
    offload_within(process_permits(), peer, work).await
}

async fn offload_within<R: Send + 'static>(
    process: &Arc<Semaphore>,
    peer: &PeerWork,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Status> {
    let Ok(runtime) = Handle::try_current() else { return Ok(work()) };
    let permit = peer.permit(process).await;
    let queued = Queued(Arc::new(Mutex::new(Some((permit, work)))));
    let on_thread = Queued(Arc::clone(&queued.0));
    let running = runtime.spawn_blocking(move || {
        let (_permit, work) = on_thread.take()?;
        Some(work())
    });
    let shuts_down = || Status::new(Code::Unavailable, "the runtime shuts down");
    match running.await {
        Ok(result) => result.ok_or_else(shuts_down),
        Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
        Err(_) => Err(shuts_down()),
    }
}

/// Work that waits for a thread. Dropping any handle drops the work, unless a thread has taken it.
///
/// The runtime itself would keep aborted work until a thread is free.
struct Queued<W>(Arc<Mutex<Option<W>>>);

impl<W> Queued<W> {
    fn take(&self) -> Option<W> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<W> Drop for Queued<W> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

fn process_permits() -> &'static Arc<Semaphore> {
    static PERMITS: OnceLock<Arc<Semaphore>> = OnceLock::new();
    let processors = || available_parallelism().map_or(1, NonZero::get);
    PERMITS.get_or_init(|| Arc::new(Semaphore::new((processors() - 1).max(1))))
}

/// The number of works of one peer that wait for a permit of the process at the same time; the others wait behind them.
const PLACES_PER_PEER: usize = 1;
/// The number of results of one connection that are encoded and being compressed, or wait to be sent after that.
const RESULTS_PER_CONNECTION: usize = 16;

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::mpsc::sync_channel,
        task::{Context, Waker},
    };

    use tokio::{join, runtime, task::spawn_blocking};

    use super::*;

    fn poll_once<F: Future>(work: std::pin::Pin<&mut F>) -> bool {
        work.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn peers_take_turns_however_much_work_they_have() {
        let process = Arc::new(Semaphore::new(1));
        let (before, hog, other) = (PeerWork::of_peer(), PeerWork::of_peer(), PeerWork::of_peer());
        let started = Arc::new(Mutex::new(Vec::new()));
        let work = |peer, name: &'static str| {
            let started = Arc::clone(&started);
            offload_within(&process, peer, move || started.lock().unwrap().push(name))
        };
        let (release, released) = sync_channel::<()>(1);
        let mut running = pin!(offload_within(&process, &before, move || released.recv().is_err()));
        assert!(!poll_once(running.as_mut()), "the only permit is used");
        let release = async { drop(release) };
        // `join!` polls its futures in this order.
        let works = (work(&hog, "hog"), work(&hog, "hog"), work(&hog, "hog"), work(&other, "other"));
        let ended = join!(works.0, works.1, works.2, works.3, release, running);
        assert_eq!((ended.3, ended.5), (Ok(()), Ok(true)));
        assert_eq!(*started.lock().unwrap(), ["hog", "other", "hog", "hog"]);
        assert_eq!(process.available_permits(), 1);
    }

    #[tokio::test]
    async fn started_work_keeps_its_permit_until_it_ends() {
        let (process, peer) = (Arc::new(Semaphore::new(1)), PeerWork::of_peer());
        let (begin, mut begun) = tokio::sync::mpsc::channel::<()>(1);
        let (release, released) = sync_channel::<()>(1);
        let mut dropped = Box::pin(offload_within(&process, &peer, move || {
            drop(begin);
            released.recv().is_err()
        }));
        assert!(!poll_once(dropped.as_mut()));
        begun.recv().await;
        drop(dropped);
        assert_eq!(process.available_permits(), 0, "the work has started");
        drop(release);
        assert_eq!(offload_within(&process, &peer, || 7).await, Ok(7));
    }

    #[test]
    fn dropped_work_is_dropped_before_a_thread_is_free() {
        let runtime = runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let (release, released) = sync_channel::<()>(1);
        runtime.block_on(async {
            let only_thread = spawn_blocking(move || released.recv());
            let (process, peer) = (Arc::new(Semaphore::new(1)), PeerWork::of_peer());
            let payload = Arc::new(());
            let held = Arc::clone(&payload);
            let mut work = Box::pin(offload_within(&process, &peer, move || drop(held)));
            assert!(!poll_once(work.as_mut()));
            assert_eq!((Arc::strong_count(&payload), process.available_permits()), (2, 0));
            drop(work);
            assert_eq!((Arc::strong_count(&payload), process.available_permits()), (1, 1));
            drop(release);
            only_thread.await.unwrap().unwrap_err();
        });
    }

    #[test]
    fn work_runs_at_once_outside_of_a_runtime() {
        assert!(poll_once(pin!(offload(&PeerWork::default(), || 7))));
    }
}
