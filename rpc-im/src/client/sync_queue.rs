//! [`SyncQueue`]: the conversations that a client syncs, page by page. No I/O.

use std::collections::VecDeque;

use crate::envelope::Synced;

/// The ranges of conversations that a client syncs, one after the other and page by page.
#[derive(Debug, Default)]
pub(super) struct SyncQueue {
    /// The first range is in progress.
    ranges: VecDeque<SyncRange>,
}

/// Conversations in the order of their ids' bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyncRange {
    /// The range begins after this conversation; empty for the first one.
    pub(super) after: String,
    /// The range ends with this conversation; empty for no end.
    pub(super) until: String,
}

impl SyncRange {
    /// Returns the range of all conversations.
    pub(super) fn all() -> Self {
        Self { after: String::new(), until: String::new() }
    }

    fn covers(&self, other: &Self) -> bool {
        let ends_later = self.until.is_empty() || !other.until.is_empty() && self.until >= other.until;
        self.after <= other.after && ends_later
    }
}

impl SyncQueue {
    /// Begins with all conversations, on a new connection.
    pub(super) fn restart(&mut self) {
        self.ranges = [SyncRange::all()].into();
    }

    /// Queues a range, unless another one that has not begun covers it; returns whether it is in progress now.
    pub(super) fn request(&mut self, range: SyncRange) -> bool {
        if self.ranges.iter().skip(1).any(|waiting| waiting.covers(&range)) {
            return false;
        }
        if self.ranges.len() >= MAX_RANGES {
            self.ranges.truncate(1);
            self.ranges.push_back(SyncRange::all());
            return false;
        }
        self.ranges.push_back(range);
        self.ranges.len() == 1
    }

    /// Handles the end of a page; returns whether there is another one.
    pub(super) fn handle_page(&mut self, synced: &Synced) -> bool {
        if let Some(current) = self.ranges.front_mut() {
            let is_complete = !synced.more || !current.until.is_empty() && synced.after >= current.until;
            if is_complete {
                self.ranges.pop_front();
            } else {
                current.after.clone_from(&synced.after);
            }
        }
        !self.ranges.is_empty()
    }

    /// Returns the rest of the range that is in progress.
    pub(super) fn current(&self) -> Option<&SyncRange> {
        self.ranges.front()
    }
}

/// The maximum number of ranges; above it, all conversations are synced.
const MAX_RANGES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn range(after: &str, until: &str) -> SyncRange {
        SyncRange { after: after.into(), until: until.into() }
    }

    fn page(after: &str, more: bool) -> Synced {
        Synced { after: after.into(), more, ..Synced::default() }
    }

    #[test]
    fn pages_of_ranges_follow_each_other() {
        let mut queue = SyncQueue::default();
        assert!(queue.request(SyncRange::all()));
        assert!(!queue.request(range("b", "c")), "it waits");
        assert!(!queue.request(range("b", "c")), "it waits already");
        assert!(queue.handle_page(&page("m", true)));
        assert_eq!(queue.current(), Some(&range("m", "")));
        assert!(queue.handle_page(&page("", false)));
        assert_eq!(queue.current(), Some(&range("b", "c")));
        assert!(queue.handle_page(&page("b", true)), "the messages of c exceed one page");
        assert!(!queue.handle_page(&page("c", true)), "the range has ended");
        assert_eq!(queue.current(), None);
        assert!(!queue.handle_page(&page("", false)), "no sync is in progress");
    }

    #[test]
    fn many_ranges_become_one() {
        let mut queue = SyncQueue::default();
        for number in 10..100 {
            queue.request(range("", &number.to_string()));
        }
        assert_eq!(queue.ranges, [range("", "10"), SyncRange::all()]);
        queue.restart();
        assert_eq!(queue.ranges, [SyncRange::all()]);
    }
}
