//! [`Calls`]: the in-flight table of a channel, shared by its callers and its driver.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    task::Waker,
};

use rpc_core::{
    sync::{AtomicU64, Mutex, MutexGuard},
    transport::CloseReason,
};
use tokio::{sync::Notify, time::Instant};

use super::{
    in_flight::{CallCounts, CallId, CallStatus, Delivered, InFlightTable, NewCall, Outcome},
    latency::Sample,
};
use crate::cache_padded::CachePadded;

/// The in-flight table of a channel behind a lock, with its load and the queue for a free slot.
#[derive(Debug)]
pub(super) struct Calls {
    shared: CachePadded<Shared>,
    /// Notified when a slot becomes free, and when the channel accepts no more calls.
    slot_freed: Notify,
}

/// Every caller writes to these fields, so they are on cache lines of their own.
#[derive(Debug)]
struct Shared {
    table: Mutex<InFlightTable>,
    /// The table's numbers of callers, in the lower half, and of occupied slots, in the upper half.
    ///
    /// They are outside the lock so that picking a provider takes none.
    load: AtomicU64,
}

// Locks of other systems have other lengths.
#[cfg(all(not(shuttle), target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(size_of::<Shared>() <= 128, "a third cache line costs every caller time");

/// The result of expiring calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expiry {
    /// When the next call is due.
    pub(crate) next_due: Option<Instant>,
    /// Whether any call is in flight.
    pub(crate) in_flight: bool,
}

/// A call that was inserted and whose request is not sent yet. Its drop removes the call.
pub(super) struct SlotGuard<'a> {
    calls: &'a Calls,
    id: CallId,
}

impl Calls {
    pub(super) fn new(max_in_flight: usize) -> Self {
        let shared = Shared { table: Mutex::new(InFlightTable::new(max_in_flight)), load: AtomicU64::new(0) };
        Self { shared: CachePadded(shared), slot_freed: Notify::new() }
    }

    /// Returns the number of callers that have not taken their outcome.
    pub(super) fn callers(&self) -> usize {
        self.shared.0.load.load(Ordering::Relaxed) as u32 as usize
    }

    /// Returns the number of calls that the peer may work on: also abandoned ones without an answer, and open streams.
    pub(super) fn load(&self) -> u32 {
        (self.shared.0.load.load(Ordering::Relaxed) >> 32) as u32
    }

    /// Returns the number of occupied slots.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns the numbers of calls since the connection was made.
    pub(super) fn counts(&self) -> CallCounts {
        self.lock().counts()
    }

    /// Inserts a call.
    ///
    /// Returns `None` when the table is full or other callers wait for a slot before this one.
    pub(super) fn insert(&self, call: NewCall<'_>) -> Option<SlotGuard<'_>> {
        let mut table = self.lock();
        let id = table.insert(call)?;
        self.store_load(&table);
        drop(table);
        Some(SlotGuard { calls: self, id })
    }

    pub(super) fn poll(&self, id: CallId, waker: &Waker) -> CallStatus {
        let mut table = self.lock();
        let status = table.poll(id, waker);
        if matches!(status, CallStatus::Ended(_)) {
            self.store_load(&table);
            self.notify_waiters_of_freed(table);
        }
        status
    }

    /// Removes the caller of a call. Returns whether the peer may still be executing it.
    pub(super) fn abandon(&self, id: CallId) -> bool {
        let mut table = self.lock();
        let may_execute = table.abandon(id);
        self.store_load(&table);
        self.notify_waiters_of_freed(table);
        may_execute
    }

    /// Records that the peer will not answer a call, because it received no complete request.
    pub(super) fn withdraw(&self, id: CallId) {
        let mut table = self.lock();
        table.withdraw(id);
        self.store_load(&table);
        self.notify_waiters_of_freed(table);
    }

    /// Records that the streams of a call have ended at both ends.
    pub(super) fn end_streams(&self, id: CallId) {
        let mut table = self.lock();
        table.end_streams(id);
        self.store_load(&table);
        self.notify_waiters_of_freed(table);
    }

    /// Delivers answers that arrived at `now` to their callers. Returns how many matched no call, and the latencies.
    pub(super) fn deliver(&self, answers: Vec<(u32, Outcome)>, now: Instant) -> (usize, Sample) {
        let (mut wakers, mut strays, mut sample) = (Vec::with_capacity(answers.len()), 0, Sample::default());
        let mut table = self.lock();
        for (id, outcome) in answers {
            match table.deliver(id, outcome) {
                Delivered::Accepted(sent_at, waker) => {
                    sample.add(now.saturating_duration_since(sent_at));
                    wakers.extend(waker);
                }
                Delivered::Abandoned => {}
                Delivered::Stray => strays += 1,
            }
        }
        self.store_load(&table);
        self.notify_waiters_of_freed(table);
        wakers.into_iter().for_each(Waker::wake);
        (strays, sample)
    }

    /// Ends the expired calls and calls `cancel` with each of them.
    pub(super) fn expire(&self, now: Instant, cancel: impl Fn(CallId)) -> Expiry {
        let mut due = Vec::new();
        let mut table = self.lock();
        table.expire(now, |id, waker| due.push((id, waker)));
        let expiry = Expiry { next_due: table.next_due(), in_flight: table.len() > 0 };
        drop(table);
        for (id, waker) in due {
            id.into_iter().for_each(&cancel);
            waker.into_iter().for_each(Waker::wake);
        }
        expiry
    }

    /// Ends every call with `reason`.
    pub(super) fn close(&self, reason: &Arc<CloseReason>) {
        let mut wakers = Vec::new();
        self.lock().close(reason, |waker| wakers.push(waker));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until a slot is free or `is_open` returns false.
    ///
    /// Callers proceed in the order in which they started to wait.
    ///
    /// A caller that does not use the slot must call [`pass_on_slot`](Self::pass_on_slot).
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: an unused notification reaches the next waiter.
    pub(super) async fn wait_for_slot(&self, is_open: impl Fn() -> bool) {
        let mut queued = None;
        loop {
            let freed = self.slot_freed.notified();
            tokio::pin!(freed);
            // Register before the check so that a slot that becomes free in between is not missed.
            freed.as_mut().enable();
            {
                let mut table = self.lock();
                let is_next = queued.is_some() || !table.has_waiters();
                if !is_open() || is_next && table.free_slots() > 0 {
                    return;
                }
                if queued.is_none() {
                    table.join_queue();
                    queued = Some(QueueGuard { calls: self });
                }
            }
            freed.await;
        }
    }

    /// Notifies the next waiter of a free slot that its waiter does not use.
    pub(super) fn pass_on_slot(&self) {
        let table = self.lock();
        if table.has_waiters() && table.free_slots() > 0 {
            drop(table);
            self.slot_freed.notify_one();
        }
    }

    /// Wakes all waiters because the channel accepts no more calls.
    pub(super) fn release_waiters(&self) {
        self.slot_freed.notify_waiters();
    }

    fn store_load(&self, table: &InFlightTable) {
        // Every store happens under the table's lock, so a plain store is as exact as two counting ones.
        let load = (table.len() as u64) << 32 | table.callers() as u64;
        self.shared.0.load.store(load, Ordering::Relaxed);
    }

    fn notify_waiters_of_freed(&self, mut table: MutexGuard<'_, InFlightTable>) {
        let notifications = table.take_notifications();
        drop(table);
        (0..notifications).for_each(|_| self.slot_freed.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, InFlightTable> {
        self.shared.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotGuard<'_> {
    pub(super) fn id(&self) -> CallId {
        self.id
    }

    /// Leaves the call in the table: its request is in the outbox.
    pub(super) fn keep(self) -> CallId {
        let id = self.id;
        std::mem::forget(self);
        id
    }
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        let mut table = self.calls.lock();
        table.roll_back(self.id);
        self.calls.store_load(&table);
        self.calls.notify_waiters_of_freed(table);
    }
}

/// A caller that waits for a slot.
struct QueueGuard<'a> {
    calls: &'a Calls,
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        let mut table = self.calls.lock();
        table.leave_queue();
        // This caller may take one free slot. If more are free, later waiters may have waited only for their turn.
        let more = table.has_waiters() && table.free_slots() > 1;
        drop(table);
        if more {
            self.calls.slot_freed.notify_one();
        }
    }
}
