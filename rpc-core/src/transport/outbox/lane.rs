//! [`Lane`]: the capacity of one priority in the outbox, and the tasks that wait for it.

use std::{
    sync::atomic::Ordering,
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::wait_line::{Ticket, WaitLine};
use crate::sync::AtomicBool;

/// The limits of a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The number of unwritten bytes from which no frame is appended.
    pub(super) bytes: usize,
    /// The number of tasks that have turns at the same time.
    pub(super) turns: usize,
}

/// The capacity of one priority, and the tasks that wait for it. Guarded by the lock of the outbox.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The number of bytes that the driver has taken and not written yet. They count towards the limit.
    pub(super) writing: usize,
    /// The tasks that wait for capacity, and those whose turn it is. `None` if there are none, and boxed because that is
    /// usual: every append reads this struct.
    line: Option<Box<WaitLine>>,
    /// When the last turn was given.
    turns_given: Option<Instant>,
}

/// The part of a lane's state that others read without the lock.
#[derive(Debug)]
pub(super) struct Published {
    /// Whether no frame can be appended without a turn.
    full: AtomicBool,
    /// Whether tasks wait behind those that have not used their turns.
    held_up: AtomicBool,
}

impl Published {
    pub(super) fn new() -> Self {
        let [full, held_up] = [false; 2].map(AtomicBool::new);
        Self { full, held_up }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    pub(super) fn is_held_up(&self) -> bool {
        self.held_up.load(Ordering::Relaxed)
    }

    /// Stores whether tasks are held up. Returns whether they were not until now.
    pub(super) fn set_held_up(&self, held_up: bool) -> bool {
        // Not swapped: the lock excludes other writers.
        let is_new = held_up && !self.is_held_up();
        self.held_up.store(held_up, Ordering::Relaxed);
        is_new
    }
}

impl Lane {
    /// Returns whether fewer bytes wait than the limit, of which the driver has not taken `pending`.
    pub(super) fn has_capacity(&self, pending: usize, limits: Limits) -> bool {
        pending + self.writing < limits.bytes
    }

    /// Returns whether tasks wait, or have turns.
    pub(super) fn has_line(&self) -> bool {
        self.line.is_some()
    }

    /// Returns whether tasks wait without turns.
    pub(super) fn has_waiting(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.has_waiting())
    }

    /// Adds a task to the line.
    pub(super) fn join(&mut self) -> Ticket {
        self.line().join()
    }

    /// Removes a task from the line. Returns its waker, which the caller drops without the lock.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let waker = self.line().leave(ticket);
        self.line.take_if(|line| line.is_empty());
        waker
    }

    /// Returns ready if it is the turn of this task and there is capacity; otherwise stores its waker.
    ///
    /// Also returns a waker that the caller drops without the lock, and the wakers of the tasks that have turns now.
    pub(super) fn poll(
        &mut self,
        ticket: Ticket,
        waker: Waker,
        has_capacity: bool,
        limits: Limits,
    ) -> (Poll<()>, Option<Waker>, Vec<Waker>) {
        let offered = self.line().offered();
        let offer = if has_capacity { self.line().poll_offer(ticket, limits.turns) } else { Poll::Pending };
        match offer {
            Poll::Ready(unused) => {
                if offered < self.line().offered() {
                    self.turns_given = Some(Instant::now());
                }
                // This task may have been the first of several for which turns were free.
                (Poll::Ready(()), unused, self.next_turns(limits))
            }
            Poll::Pending => (Poll::Pending, self.line().wait(ticket, waker), Vec::new()),
        }
    }

    /// Gives turns to the next tasks, for which there is capacity. Returns their wakers.
    pub(super) fn next_turns(&mut self, limits: Limits) -> Vec<Waker> {
        let Some(line) = &mut self.line else { return Vec::new() };
        let offered = line.offered();
        let wakers = line.offer(limits.turns);
        if offered < line.offered() {
            self.turns_given = Some(Instant::now());
        }
        wakers
    }

    /// Gives turns to all tasks. Returns their wakers.
    pub(super) fn turns_for_all(&mut self) -> Vec<Waker> {
        self.line.as_mut().map_or_else(Vec::new, |line| line.offer_all())
    }

    /// Returns whether tasks wait behind turns that are not used.
    pub(super) fn is_held_up(&self, has_capacity: bool, limits: Limits) -> bool {
        let all_given = |line: &WaitLine| line.has_waiting() && line.offered() >= limits.turns;
        has_capacity && self.line.as_deref().is_some_and(all_given)
    }

    /// Returns when tasks that do not use their turns no longer hold up the others; `None` if they hold up none.
    pub(super) fn turns_end(&self, has_capacity: bool, limits: Limits) -> Option<Instant> {
        self.turns_given.filter(|_| self.is_held_up(has_capacity, limits)).map(|given| given + TURN_TIME)
    }

    fn line(&mut self) -> &mut WaitLine {
        self.line.get_or_insert_default()
    }
}

/// The time after which tasks that have not used their turns no longer hold up the others: they are not polled.
pub(super) const TURN_TIME: Duration = Duration::from_millis(10);
