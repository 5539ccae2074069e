//! [`WaitLine`]: tasks that wait for one resource, in the order of their arrival.

use std::{
    collections::BTreeMap,
    task::{Poll, Waker},
};

/// Tasks that wait for one resource, in the order of their arrival. A plain structure without a lock.
///
/// The resource is offered to the first tasks, so many that a given number of them have offers. A task that is not polled
/// does not use its offer, so that the owner of the line must offer the resource to the others after some time
/// ([`offer_all`](Self::offer_all)).
#[derive(Debug, Default)]
pub(super) struct WaitLine {
    /// The tasks without an offer, in the order of their arrival.
    waiting: BTreeMap<Ticket, Option<Waker>>,
    /// The number of tasks with an offer that they have not used.
    offered: usize,
    next: u64,
}

/// The identity of a waiting task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

impl WaitLine {
    /// Adds a task at the end.
    pub(super) fn join(&mut self) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, None);
        ticket
    }

    /// Removes a task. Returns its waker, which the caller drops without a lock.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let left = self.waiting.remove(&ticket);
        if left.is_none() {
            self.offered -= 1;
        }
        left.flatten()
    }

    /// Returns whether no task is in the line.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.offered == 0
    }

    /// Returns whether a task is without an offer.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns the number of tasks with an offer.
    pub(super) fn offered(&self) -> usize {
        self.offered
    }

    /// Returns ready if a task may use the resource: it has an offer, or receives one because it is the next and fewer
    /// than `count` have offers.
    ///
    /// The result contains the waker of a task that receives one, which the caller drops without a lock.
    pub(super) fn poll_offer(&mut self, ticket: Ticket, count: usize) -> Poll<Option<Waker>> {
        let is_next = self.waiting.first_key_value().is_some_and(|(first, _)| *first == ticket);
        if is_next && self.offered < count {
            self.offered += 1;
            return Poll::Ready(self.waiting.remove(&ticket).flatten());
        }
        if self.waiting.contains_key(&ticket) { Poll::Pending } else { Poll::Ready(None) }
    }

    /// Lets a task wait in its place, and stores its waker. A task that has an offer loses it.
    ///
    /// Returns the previous waker, which the caller drops without a lock.
    pub(super) fn wait(&mut self, ticket: Ticket, waker: Waker) -> Option<Waker> {
        let previous = self.waiting.insert(ticket, Some(waker));
        if previous.is_none() {
            self.offered -= 1;
        }
        previous.flatten()
    }

    /// Offers the resource to the first tasks without an offer until `count` have offers, and returns their wakers.
    pub(super) fn offer(&mut self, count: usize) -> Vec<Waker> {
        self.offer_to(count.saturating_sub(self.offered))
    }

    /// Offers the resource to all tasks, and returns their wakers.
    pub(super) fn offer_all(&mut self) -> Vec<Waker> {
        self.offer_to(self.waiting.len())
    }

    fn offer_to(&mut self, count: usize) -> Vec<Waker> {
        let offered = std::iter::from_fn(|| self.waiting.pop_first()).take(count);
        let wakers = offered.inspect(|_| self.offered += 1).filter_map(|(_, waker)| waker);
        wakers.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of tasks that have offers at the same time.
    const COUNT: usize = 4;

    /// Returns a line whose first tasks have all offers, with those tasks.
    fn offered() -> (WaitLine, [Ticket; COUNT]) {
        let mut line = WaitLine::default();
        let tickets = [(); COUNT].map(|()| line.join());
        assert!(tickets.iter().all(|ticket| line.poll_offer(*ticket, COUNT).is_ready()) && line.offered() == COUNT);
        (line, tickets)
    }

    #[test]
    fn line_keeps_the_order_when_tasks_leave() {
        let (mut line, [offered, ..]) = offered();
        let [first, second, third] = [(); 3].map(|()| line.join());
        assert!([first, second, third].iter().all(|ticket| line.poll_offer(*ticket, COUNT).is_pending()));
        line.leave(first);
        line.leave(offered);
        assert!(
            line.poll_offer(third, COUNT).is_pending() && line.poll_offer(second, COUNT).is_ready(),
            "the first has left"
        );
        assert!(line.poll_offer(third, COUNT).is_pending() && line.has_waiting());
        line.leave(second);
        assert!(line.poll_offer(third, COUNT).is_ready());
    }

    #[test]
    fn line_holds_only_tasks_that_have_not_left() {
        let (mut line, tickets) = offered();
        for _ in 0..3 {
            let ticket = line.join();
            line.wait(ticket, Waker::noop().clone());
            assert!(line.leave(ticket).is_some() && line.waiting.is_empty(), "behind unused offers");
        }
        for ticket in tickets {
            line.leave(ticket);
        }
        assert!(line.is_empty());
    }

    #[test]
    fn unused_offers_hold_others_until_all_have_offers() {
        let mut line = WaitLine::default();
        let tickets: Vec<_> = (0..COUNT + 2).map(|_| line.join()).collect();
        for ticket in &tickets[1..] {
            line.wait(*ticket, Waker::noop().clone());
        }
        assert_eq!(line.offer(COUNT).len(), COUNT - 1, "the first has no waker");
        assert!(line.offer(COUNT).is_empty() && line.offered() == COUNT);
        let [.., second_last, last] = tickets[..] else { panic!("there are more than two") };
        assert!(line.poll_offer(tickets[0], COUNT).is_ready() && line.poll_offer(second_last, COUNT).is_pending());
        assert_eq!(line.offer_all().len(), 2);
        assert!(line.poll_offer(last, COUNT).is_ready() && !line.has_waiting());
        // A task whose offer came to nothing waits again, in its old place.
        assert!(line.wait(second_last, Waker::noop().clone()).is_none() && line.has_waiting());
        let newcomer = line.join();
        for ticket in tickets.iter().filter(|ticket| **ticket != second_last) {
            line.leave(*ticket);
        }
        assert!(line.poll_offer(newcomer, COUNT).is_pending() && line.poll_offer(second_last, COUNT).is_ready());
    }
}
