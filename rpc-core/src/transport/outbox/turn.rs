//! [`OutboxTurn`]: the right to append a frame before other tasks.

use std::{
    sync::Arc,
    task::{Poll, Waker},
};

use super::{
    queue::{Outbox, Position, Priority, PushError, SendQueue},
    wait_line::Ticket,
};
use crate::WriteBuffer;

/// The right of one task to append a frame before all tasks that wait for capacity of the same priority.
///
/// # Drop
///
/// Dropping it passes the turn to the next task.
#[derive(Debug)]
pub struct OutboxTurn {
    outbox: Arc<Outbox>,
    priority: Priority,
    ticket: Ticket,
    /// The number of encoded bytes that wait with the task.
    bytes: usize,
}

impl Outbox {
    /// Waits until the outbox has capacity for frames of this priority, or is closed.
    ///
    /// Tasks receive their turns in the order in which they started to wait, and no other task appends a frame before
    /// them. One at a time has a turn, or several at an outbox [of results](Self::for_results); the others wait until an [`OutboxTurn`] is dropped. But tasks
    /// that are not polled, or encode for long, hold up the others for 10 ms only.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: the turn passes to the next task.
    pub async fn capacity(self: Arc<Self>, priority: Priority) -> OutboxTurn {
        self.capacity_for(priority, 0).await
    }

    /// As [`capacity`](Self::capacity), for a task that keeps a frame of `bytes` encoded bytes.
    ///
    /// While many encoded bytes wait, the driver does not read, and there is no interactive capacity.
    pub async fn capacity_for(self: Arc<Self>, priority: Priority, bytes: usize) -> OutboxTurn {
        let turn = OutboxTurn::join(self, priority, bytes);
        std::future::poll_fn(|cx| turn.poll_ready(cx.waker())).await;
        turn
    }
}

impl OutboxTurn {
    /// Joins the line of the tasks that wait for capacity. `bytes` encoded bytes wait with the task.
    pub(super) fn join(outbox: Arc<Outbox>, priority: Priority, bytes: usize) -> Self {
        let mut state = outbox.lock();
        let ticket = state.lane(priority).join();
        state.waiting_bytes += bytes;
        drop(state);
        Self { outbox, priority, ticket, bytes }
    }

    /// Calls `write` to append a frame, as [`Outbox::push_to`]. The priority of `queue` is that of the turn.
    ///
    /// # Errors
    ///
    /// [`PushError::Closed`], or [`PushError::Full`] if other tasks have filled the outbox since the turn was ready, but
    /// not for an outbox [of results](Outbox::for_results). Without calling `write`.
    pub fn push_to<R>(
        self,
        queue: SendQueue,
        write: impl FnOnce(Position, &mut WriteBuffer) -> R,
    ) -> Result<R, PushError> {
        debug_assert_eq!(queue.priority(), self.priority);
        let state = self.outbox.lock();
        let limits = self.outbox.limits;
        // Otherwise the requests of several threads could exceed the amount from which a client no longer reads.
        if limits.turns == 1 && !state.has_capacity(self.priority, limits) && !self.is_closed() {
            return Err(PushError::Full);
        }
        self.outbox.append_at(state, queue, write)
    }

    /// Returns whether the outbox accepts no more frames.
    pub fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Returns ready when it is this task's turn and there is capacity, or the outbox is closed.
    pub(super) fn poll_ready(&self, waker: &Waker) -> Poll<()> {
        // Cloned and dropped without the lock: a waker may be code of another executor.
        let waker = waker.clone();
        let mut state = self.outbox.lock();
        if self.outbox.is_closed() {
            return Poll::Ready(());
        }
        let limits = self.outbox.limits;
        let has_capacity = state.has_capacity(self.priority, limits);
        let (polled, unused, next) = state.lane(self.priority).poll(self.ticket, waker, has_capacity, limits);
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
        state.waiting_bytes -= self.bytes;
        let waker = state.lane(self.priority).leave(self.ticket);
        self.outbox.release(state);
        drop(waker);
    }
}
