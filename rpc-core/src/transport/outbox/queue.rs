//! [`Outbox`]: the output queue of a connection.

use std::{
    sync::{PoisonError, atomic::Ordering},
    task::Waker,
};

use bytes::BytesMut;
use tokio::time::Instant;

use super::{
    bulk::{BulkQueue, Removed},
    lane::{Lane, Limits, Published},
};
use crate::{
    WriteBuffer,
    frame::{FrameType, Header, MAX_FRAGMENTED_BODIES},
    settings::Settings,
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard},
};

/// The bytes that wait to be written to one connection.
///
/// Tasks append encoded frames under a short lock; the connection's driver takes many frames at once, so that one write
/// carries them. No user code runs under the lock.
///
/// Short frames of calls and control frames are interactive: the driver writes them first. Long frames and the items of
/// streams are bulk: they wait by call, and the driver writes a part of them at a time.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    pub(super) limits: Limits,
    /// Stored outside the lock so that reading it is cheap.
    closed: AtomicBool,
    /// The number of unwritten interactive bytes, or at least `limit` while tasks wait for it to fall: their frames
    /// belong to the output too. Updated under the lock, stored outside it for the same reason.
    waiting: AtomicUsize,
    /// Updated and stored like `waiting`.
    interactive: Published,
    /// Updated and stored like `waiting`.
    bulk: Published,
}

/// The priority of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A short frame of a call, or a control frame.
    Interactive,
    /// A long frame, or a frame of a stream.
    Bulk,
}

/// The queue to which a frame is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendQueue {
    /// The queue that all short frames of a connection share.
    Interactive,
    /// The queue of the call with this id.
    Bulk(u32),
}

#[derive(Debug, Default)]
pub(super) struct State {
    pending: WriteBuffer,
    bulk: BulkQueue,
    interactive_lane: Lane,
    bulk_lane: Lane,
    /// Whether short frames of calls were appended since the driver last took bytes.
    has_short_frames: bool,
    /// The number of interactive bytes written since the connection was opened.
    written: u64,
    /// The number of encoded bytes that wait with their tasks for bulk capacity.
    pub(super) waiting_bytes: usize,
    /// The waker of the driver while it sleeps.
    driver: Option<Waker>,
    /// Whether the driver was woken while it was awake, so that it must not sleep.
    woken: bool,
}

impl State {
    pub(super) fn lane(&mut self, priority: Priority) -> &mut Lane {
        match priority {
            Priority::Interactive => &mut self.interactive_lane,
            Priority::Bulk => &mut self.bulk_lane,
        }
    }

    /// Returns the number of interactive bytes that are not written, which count towards the limit.
    fn unwritten(&self) -> usize {
        self.pending.len() + self.interactive_lane.writing
    }

    fn has_output(&self) -> bool {
        self.unwritten() + self.bulk_lane.writing > 0 || !self.bulk.is_empty()
    }

    pub(super) fn has_capacity(&self, priority: Priority, limits: Limits) -> bool {
        match priority {
            Priority::Interactive => {
                self.interactive_lane.has_capacity(self.pending.len(), limits) && !self.has_many_waiting_bytes(limits)
            }
            Priority::Bulk => self.bulk_lane.has_capacity(self.bulk.len(), limits),
        }
    }

    /// Returns whether so many encoded bytes wait with their tasks that no more results may be encoded.
    fn has_many_waiting_bytes(&self, limits: Limits) -> bool {
        self.waiting_bytes >= limits.bytes.saturating_mul(WAITING_LIMITS)
    }

    /// Gives turns to the next tasks if there is capacity. Returns their wakers.
    pub(super) fn next_turns(&mut self, priority: Priority, limits: Limits) -> Vec<Waker> {
        if self.has_capacity(priority, limits) { self.lane(priority).next_turns(limits) } else { Vec::new() }
    }

    /// Returns the position of the next frame of a queue.
    #[inline(always)]
    fn position(&self, queue: SendQueue) -> Position {
        Position(match queue {
            SendQueue::Interactive => FramePosition::Interactive(self.written + self.unwritten() as u64),
            SendQueue::Bulk(id) => FramePosition::Bulk(id),
        })
    }

    /// Takes the waker of the driver, or records that it must not sleep.
    fn wake_driver(&mut self) -> Option<Waker> {
        let driver = self.driver.take();
        self.woken |= driver.is_none();
        driver
    }
}

impl SendQueue {
    /// Returns the queue of a frame of this length of a call: long frames must not delay short ones.
    pub fn of_length(length: usize, id: u32) -> Self {
        if length > MAX_INTERACTIVE { Self::Bulk(id) } else { Self::Interactive }
    }

    /// Returns the priority of the frames of the queue.
    pub fn priority(self) -> Priority {
        match self {
            Self::Interactive => Priority::Interactive,
            Self::Bulk(_) => Priority::Bulk,
        }
    }
}

/// The place of a frame in the output of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position(FramePosition);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FramePosition {
    /// The offset among the interactive bytes.
    Interactive(u64),
    /// The first frame of this call among the bulk frames.
    Bulk(u32),
}

/// The bytes that the driver takes to write them.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) bytes: WriteBuffer,
    /// The number of bytes that the peer will acknowledge.
    pub(crate) to_acknowledge: usize,
    /// Whether short frames of calls are among the bytes.
    pub(crate) has_short_frames: bool,
}

/// The reason why no frame was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// The outbox is full, or others wait for capacity. `Outbox::capacity` waits for it.
    Full,
    /// The connection is closing and accepts no more output.
    Closed,
}

impl Outbox {
    /// Creates an outbox that accepts frames while fewer than `limit` bytes of the same priority wait.
    ///
    /// At most `limit` bytes and one frame of each priority wait, and control frames.
    pub fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            limits: Limits { bytes: limit, turns: 1 },
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            interactive: Published::new(),
            bulk: Published::new(),
        }
    }

    /// Gives turns to [`RESULT_TURNS`] tasks at a time, which encode their frames when they have turns: several
    /// processors then encode for one connection.
    ///
    /// At most `limit` bytes of each priority, one frame for each thread that encodes at the same time, and control
    /// frames wait.
    #[must_use]
    pub fn for_results(mut self) -> Self {
        self.limits.turns = RESULT_TURNS;
        self
    }

    /// Applies the settings of the peer: from now on, long frames are sent in fragments if it supports them.
    pub fn apply(&self, settings: Settings) {
        let count = usize::from(settings.fragmented_bodies).min(MAX_FRAGMENTED_BODIES);
        self.lock().bulk.permit_fragments(count);
    }

    /// Calls `write` to append a frame, and passes it the frame's [`Position`].
    ///
    /// `write` runs under the lock and must neither call user code nor take long.
    ///
    /// # Errors
    ///
    /// [`PushError`], without calling `write`.
    #[inline(always)]
    pub fn push_to<R>(
        &self,
        queue: SendQueue,
        write: impl FnOnce(Position, &mut WriteBuffer) -> R,
    ) -> Result<R, PushError> {
        let mut state = self.lock();
        let priority = queue.priority();
        // A closed outbox never has capacity again, so a task that retried after `Full` would never end.
        if !self.is_closed() && (!state.has_capacity(priority, self.limits) || state.lane(priority).has_line()) {
            return Err(PushError::Full);
        }
        self.append_at(state, queue, write)
    }

    /// Calls `write` to append a short frame.
    ///
    /// # Errors
    ///
    /// [`PushError`], without calling `write`.
    pub fn push<R>(&self, write: impl FnOnce(&mut WriteBuffer) -> R) -> Result<R, PushError> {
        self.push_to(SendQueue::Interactive, |_, out| write(out))
    }

    /// Calls `write` to append a frame even if the outbox is full.
    ///
    /// Only for short frames whose number has another limit: the driver does not read from a peer whose outbox is full,
    /// and each call has one answer.
    ///
    /// # Errors
    ///
    /// [`PushError::Closed`], without calling `write`.
    pub fn push_control<R>(&self, write: impl FnOnce(&mut BytesMut) -> R) -> Result<R, PushError> {
        self.append(self.lock(), SendQueue::Interactive, |out| write(out.copied()))
    }

    /// As [`push_control`](Self::push_control), but appends the frame behind the bulk frames of the call.
    ///
    /// # Errors
    ///
    /// [`PushError::Closed`], without calling `write`.
    pub fn push_control_behind<R>(&self, id: u32, write: impl FnOnce(&mut BytesMut) -> R) -> Result<R, PushError> {
        let state = self.lock();
        let queue = if state.bulk.contains(id) { SendQueue::Bulk(id) } else { SendQueue::Interactive };
        self.append(state, queue, |out| write(out.copied()))
    }

    /// Appends a frame without a body, as [`push_control`](Self::push_control).
    ///
    /// A closed outbox discards it: the connection is over, so the peer needs no frame.
    pub fn push_empty(&self, frame_type: FrameType, id: u32) {
        let header = Header::empty(frame_type, id).to_bytes();
        let _ = self.push_control(|out| out.extend_from_slice(&header));
    }

    /// As [`push_empty`](Self::push_empty), but appends the frame behind the items of the call.
    pub fn push_empty_behind(&self, frame_type: FrameType, id: u32) {
        let header = Header::empty(frame_type, id).to_bytes();
        let _ = self.push_control_behind(id, |out| out.extend_from_slice(&header));
    }

    /// Appends the END of the caller's stream of a call that the peer has ended. Items that wait are not sent.
    pub fn end_early(&self, id: u32) {
        let mut state = self.lock();
        state.bulk.discard(id);
        self.release(state);
        self.push_empty_behind(FrameType::CallerEnd, id);
    }

    /// Cancels a call without streams: removes its request if that is bulk and not sent completely, and appends CANCEL if
    /// any of it was sent.
    ///
    /// Returns whether the peer receives no complete request, and therefore sends no answer.
    pub fn cancel(&self, id: u32) -> bool {
        let mut state = self.lock();
        let removed = if state.bulk.is_empty() { Removed::None } else { state.bulk.remove(id) };
        self.release(state);
        if removed != Removed::Unsent {
            self.push_empty(FrameType::Cancel, id);
        }
        removed != Removed::None
    }

    /// Gives turns to the tasks for which there is capacity now, and publishes the new state.
    pub(super) fn release(&self, mut state: MutexGuard<'_, State>) {
        let mut next = state.next_turns(Priority::Interactive, self.limits);
        next.extend(state.next_turns(Priority::Bulk, self.limits));
        let driver = self.publish(&mut state);
        drop(state);
        next.into_iter().chain(driver).for_each(Waker::wake);
    }

    /// As [`append`](Self::append), for a frame of a call, whose position is passed to `write`.
    #[inline(always)]
    pub(super) fn append_at<R>(
        &self,
        mut state: MutexGuard<'_, State>,
        queue: SendQueue,
        write: impl FnOnce(Position, &mut WriteBuffer) -> R,
    ) -> Result<R, PushError> {
        let position = state.position(queue);
        state.has_short_frames |= queue == SendQueue::Interactive;
        self.append(state, queue, |out| write(position, out))
    }

    /// Calls `write` to append a frame, and publishes the new state.
    ///
    /// # Errors
    ///
    /// [`PushError::Closed`], without calling `write`.
    #[inline(always)]
    fn append<R>(
        &self,
        mut state: MutexGuard<'_, State>,
        queue: SendQueue,
        write: impl FnOnce(&mut WriteBuffer) -> R,
    ) -> Result<R, PushError> {
        // `close` sets the flag under the lock, so no frame is appended after it.
        if self.is_closed() {
            return Err(PushError::Closed);
        }
        let result = match queue {
            SendQueue::Interactive => write(&mut state.pending),
            SendQueue::Bulk(id) => state.bulk.append(id, write),
        };
        let driver = if state.pending.is_empty() && state.bulk.is_empty() { None } else { state.driver.take() };
        let has_line = state.interactive_lane.has_line() || state.bulk_lane.has_line();
        let driver = if queue == SendQueue::Interactive && !has_line {
            // As `publish`, for which there is little to do: no task waits, and the output only becomes longer.
            let waiting = state.unwritten();
            self.waiting.store(waiting, Ordering::Relaxed);
            self.interactive.set_full(waiting >= self.limits.bytes);
            driver
        } else {
            let woken = self.publish(&mut state);
            driver.or(woken)
        };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(result)
    }

    /// Returns whether a frame of this priority can probably be appended at once, without locking.
    pub fn has_capacity(&self, priority: Priority) -> bool {
        match priority {
            Priority::Interactive => !self.interactive.is_full(),
            Priority::Bulk => !self.bulk.is_full(),
        }
    }

    /// Returns the number of unwritten interactive bytes without locking, or at least the limit while tasks wait for it to
    /// fall.
    ///
    /// The driver's own writes are always included; concurrent appends of other tasks may be missing.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Gives turns to all waiting tasks if those that have turns did not use them within 10 ms.
    ///
    /// Returns when the driver must call this again.
    pub(crate) fn pass_unused_turns(&self, now: Instant) -> Option<Instant> {
        if !self.interactive.is_held_up() && !self.bulk.is_held_up() {
            return None;
        }
        let mut state = self.lock();
        let (mut next, mut waiters) = (None, Vec::new());
        for priority in [Priority::Interactive, Priority::Bulk] {
            let has_capacity = state.has_capacity(priority, self.limits);
            match state.lane(priority).turns_end(has_capacity, self.limits) {
                Some(end) if now < end => next = Some(next.map_or(end, |next: Instant| next.min(end))),
                Some(_) => waiters.extend(state.lane(priority).turns_for_all()),
                None => {}
            }
        }
        if waiters.is_empty() {
            return next;
        }
        let driver = self.publish(&mut state);
        drop(state);
        waiters.into_iter().chain(driver).for_each(Waker::wake);
        next
    }

    /// Returns whether all appended bytes were written.
    pub fn is_empty(&self) -> bool {
        !self.lock().has_output()
    }

    /// Returns whether any byte of the frame at `position` was written to the socket, or was taken for it if the frame is
    /// bulk.
    ///
    /// After the driver has ended, a frame for which this returns `false` is never written.
    pub fn has_begun(&self, position: Position) -> bool {
        let state = self.lock();
        match position.0 {
            FramePosition::Interactive(offset) => state.written > offset,
            FramePosition::Bulk(id) => !state.bulk.is_unsent(id),
        }
    }

    /// Returns whether the outbox accepts no more frames.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Closes the outbox to new frames, and wakes the driver and all waiting tasks.
    ///
    /// Waiting bytes may still be written.
    pub fn close(&self) {
        let mut state = self.lock();
        self.closed.store(true, Ordering::Release);
        let mut waiters = state.interactive_lane.turns_for_all();
        waiters.extend(state.bulk_lane.turns_for_all());
        // A closing driver performs a turn, whatever the published state is.
        let published = self.publish(&mut state);
        let driver = published.or_else(|| state.wake_driver());
        drop(state);
        waiters.into_iter().chain(driver).for_each(Waker::wake);
    }

    /// Wakes the driver, so that its role performs a turn.
    pub fn wake(&self) {
        let mut state = self.lock();
        let driver = state.wake_driver();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Takes all waiting interactive bytes and a part of the bulk bytes, and leaves the empty buffer `spare`. Long frames are
    /// taken in fragments if `divides` is set or short frames wait, and while the fragments have fewer than `room` bytes.
    ///
    /// The driver calls this when it has written what it took before, and [`written`](Self::written) for each write.
    pub(crate) fn take_up_to(&self, spare: WriteBuffer, room: usize, divides: bool) -> Taken {
        debug_assert!(spare.is_empty());
        let mut state = self.lock();
        let mut taken = std::mem::replace(&mut state.pending, spare);
        state.interactive_lane.writing += taken.len();
        let has_short_frames = std::mem::take(&mut state.has_short_frames);
        let mut to_acknowledge = 0;
        if !state.bulk.is_empty() {
            let bulk;
            (bulk, to_acknowledge) = state.bulk.take(&mut taken, BULK_PER_WRITE, room, divides || has_short_frames);
            state.bulk_lane.writing += bulk;
        }
        Taken { bytes: taken, to_acknowledge, has_short_frames }
    }

    /// As [`take_up_to`](Self::take_up_to), without a limit on fragments.
    #[cfg(test)]
    pub(crate) fn take(&self, spare: WriteBuffer) -> WriteBuffer {
        self.take_up_to(spare, usize::MAX, true).bytes
    }

    /// Releases the buffer if it is empty, so that an idle connection holds no memory.
    pub(crate) fn release_memory(&self) {
        let mut state = self.lock();
        if state.pending.is_empty() {
            state.pending = WriteBuffer::new();
        }
    }

    /// Records that `count` of the taken bytes were written.
    pub(crate) fn written(&self, count: usize) {
        let mut state = self.lock();
        // The interactive bytes precede the bulk bytes that were taken with them.
        let interactive = count.min(state.interactive_lane.writing);
        state.interactive_lane.writing -= interactive;
        state.written += interactive as u64;
        let mut next = state.next_turns(Priority::Interactive, self.limits);
        if count > interactive {
            state.bulk_lane.writing -= count - interactive;
            next.extend(state.next_turns(Priority::Bulk, self.limits));
        }
        let driver = self.publish(&mut state);
        drop(state);
        next.into_iter().chain(driver).for_each(Waker::wake);
    }

    /// Records that the driver is awake.
    ///
    /// It checks for appended frames before it sleeps, so appending need not wake it.
    pub(crate) fn mark_awake(&self) {
        self.lock().driver = None;
    }

    /// Registers the driver to be woken by the next append or [`wake`](Self::wake).
    ///
    /// Returns `false` if either has happened since it last slept. A driver that is `blocked` because its socket
    /// accepts no bytes sleeps although bytes wait: the socket wakes it. Fragments that wait for an acknowledgement do not
    /// keep it awake either.
    pub(crate) fn sleep(&self, driver: &Waker, blocked: bool) -> bool {
        let mut state = self.lock();
        let has_pending = !state.pending.is_empty() || state.bulk.has_sendable();
        if std::mem::take(&mut state.woken) || has_pending && !blocked {
            return false;
        }
        match &mut state.driver {
            Some(registered) => registered.clone_from(driver),
            none => *none = Some(driver.clone()),
        }
        true
    }

    /// Stores what others read without the lock.
    ///
    /// Returns the waker of a sleeping driver if it concerns the driver: it may read again, or it must limit the time of
    /// tasks that have turns.
    #[must_use]
    pub(super) fn publish(&self, state: &mut State) -> Option<Waker> {
        let limit = self.limits.bytes;
        let is_over = state.interactive_lane.has_waiting() || state.has_many_waiting_bytes(self.limits);
        let waiting = if is_over { state.unwritten().max(limit) } else { state.unwritten() };
        // Not swapped: the lock excludes other writers.
        let mut wakes = waiting < limit && self.waiting.load(Ordering::Relaxed) >= limit;
        self.waiting.store(waiting, Ordering::Relaxed);
        wakes |= self.publish_lane(state, Priority::Interactive);
        // Most connections have no bulk frames.
        if !state.bulk.is_empty() || self.bulk.is_full() || state.bulk_lane.has_line() || self.is_closed() {
            wakes |= self.publish_lane(state, Priority::Bulk);
        }
        if wakes { state.wake_driver() } else { None }
    }

    /// Stores what others read of a lane. Returns whether the driver must limit the time of tasks that have turns.
    #[inline]
    fn publish_lane(&self, state: &mut State, priority: Priority) -> bool {
        let has_capacity = state.has_capacity(priority, self.limits);
        let lane = state.lane(priority);
        let published = if priority == Priority::Interactive { &self.interactive } else { &self.bulk };
        published.set_full(!has_capacity || lane.has_line() || self.is_closed());
        published.set_held_up(lane.is_held_up(has_capacity, self.limits))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic: `write` is code of this workspace.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of tasks that have turns at the same time to encode and append results.
const RESULT_TURNS: usize = 4;
/// The length of a payload from which its frame is bulk, in bytes.
const MAX_INTERACTIVE: usize = 64 << 10;
/// The number of bulk bytes that one write carries; one frame or fragment may exceed it.
///
/// A short frame waits for the bytes of one write, and for those in the socket.
const BULK_PER_WRITE: usize = 64 << 10;
/// The driver does not read, and no more results are encoded, while so many times the limit of the outbox waits as encoded
/// results.
const WAITING_LIMITS: usize = 4;

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        task::{self, Poll, Wake},
    };

    use bytes::BufMut;

    use super::{
        super::{OutboxTurn, lane::TURN_TIME},
        *,
    };
    use crate::BoxFuture;

    fn interactive(offset: u64) -> Position {
        Position(FramePosition::Interactive(offset))
    }

    #[test]
    fn outbox_accepts_frames_up_to_its_limit() {
        let outbox = Outbox::new(4);
        outbox.push(|out| out.copied().put_slice(b"123")).unwrap();
        outbox.push(|out| out.copied().put_slice(b"45")).unwrap();
        assert_eq!(outbox.push(|out| out.copied().put_slice(b"6")), Err(PushError::Full));
        outbox.push_control(|out| out.put_slice(b"pong")).unwrap();
        assert_eq!(outbox.take(WriteBuffer::new()).into_bytes(), "12345pong");
        assert_eq!(outbox.push(|_| ()), Err(PushError::Full), "taken bytes count until they are written");
        outbox.written(6);
        let position = outbox.push_to(SendQueue::Interactive, |position, out| {
            out.copied().put_slice(b"7");
            position
        });
        assert_eq!(position, Ok(interactive(9)));
        outbox.written(3);
        assert!(!outbox.has_begun(interactive(9)));
        outbox.take(WriteBuffer::new());
        outbox.written(1);
        assert!(outbox.has_begun(interactive(9)));
    }

    #[test]
    fn closed_outbox_rejects_frames_and_keeps_bytes() {
        let outbox = Outbox::new(4);
        outbox.push(|out| out.copied().put_slice(b"1")).unwrap();
        outbox.close();
        assert_eq!(outbox.push(|_| ()), Err(PushError::Closed));
        assert_eq!(outbox.push_control(|_| ()), Err(PushError::Closed));
        assert_eq!(outbox.take(WriteBuffer::new()).into_bytes(), "1");
    }

    #[test]
    fn full_outbox_is_closed_for_a_turn_too() {
        let outbox = Arc::new(Outbox::new(1));
        outbox.push(|out| out.copied().put_slice(b"1")).unwrap();
        outbox.close();
        assert_eq!(outbox.push(|_| ()), Err(PushError::Closed));
        let mut capacity = std::pin::pin!(Arc::clone(&outbox).capacity(Priority::Interactive));
        let mut cx = task::Context::from_waker(Waker::noop());
        let Poll::Ready(turn) = capacity.as_mut().poll(&mut cx) else { panic!("a closed outbox makes no task wait") };
        assert_eq!(turn.push_to(SendQueue::Interactive, |_, _| ()), Err(PushError::Closed));
    }

    #[test]
    fn driver_sleeps_only_without_new_frames() {
        struct Flag(AtomicBool);
        impl Wake for Flag {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let flag = std::sync::Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(flag.clone());
        let outbox = Outbox::new(100);
        outbox.wake();
        assert!(!outbox.sleep(&waker, false), "woken before it slept");
        assert!(outbox.sleep(&waker, false));
        outbox.push(|out| out.copied().put_slice(b"1")).unwrap();
        assert!(flag.0.load(Ordering::SeqCst));
        assert!(!outbox.sleep(&waker, false), "bytes wait");
        assert!(outbox.sleep(&waker, true), "bytes wait and the socket is blocked");
    }

    #[test]
    fn push_does_not_wake_an_awake_driver() {
        let outbox = Outbox::new(100);
        assert!(outbox.sleep(Waker::noop(), false));
        outbox.mark_awake();
        outbox.push(|out| out.copied().put_slice(b"1")).unwrap();
        assert!(outbox.lock().driver.is_none());
        assert!(!outbox.sleep(Waker::noop(), false), "the driver finds waiting bytes by itself");
        outbox.take(WriteBuffer::new());
        outbox.wake();
        assert!(!outbox.sleep(Waker::noop(), false), "the driver finds the wake-up by itself");
        assert!(outbox.sleep(Waker::noop(), false));
    }

    #[tokio::test]
    async fn waiters_see_capacity_and_close() {
        let outbox = Arc::new(Outbox::new(1));
        let capacity = || Arc::clone(&outbox).capacity(Priority::Interactive);
        outbox.push(|out| out.copied().put_slice(b"12")).unwrap();
        outbox.take(WriteBuffer::new());
        tokio::join!(capacity(), async { outbox.written(2) });
        outbox.push(|out| out.copied().put_slice(b"12")).unwrap();
        tokio::join!(capacity(), async { outbox.close() });
    }

    /// Returns an outbox that is full, and tasks that wait for its capacity.
    fn waiting<const N: usize>(limit: usize) -> (Arc<Outbox>, [BoxFuture<'static, OutboxTurn>; N]) {
        let outbox = Arc::new(Outbox::new(limit).for_results());
        outbox.push(|out| out.copied().put_bytes(b'0', limit)).unwrap();
        let mut waiting = [(); N].map(|()| -> BoxFuture<'static, OutboxTurn> {
            Box::pin(Arc::clone(&outbox).capacity(Priority::Interactive))
        });
        for waiting in &mut waiting {
            assert!(poll(waiting).is_pending());
        }
        (outbox, waiting)
    }

    fn poll(waiting: &mut BoxFuture<'static, OutboxTurn>) -> Poll<OutboxTurn> {
        waiting.as_mut().poll(&mut task::Context::from_waker(Waker::noop()))
    }

    fn turn(waiting: &mut BoxFuture<'static, OutboxTurn>) -> OutboxTurn {
        let Poll::Ready(turn) = poll(waiting) else { panic!("it is its turn") };
        turn
    }

    /// Writes all waiting bytes.
    fn drain(outbox: &Outbox) -> bytes::Bytes {
        let taken = outbox.take(WriteBuffer::new());
        outbox.written(taken.len());
        taken.into_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn unpolled_tasks_hold_up_others_only_once() {
        let (outbox, mut waiting) = waiting::<{ RESULT_TURNS + 1 }>(1);
        assert_eq!(outbox.waiting(), 1);
        drain(&outbox);
        assert_eq!(outbox.waiting(), 1, "the frame of a waiting task counts");
        let now = Instant::now();
        assert_eq!(outbox.pass_unused_turns(now), Some(now + TURN_TIME));
        let [unpolled @ .., other] = &mut waiting;
        assert!(poll(other).is_pending());
        assert_eq!(outbox.pass_unused_turns(now + TURN_TIME), None);
        let other = turn(other);
        assert_eq!(outbox.waiting(), 0);
        let mut newcomer: BoxFuture<'static, _> = Box::pin(Arc::clone(&outbox).capacity(Priority::Interactive));
        assert!(poll(&mut newcomer).is_pending());
        drop(other);
        assert_eq!(outbox.pass_unused_turns(now + TURN_TIME), None, "their time has passed");
        drop(turn(&mut newcomer));
        unpolled.iter_mut().for_each(|unpolled| drop(turn(unpolled)));
        assert!(!outbox.lock().interactive_lane.has_line());
    }

    #[test]
    fn frames_are_appended_in_order_of_waiting() {
        let (outbox, mut waiting) = waiting::<{ RESULT_TURNS + 2 }>(100);
        let write = |byte| outbox.push(|out| out.copied().put_u8(byte));
        drain(&outbox);
        assert_eq!(write(b'x'), Err(PushError::Full), "others wait");
        let [first, second, others @ .., second_last, last] = &mut waiting;
        assert!(poll(second_last).is_pending() && poll(last).is_pending(), "it is not their turn");
        turn(first).push_to(SendQueue::Interactive, |_, out| out.copied().put_u8(b'1')).unwrap();
        assert!(poll(last).is_pending());
        turn(second_last).push_to(SendQueue::Interactive, |_, out| out.copied().put_u8(b'2')).unwrap();
        turn(last).push_to(SendQueue::Interactive, |_, out| out.copied().put_u8(b'3')).unwrap();
        assert_eq!(write(b'x'), Err(PushError::Full), "others have turns");
        drop(turn(second));
        others.iter_mut().for_each(|other| drop(turn(other)));
        assert_eq!(write(b'4'), Ok(()));
        assert_eq!(drain(&outbox), "1234");
    }

    #[test]
    fn dropped_tasks_pass_their_turns_on() {
        let (outbox, waiting) = waiting::<{ RESULT_TURNS + 1 }>(1);
        drain(&outbox);
        let [dropped @ .., mut last] = waiting;
        assert!(poll(&mut last).is_pending());
        drop(dropped);
        assert!(poll(&mut last).is_ready());
    }

    #[test]
    fn request_waits_again_if_others_filled_the_outbox() {
        let outbox = Arc::new(Outbox::new(2));
        let capacity = || -> BoxFuture<'static, _> { Box::pin(Arc::clone(&outbox).capacity(Priority::Interactive)) };
        let (mut first, mut second) = (capacity(), capacity());
        let late = turn(&mut first);
        assert!(poll(&mut second).is_pending(), "one at a time");
        outbox.pass_unused_turns(Instant::now() + TURN_TIME);
        turn(&mut second).push_to(SendQueue::Interactive, |_, out| out.copied().put_slice(b"12")).unwrap();
        assert_eq!(late.push_to(SendQueue::Interactive, |_, _| ()), Err(PushError::Full));
        assert!(!outbox.lock().interactive_lane.has_line());
    }

    #[test]
    fn wakers_are_used_without_the_lock() {
        /// Checks that the outbox is not locked when the last waker is dropped.
        struct Locking(Arc<Outbox>);
        impl Wake for Locking {
            fn wake(self: Arc<Self>) {}
        }
        impl Drop for Locking {
            fn drop(&mut self) {
                assert!(self.0.state.try_lock().is_ok());
            }
        }
        let (outbox, mut waiting) = waiting::<1>(1);
        let waker = || Waker::from(Arc::new(Locking(Arc::clone(&outbox))));
        for _ in 0..2 {
            assert!(waiting[0].as_mut().poll(&mut task::Context::from_waker(&waker())).is_pending());
        }
        drop(waiting);
        assert!(!outbox.lock().interactive_lane.has_line());
    }
}
