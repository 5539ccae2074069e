//! [`ConcurrencyLimit`]: limits the running handlers of a server, and queues calls beyond the limit.
//!
//! Each peer has a [`PeerShare`]. Permits, positions in the queue and the capacity for unsent results are shared by
//! dynamic thresholds: a peer may hold at most [`PEER_SHARE`] times as many as are free, and a part is reserved for peers
//! that hold little. A few peers alone can use most of the capacity, and leave some to the others.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use rpc_core::{PeerWork, transport::StreamMemory};
use tokio::{sync::oneshot, time::Instant};

use super::{adaptive::AdaptiveLimit, peer_key::PeerKey};

/// Limits the running handlers of a server, and queues calls beyond the limit in arrival order.
///
/// Handlers that finish in their first poll are not counted: they cost two loads of atomics. The limit is soft by the
/// number of worker threads: a connection checks the capacity before it polls a handler and counts the handler after
/// the poll, so each worker thread may start one handler on the same capacity.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    limit: usize,
    /// The limit of running handlers that follows their latency, if the server has one.
    adaptive: Option<AdaptiveLimit>,
    max_queued: usize,
    running: AtomicUsize,
    /// The number of results that are compressed or wait for capacity on their connection, and hold no permit. Limited
    /// by `limit` too. Increased under the lock `admission` only.
    unsent: AtomicUsize,
    /// The length of `queue`, readable without its lock.
    queued: AtomicUsize,
    queue: Mutex<VecDeque<Queued>>,
    /// The number of calls with streams whose handlers have not ended. Increased under the lock `admission` only.
    streams: AtomicUsize,
    max_streams: usize,
    /// Held while a limit is checked and the unit is counted, so that threads together do not exceed it.
    admission: Mutex<()>,
    /// The memory of the items that the server receives.
    stream_memory: Arc<StreamMemory>,
    /// The shares of the peers that have a connection or a running handler.
    shares: Mutex<HashMap<PeerKey, Weak<PeerShare>>>,
}

/// The part of the capacity that one peer uses.
#[derive(Debug)]
pub(crate) struct PeerShare {
    concurrency: Arc<ConcurrencyLimit>,
    peer: PeerKey,
    running: AtomicUsize,
    unsent: AtomicUsize,
    /// Changed under the lock of the queue only.
    queued: AtomicUsize,
    streams: AtomicUsize,
    /// The long work of all connections of the peer.
    work: PeerWork,
    /// The memory of the items that all connections of the peer receive.
    stream_memory: Arc<StreamMemory>,
}

/// Counts a handler as running, or its result as unsent, until the permit is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    share: Option<Arc<PeerShare>>,
    /// Whether the permit counts an unsent result.
    is_unsent: bool,
    /// When the handler started, if its latency is measured.
    started: Option<Instant>,
}

/// A permit, or a position in the queue for one. Dropping it frees the capacity or the position.
#[derive(Debug)]
pub(crate) enum Reservation {
    Granted(Permit),
    Queued(QueuedReservation),
}

#[derive(Debug)]
pub(crate) struct QueuedReservation {
    share: Arc<PeerShare>,
    permit: oneshot::Receiver<Permit>,
    granted: bool,
}

/// A call in the queue.
#[derive(Debug)]
struct Queued {
    share: Arc<PeerShare>,
    permit: oneshot::Sender<Permit>,
}

impl ConcurrencyLimit {
    pub(crate) fn new(
        limit: usize,
        max_queued: usize,
        max_streams: usize,
        stream_memory: Arc<StreamMemory>,
    ) -> Arc<Self> {
        Arc::new(Self::with(limit, max_queued, max_streams, stream_memory))
    }

    /// As [`new`](Self::new), with a limit of running handlers that follows their latency and is at most `limit`.
    pub(crate) fn adaptive(
        limit: usize,
        max_queued: usize,
        max_streams: usize,
        stream_memory: Arc<StreamMemory>,
    ) -> Arc<Self> {
        let adaptive = Some(AdaptiveLimit::new(limit, Instant::now()));
        Arc::new(Self { adaptive, ..Self::with(limit, max_queued, max_streams, stream_memory) })
    }

    fn with(limit: usize, max_queued: usize, max_streams: usize, stream_memory: Arc<StreamMemory>) -> Self {
        Self {
            limit,
            adaptive: None,
            max_queued,
            running: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            queue: Mutex::default(),
            streams: AtomicUsize::new(0),
            max_streams,
            admission: Mutex::default(),
            stream_memory,
            shares: Mutex::default(),
        }
    }

    /// Returns the present limit of running handlers.
    fn running_limit(&self) -> usize {
        self.adaptive.as_ref().map_or(self.limit, AdaptiveLimit::limit)
    }

    /// Returns the share of a peer, which all of its connections use.
    pub(crate) fn share_of(self: &Arc<Self>, peer: PeerKey) -> Arc<PeerShare> {
        let mut shares = lock(&self.shares);
        if let Some(share) = shares.get(&peer).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(PeerShare {
            concurrency: Arc::clone(self),
            peer: peer.clone(),
            running: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            work: PeerWork::of_peer(),
            stream_memory: self.stream_memory.share(),
        });
        shares.insert(peer, Arc::downgrade(&share));
        share
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    pub(crate) fn unsent(&self) -> usize {
        self.unsent.load(SeqCst)
    }

    /// Returns the number of calls with streams whose handlers have not ended.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(SeqCst)
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(SeqCst)
    }

    /// Grants free capacity to queued calls, in arrival order among the peers that may hold more.
    fn grant_queued(&self) {
        let mut queue = lock(&self.queue);
        while self.running() < self.running_limit()
            && let Some(at) = queue.iter().position(|queued| queued.share.has_capacity())
            && let Some(Queued { share, permit }) = queue.remove(at)
        {
            self.queued.store(queue.len(), SeqCst);
            share.queued.fetch_sub(1, SeqCst);
            if let Err(mut unwanted) = permit.send(share.acquire()) {
                // Dropping the permit would lock the queue again, whose lock is held here.
                unwanted.share = None;
                share.uncount_running();
            }
        }
    }
}

impl PeerShare {
    /// Returns the place of the peer in the line for long work.
    pub(crate) fn work(&self) -> PeerWork {
        self.work.clone()
    }

    /// Returns the memory of the items that all connections of the peer receive.
    pub(crate) fn stream_memory(&self) -> &Arc<StreamMemory> {
        &self.stream_memory
    }

    /// Counts one more call with streams; `None` when the peer may have no more.
    pub(crate) fn open_stream(self: &Arc<Self>) -> Option<OpenStream> {
        let ConcurrencyLimit { max_streams, streams, .. } = &*self.concurrency;
        self.admit(*max_streams, streams, &self.streams).then(|| OpenStream(Arc::clone(self)))
    }

    /// Counts one more unit of the `used` ones and of this peer's `own`, if it may take another one.
    fn admit(&self, limit: usize, used: &AtomicUsize, own: &AtomicUsize) -> bool {
        let _admission = lock(&self.concurrency.admission);
        let is_admitted = is_within(limit, used, own);
        if is_admitted {
            used.fetch_add(1, SeqCst);
            own.fetch_add(1, SeqCst);
        }
        is_admitted
    }

    /// Returns whether the peer may have another running handler.
    pub(crate) fn has_capacity(&self) -> bool {
        is_within(self.concurrency.running_limit(), &self.concurrency.running, &self.running)
    }

    /// Counts one more running handler. The caller checks the capacity.
    pub(crate) fn acquire(self: &Arc<Self>) -> Permit {
        self.concurrency.running.fetch_add(1, SeqCst);
        self.running.fetch_add(1, SeqCst);
        let started = self.concurrency.adaptive.is_some().then(Instant::now);
        Permit { share: Some(Arc::clone(self)), is_unsent: false, started }
    }

    /// Reserves a permit for a call whose handler was not started; `None` when the peer may queue no more calls.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<Reservation> {
        if self.has_capacity() {
            return Some(Reservation::Granted(self.acquire()));
        }
        let concurrency = &self.concurrency;
        let mut queue = lock(&concurrency.queue);
        if !is_within(concurrency.max_queued, &concurrency.queued, &self.queued) {
            return None;
        }
        let (sender, permit) = oneshot::channel();
        queue.push_back(Queued { share: Arc::clone(self), permit: sender });
        self.queued.fetch_add(1, SeqCst);
        concurrency.queued.store(queue.len(), SeqCst);
        drop(queue);
        // Finds capacity that was released before `queued` was stored; see `release_running`.
        concurrency.grant_queued();
        Some(Reservation::Queued(QueuedReservation { share: Arc::clone(self), permit, granted: false }))
    }

    fn release_running(&self, started: Option<Instant>) {
        if let (Some(adaptive), Some(started)) = (&self.concurrency.adaptive, started) {
            adaptive.record(started, self.concurrency.running(), Instant::now());
        }
        self.uncount_running();
        // This method writes `running` and then reads `queued`; `reserve` writes `queued` and then reads `running`. All
        // accesses are sequentially consistent, so at least one side sees the write of the other.
        if self.concurrency.queued() > 0 {
            self.concurrency.grant_queued();
        }
    }

    fn uncount_running(&self) {
        self.running.fetch_sub(1, SeqCst);
        self.concurrency.running.fetch_sub(1, SeqCst);
    }
}

/// Returns whether a peer that holds `own` of the `used` units may take another one.
fn is_within(limit: usize, used: &AtomicUsize, own: &AtomicUsize) -> bool {
    let (free, own) = (limit.saturating_sub(used.load(SeqCst)), own.load(SeqCst));
    own < free.saturating_sub(limit / RESERVED_PART).saturating_mul(PEER_SHARE) || own < MIN_SHARE && free > 0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a call with streams until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<PeerShare>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, SeqCst);
        self.0.concurrency.streams.fetch_sub(1, SeqCst);
    }
}

impl Permit {
    /// Records that the handler has a result that is compressed or waits for capacity on its connection.
    ///
    /// The permit then counts an unsent result instead of a running handler, so that a peer that reads slowly holds no
    /// capacity for handlers. Where unsent results have reached their limit, it stays as it is.
    pub(crate) fn result_waits(&mut self) {
        let Some(share) = &self.share else { return };
        let ConcurrencyLimit { limit, unsent, .. } = &*share.concurrency;
        if self.is_unsent || !share.admit(*limit, unsent, &share.unsent) {
            return;
        }
        self.is_unsent = true;
        share.release_running(self.started.take());
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
        let concurrency = &self.share.concurrency;
        let mut queue = lock(&concurrency.queue);
        queue.retain(|queued| {
            let is_closed = queued.permit.is_closed();
            if is_closed {
                queued.share.queued.fetch_sub(1, SeqCst);
            }
            !is_closed
        });
        concurrency.queued.store(queue.len(), SeqCst);
        // A permit that was sent in the meantime is dropped with the channel, after this lock.
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(share) = self.share.take() else { return };
        if self.is_unsent {
            share.unsent.fetch_sub(1, SeqCst);
            share.concurrency.unsent.fetch_sub(1, SeqCst);
        } else {
            share.release_running(self.started.take());
        }
    }
}

impl Drop for PeerShare {
    fn drop(&mut self) {
        let mut shares = lock(&self.concurrency.shares);
        // A new connection may have replaced the entry.
        if shares.get(&self.peer).is_some_and(|share| share.strong_count() == 0) {
            shares.remove(&self.peer);
        }
    }
}

/// The maximum of one peer, as a multiple of the free capacity: permits, positions in the queue, and unsent results.
///
/// The part that is reserved for small shares does not count. Of the rest, one peer alone can use 8/9, and n peers
/// 8/(8n + 1) each; of up to eight, a peer alone can use all.
pub(crate) const PEER_SHARE: usize = 8;
/// The divisor that determines the part of each capacity that is reserved for peers that hold less than [`MIN_SHARE`].
const RESERVED_PART: usize = 16;
/// The number of units up to which a peer may use the reserved part.
const MIN_SHARE: usize = 2;

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// Returns a limit and the share of one peer.
    fn limited(limit: usize, max_queued: usize) -> (Arc<ConcurrencyLimit>, Arc<PeerShare>) {
        let limit = ConcurrencyLimit::new(limit, max_queued, limit, StreamMemory::new(0));
        let share = limit.share_of(PeerKey::Network(None));
        (limit, share)
    }

    fn other(limit: &Arc<ConcurrencyLimit>, name: &str) -> Arc<PeerShare> {
        limit.share_of(PeerKey::Name(name.to_owned()))
    }

    /// Takes permits until the peer may take no more.
    fn exhaust(share: &Arc<PeerShare>) -> Vec<Permit> {
        std::iter::from_fn(|| share.has_capacity().then(|| share.acquire())).collect()
    }

    fn queue(share: &Arc<PeerShare>) -> QueuedReservation {
        match share.reserve().unwrap() {
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
        let (limit, share) = limited(2, 1);
        let (one, two) = (share.acquire(), share.reserve().unwrap());
        assert!(!share.has_capacity());
        let waiting = queue(&share);
        assert!(share.reserve().is_none(), "one above both");
        drop(one);
        assert_eq!((limit.running(), limit.queued()), (2, 0));
        let waited = granted(waiting).unwrap();
        drop((waited, two));
        assert_eq!(limit.running(), 0);
    }

    #[test]
    fn permits_go_to_queued_calls_in_arrival_order() {
        let (limit, share) = limited(1, 3);
        let running = share.acquire();
        let (first, second, third) = (queue(&share), queue(&share), queue(&share));
        drop(first);
        assert_eq!(limit.queued(), 2, "a dropped reservation leaves the queue");
        let fourth = queue(&share);
        drop(running);
        let permit = granted(second).unwrap();
        assert!(granted(third).is_err(), "the limit has no capacity yet");
        drop(permit);
        drop(granted(fourth).unwrap());
        assert_eq!((limit.running(), limit.queued()), (0, 0));
    }

    #[test]
    fn dropped_reservation_passes_its_permit_on() {
        let (limit, share) = limited(1, 2);
        let running = share.acquire();
        let (first, second) = (queue(&share), queue(&share));
        drop(running);
        drop(first);
        assert!(granted(second).is_ok());
        assert_eq!(limit.running(), 0);
    }

    #[test]
    fn peers_share_permits_by_the_free_capacity() {
        let (limit, hog) = limited(90, 0);
        let held = exhaust(&hog);
        assert_eq!(held.len(), 76, "eight ninths of the part that is not reserved");
        assert!(hog.reserve().is_none() && !hog.has_capacity());
        let newcomer = other(&limit, "ann");
        assert!(newcomer.has_capacity(), "another peer finds capacity");
        let held_too = exhaust(&newcomer);
        assert_eq!((held_too.len(), limit.running()), (8, 84), "eight ninths of the rest");
        assert!(other(&limit, "bob").has_capacity(), "some capacity is free");
        drop((held, held_too));
        assert_eq!(limit.running(), 0);
    }

    #[test]
    fn small_shares_use_the_reserved_part() {
        let (limit, hog) = limited(96, 0);
        let mut held = exhaust(&hog);
        let counts = [(); 6].map(|()| {
            let of_peer = exhaust(&other(&limit, &held.len().to_string()));
            let count = of_peer.len();
            held.extend(of_peer);
            count
        });
        assert_eq!(counts, [9, 2, 2, 2, 1, 0], "the first finds more than the reserved part");
        assert_eq!(limit.running(), 96);
        drop(held);
        assert_eq!(limit.running(), 0);
    }

    #[test]
    fn released_permits_pass_peers_above_their_share() {
        let (limit, hog) = limited(90, 9);
        let (mut held, _others) = (exhaust(&hog), exhaust(&other(&limit, "ann")));
        let newcomer = other(&limit, "bob");
        let _running = exhaust(&newcomer);
        let (of_hog, of_newcomer) = (queue(&hog), queue(&newcomer));
        held.truncate(held.len() - 2);
        assert!(granted(of_newcomer).is_ok(), "the peer with fewer permits is served first");
        assert!(granted(of_hog).is_err());
    }

    #[test]
    fn peers_share_the_queue() {
        let (limit, hog) = limited(1, 90);
        let _running = hog.acquire();
        let waiting: Vec<_> = std::iter::from_fn(|| hog.reserve()).collect();
        assert_eq!(waiting.len(), 76, "eight ninths of the part that is not reserved");
        assert!(other(&limit, "ann").reserve().is_some());
        drop(waiting);
        assert_eq!(limit.queued(), 0);
        assert!(hog.reserve().is_some(), "dropped reservations leave the share of the peer");
    }

    #[test]
    fn unsent_results_hold_no_permit() {
        let (limit, share) = limited(1, 1);
        let (mut first, waiting) = (share.acquire(), queue(&share));
        first.result_waits();
        first.result_waits();
        assert_eq!((limit.running(), limit.unsent()), (1, 1), "the queued call has the permit");
        let mut second = granted(waiting).unwrap();
        second.result_waits();
        assert_eq!((limit.running(), limit.unsent()), (1, 1), "the number of unsent results has the same limit");
        drop(first);
        assert_eq!((limit.running(), limit.unsent()), (1, 0));
        second.result_waits();
        assert_eq!((limit.running(), limit.unsent()), (0, 1));
        drop(second);
        assert_eq!((limit.running(), limit.unsent()), (0, 0));
    }

    #[test]
    fn share_of_a_peer_ends_with_its_last_use() {
        let (limit, share) = limited(2, 0);
        assert!(Arc::ptr_eq(&share, &limit.share_of(PeerKey::Network(None))));
        let permit = share.acquire();
        drop(share);
        assert_eq!(lock(&limit.shares).len(), 1, "a running handler keeps the share");
        drop(permit);
        assert_eq!(lock(&limit.shares).len(), 0);
    }

    #[test]
    fn threads_together_do_not_exceed_the_share_of_streams() {
        for _ in 0..200 {
            let (limit, share) = limited(90, 0);
            let barrier = std::sync::Barrier::new(4);
            let opened = std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| {
                    scope.spawn(|| {
                        barrier.wait();
                        std::iter::from_fn(|| share.open_stream()).collect::<Vec<_>>()
                    })
                });
                threads.map(|thread| thread.join().unwrap())
            });
            assert_eq!(opened.iter().map(Vec::len).sum::<usize>(), 76, "as one thread");
            drop(opened);
            assert_eq!(limit.streams(), 0);
        }
    }

    #[test]
    fn concurrent_release_and_reserve_lose_no_capacity() {
        let (limit, share) = limited(1, 8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    for _ in 0..5_000 {
                        drop(runtime.block_on(share.reserve().unwrap().permit()));
                    }
                });
            }
        });
        assert_eq!((limit.running(), limit.queued()), (0, 0));
    }
}
