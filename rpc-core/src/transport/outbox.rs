//! [`Outbox`]: the bytes that wait to be written to one connection.

use std::{
    sync::{PoisonError, atomic::Ordering},
    task::Waker,
};

use bytes::BytesMut;
use tokio::sync::Notify;

use crate::{
    Mark, WriteBuffer,
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard},
};

/// The bytes that wait to be written to one connection. Everyone with something to say appends to it under a short lock; the
/// connection's driver takes all of it at once, so that one write carries many frames.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    /// Told whenever bytes were written while someone waited for room.
    room: Notify,
    limit: usize,
    /// Beside the lock so that a look at it is cheap.
    closed: AtomicBool,
    /// The bytes that wait; stored under the lock, beside it for the same reason.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    pending: WriteBuffer,
    /// Bytes that the driver took and has not written yet; they count against the limit.
    writing: usize,
    /// Bytes that were written since the beginning.
    written: u64,
    /// Whether somebody waits for room.
    awaited: bool,
    /// The driver, when it sleeps.
    driver: Option<Waker>,
    /// The driver was to be woken while it was awake, so it must not lie down.
    woken: bool,
}

impl State {
    fn waiting(&self) -> usize {
        self.pending.len() + self.writing
    }
}

/// Where a frame stands in all that is written to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position(u64);

/// Why nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// As much waits as may: wait for [`room`](Outbox::room).
    Full,
    /// The connection is closing; nothing more will be written.
    Closed,
}

impl Outbox {
    /// An outbox that takes new frames while fewer than `limit` bytes wait. So at most `limit` bytes and one frame wait, and
    /// those that must be sent.
    pub fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            room: Notify::new(),
            limit,
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Lets `write` append a frame, whose [`Position`] it is told.
    ///
    /// # Errors
    ///
    /// [`PushError`], without calling `write`.
    pub fn push_at<R>(&self, write: impl FnOnce(Position, &mut WriteBuffer) -> R) -> Result<R, PushError> {
        let state = self.lock();
        if state.waiting() >= self.limit {
            return Err(PushError::Full);
        }
        let position = Position(state.written + state.waiting() as u64);
        self.append(state, |out| write(position, out))
    }

    /// Lets `write` append a frame.
    ///
    /// # Errors
    ///
    /// [`PushError`], without calling `write`.
    pub fn push<R>(&self, write: impl FnOnce(&mut WriteBuffer) -> R) -> Result<R, PushError> {
        self.push_at(|_, out| write(out))
    }

    /// Lets `write` append a frame even when the outbox is full: for small frames whose number is bounded otherwise, because
    /// nothing is read from a peer whose outbox is full, and each call has one answer.
    ///
    /// # Errors
    ///
    /// [`PushError::Closed`], without calling `write`.
    pub fn push_control<R>(&self, write: impl FnOnce(&mut BytesMut) -> R) -> Result<R, PushError> {
        self.append(self.lock(), |out| write(out.copied()))
    }

    fn append<R>(
        &self,
        mut state: MutexGuard<'_, State>,
        write: impl FnOnce(&mut WriteBuffer) -> R,
    ) -> Result<R, PushError> {
        // `close` sets the flag under the lock, so nothing is appended after it.
        if self.is_closed() {
            return Err(PushError::Closed);
        }
        let result = {
            let frame = Rollback { start: state.pending.mark(), pending: &mut state.pending };
            let result = write(frame.pending);
            std::mem::forget(frame);
            result
        };
        let driver = if state.pending.is_empty() { None } else { state.driver.take() };
        self.waiting.store(state.waiting(), Ordering::Relaxed);
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(result)
    }

    /// Waits until a [`push`](Self::push) may succeed, or will fail with [`PushError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn room(&self) {
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            // Registered before the look, so that room made in between is not missed.
            notified.as_mut().enable();
            {
                let mut state = self.lock();
                if self.is_closed() || state.waiting() < self.limit {
                    return;
                }
                state.awaited = true;
            }
            notified.await;
        }
    }

    /// How many bytes wait to be written, as the driver sees it: what it wrote itself counts no more, what others append at this
    /// moment may not count yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether all that was appended was written.
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        state.pending.is_empty() && state.writing == 0
    }

    /// Whether any byte of the frame at `position` was handed to the socket. What was not never will be once the driver is
    /// gone.
    pub fn has_begun(&self, position: Position) -> bool {
        self.lock().written > position.0
    }

    /// Whether nothing more is taken.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes nothing more, and wakes everyone who waits. What waits already may still be written.
    pub fn close(&self) {
        let state = self.lock();
        self.closed.store(true, Ordering::Release);
        drop(state);
        self.room.notify_waiters();
        self.wake();
    }

    /// Makes the driver look again at what surrounds the outbox.
    pub fn wake(&self) {
        let mut state = self.lock();
        let driver = state.driver.take();
        state.woken |= driver.is_none();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Takes all that waits; `spare` is an empty buffer to go on with. The driver calls this, then
    /// [`written`](Self::written) as it gets on.
    pub(crate) fn take(&self, spare: WriteBuffer) -> WriteBuffer {
        debug_assert!(spare.is_empty());
        let mut state = self.lock();
        let taken = std::mem::replace(&mut state.pending, spare);
        state.writing += taken.len();
        taken
    }

    /// Gives the buffer back while nothing is in it: an idle connection holds none.
    pub(super) fn release(&self) {
        let mut state = self.lock();
        if state.pending.is_empty() {
            state.pending = WriteBuffer::new();
        }
    }

    /// Says that `count` of the bytes taken were written.
    pub(crate) fn written(&self, count: usize) {
        let mut state = self.lock();
        state.writing -= count;
        state.written += count as u64;
        self.waiting.store(state.waiting(), Ordering::Relaxed);
        let tell = state.awaited && state.waiting() < self.limit;
        if tell {
            state.awaited = false;
        }
        drop(state);
        if tell {
            self.room.notify_waiters();
        }
    }

    /// Says that the driver is awake: what is appended now it will find by itself before it lies down.
    pub(super) fn mark_awake(&self) {
        self.lock().driver = None;
    }

    /// Lays the driver to sleep until something is appended or [`wake`](Self::wake) is called; `false` when that has happened
    /// since it last lay down. A driver that is `blocked`, because its socket takes nothing, sleeps although something waits:
    /// the socket wakes it.
    pub(crate) fn sleep(&self, driver: &Waker, blocked: bool) -> bool {
        let mut state = self.lock();
        if std::mem::take(&mut state.woken) || !(blocked || state.pending.is_empty()) {
            return false;
        }
        match &mut state.driver {
            Some(known) => known.clone_from(driver),
            none => *none = Some(driver.clone()),
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Only `write` can panic under the lock, and Rollback takes back what it did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes half a frame back when a user's `Serialize` panics.
struct Rollback<'a> {
    start: Mark,
    pending: &'a mut WriteBuffer,
}

impl Drop for Rollback<'_> {
    fn drop(&mut self) {
        self.pending.rewind(self.start);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        task::Wake,
    };

    use bytes::BufMut;

    use super::*;

    #[test]
    fn takes_frames_up_to_the_limit_and_one_more() {
        let outbox = Outbox::new(4);
        outbox.push(|out| out.copied().put_slice(b"123")).unwrap();
        outbox.push(|out| out.copied().put_slice(b"45")).unwrap();
        assert_eq!(outbox.push(|out| out.copied().put_slice(b"6")), Err(PushError::Full));
        outbox.push_control(|out| out.put_slice(b"pong")).unwrap();
        assert_eq!(outbox.take(WriteBuffer::new()).into_bytes(), "12345pong");
        assert_eq!(outbox.push(|_| ()), Err(PushError::Full), "taken is not yet written");
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
    fn a_closed_outbox_takes_nothing_but_gives_what_it_has() {
        let outbox = Outbox::new(4);
        outbox.push(|out| out.copied().put_slice(b"1")).unwrap();
        outbox.close();
        assert_eq!(outbox.push(|_| ()), Err(PushError::Closed));
        assert_eq!(outbox.push_control(|_| ()), Err(PushError::Closed));
        assert_eq!(outbox.take(WriteBuffer::new()).into_bytes(), "1");
    }

    #[test]
    fn a_panic_while_writing_takes_back_its_own_frame_only() {
        let outbox = Outbox::new(100);
        outbox.push(|out| out.copied().put_slice(b"before ")).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            outbox.push(|out| {
                out.copied().put_slice(b"half");
                panic!("a user's Serialize");
            })
        }));
        assert!(panicked.is_err());
        outbox.push(|out| out.copied().put_slice(b"after")).unwrap();
        assert_eq!(outbox.take(WriteBuffer::new()).into_bytes(), "before after");
    }

    #[test]
    fn the_driver_sleeps_only_when_there_is_nothing_new() {
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
        assert!(!outbox.sleep(&waker, false), "woken before it lay down");
        assert!(outbox.sleep(&waker, false));
        outbox.push(|out| out.copied().put_slice(b"1")).unwrap();
        assert!(flag.0.load(Ordering::SeqCst));
        assert!(!outbox.sleep(&waker, false), "something waits");
        assert!(outbox.sleep(&waker, true), "something waits and cannot be written");
    }

    #[test]
    fn a_driver_that_is_awake_is_not_woken() {
        let outbox = Outbox::new(100);
        assert!(outbox.sleep(Waker::noop(), false));
        outbox.mark_awake();
        outbox.push(|out| out.copied().put_slice(b"1")).unwrap();
        assert!(outbox.lock().driver.is_none());
        assert!(!outbox.sleep(Waker::noop(), false), "it finds by itself what waits");
        outbox.take(WriteBuffer::new());
        outbox.wake();
        assert!(!outbox.sleep(Waker::noop(), false), "and what it was told");
        assert!(outbox.sleep(Waker::noop(), false));
    }

    #[tokio::test]
    async fn whoever_waits_for_room_gets_it_or_learns_of_the_end() {
        let outbox = Outbox::new(1);
        outbox.push(|out| out.copied().put_slice(b"12")).unwrap();
        outbox.take(WriteBuffer::new());
        tokio::join!(outbox.room(), async { outbox.written(2) });
        outbox.push(|out| out.copied().put_slice(b"12")).unwrap();
        tokio::join!(outbox.room(), async { outbox.close() });
    }
}
