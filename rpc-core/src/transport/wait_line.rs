//! [`WaitLine`]: tasks that wait for one resource, in the order of their arrival.

use std::{collections::VecDeque, task::Waker};

/// Tasks that wait for one resource, in the order of their arrival. A plain structure without a lock.
#[derive(Debug, Default)]
pub(super) struct WaitLine {
    places: VecDeque<Place>,
    /// The ticket of the first place.
    first: u64,
}

/// The identity of a waiting task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
enum Place {
    Waiting(Option<Waker>),
    /// The task has left.
    Left,
}

impl WaitLine {
    /// Adds a task at the end.
    pub(super) fn join(&mut self) -> Ticket {
        self.places.push_back(Place::Waiting(None));
        Ticket(self.first + self.places.len() as u64 - 1)
    }

    /// Removes a task.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Some(place) = self.place(ticket) {
            *place = Place::Left;
        }
        // The first place is never one that was left, so that `is_empty` and `wake_first` are exact.
        while let Some(Place::Left) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
    }

    /// Returns whether no task waits.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns whether a task is the first.
    pub(super) fn is_first(&self, ticket: Ticket) -> bool {
        ticket.0 == self.first
    }

    /// Stores the waker of a task.
    pub(super) fn register(&mut self, ticket: Ticket, waker: &Waker) {
        if let Some(Place::Waiting(registered)) = self.place(ticket) {
            match registered {
                Some(registered) => registered.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
    }

    /// Takes the waker of the first task.
    pub(super) fn take_first(&mut self) -> Option<Waker> {
        match self.places.front_mut() {
            Some(Place::Waiting(waker)) => waker.take(),
            _ => None,
        }
    }

    /// Takes the wakers of all tasks.
    pub(super) fn take_all(&mut self) -> Vec<Waker> {
        let wakers = self.places.iter_mut().filter_map(|place| match place {
            Place::Waiting(waker) => waker.take(),
            Place::Left => None,
        });
        wakers.collect()
    }

    fn place(&mut self, Ticket(ticket): Ticket) -> Option<&mut Place> {
        self.places.get_mut(usize::try_from(ticket.checked_sub(self.first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_keeps_the_order_when_tasks_leave() {
        let mut line = WaitLine::default();
        let [first, second, third] = [(); 3].map(|()| line.join());
        assert!(line.is_first(first) && !line.is_first(second));
        line.leave(second);
        assert!(line.is_first(first));
        line.leave(first);
        assert!(line.is_first(third), "the second has left");
        let fourth = line.join();
        line.leave(third);
        assert!(line.is_first(fourth) && !line.is_empty());
        line.leave(fourth);
        line.leave(fourth);
        assert!(line.is_empty());
    }

    #[test]
    fn wakers_are_taken_once() {
        let mut line = WaitLine::default();
        let (first, second) = (line.join(), line.join());
        assert!(line.take_first().is_none(), "it has not registered");
        line.register(first, Waker::noop());
        line.register(second, Waker::noop());
        assert!(line.take_first().is_some() && line.take_first().is_none());
        assert_eq!(line.take_all().len(), 1);
        line.leave(first);
        line.register(first, Waker::noop());
        assert!(line.take_all().is_empty(), "a task that has left registers nothing");
    }
}
