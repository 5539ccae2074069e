//! [`InFlight`]: the calls of one connection that wait for their answers.

use std::{sync::Arc, task::Waker};

use rpc_core::{frame::Frame, transport::CloseReason};
use tokio::time::Instant;

use crate::planted::{Bug, planted};

/// The calls of one connection that wait for their answers. A plain table: it does no I/O and has no clock.
///
/// A request id is a place in the table and a generation of that place. A place is free again when both the caller and the
/// peer are done with it, so a late answer finds either its own call or nobody, and an answer that comes twice finds another
/// generation.
#[derive(Debug)]
pub(crate) struct InFlight {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Places whose caller will still look for the outcome.
    callers: usize,
    limit: usize,
    first_generation: u32,
    /// Nothing is due before this.
    next_due: Option<Instant>,
    closed: Option<Arc<CloseReason>>,
    /// How many wait for a place.
    waiting: usize,
    /// Places that were freed and that nobody who waits was told of.
    untold: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    deadline: Instant,
    /// When the caller wants to be told that there is no answer yet.
    nudge_at: Option<Instant>,
    nudged: bool,
    /// Whether the caller will still look for the outcome.
    caller: bool,
    /// Whether the peer may still answer.
    peer: bool,
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// A request id in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CallId(u32);

/// How a call ended, as far as its connection knows.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// The peer answered.
    Response(Frame),
    /// The peer's answer is longer than may be taken.
    Overlong { length: u32, limit: u32 },
    /// The deadline passed.
    Overdue,
    /// The connection is over.
    Closed(Arc<CloseReason>),
}

/// What a caller finds when it looks.
#[derive(Debug)]
pub(crate) enum Look {
    /// Nothing yet; the waker is kept.
    Pending,
    /// Nothing yet, though as much time has passed as the caller set for this attempt; the waker is kept.
    Silent,
    /// The outcome, which frees the caller's part of the place.
    Ended(Outcome),
}

/// What became of an answer.
#[derive(Debug)]
pub(crate) enum Delivered {
    /// The caller has it; this wakes it.
    Woken(Option<Waker>),
    /// The caller had given up.
    Unwanted,
    /// No call has this id.
    Stray,
}

impl InFlight {
    /// The most calls in flight that can be configured.
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
            limit,
            first_generation,
            next_due: None,
            closed: None,
            waiting: 0,
            untold: 0,
        }
    }

    /// Enters a call, whose caller is woken when there is something to look at. `None` when as many are in flight as may be, or
    /// when others wait for a place and this caller has not.
    pub(crate) fn enter(
        &mut self,
        deadline: Instant,
        nudge_at: Option<Instant>,
        has_waited: bool,
        waker: &Waker,
    ) -> Option<CallId> {
        if self.waiting > 0 && !has_waited {
            return None;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.limit => {
                self.slots.push(Slot {
                    generation: self.first_generation.wrapping_sub(1) & GENERATIONS,
                    deadline,
                    nudge_at: None,
                    nudged: false,
                    caller: false,
                    peer: false,
                    outcome: None,
                    waker: None,
                });
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        let slot = &mut self.slots[index as usize];
        slot.generation = (slot.generation + u32::from(!planted(Bug::TimedOutIdReused))) & GENERATIONS;
        if slot.generation == 0 && index == 0 {
            // Id 0 is never a call.
            slot.generation = 1;
        }
        slot.deadline = deadline;
        slot.nudge_at = nudge_at;
        slot.nudged = false;
        slot.caller = true;
        slot.peer = true;
        slot.waker = Some(waker.clone());
        self.callers += 1;
        let id = CallId(slot.generation << INDEX_BITS | index);
        let due = slot.due();
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        if let Some(reason) = &self.closed {
            // Entered while the connection was closing: nothing will be sent, so nobody would answer.
            slot.peer = false;
            slot.outcome = Some(Outcome::Closed(Arc::clone(reason)));
        }
        Some(id)
    }

    /// Gives the caller its outcome, or keeps its waker.
    pub(crate) fn look(&mut self, id: CallId, waker: &Waker) -> Look {
        let slot = &mut self.slots[id.index()];
        debug_assert!(slot.caller && slot.generation == id.generation());
        if let Some(outcome) = slot.outcome.take() {
            slot.caller = false;
            self.callers -= 1;
            self.free_if_done(id);
            return Look::Ended(outcome);
        }
        match &mut slot.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        if std::mem::take(&mut slot.nudged) { Look::Silent } else { Look::Pending }
    }

    /// The caller gives the call up; says whether the peer may still be at it.
    pub(crate) fn abandon(&mut self, id: CallId) -> bool {
        let slot = &mut self.slots[id.index()];
        debug_assert!(slot.caller && slot.generation == id.generation());
        slot.caller = false;
        self.callers -= 1;
        slot.outcome = None;
        slot.waker = None;
        let running = slot.peer;
        self.free_if_done(id);
        running
    }

    /// Takes back a call that was entered and not sent.
    pub(crate) fn withdraw(&mut self, id: CallId) {
        self.slots[id.index()].peer = false;
        self.abandon(id);
    }

    /// The peer is done with a call.
    pub(crate) fn deliver(&mut self, id: u32, outcome: Outcome) -> Delivered {
        let id = CallId(id);
        let is_its = |slot: &Slot| slot.generation == id.generation() || planted(Bug::AnswerToAnotherCall);
        let known = self.slots.get_mut(id.index()).filter(|slot| slot.peer && is_its(slot));
        let Some(slot) = known else { return Delivered::Stray };
        slot.peer = false;
        if !slot.caller {
            self.free_if_done(id);
            return Delivered::Unwanted;
        }
        // What came after the deadline and before the caller looked is still the answer.
        slot.outcome = Some(outcome);
        Delivered::Woken(slot.waker.take())
    }

    /// Ends the calls whose deadline has passed, calling `each` with their ids and wakers; nudges those that asked for it,
    /// calling `each` without an id.
    pub(crate) fn expire(&mut self, now: Instant, mut each: impl FnMut(Option<CallId>, Option<Waker>)) {
        if self.next_due.is_none_or(|due| now < due) {
            return;
        }
        self.next_due = None;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if !slot.caller || slot.outcome.is_some() {
                continue;
            }
            if slot.deadline <= now {
                slot.outcome = Some(Outcome::Overdue);
                slot.peer &= !planted(Bug::TimedOutIdReused);
                each(Some(CallId(slot.generation << INDEX_BITS | index as u32)), slot.waker.take());
                continue;
            }
            if slot.nudge_at.is_some_and(|at| at <= now) {
                slot.nudge_at = None;
                slot.nudged = true;
                each(None, slot.waker.take());
            }
            let due = slot.due();
            self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        }
    }

    /// When [`expire`](Self::expire) has something to do at the earliest.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Ends all calls, calling `each` with their wakers; calls entered later end at once.
    pub(crate) fn close(&mut self, reason: &Arc<CloseReason>, mut each: impl FnMut(Waker)) {
        self.closed = Some(Arc::clone(reason));
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if !std::mem::take(&mut slot.peer) {
                continue;
            }
            if slot.caller {
                slot.outcome.get_or_insert_with(|| Outcome::Closed(Arc::clone(reason)));
                slot.waker.take().into_iter().for_each(&mut each);
            } else {
                self.free.push(index as u32);
            }
        }
    }

    /// How many callers will still look for an outcome.
    pub(crate) fn callers(&self) -> usize {
        self.callers
    }

    /// How many places are free.
    pub(crate) fn places(&self) -> usize {
        self.limit - self.len()
    }

    /// How many places are taken.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether others wait for a place.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting > 0
    }

    /// Somebody waits for a place from now on, until as many calls of [`leave_queue`](Self::leave_queue).
    pub(crate) fn join_queue(&mut self) {
        self.waiting += 1;
    }

    /// Somebody waits no more.
    pub(crate) fn leave_queue(&mut self) {
        self.waiting -= 1;
    }

    /// How many of those who wait are to be told that there is a place: one for each that was freed.
    pub(crate) fn take_untold(&mut self) -> usize {
        std::mem::take(&mut self.untold).min(self.waiting)
    }

    fn free_if_done(&mut self, id: CallId) {
        let slot = &mut self.slots[id.index()];
        if !slot.caller && !slot.peer {
            slot.waker = None;
            self.free.push(id.index() as u32);
            self.untold += 1;
        }
    }
}

impl Slot {
    fn due(&self) -> Instant {
        self.nudge_at.map_or(self.deadline, |at| at.min(self.deadline))
    }
}

impl CallId {
    /// The id of every call that gets no answer: a place that no table has, so an answer to it finds nobody.
    pub(crate) const ONE_WAY: Self = Self(1 << INDEX_BITS | INDICES);

    /// The number on the wire.
    pub(crate) fn as_u32(self) -> u32 {
        self.0
    }

    fn index(self) -> usize {
        (self.0 & INDICES) as usize
    }

    fn generation(self) -> u32 {
        self.0 >> INDEX_BITS
    }
}

const INDEX_BITS: u32 = 20;
const INDICES: u32 = (1 << INDEX_BITS) - 1;
const GENERATIONS: u32 = (1 << (32 - INDEX_BITS)) - 1;
const _: () = assert!(InFlight::MAX <= INDICES as usize, "the last index belongs to one-way calls");

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use bytes::Bytes;
    use proptest::prelude::*;
    use rpc_core::frame::{FrameType, Header};

    use super::*;

    fn response(nonce: u32) -> Outcome {
        let body = Bytes::copy_from_slice(&nonce.to_be_bytes());
        Outcome::Response(Frame { header: Header::empty(FrameType::Response, 0), body })
    }

    fn nonce(look: Look) -> u32 {
        match look {
            Look::Ended(Outcome::Response(frame)) => u32::from_be_bytes(frame.body[..].try_into().unwrap()),
            other => panic!("no response: {other:?}"),
        }
    }

    #[test]
    fn an_id_is_taken_until_both_ends_are_done_with_it() {
        let mut table = InFlight::new(1);
        let id = table.enter(Instant::now(), None, false, Waker::noop()).unwrap();
        assert!(table.abandon(id), "the peer may be at it");
        assert!(table.enter(Instant::now(), None, false, Waker::noop()).is_none());
        table.join_queue();
        assert_eq!(table.take_untold(), 0);
        assert!(matches!(table.deliver(id.as_u32(), response(1)), Delivered::Unwanted));
        assert_eq!(table.take_untold(), 1);
        assert!(table.enter(Instant::now(), None, false, Waker::noop()).is_none(), "it is for who waits");
        table.leave_queue();
        let next = table.enter(Instant::now(), None, false, Waker::noop()).unwrap();
        assert_ne!(next, id);
        assert!(matches!(table.deliver(id.as_u32(), response(1)), Delivered::Stray), "a second answer");
        assert!(matches!(table.look(next, Waker::noop()), Look::Pending));
    }

    #[test]
    fn a_call_past_its_deadline_ends_and_keeps_its_id() {
        let mut table = InFlight::new(2);
        let now = Instant::now();
        let (early, late) = (
            table.enter(now, None, false, Waker::noop()).unwrap(),
            table.enter(now + Duration::from_secs(1), None, false, Waker::noop()).unwrap(),
        );
        let mut expired = Vec::new();
        table.expire(now, |id, _| expired.push(id));
        assert_eq!((expired, table.next_due()), (vec![Some(early)], Some(now + Duration::from_secs(1))));
        assert!(matches!(table.look(early, Waker::noop()), Look::Ended(Outcome::Overdue)));
        assert_eq!(table.len(), 2, "the peer has yet to answer");
        table.deliver(early.as_u32(), response(1));
        assert_eq!(table.len(), 1);
        assert!(matches!(table.look(late, Waker::noop()), Look::Pending));
    }

    #[test]
    fn a_silent_attempt_is_told_once_and_may_still_be_answered() {
        let mut table = InFlight::new(1);
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(3));
        let id = table.enter(later, Some(soon), false, Waker::noop()).unwrap();
        assert_eq!(table.next_due(), Some(soon));
        table.expire(soon, |ended, _| assert_eq!(ended, None));
        assert_eq!(table.next_due(), Some(later));
        assert!(matches!(table.look(id, Waker::noop()), Look::Silent));
        assert!(matches!(table.look(id, Waker::noop()), Look::Pending));
        table.deliver(id.as_u32(), response(7));
        assert_eq!(nonce(table.look(id, Waker::noop())), 7);
    }

    #[test]
    fn closing_ends_every_call_and_those_that_come_too_late() {
        let mut table = InFlight::new(3);
        let (waits, gone) = (
            table.enter(Instant::now(), None, false, Waker::noop()).unwrap(),
            table.enter(Instant::now(), None, false, Waker::noop()).unwrap(),
        );
        table.abandon(gone);
        table.close(&Arc::new(CloseReason::PeerClosed), |_| ());
        assert!(matches!(table.look(waits, Waker::noop()), Look::Ended(Outcome::Closed(_))));
        assert_eq!(table.len(), 0);
        let late = table.enter(Instant::now(), None, false, Waker::noop()).unwrap();
        assert!(matches!(table.look(late, Waker::noop()), Look::Ended(Outcome::Closed(_))));
    }

    #[test]
    fn answers_to_one_way_calls_find_nobody() {
        let mut table = InFlight::new(1);
        table.enter(Instant::now(), None, false, Waker::noop()).unwrap();
        assert!(matches!(table.deliver(CallId::ONE_WAY.as_u32(), response(1)), Delivered::Stray));
        assert!(matches!(table.deliver(0, response(1)), Delivered::Stray));
    }

    proptest! {
        /// Against a model: what a caller gets is what was sent for its call, ids in flight are unique and never 0, wherever the
        /// generations start: the last of them puts ids right below 2^32.
        #[test]
        fn behaves_like_a_map(
            steps in proptest::collection::vec((0..5_u8, any::<proptest::sample::Index>()), 1..400),
            first_generation in prop_oneof![Just(1), Just(GENERATIONS)],
        ) {
            let mut table = InFlight::starting_at(8, first_generation);
            // id → (the caller is there, the answer that was given)
            let mut model: HashMap<u32, (bool, Option<u32>)> = HashMap::new();
            for (nonce_sent, (step, pick)) in steps.into_iter().enumerate() {
                let nonce_sent = nonce_sent as u32;
                let mut ids: Vec<u32> = model.keys().copied().collect();
                ids.sort_unstable();
                if step == 0 || ids.is_empty() {
                    match table.enter(Instant::now(), None, false, Waker::noop()) {
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
                                prop_assert!(matches!(delivered, Delivered::Woken(_)));
                                model.insert(id, (true, Some(nonce_sent)));
                            }
                            (false, None) => {
                                prop_assert!(matches!(delivered, Delivered::Unwanted));
                                model.remove(&id);
                            }
                        }
                    }
                    2 if caller => {
                        prop_assert_eq!(table.abandon(CallId(id)), answer.is_none());
                        if answer.is_some() { model.remove(&id); } else { model.insert(id, (false, None)); }
                    }
                    3 if caller => match answer {
                        Some(expected) => {
                            prop_assert_eq!(nonce(table.look(CallId(id), Waker::noop())), expected);
                            model.remove(&id);
                        }
                        None => prop_assert!(matches!(table.look(CallId(id), Waker::noop()), Look::Pending)),
                    },
                    4 if caller && answer.is_none() => {
                        table.withdraw(CallId(id));
                        model.remove(&id);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
