//! [`Outbox`]: the output queue of a connection.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    task::{Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;
use tokio::time::Instant;

use super::wait_line::{Ticket, WaitLine};
use crate::{
    WriteBuffer,
    frame::{FrameType, Header},
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard},
};

/// The bytes that wait to be written to one connection.
///
/// Tasks append encoded frames under a short lock; the connection's driver takes all of them at once, so that one write
/// carries many frames. No user code runs under the lock.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    limits: Limits,
    /// Stored outside the lock so that reading it is cheap.
    closed: AtomicBool,
    /// The number of unwritten bytes, or at least `limit` while tasks wait for it to fall: their frames belong to the
    /// output too. Updated under the lock, stored outside it for the same reason.
    waiting: AtomicUsize,
    /// Whether no frame can be appended without a turn. Updated and stored like `waiting`.
    full: AtomicBool,
    /// Whether tasks wait behind those that have not used their turns. Updated and stored like `waiting`.
    held_up: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The number of unwritten bytes from which no frame is appended.
    bytes: usize,
    /// The number of tasks that have turns at the same time.
    turns: usize,
}

#[derive(Debug, Default)]
struct State {
    pending: WriteBuffer,
    /// The number of bytes that the driver has taken and not written yet. They count towards the limit.
    writing: usize,
    /// The number of bytes written since the connection was opened.
    written: u64,
    /// The tasks that wait for capacity, and those whose turn it is. `None` if there are none, and boxed because that is
    /// usual: every append reads this struct.
    line: Option<Box<WaitLine>>,
    /// When the last turn was given.
    turns_given: Option<Instant>,
    /// The waker of the driver while it sleeps.
    driver: Option<Waker>,
    /// Whether the driver was woken while it was awake, so that it must not sleep.
    woken: bool,
}

impl State {
    /// Returns the number of bytes that are not written, which count towards the limit.
    fn unwritten(&self) -> usize {
        self.pending.len() + self.writing
    }

    fn has_capacity(&self, limits: Limits) -> bool {
        self.unwritten() < limits.bytes
    }

    /// Gives turns to the next tasks if there is capacity. Returns their wakers.
    fn next_turns(&mut self, limits: Limits) -> Vec<Waker> {
        if !self.has_capacity(limits) {
            return Vec::new();
        }
        let Some(line) = &mut self.line else { return Vec::new() };
        let offered = line.offered();
        let wakers = line.offer(limits.turns);
        if offered < line.offered() {
            self.turns_given = Some(Instant::now());
        }
        wakers
    }

    /// Returns the line, to which the caller adds a task if there is none.
    fn line(&mut self) -> &mut WaitLine {
        self.line.get_or_insert_default()
    }

    /// Gives turns to all tasks. Returns their wakers.
    fn turns_for_all(&mut self) -> Vec<Waker> {
        self.line.as_mut().map_or_else(Vec::new, |line| line.offer_all())
    }

    /// Takes the waker of the driver, or records that it must not sleep.
    fn wake_driver(&mut self) -> Option<Waker> {
        let driver = self.driver.take();
        self.woken |= driver.is_none();
        driver
    }

    /// Returns whether tasks wait behind turns that are not used.
    fn is_held_up(&self, limits: Limits) -> bool {
        let all_given = |line: &WaitLine| line.has_waiting() && line.offered() >= limits.turns;
        self.line.as_deref().is_some_and(all_given) && self.has_capacity(limits)
    }
}

/// The offset of a frame in the output of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position(u64);

/// The reason why no frame was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// The outbox is full, or others wait for capacity. [`capacity`](Outbox::capacity) waits for it.
    Full,
    /// The connection is closing and accepts no more output.
    Closed,
}

impl Outbox {
    /// Creates an outbox that accepts frames while fewer than `limit` bytes wait.
    ///
    /// At most `limit` bytes, one frame and control frames wait.
    pub fn new(limit: usize) -> Self {
        let [closed, full, held_up] = [false; 3].map(AtomicBool::new);
        let limits = Limits { bytes: limit, turns: 1 };
        Self { state: Mutex::default(), limits, closed, waiting: AtomicUsize::new(0), full, held_up }
    }

    /// Gives turns to [`RESULT_TURNS`] tasks at a time, which encode their frames when they have turns: several
    /// processors then encode for one connection.
    ///
    /// At most `limit` bytes, one frame for each thread that encodes at the same time, and control frames wait.
    #[must_use]
    pub fn for_results(mut self) -> Self {
        self.limits.turns = RESULT_TURNS;
        self
    }

    /// Calls `write` to append a frame, and passes it the frame's [`Position`].
    ///
    /// `write` runs under the lock and must neither call user code nor take long.
    ///
    /// # Errors
    ///
    /// [`PushError`], without calling `write`.
    pub fn push_at<R>(&self, write: impl FnOnce(Position, &mut WriteBuffer) -> R) -> Result<R, PushError> {
        let state = self.lock();
        // A closed outbox never has capacity again, so a task that retried after `Full` would never end.
        if !self.is_closed() && (!state.has_capacity(self.limits) || state.line.is_some()) {
            return Err(PushError::Full);
        }
        self.append_at(state, write)
    }

    /// Calls `write` to append a frame.
    ///
    /// # Errors
    ///
    /// [`PushError`], without calling `write`.
    pub fn push<R>(&self, write: impl FnOnce(&mut WriteBuffer) -> R) -> Result<R, PushError> {
        self.push_at(|_, out| write(out))
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
        self.append(self.lock(), |out| write(out.copied()))
    }

    /// Appends a frame without a body, as [`push_control`](Self::push_control).
    ///
    /// A closed outbox discards it: the connection is over, so the peer needs no frame.
    pub fn push_empty(&self, frame_type: FrameType, id: u32) {
        let header = Header::empty(frame_type, id).to_bytes();
        let _ = self.push_control(|out| out.extend_from_slice(&header));
    }

    #[inline(always)]
    fn append_at<R>(
        &self,
        state: MutexGuard<'_, State>,
        write: impl FnOnce(Position, &mut WriteBuffer) -> R,
    ) -> Result<R, PushError> {
        let position = Position(state.written + state.unwritten() as u64);
        self.append(state, |out| write(position, out))
    }

    #[inline(always)]
    fn append<R>(
        &self,
        mut state: MutexGuard<'_, State>,
        write: impl FnOnce(&mut WriteBuffer) -> R,
    ) -> Result<R, PushError> {
        // `close` sets the flag under the lock, so no frame is appended after it.
        if self.is_closed() {
            return Err(PushError::Closed);
        }
        let result = write(&mut state.pending);
        let driver = if state.pending.is_empty() { None } else { state.driver.take() };
        let driver = if state.line.is_none() {
            // As `publish`, for which there is little to do: no task waits, and the output only becomes longer.
            let waiting = state.unwritten();
            self.waiting.store(waiting, Ordering::Relaxed);
            self.full.store(waiting >= self.limits.bytes, Ordering::Relaxed);
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

    /// Waits until the outbox has capacity or is closed.
    ///
    /// Tasks receive their turns in the order in which they started to wait, and no other task appends a frame before
    /// them. One at a time has a turn, or [`RESULT_TURNS`]; the others wait until an [`OutboxTurn`] is dropped. But tasks
    /// that are not polled, or encode for long, hold up the others for [`TURN_TIME`] only.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: the turn passes to the next task.
    pub async fn capacity(self: Arc<Self>) -> OutboxTurn {
        let ticket = self.lock().line().join();
        let turn = OutboxTurn { outbox: self, ticket };
        std::future::poll_fn(|cx| turn.poll_ready(cx.waker())).await;
        turn
    }

    /// Returns whether a frame can probably be appended at once, without locking.
    pub fn has_capacity(&self) -> bool {
        !self.full.load(Ordering::Relaxed)
    }

    /// Returns the number of unwritten bytes without locking, or at least the limit while tasks wait for it to fall.
    ///
    /// The driver's own writes are always included; concurrent appends of other tasks may be missing.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Gives turns to all waiting tasks if those that have turns did not use them within [`TURN_TIME`].
    ///
    /// Returns when the driver must call this again.
    pub(super) fn pass_unused_turns(&self, now: Instant) -> Option<Instant> {
        if !self.held_up.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        let until = state.turns_given.filter(|_| state.is_held_up(self.limits))? + TURN_TIME;
        if now < until {
            return Some(until);
        }
        let waiters = state.turns_for_all();
        let driver = self.publish(&mut state);
        drop(state);
        waiters.into_iter().chain(driver).for_each(Waker::wake);
        None
    }

    /// Returns whether all appended bytes were written.
    pub fn is_empty(&self) -> bool {
        self.lock().unwritten() == 0
    }

    /// Returns whether any byte of the frame at `position` was written to the socket.
    ///
    /// After the driver has ended, a frame for which this returns `false` is never written.
    pub fn has_begun(&self, position: Position) -> bool {
        self.lock().written > position.0
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
        let waiters = state.turns_for_all();
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

    /// Takes all waiting bytes and leaves the empty buffer `spare`.
    ///
    /// The driver calls this, then [`written`](Self::written) for each write.
    pub(crate) fn take(&self, spare: WriteBuffer) -> WriteBuffer {
        debug_assert!(spare.is_empty());
        let mut state = self.lock();
        let taken = std::mem::replace(&mut state.pending, spare);
        state.writing += taken.len();
        taken
    }

    /// Releases the buffer if it is empty, so that an idle connection holds no memory.
    pub(super) fn release(&self) {
        let mut state = self.lock();
        if state.pending.is_empty() {
            state.pending = WriteBuffer::new();
        }
    }

    /// Records that `count` of the taken bytes were written.
    pub(crate) fn written(&self, count: usize) {
        let mut state = self.lock();
        state.writing -= count;
        state.written += count as u64;
        let next = state.next_turns(self.limits);
        let driver = self.publish(&mut state);
        drop(state);
        next.into_iter().chain(driver).for_each(Waker::wake);
    }

    /// Records that the driver is awake.
    ///
    /// It checks for appended frames before it sleeps, so appending need not wake it.
    pub(super) fn mark_awake(&self) {
        self.lock().driver = None;
    }

    /// Registers the driver to be woken by the next append or [`wake`](Self::wake).
    ///
    /// Returns `false` if either has happened since it last slept. A driver that is `blocked` because its socket
    /// accepts no bytes sleeps although bytes wait: the socket wakes it.
    pub(crate) fn sleep(&self, driver: &Waker, blocked: bool) -> bool {
        let mut state = self.lock();
        if std::mem::take(&mut state.woken) || !(blocked || state.pending.is_empty()) {
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
    fn publish(&self, state: &mut State) -> Option<Waker> {
        let limit = self.limits.bytes;
        let has_waiting = state.line.as_ref().is_some_and(|line| line.has_waiting());
        let waiting = if has_waiting { state.unwritten().max(limit) } else { state.unwritten() };
        let held_up = state.is_held_up(self.limits);
        let full = !state.has_capacity(self.limits) || state.line.is_some() || self.is_closed();
        // Not swapped: the lock excludes other writers.
        let may_read_again = waiting < limit && self.waiting.load(Ordering::Relaxed) >= limit;
        let is_newly_held_up = held_up && !self.held_up.load(Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
        self.full.store(full, Ordering::Relaxed);
        self.held_up.store(held_up, Ordering::Relaxed);
        if may_read_again || is_newly_held_up { state.wake_driver() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic: `write` is code of this workspace.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right of one task to append a frame before all tasks that wait for capacity.
///
/// # Drop
///
/// Dropping it passes the turn to the next task.
#[derive(Debug)]
pub struct OutboxTurn {
    outbox: Arc<Outbox>,
    ticket: Ticket,
}

impl OutboxTurn {
    /// Calls `write` to append a frame, as [`Outbox::push_at`].
    ///
    /// # Errors
    ///
    /// [`PushError::Closed`], or [`PushError::Full`] if other tasks have filled the outbox since the turn was ready, but
    /// not for an outbox [of results](Outbox::for_results). Without calling `write`.
    pub fn push_at<R>(self, write: impl FnOnce(Position, &mut WriteBuffer) -> R) -> Result<R, PushError> {
        let state = self.outbox.lock();
        let limits = self.outbox.limits;
        // Otherwise the requests of several threads could exceed the amount from which a client no longer reads.
        if limits.turns == 1 && !state.has_capacity(limits) && !self.is_closed() {
            return Err(PushError::Full);
        }
        self.outbox.append_at(state, write)
    }

    /// Returns whether the outbox accepts no more frames.
    pub fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Returns ready when it is this task's turn and there is capacity, or the outbox is closed.
    fn poll_ready(&self, waker: &Waker) -> Poll<()> {
        // Cloned and dropped without the lock: a waker may be code of another executor.
        let waker = waker.clone();
        let mut state = self.outbox.lock();
        if self.outbox.is_closed() {
            return Poll::Ready(());
        }
        let limits = self.outbox.limits;
        let has_capacity = state.has_capacity(limits);
        let offered = state.line().offered();
        let offer = if has_capacity { state.line().poll_offer(self.ticket, limits.turns) } else { Poll::Pending };
        let (polled, unused, next) = match offer {
            Poll::Ready(unused) => {
                if offered < state.line().offered() {
                    state.turns_given = Some(Instant::now());
                }
                // This task may have been the first of several for which turns were free.
                (Poll::Ready(()), unused, state.next_turns(limits))
            }
            Poll::Pending => (Poll::Pending, state.line().wait(self.ticket, waker), Vec::new()),
        };
        let driver = self.outbox.publish(&mut state);
        drop(state);
        drop(unused);
        next.into_iter().chain(driver).for_each(Waker::wake);
        polled
    }
}

impl Drop for OutboxTurn {
    fn drop(&mut self) {
        let mut state = self.outbox.lock();
        let waker = state.line().leave(self.ticket);
        state.line.take_if(|line| line.is_empty());
        let next = state.next_turns(self.outbox.limits);
        let driver = self.outbox.publish(&mut state);
        drop(state);
        drop(waker);
        next.into_iter().chain(driver).for_each(Waker::wake);
    }
}

/// The number of tasks that have turns at the same time to encode and append results.
const RESULT_TURNS: usize = 4;

/// The time after which tasks that have not used their turns no longer hold up the others: they are not polled.
const TURN_TIME: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::task::{self, Wake};

    use bytes::BufMut;

    use super::*;
    use crate::BoxFuture;

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
        let position = outbox.push_at(|position, out| {
            out.copied().put_slice(b"7");
            position
        });
        assert_eq!(position, Ok(Position(9)));
        outbox.written(3);
        assert!(!outbox.has_begun(Position(9)));
        outbox.take(WriteBuffer::new());
        outbox.written(1);
        assert!(outbox.has_begun(Position(9)));
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
        let mut capacity = std::pin::pin!(Arc::clone(&outbox).capacity());
        let mut cx = task::Context::from_waker(Waker::noop());
        let Poll::Ready(turn) = capacity.as_mut().poll(&mut cx) else { panic!("a closed outbox makes no task wait") };
        assert_eq!(turn.push_at(|_, _| ()), Err(PushError::Closed));
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
        let capacity = || Arc::clone(&outbox).capacity();
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
        let mut waiting =
            [(); N].map(|()| -> BoxFuture<'static, OutboxTurn> { Box::pin(Arc::clone(&outbox).capacity()) });
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
        let mut newcomer: BoxFuture<'static, _> = Box::pin(Arc::clone(&outbox).capacity());
        assert!(poll(&mut newcomer).is_pending());
        drop(other);
        assert_eq!(outbox.pass_unused_turns(now + TURN_TIME), None, "their time has passed");
        drop(turn(&mut newcomer));
        unpolled.iter_mut().for_each(|unpolled| drop(turn(unpolled)));
        assert!(outbox.lock().line.is_none());
    }

    #[test]
    fn frames_are_appended_in_order_of_waiting() {
        let (outbox, mut waiting) = waiting::<{ RESULT_TURNS + 2 }>(100);
        let write = |byte| outbox.push(|out| out.copied().put_u8(byte));
        drain(&outbox);
        assert_eq!(write(b'x'), Err(PushError::Full), "others wait");
        let [first, second, others @ .., second_last, last] = &mut waiting;
        assert!(poll(second_last).is_pending() && poll(last).is_pending(), "it is not their turn");
        turn(first).push_at(|_, out| out.copied().put_u8(b'1')).unwrap();
        assert!(poll(last).is_pending());
        turn(second_last).push_at(|_, out| out.copied().put_u8(b'2')).unwrap();
        turn(last).push_at(|_, out| out.copied().put_u8(b'3')).unwrap();
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
        let capacity = || -> BoxFuture<'static, _> { Box::pin(Arc::clone(&outbox).capacity()) };
        let (mut first, mut second) = (capacity(), capacity());
        let late = turn(&mut first);
        assert!(poll(&mut second).is_pending(), "one at a time");
        outbox.pass_unused_turns(Instant::now() + TURN_TIME);
        turn(&mut second).push_at(|_, out| out.copied().put_slice(b"12")).unwrap();
        assert_eq!(late.push_at(|_, _| ()), Err(PushError::Full));
        assert!(outbox.lock().line.is_none());
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
        assert!(outbox.lock().line.is_none());
    }
}
