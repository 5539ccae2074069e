//! [`InFlightTable`]: the calls of one connection that await their answers.

use std::{ops::Add, sync::Arc, task::Waker};

use rpc_core::transport::CloseReason;
use tokio::time::Instant;

use super::{
    call_id::{CallId, GENERATIONS},
    receiver::{Outcome, Receiver},
};

/// The calls of one connection that await their answers. A plain table without I/O and without a clock.
///
/// A request id consists of a slot's index and the slot's generation. A slot becomes free when both the caller and the
/// peer have finished with it. So a late answer matches its own call or none, and a second answer finds another
/// generation.
///
/// With its lock and the load it occupies two cache lines, which all callers write to.
#[derive(Debug)]
pub(crate) struct InFlightTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The number of slots whose caller has not taken the outcome yet.
    callers: u32,
    counts: CallCounts,
    limit: u32,
    first_generation: u32,
    /// No deadline and no hedge time is earlier than this.
    next_due: Option<Instant>,
    closed: Option<Arc<CloseReason>>,
    /// The number of callers that wait for a free slot.
    waiters: usize,
    /// The number of slots that were freed and for which no waiter was notified yet.
    freed: u32,
}

/// On cache lines of its own, because the threads of two callers and the driver write to neighbouring slots.
#[derive(Debug)]
#[repr(align(128))]
struct Slot {
    generation: u32,
    sent_at: Instant,
    deadline: Instant,
    /// The hedge time: when to wake the caller if there is no answer yet.
    hedge_at: Option<Instant>,
    /// Whether that time has passed and the caller has not polled since.
    hedge_due: bool,
    /// Whether the caller has yet to take the outcome.
    caller: bool,
    /// Whether the peer may still answer.
    peer: bool,
    /// Whether the streams of the call have not ended.
    streams: bool,
    receiver: Receiver,
}

/// The numbers of calls over a time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallCounts {
    /// The calls that were inserted.
    pub(crate) started: u64,
    /// The calls that the peer answered, also after their callers had gone.
    pub(crate) answered: u64,
}

/// A call to insert into the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewCall<'a> {
    /// When the call is sent, from which its latency counts.
    pub(crate) sent_at: Instant,
    /// When the call ends without an answer.
    pub(crate) deadline: Instant,
    /// When the caller is woken because there is no answer yet.
    pub(crate) hedge_at: Option<Instant>,
    /// Whether the caller has waited for a free slot; other callers do not overtake those that wait.
    pub(crate) has_waited: bool,
    /// Whether the call has streams, which occupy the slot until [`InFlightTable::end_streams`].
    pub(crate) has_streams: bool,
    /// Wakes the caller when its call has an outcome or its hedge time passes.
    pub(crate) waker: &'a Waker,
}

#[cfg(any(test, feature = "bench"))]
impl NewCall<'static> {
    /// Creates a call without a hedge and without streams, which nothing wakes.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self {
            sent_at: deadline,
            deadline,
            hedge_at: None,
            has_waited: false,
            has_streams: false,
            waker: Waker::noop(),
        }
    }
}

/// The state of a call when its caller polls it.
#[derive(Debug)]
pub(crate) enum CallStatus {
    /// There is no outcome yet; the table stored the waker.
    Pending,
    /// There is no outcome yet, and the hedge time of this attempt has passed; the table stored the waker.
    HedgeDue,
    /// The call ended, and the caller's half of the slot is free.
    Ended(Outcome),
}

/// The result of delivering an answer.
#[derive(Debug)]
pub(crate) enum Delivered {
    /// The caller can take the answer, of a call that was sent at this time; this waker wakes it.
    Accepted(Instant, Option<Waker>),
    /// The caller has abandoned the call.
    Abandoned,
    /// No call has this id.
    Stray,
}

impl InFlightTable {
    /// The highest configurable number of calls in flight.
    pub(crate) const MAX: usize = 1_000_000;

    pub(crate) fn new(limit: usize) -> Self {
        Self::starting_at(limit, 1)
    }

    fn starting_at(limit: usize, first_generation: u32) -> Self {
        debug_assert!(limit <= Self::MAX);
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            callers: 0,
            counts: CallCounts::default(),
            limit: limit as u32,
            first_generation,
            next_due: None,
            closed: None,
            waiters: 0,
            freed: 0,
        }
    }

    /// Inserts a call.
    ///
    /// Returns `None` when the table is full, or when other callers wait for a slot and this one has not waited.
    pub(crate) fn insert(&mut self, call: NewCall<'_>) -> Option<CallId> {
        if self.waiters > 0 && !call.has_waited {
            return None;
        }
        let index = self.take_free_slot(call.deadline)?;
        let slot = &mut self.slots[index as usize];
        slot.generation = (slot.generation + 1) & GENERATIONS;
        if slot.generation == 0 && index == 0 {
            // The wire reserves id 0.
            slot.generation = 1;
        }
        slot.sent_at = call.sent_at;
        slot.deadline = call.deadline;
        slot.hedge_at = call.hedge_at;
        slot.hedge_due = false;
        slot.caller = true;
        slot.peer = true;
        slot.streams = call.has_streams;
        slot.receiver.set_waker(call.waker);
        self.callers += 1;
        self.counts.started += 1;
        let id = CallId::new(index, slot.generation);
        let due = slot.due();
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        if let Some(reason) = &self.closed {
            // The connection closed before this insertion. The outbox sends nothing more, so the peer cannot answer.
            slot.peer = false;
            slot.receiver.put(Outcome::Closed(Arc::clone(reason)));
        }
        Some(id)
    }

    fn take_free_slot(&mut self, deadline: Instant) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.slots.len() == self.limit as usize {
            return None;
        }
        self.slots.push(Slot {
            generation: self.first_generation.wrapping_sub(1) & GENERATIONS,
            sent_at: deadline,
            deadline,
            hedge_at: None,
            hedge_due: false,
            caller: false,
            peer: false,
            streams: false,
            receiver: Receiver::default(),
        });
        Some((self.slots.len() - 1) as u32)
    }

    /// Takes the outcome of a call, or stores the caller's waker.
    pub(crate) fn poll(&mut self, id: CallId, waker: &Waker) -> CallStatus {
        let slot = &mut self.slots[id.index()];
        debug_assert!(slot.caller && slot.generation == id.generation());
        if let Some(outcome) = slot.receiver.take() {
            slot.caller = false;
            self.callers -= 1;
            self.free_if_done(id);
            return CallStatus::Ended(outcome);
        }
        slot.receiver.set_waker(waker);
        if std::mem::take(&mut slot.hedge_due) { CallStatus::HedgeDue } else { CallStatus::Pending }
    }

    /// Removes the caller of a call. Returns whether the peer may still be executing it.
    pub(crate) fn abandon(&mut self, id: CallId) -> bool {
        let slot = &mut self.slots[id.index()];
        debug_assert!(slot.caller && slot.generation == id.generation());
        slot.caller = false;
        self.callers -= 1;
        slot.receiver.clear();
        let may_execute = slot.peer;
        self.free_if_done(id);
        may_execute
    }

    /// Records that the peer will not answer a call.
    pub(crate) fn withdraw(&mut self, id: CallId) {
        let slot = &mut self.slots[id.index()];
        if slot.generation == id.generation() && std::mem::take(&mut slot.peer) {
            self.free_if_done(id);
        }
    }

    /// Records that the streams of a call have ended at both ends.
    pub(crate) fn end_streams(&mut self, id: CallId) {
        let slot = &mut self.slots[id.index()];
        if slot.generation == id.generation() && std::mem::take(&mut slot.streams) {
            self.free_if_done(id);
        }
    }

    /// Removes a call that was inserted and not sent.
    pub(crate) fn roll_back(&mut self, id: CallId) {
        self.slots[id.index()].peer = false;
        self.slots[id.index()].streams = false;
        self.abandon(id);
    }

    /// Stores the outcome that the peer gave to a call.
    pub(crate) fn deliver(&mut self, id: u32, outcome: Outcome) -> Delivered {
        let id = CallId::from_wire(id);
        let matches = |slot: &Slot| slot.generation == id.generation();
        let slot = self.slots.get_mut(id.index()).filter(|slot| slot.peer && matches(slot));
        let Some(slot) = slot else { return Delivered::Stray };
        slot.peer = false;
        self.counts.answered += 1;
        if !slot.caller {
            self.free_if_done(id);
            return Delivered::Abandoned;
        }
        // The streams of an expired call have ended, and the answer to this client's own CANCEL is not that of the call.
        let is_expired = slot.receiver.has_outcome() && (slot.streams || outcome.is_cancellation());
        if !is_expired {
            slot.receiver.put(outcome);
        }
        Delivered::Accepted(slot.sent_at, slot.receiver.take_waker())
    }

    /// Ends the calls whose deadline has passed, and marks those whose hedge time has passed.
    ///
    /// Calls `each` with the waker of every such call, and with its id when the call ended.
    pub(crate) fn expire(&mut self, now: Instant, mut each: impl FnMut(Option<CallId>, Option<Waker>)) {
        if self.next_due.is_none_or(|due| now < due) {
            return;
        }
        self.next_due = None;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if !slot.caller || slot.receiver.has_outcome() {
                continue;
            }
            if slot.deadline <= now {
                slot.receiver.put(Outcome::Expired);
                each(Some(CallId::new(index as u32, slot.generation)), slot.receiver.take_waker());
                continue;
            }
            if slot.hedge_at.is_some_and(|at| at <= now) {
                slot.hedge_at = None;
                slot.hedge_due = true;
                each(None, slot.receiver.take_waker());
            }
            let due = slot.due();
            self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        }
    }

    /// Returns the earliest time at which [`expire`](Self::expire) may have an effect.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Ends all calls and calls `each` with their wakers. Calls inserted later end at once.
    pub(crate) fn close(&mut self, reason: &Arc<CloseReason>, mut each: impl FnMut(Waker)) {
        self.closed = Some(Arc::clone(reason));
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let has_streams = std::mem::take(&mut slot.streams);
            if !std::mem::take(&mut slot.peer) {
                if has_streams && !slot.caller {
                    self.free.push(index as u32);
                }
                continue;
            }
            if slot.caller {
                slot.receiver.put_if_empty(|| Outcome::Closed(Arc::clone(reason)));
                slot.receiver.take_waker().into_iter().for_each(&mut each);
            } else {
                self.free.push(index as u32);
            }
        }
    }

    /// Returns the number of callers that have not taken their outcome yet.
    pub(crate) fn callers(&self) -> usize {
        self.callers as usize
    }

    /// Returns the numbers of calls since the table was created.
    pub(crate) fn counts(&self) -> CallCounts {
        self.counts
    }

    /// Returns the number of free slots.
    pub(crate) fn free_slots(&self) -> usize {
        self.limit as usize - self.len()
    }

    /// Returns the number of occupied slots.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Returns whether callers wait for a slot.
    pub(crate) fn has_waiters(&self) -> bool {
        self.waiters > 0
    }

    /// Registers a caller that waits for a slot, until the matching [`leave_queue`](Self::leave_queue).
    pub(crate) fn join_queue(&mut self) {
        self.waiters += 1;
    }

    /// Removes a caller that waited for a slot.
    pub(crate) fn leave_queue(&mut self) {
        self.waiters -= 1;
    }

    /// Returns how many waiters to notify: one for each slot that was freed since the last time.
    pub(crate) fn take_notifications(&mut self) -> usize {
        (std::mem::take(&mut self.freed) as usize).min(self.waiters)
    }

    fn free_if_done(&mut self, id: CallId) {
        let slot = &mut self.slots[id.index()];
        if !slot.caller && !slot.peer && !slot.streams {
            slot.receiver.clear();
            self.free.push(id.index() as u32);
            self.freed += 1;
        }
    }
}

impl Add for CallCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { started: self.started + other.started, answered: self.answered + other.answered }
    }
}

impl Slot {
    fn due(&self) -> Instant {
        self.hedge_at.map_or(self.deadline, |at| at.min(self.deadline))
    }
}

const _: () = assert!(InFlightTable::MAX <= CallId::MAX_SLOTS, "the last index belongs to one-way calls");

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use bytes::Bytes;
    use proptest::prelude::*;
    use rpc_core::frame::{Frame, FrameType, Header};

    use super::*;

    fn response(nonce: u32) -> Outcome {
        let body = Bytes::copy_from_slice(&nonce.to_be_bytes());
        Outcome::Response(Frame { header: Header::empty(FrameType::Response, 0), body })
    }

    fn nonce(status: CallStatus) -> u32 {
        match status {
            CallStatus::Ended(Outcome::Response(frame)) => u32::from_be_bytes(frame.body[..].try_into().unwrap()),
            other => panic!("expected a response, got {other:?}"),
        }
    }

    #[test]
    fn id_stays_taken_until_both_ends_are_done() {
        let mut table = InFlightTable::new(1);
        let id = table.insert(NewCall::until(Instant::now())).unwrap();
        assert!(table.abandon(id), "the peer may execute it");
        assert!(table.insert(NewCall::until(Instant::now())).is_none());
        table.join_queue();
        assert_eq!(table.take_notifications(), 0);
        assert!(matches!(table.deliver(id.as_u32(), response(1)), Delivered::Abandoned));
        assert_eq!(table.take_notifications(), 1);
        assert!(table.insert(NewCall::until(Instant::now())).is_none(), "the slot is reserved for the waiter");
        table.leave_queue();
        let next = table.insert(NewCall::until(Instant::now())).unwrap();
        assert_ne!(next, id);
        assert!(matches!(table.deliver(id.as_u32(), response(1)), Delivered::Stray), "a second answer");
        assert!(matches!(table.poll(next, Waker::noop()), CallStatus::Pending));
    }

    #[test]
    fn expired_call_ends_and_keeps_its_id() {
        let mut table = InFlightTable::new(2);
        let now = Instant::now();
        let (early, late) = (
            table.insert(NewCall::until(now)).unwrap(),
            table.insert(NewCall::until(now + Duration::from_secs(1))).unwrap(),
        );
        let mut expired = Vec::new();
        table.expire(now, |id, _| expired.push(id));
        assert_eq!((expired, table.next_due()), (vec![Some(early)], Some(now + Duration::from_secs(1))));
        assert!(matches!(table.poll(early, Waker::noop()), CallStatus::Ended(Outcome::Expired)));
        assert_eq!(table.len(), 2, "the peer has not answered yet");
        table.deliver(early.as_u32(), response(1));
        assert_eq!(table.len(), 1);
        assert!(matches!(table.poll(late, Waker::noop()), CallStatus::Pending));
    }

    #[test]
    fn hedge_time_is_reported_once_and_answer_still_counts() {
        let mut table = InFlightTable::new(1);
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(3));
        let id = table.insert(NewCall { hedge_at: Some(soon), ..NewCall::until(later) }).unwrap();
        assert_eq!(table.next_due(), Some(soon));
        table.expire(soon, |ended, _| assert_eq!(ended, None));
        assert_eq!(table.next_due(), Some(later));
        assert!(matches!(table.poll(id, Waker::noop()), CallStatus::HedgeDue));
        assert!(matches!(table.poll(id, Waker::noop()), CallStatus::Pending));
        table.deliver(id.as_u32(), response(7));
        assert_eq!(nonce(table.poll(id, Waker::noop())), 7);
    }

    #[test]
    fn close_ends_present_and_later_calls() {
        let mut table = InFlightTable::new(3);
        let (kept, abandoned) = (
            table.insert(NewCall::until(Instant::now())).unwrap(),
            table.insert(NewCall::until(Instant::now())).unwrap(),
        );
        table.abandon(abandoned);
        table.close(&Arc::new(CloseReason::PeerClosed), |_| ());
        assert!(matches!(table.poll(kept, Waker::noop()), CallStatus::Ended(Outcome::Closed(_))));
        assert_eq!(table.len(), 0);
        let late = table.insert(NewCall::until(Instant::now())).unwrap();
        assert!(matches!(table.poll(late, Waker::noop()), CallStatus::Ended(Outcome::Closed(_))));
    }

    #[test]
    fn answers_to_one_way_calls_match_no_call() {
        let mut table = InFlightTable::new(1);
        table.insert(NewCall::until(Instant::now())).unwrap();
        assert!(matches!(table.deliver(CallId::ONE_WAY.as_u32(), response(1)), Delivered::Stray));
        assert!(matches!(table.deliver(0, response(1)), Delivered::Stray));
    }

    proptest! {
        /// Compares the table with a map.
        ///
        /// Each caller receives the answer to its own call, and ids in flight are unique and never 0. The highest first
        /// generation yields ids just below 2^32.
        #[test]
        fn table_behaves_like_a_map(
            steps in proptest::collection::vec((0..5_u8, any::<proptest::sample::Index>()), 1..400),
            first_generation in prop_oneof![Just(1), Just(GENERATIONS)],
        ) {
            let mut table = InFlightTable::starting_at(8, first_generation);
            // id → (whether the caller is present, the delivered answer)
            let mut model: HashMap<u32, (bool, Option<u32>)> = HashMap::new();
            for (nonce_sent, (step, pick)) in steps.into_iter().enumerate() {
                let nonce_sent = nonce_sent as u32;
                let mut ids: Vec<u32> = model.keys().copied().collect();
                ids.sort_unstable();
                if step == 0 || ids.is_empty() {
                    match table.insert(NewCall::until(Instant::now())) {
                        Some(id) => {
                            prop_assert_ne!(id.as_u32(), 0);
                            prop_assert!(model.insert(id.as_u32(), (true, None)).is_none(), "id in flight");
                        }
                        None => prop_assert_eq!(model.len(), 8),
                    }
                    continue;
                }
                let id = ids[pick.index(ids.len())];
                let (caller, answer) = model[&id];
                match step {
                    1 => {
                        let delivered = table.deliver(id, response(nonce_sent));
                        match (caller, answer) {
                            (_, Some(_)) => prop_assert!(matches!(delivered, Delivered::Stray)),
                            (true, None) => {
                                prop_assert!(matches!(delivered, Delivered::Accepted(..)));
                                model.insert(id, (true, Some(nonce_sent)));
                            }
                            (false, None) => {
                                prop_assert!(matches!(delivered, Delivered::Abandoned));
                                model.remove(&id);
                            }
                        }
                    }
                    2 if caller => {
                        prop_assert_eq!(table.abandon(CallId::from_wire(id)), answer.is_none());
                        if answer.is_some() { model.remove(&id); } else { model.insert(id, (false, None)); }
                    }
                    3 if caller => match answer {
                        Some(expected) => {
                            prop_assert_eq!(nonce(table.poll(CallId::from_wire(id), Waker::noop())), expected);
                            model.remove(&id);
                        }
                        None => prop_assert!(matches!(table.poll(CallId::from_wire(id), Waker::noop()), CallStatus::Pending)),
                    },
                    4 if caller && answer.is_none() => {
                        table.roll_back(CallId::from_wire(id));
                        model.remove(&id);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
