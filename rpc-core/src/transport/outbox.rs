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
    limit: usize,
    /// Stored outside the lock so that reading it is cheap.
    closed: AtomicBool,
    /// The number of waiting bytes, or at least `limit` while tasks wait for capacity: their frames belong to the
    /// output too. Updated under the lock, stored outside it for the same reason.
    waiting: AtomicUsize,
    /// Whether tasks wait behind one that has not used its turn. Updated and stored like `waiting`.
    held_up: AtomicBool,
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
    turn_given: Option<Instant>,
    /// The waker of the driver while it sleeps.
    driver: Option<Waker>,
    /// Whether the driver was woken while it was awake, so that it must not sleep.
    woken: bool,
}

impl State {
    fn waiting(&self) -> usize {
        self.pending.len() + self.writing
    }

    /// Gives the turn to the next task if there is capacity and no other task has it. Returns its waker.
    fn next_turn(&mut self, limit: usize) -> Option<Waker> {
        if self.waiting() >= limit {
            return None;
        }
        let line = self.line.as_mut().filter(|line| line.has_waiting() && !line.has_offered())?;
        self.turn_given = Some(Instant::now());
        line.offer_first()
    }

    /// Returns the line, to which the caller adds a task if there is none.
    fn line(&mut self) -> &mut WaitLine {
        self.line.get_or_insert_default()
    }

    /// Gives the turn to all tasks. Returns their wakers.
    fn turn_for_all(&mut self) -> Vec<Waker> {
        self.line.as_mut().map_or_else(Vec::new, |line| line.offer_all())
    }

    /// Takes the waker of the driver, or records that it must not sleep.
    fn wake_driver(&mut self) -> Option<Waker> {
        let driver = self.driver.take();
        self.woken |= driver.is_none();
        driver
    }

    fn is_held_up(&self, limit: usize) -> bool {
        self.line.as_ref().is_some_and(|line| line.has_offered() && line.has_waiting()) && self.waiting() < limit
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
    /// At most `limit` bytes plus one frame plus control frames wait at a time.
    pub fn new(limit: usize) -> Self {
        let (closed, held_up) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { state: Mutex::default(), limit, closed, waiting: AtomicUsize::new(0), held_up }
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
        if state.waiting() >= self.limit || state.line.is_some() {
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

    fn append_at<R>(
        &self,
        state: MutexGuard<'_, State>,
        write: impl FnOnce(Position, &mut WriteBuffer) -> R,
    ) -> Result<R, PushError> {
        let position = Position(state.written + state.waiting() as u64);
        self.append(state, |out| write(position, out))
    }

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
        self.publish(&state);
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(result)
    }

    /// Waits until the outbox has capacity or is closed.
    ///
    /// Tasks have their turns in the order in which they started to wait, and no other task appends a frame before them.
    /// Until an [`OutboxTurn`] is dropped, the others wait; but a task that is not polled holds up the others for
    /// [`TURN_TIME`] only.
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

    /// Returns the number of waiting bytes without locking, or at least the limit while tasks wait for capacity.
    ///
    /// The driver's own writes are always included; concurrent appends of other tasks may be missing.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Gives the turn to all waiting tasks if one that has it did not use it within [`TURN_TIME`].
    ///
    /// Returns when the driver must call this again.
    pub(super) fn pass_unused_turn(&self, now: Instant) -> Option<Instant> {
        if !self.held_up.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        let until = state.turn_given.filter(|_| state.is_held_up(self.limit))? + TURN_TIME;
        if now < until {
            return Some(until);
        }
        let waiters = state.turn_for_all();
        self.publish(&state);
        drop(state);
        waiters.into_iter().for_each(Waker::wake);
        None
    }

    /// Returns whether all appended bytes were written.
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        state.pending.is_empty() && state.writing == 0
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
        let waiters = state.turn_for_all();
        self.publish(&state);
        drop(state);
        waiters.into_iter().for_each(Waker::wake);
        self.wake();
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
        let next = state.next_turn(self.limit);
        self.publish(&state);
        drop(state);
        next.into_iter().for_each(Waker::wake);
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
    fn publish(&self, state: &State) {
        let has_waiting = state.line.as_ref().is_some_and(|line| line.has_waiting());
        let waiting = if has_waiting { state.waiting().max(self.limit) } else { state.waiting() };
        self.waiting.store(waiting, Ordering::Relaxed);
        self.held_up.store(state.is_held_up(self.limit), Ordering::Relaxed);
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
    /// [`PushError::Closed`], without calling `write`.
    pub fn push_at<R>(self, write: impl FnOnce(Position, &mut WriteBuffer) -> R) -> Result<R, PushError> {
        // Meanwhile only control frames were appended, which the limit does not cover.
        self.outbox.append_at(self.outbox.lock(), write)
    }

    /// Returns ready when it is this task's turn and there is capacity, or the outbox is closed.
    fn poll_ready(&self, waker: &Waker) -> Poll<()> {
        let mut state = self.outbox.lock();
        let is_ready = state.line().may_proceed(self.ticket) && state.waiting() < self.outbox.limit;
        if is_ready || self.outbox.is_closed() {
            state.line().offer(self.ticket);
            state.turn_given = Some(Instant::now());
            self.outbox.publish(&state);
            return Poll::Ready(());
        }
        state.line().wait(self.ticket, waker);
        self.outbox.publish(&state);
        // The driver limits the time of the task whose turn it is.
        let driver = if state.is_held_up(self.outbox.limit) { state.wake_driver() } else { None };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Poll::Pending
    }
}

impl Drop for OutboxTurn {
    fn drop(&mut self) {
        let mut state = self.outbox.lock();
        state.line().leave(self.ticket);
        state.line.take_if(|line| line.is_empty());
        let next = state.next_turn(self.outbox.limit);
        self.outbox.publish(&state);
        // The driver limits the time of the next task, and may have paused reading until no task waits.
        let is_relevant = next.is_some() || state.line.is_none();
        let driver = if is_relevant { state.wake_driver() } else { None };
        drop(state);
        next.into_iter().chain(driver).for_each(Waker::wake);
    }
}

/// The time after which a task that has not used its turn no longer holds up the others: it is not polled.
const TURN_TIME: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::task::{self, Wake};

    use bytes::BufMut;

    use super::*;

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

    #[tokio::test(start_paused = true)]
    async fn unpolled_task_holds_up_others_for_a_short_time() {
        let outbox = Arc::new(Outbox::new(1));
        let cx = &mut task::Context::from_waker(Waker::noop());
        outbox.push(|out| out.copied().put_u8(0)).unwrap();
        let [mut unpolled, mut other] = [(); 2].map(|()| Box::pin(Arc::clone(&outbox).capacity()));
        assert!(unpolled.as_mut().poll(cx).is_pending() && other.as_mut().poll(cx).is_pending());
        assert_eq!(outbox.waiting(), 1);
        outbox.take(WriteBuffer::new());
        outbox.written(1);
        assert_eq!(outbox.waiting(), 1, "the frame of a waiting task counts");
        let now = Instant::now();
        assert_eq!(outbox.pass_unused_turn(now), Some(now + TURN_TIME));
        assert!(other.as_mut().poll(cx).is_pending());
        assert_eq!(outbox.pass_unused_turn(now + TURN_TIME), None);
        assert!(other.as_mut().poll(cx).is_ready() && outbox.waiting() == 0);
        assert!(unpolled.as_mut().poll(cx).is_ready());
    }

    #[test]
    fn frames_are_appended_in_order_of_waiting() {
        let outbox = Arc::new(Outbox::new(2));
        let cx = &mut task::Context::from_waker(Waker::noop());
        let capacity = || Box::pin(Arc::clone(&outbox).capacity());
        let write = |byte| outbox.push(|out| out.copied().put_u8(byte));
        write(b'0').unwrap();
        write(b'1').unwrap();
        let [mut first, mut dropped, mut third, mut last] = [(); 4].map(|()| capacity());
        for waiting in [&mut first, &mut dropped, &mut third, &mut last] {
            assert!(waiting.as_mut().poll(cx).is_pending());
        }
        outbox.take(WriteBuffer::new());
        outbox.written(2);
        assert_eq!(write(b'x'), Err(PushError::Full), "others wait");
        assert!(third.as_mut().poll(cx).is_pending(), "it is not its turn");
        let Poll::Ready(turn) = first.as_mut().poll(cx) else { panic!("it is its turn") };
        turn.push_at(|_, out| out.copied().put_u8(b'2')).unwrap();
        drop(dropped);
        let Poll::Ready(turn) = third.as_mut().poll(cx) else { panic!("it is its turn") };
        assert!(last.as_mut().poll(cx).is_pending());
        drop(turn);
        let Poll::Ready(turn) = last.as_mut().poll(cx) else { panic!("the turn was not used") };
        turn.push_at(|_, out| out.copied().put_u8(b'3')).unwrap();
        assert_eq!(write(b'4'), Err(PushError::Full));
        assert_eq!(outbox.take(WriteBuffer::new()).into_bytes(), "23");
        outbox.written(2);
        assert_eq!(write(b'4'), Ok(()));
    }
}
