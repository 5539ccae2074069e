//! [`WaitLine`]: tasks that wait for one resource, in the order of their arrival.

use std::{collections::VecDeque, task::Waker};

/// Tasks that wait for one resource, in the order of their arrival. A plain structure without a lock.
///
/// The resource is offered to one task at a time. A task that is not polled does not take its offer, so that the owner
/// of the line must offer the resource to the others after some time ([`offer_all`](Self::offer_all)).
#[derive(Debug, Default)]
pub(super) struct WaitLine {
    places: VecDeque<Place>,
    /// The ticket of the first place.
    first: u64,
    /// The number of tasks without an offer.
    waiting: usize,
    /// The number of tasks with an offer that they have not used.
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
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.replace(ticket, Place::Left);
        // The first place is never one that was left, so that `is_empty` is exact.
        while let Some(Place::Left) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
    }

    /// Returns whether no task is in the line.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns whether a task is without an offer.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Returns whether a task has an offer that it has not used.
    pub(super) fn has_offered(&self) -> bool {
        self.offered > 0
    }

    /// Returns whether a task may use the resource: it has an offer, or nobody before it has or waits for one.
    pub(super) fn may_proceed(&self, ticket: Ticket) -> bool {
        match self.index(ticket).and_then(|index| self.places.get(index)) {
            Some(Place::Offered) => true,
            Some(Place::Waiting(_)) => self.offered == 0 && self.first_waiting() == self.index(ticket),
            Some(Place::Left) | None => false,
        }
    }

    /// Offers the resource to a task that asks for it.
    pub(super) fn offer(&mut self, ticket: Ticket) {
        self.replace(ticket, Place::Offered);
    }

    /// Lets a task wait, and stores its waker.
    pub(super) fn wait(&mut self, ticket: Ticket, waker: &Waker) {
        match self.index(ticket).and_then(|index| self.places.get_mut(index)) {
            Some(Place::Waiting(Some(registered))) => registered.clone_from(waker),
            Some(Place::Waiting(none)) => *none = Some(waker.clone()),
            Some(Place::Offered) => self.replace(ticket, Place::Waiting(Some(waker.clone()))),
            Some(Place::Left) | None => {}
        }
    }

    /// Offers the resource to the first task without an offer, and returns its waker.
    pub(super) fn offer_first(&mut self) -> Option<Waker> {
        let index = self.first_waiting()?;
        let place = std::mem::replace(&mut self.places[index], Place::Offered);
        self.waiting -= 1;
        self.offered += 1;
        if let Place::Waiting(waker) = place { waker } else { None }
    }

    /// Offers the resource to all tasks, and returns their wakers.
    pub(super) fn offer_all(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.has_waiting() {
            wakers.extend(self.offer_first());
        }
        wakers
    }

    /// Returns the index of the first task without an offer.
    fn first_waiting(&self) -> Option<usize> {
        self.places.iter().position(|place| matches!(place, Place::Waiting(_)))
    }

    fn replace(&mut self, ticket: Ticket, new: Place) {
        let Some(place) = self.index(ticket).and_then(|index| self.places.get_mut(index)) else { return };
        let (waiting, offered) = (&mut self.waiting, &mut self.offered);
        match std::mem::replace(place, new) {
            Place::Waiting(_) => *waiting -= 1,
            Place::Offered => *offered -= 1,
            Place::Left => {}
        }
        match place {
            Place::Waiting(_) => *waiting += 1,
            Place::Offered => *offered += 1,
            Place::Left => {}
        }
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
        assert!(line.may_proceed(first) && !line.may_proceed(second));
        line.leave(second);
        assert!(line.may_proceed(first));
        line.leave(first);
        assert!(line.may_proceed(third), "the second has left");
        let fourth = line.join();
        line.leave(third);
        assert!(line.may_proceed(fourth) && !line.is_empty());
        line.leave(fourth);
        line.leave(fourth);
        assert!(line.is_empty() && !line.has_waiting() && !line.has_offered());
    }

    #[test]
    fn unused_offer_holds_others_until_all_have_offers() {
        let mut line = WaitLine::default();
        let [first, second, third] = [(); 3].map(|()| line.join());
        line.wait(first, Waker::noop());
        line.wait(second, Waker::noop());
        assert!(line.offer_first().is_some());
        assert!(line.may_proceed(first) && !line.may_proceed(second) && line.has_offered());
        assert_eq!(line.offer_all().len(), 1, "the third has no waker");
        assert!(line.may_proceed(second) && line.may_proceed(third) && !line.has_waiting());
        // A task whose offer came to nothing waits again, in its old place.
        line.leave(first);
        line.leave(third);
        line.wait(second, Waker::noop());
        let newcomer = line.join();
        assert!(line.may_proceed(second) && !line.may_proceed(newcomer));
    }
}
