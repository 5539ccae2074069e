//! [`Load`]: how many handlers run in all of a server, and which calls wait until fewer do.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::sync::oneshot;

/// How many handlers run in all of a server, and which calls wait until fewer do.
///
/// Counted are handlers that were not done at once: those that are cost one look at a number. As a handler is polled before it is
/// known whether it will be done, as many more may run as connections had found room at the same moment: one for each
/// worker thread.
#[derive(Debug)]
pub(crate) struct Load {
    limit: usize,
    max_queued: usize,
    running: AtomicUsize,
    /// The queue's length, beside its lock.
    queued: AtomicUsize,
    queue: Mutex<VecDeque<oneshot::Sender<Permit>>>,
}

/// Held by a handler until all of it is gone.
#[derive(Debug)]
pub(crate) struct Permit(Option<Arc<Load>>);

/// A place among the handlers that run, or in the queue for one. Dropped, it is free.
#[derive(Debug)]
pub(crate) enum Place {
    Taken(Permit),
    Queued(Queued),
}

#[derive(Debug)]
pub(crate) struct Queued {
    load: Arc<Load>,
    permit: oneshot::Receiver<Permit>,
    admitted: bool,
}

impl Load {
    pub(crate) fn new(limit: usize, max_queued: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            max_queued,
            running: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            queue: Mutex::default(),
        })
    }

    /// Whether fewer handlers run than may.
    pub(crate) fn has_room(&self) -> bool {
        self.running() < self.limit
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(SeqCst)
    }

    /// Counts a handler that was begun when there was room.
    pub(crate) fn enter(self: &Arc<Self>) -> Permit {
        self.running.fetch_add(1, SeqCst);
        Permit(Some(Arc::clone(self)))
    }

    /// A place for a call that was not begun, behind those that came before; `None` when the queue is full as well.
    pub(crate) fn place(self: &Arc<Self>) -> Option<Place> {
        if self.has_room() {
            return Some(Place::Taken(self.enter()));
        }
        let mut queue = self.lock();
        if queue.len() >= self.max_queued {
            return None;
        }
        let (sender, permit) = oneshot::channel();
        queue.push_back(sender);
        self.queued.store(queue.len(), SeqCst);
        drop(queue);
        // Room that was made before the queue was seen is found here; see `leave`.
        self.admit();
        Some(Place::Queued(Queued { load: Arc::clone(self), permit, admitted: false }))
    }

    fn leave(self: &Arc<Self>) {
        self.running.fetch_sub(1, SeqCst);
        // Here room is made before the look at the queue; who queues is seen in the queue before it looks for room. All four
        // are in one order, so one of the two sees the other.
        if self.queued.load(SeqCst) > 0 {
            self.admit();
        }
    }

    /// Hands room to those who wait, in the order in which they came.
    fn admit(self: &Arc<Self>) {
        let mut queue = self.lock();
        while self.has_room()
            && let Some(first) = queue.pop_front()
        {
            self.queued.store(queue.len(), SeqCst);
            if let Err(mut unwanted) = first.send(self.enter()) {
                // Dropped, it would look at the queue, whose lock is held here.
                unwanted.0 = None;
                self.running.fetch_sub(1, SeqCst);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<Permit>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until the call may run.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the place is free.
    pub(crate) async fn permit(self) -> Permit {
        match self {
            Self::Taken(permit) => permit,
            Self::Queued(mut queued) => {
                let permit =
                    (&mut queued.permit).await.expect("the queue drops no one, and lives as long as its places");
                queued.admitted = true;
                permit
            }
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.admitted {
            return;
        }
        self.permit.close();
        let mut queue = self.load.lock();
        queue.retain(|waiting| !waiting.is_closed());
        self.load.queued.store(queue.len(), SeqCst);
        // A permit that came meanwhile is dropped with the channel, after the lock.
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(load) = self.0.take() {
            load.leave();
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

    fn queue(load: &Arc<Load>) -> Queued {
        match load.place().unwrap() {
            Place::Queued(queued) => queued,
            Place::Taken(_) => panic!("there is no room"),
        }
    }

    fn admitted(queued: Queued) -> Result<Permit, ()> {
        let mut permit = pin!(Place::Queued(queued).permit());
        match permit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Ok(permit),
            Poll::Pending => Err(()),
        }
    }

    #[test]
    fn as_many_run_as_may_and_as_many_wait() {
        let load = Load::new(2, 1);
        let (one, two) = (load.enter(), load.place().unwrap());
        assert!(!load.has_room());
        let waiting = queue(&load);
        assert!(load.place().is_none(), "one over");
        drop(one);
        assert_eq!((load.running(), load.queued()), (2, 0));
        let waited = admitted(waiting).unwrap();
        drop((waited, two));
        assert_eq!(load.running(), 0);
    }

    #[test]
    fn who_waits_gets_room_in_order_and_who_leaves_is_passed_over() {
        let load = Load::new(1, 3);
        let running = load.enter();
        let (first, second, third) = (queue(&load), queue(&load), queue(&load));
        drop(first);
        assert_eq!(load.queued(), 2, "its place is free");
        let fourth = queue(&load);
        drop(running);
        let permit = admitted(second).unwrap();
        assert!(admitted(third).is_err(), "there is no room yet");
        drop(permit);
        drop(admitted(fourth).unwrap());
        assert_eq!((load.running(), load.queued()), (0, 0));
    }

    #[test]
    fn a_permit_that_is_not_taken_goes_on() {
        let load = Load::new(1, 2);
        let running = load.enter();
        let (first, second) = (queue(&load), queue(&load));
        drop(running);
        drop(first);
        assert!(admitted(second).is_ok());
        assert_eq!(load.running(), 0);
    }

    #[test]
    fn room_is_never_lost_between_those_who_leave_and_those_who_come() {
        let load = Load::new(1, 8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    for _ in 0..5_000 {
                        drop(runtime.block_on(load.place().unwrap().permit()));
                    }
                });
            }
        });
        assert_eq!((load.running(), load.queued()), (0, 0));
    }
}
