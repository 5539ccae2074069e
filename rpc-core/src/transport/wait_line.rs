//! [`WaitLine`]: tasks that wait for one resource, in the order of their arrival.

use std::{collections::VecDeque, task::Waker};

/// Tasks that wait for one resource, in the order of their arrival. A plain structure without a lock.
///
/// The owner offers the resource to the first tasks. A task that is not polled does not take its offer, so that the
/// owner must let the offers expire after some time ([`expire_offers`](Self::expire_offers)).
///
/// Methods return the wakers that they remove: the owner wakes or drops them after it has released its lock, because
/// both may run code of the program.
#[derive(Debug, Default)]
pub(super) struct WaitLine {
    places: VecDeque<Place>,
    /// The ticket of the first place.
    first: u64,
    /// No place with a smaller ticket is without an offer.
    next: u64,
    /// The number of tasks without an offer.
    waiting: usize,
    /// The number of tasks with an offer that they have not used and that has not expired.
    offered: usize,
}

/// The identity of a waiting task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
enum Place {
    Waiting(Option<Waker>),
    /// The task may use the resource.
    Offered,
    /// The task may use the resource, and holds up no others: it did not use its offer in time.
    Expired,
    /// The task has left.
    Left,
}

impl WaitLine {
    /// Adds a task at the end.
    pub(super) fn join(&mut self) -> Ticket {
        self.places.push_back(Place::Waiting(None));
        self.waiting += 1;
        Ticket(self.first + self.places.len() as u64 - 1)
    }

    /// Removes a task.
    #[must_use]
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let waker = self.replace(ticket, Place::Left);
        while let Some(Place::Left) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        waker
    }

    /// Returns whether a task is without an offer.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Returns the number of tasks with an offer that they have not used and that has not expired.
    pub(super) fn offered(&self) -> usize {
        self.offered
    }

    /// Returns whether a task has an offer.
    pub(super) fn has_offer(&self, ticket: Ticket) -> bool {
        matches!(self.place(ticket), Some(Place::Offered | Place::Expired))
    }

    /// Returns whether a task is the first one without an offer.
    pub(super) fn is_first_waiting(&mut self, ticket: Ticket) -> bool {
        let first = self.first_waiting();
        first.is_some() && first == self.index(ticket)
    }

    /// Offers the resource to a task that asks for it.
    #[must_use]
    pub(super) fn offer(&mut self, ticket: Ticket) -> Option<Waker> {
        self.replace(ticket, Place::Offered)
    }

    /// Lets a task wait, in its place. Returns the waker that `waker` replaces.
    #[must_use]
    pub(super) fn wait(&mut self, ticket: Ticket, waker: Waker) -> Option<Waker> {
        match self.place(ticket) {
            Some(Place::Left) | None => Some(waker),
            Some(_) => {
                self.next = self.next.min(ticket.0);
                self.replace(ticket, Place::Waiting(Some(waker)))
            }
        }
    }

    /// Offers the resource to the first task without an offer, and returns its waker.
    #[must_use]
    pub(super) fn offer_first(&mut self) -> Option<Waker> {
        let index = self.first_waiting()?;
        self.replace(Ticket(self.first + index as u64), Place::Offered)
    }

    /// Offers the resource to all tasks, and returns their wakers.
    #[must_use]
    pub(super) fn offer_all(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.has_waiting() {
            wakers.extend(self.offer_first());
        }
        wakers
    }

    /// Lets the offers expire that were not used, so that their tasks hold up no others.
    pub(super) fn expire_offers(&mut self) {
        for place in self.places.iter_mut().filter(|place| matches!(place, Place::Offered)) {
            *place = Place::Expired;
        }
        self.offered = 0;
    }

    /// Returns the index of the first task without an offer.
    fn first_waiting(&mut self) -> Option<usize> {
        self.next = self.next.max(self.first);
        while let Some(place) = self.place(Ticket(self.next)) {
            if let Place::Waiting(_) = place {
                return self.index(Ticket(self.next));
            }
            self.next += 1;
        }
        None
    }

    fn replace(&mut self, ticket: Ticket, new: Place) -> Option<Waker> {
        let place = self.index(ticket).and_then(|index| self.places.get_mut(index))?;
        let (waiting, offered) = (&mut self.waiting, &mut self.offered);
        match &new {
            Place::Waiting(_) => *waiting += 1,
            Place::Offered => *offered += 1,
            Place::Expired | Place::Left => {}
        }
        match std::mem::replace(place, new) {
            Place::Waiting(waker) => {
                *waiting -= 1;
                waker
            }
            Place::Offered => {
                *offered -= 1;
                None
            }
            Place::Expired | Place::Left => None,
        }
    }

    fn place(&self, ticket: Ticket) -> Option<&Place> {
        self.places.get(self.index(ticket)?)
    }

    fn index(&self, Ticket(ticket): Ticket) -> Option<usize> {
        usize::try_from(ticket.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_keeps_the_order_when_tasks_leave() {
        let mut line = WaitLine::default();
        let [first, second, third] = [(); 3].map(|()| line.join());
        assert!(line.is_first_waiting(first) && !line.is_first_waiting(second));
        assert!(line.leave(second).is_none());
        assert!(line.is_first_waiting(first));
        assert!(line.leave(first).is_none());
        assert!(line.is_first_waiting(third), "the second has left");
        let fourth = line.join();
        assert!(line.leave(third).is_none());
        assert!(line.is_first_waiting(fourth) && line.has_waiting());
        for _ in 0..2 {
            assert!(line.leave(fourth).is_none());
            assert!(!line.has_waiting() && line.offered() == 0 && line.places.is_empty());
        }
    }

    #[test]
    fn expired_offer_stays_valid_and_counts_no_more() {
        let mut line = WaitLine::default();
        let [first, second, third] = [(); 3].map(|()| line.join());
        for ticket in [first, second] {
            assert!(line.wait(ticket, Waker::noop().clone()).is_none());
        }
        assert!(line.offer_first().is_some());
        assert!(line.has_offer(first) && !line.has_offer(second) && line.offered() == 1);
        line.expire_offers();
        assert!(line.has_offer(first) && line.offered() == 0);
        assert_eq!(line.offer_all().len(), 1, "the third has no waker");
        assert!(line.has_offer(second) && line.has_offer(third) && !line.has_waiting());
        assert_eq!(line.offered(), 2);
        // A task whose offer came to nothing waits again, in its old place.
        assert!(line.leave(third).is_none());
        let newcomer = line.join();
        for ticket in [second, first] {
            assert!(line.wait(ticket, Waker::noop().clone()).is_none());
            assert!(line.is_first_waiting(ticket));
        }
        assert!(line.leave(first).is_some() && line.leave(second).is_some());
        assert!(line.is_first_waiting(newcomer));
    }
}
