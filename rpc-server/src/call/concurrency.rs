//! [`ConcurrencyLimit`]: limits the running handlers of a server, and queues calls beyond the limit.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::sync::oneshot;

/// Limits the running handlers of a server, and queues calls beyond the limit in arrival order.
///
/// Handlers that finish in their first poll are not counted: they cost one load of an atomic. The limit is soft by the
/// number of worker threads: a connection checks the capacity before it polls a handler and counts the handler after
/// the poll, so each worker thread may start one handler on the same capacity.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    limit: usize,
    max_queued: usize,
    running: AtomicUsize,
    /// The length of `queue`, readable without its lock.
    queued: AtomicUsize,
    queue: Mutex<VecDeque<oneshot::Sender<Permit>>>,
}

/// Counts a handler as running until the permit is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Option<Arc<ConcurrencyLimit>>);

/// A permit, or a position in the queue for one. Dropping it frees the capacity or the position.
#[derive(Debug)]
pub(crate) enum Reservation {
    Granted(Permit),
    Queued(QueuedReservation),
}

#[derive(Debug)]
pub(crate) struct QueuedReservation {
    concurrency: Arc<ConcurrencyLimit>,
    permit: oneshot::Receiver<Permit>,
    granted: bool,
}

impl ConcurrencyLimit {
    pub(crate) fn new(limit: usize, max_queued: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            max_queued,
            running: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            queue: Mutex::default(),
        })
    }

    /// Returns whether fewer handlers run than the limit.
    pub(crate) fn has_capacity(&self) -> bool {
        self.running() < self.limit
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(SeqCst)
    }

    /// Counts one more running handler. The caller checks the limit.
    pub(crate) fn acquire(self: &Arc<Self>) -> Permit {
        self.running.fetch_add(1, SeqCst);
        Permit(Some(Arc::clone(self)))
    }

    /// Reserves a permit for a call whose handler was not started; `None` when the queue is full.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<Reservation> {
        if self.has_capacity() {
            return Some(Reservation::Granted(self.acquire()));
        }
        let mut queue = self.lock();
        if queue.len() >= self.max_queued {
            return None;
        }
        let (sender, permit) = oneshot::channel();
        queue.push_back(sender);
        self.queued.store(queue.len(), SeqCst);
        drop(queue);
        // Finds capacity that was released before `queued` was stored; see `release`.
        self.grant_queued();
        Some(Reservation::Queued(QueuedReservation { concurrency: Arc::clone(self), permit, granted: false }))
    }

    fn release(self: &Arc<Self>) {
        self.running.fetch_sub(1, SeqCst);
        // `release` writes `running` and then reads `queued`; `reserve` writes `queued` and then reads `running`. All
        // four accesses are sequentially consistent, so at least one side sees the write of the other.
        if self.queued.load(SeqCst) > 0 {
            self.grant_queued();
        }
    }

    /// Grants free capacity to queued calls in arrival order.
    fn grant_queued(self: &Arc<Self>) {
        let mut queue = self.lock();
        while self.has_capacity()
            && let Some(first) = queue.pop_front()
        {
            self.queued.store(queue.len(), SeqCst);
            if let Err(mut unwanted) = first.send(self.acquire()) {
                // Dropping the permit would lock the queue again, whose lock is held here.
                unwanted.0 = None;
                self.running.fetch_sub(1, SeqCst);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<Permit>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Waits until the call may run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future frees the reservation.
    pub(crate) async fn permit(self) -> Permit {
        match self {
            Self::Granted(permit) => permit,
            Self::Queued(mut queued) => {
                let permit = (&mut queued.permit)
                    .await
                    .expect("the queue drops no sender before its receiver, and a reservation keeps the queue alive");
                queued.granted = true;
                permit
            }
        }
    }
}

impl Drop for QueuedReservation {
    fn drop(&mut self) {
        if self.granted {
            return;
        }
        self.permit.close();
        let mut queue = self.concurrency.lock();
        queue.retain(|waiting| !waiting.is_closed());
        self.concurrency.queued.store(queue.len(), SeqCst);
        // A permit that was sent in the meantime is dropped with the channel, after this lock.
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(concurrency) = self.0.take() {
            concurrency.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn queue(limit: &Arc<ConcurrencyLimit>) -> QueuedReservation {
        match limit.reserve().unwrap() {
            Reservation::Queued(queued) => queued,
            Reservation::Granted(_) => panic!("the limit has capacity"),
        }
    }

    fn granted(queued: QueuedReservation) -> Result<Permit, ()> {
        let mut permit = pin!(Reservation::Queued(queued).permit());
        match permit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Ok(permit),
            Poll::Pending => Err(()),
        }
    }

    #[test]
    fn limit_and_queue_reject_the_call_above_both() {
        let limit = ConcurrencyLimit::new(2, 1);
        let (one, two) = (limit.acquire(), limit.reserve().unwrap());
        assert!(!limit.has_capacity());
        let waiting = queue(&limit);
        assert!(limit.reserve().is_none(), "one above both");
        drop(one);
        assert_eq!((limit.running(), limit.queued()), (2, 0));
        let waited = granted(waiting).unwrap();
        drop((waited, two));
        assert_eq!(limit.running(), 0);
    }

    #[test]
    fn permits_go_to_queued_calls_in_arrival_order() {
        let limit = ConcurrencyLimit::new(1, 3);
        let running = limit.acquire();
        let (first, second, third) = (queue(&limit), queue(&limit), queue(&limit));
        drop(first);
        assert_eq!(limit.queued(), 2, "a dropped reservation leaves the queue");
        let fourth = queue(&limit);
        drop(running);
        let permit = granted(second).unwrap();
        assert!(granted(third).is_err(), "the limit has no capacity yet");
        drop(permit);
        drop(granted(fourth).unwrap());
        assert_eq!((limit.running(), limit.queued()), (0, 0));
    }

    #[test]
    fn dropped_reservation_passes_its_permit_on() {
        let limit = ConcurrencyLimit::new(1, 2);
        let running = limit.acquire();
        let (first, second) = (queue(&limit), queue(&limit));
        drop(running);
        drop(first);
        assert!(granted(second).is_ok());
        assert_eq!(limit.running(), 0);
    }

    #[test]
    fn concurrent_release_and_reserve_lose_no_capacity() {
        let limit = ConcurrencyLimit::new(1, 8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    for _ in 0..5_000 {
                        drop(runtime.block_on(limit.reserve().unwrap().permit()));
                    }
                });
            }
        });
        assert_eq!((limit.running(), limit.queued()), (0, 0));
    }
}
