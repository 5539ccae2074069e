//! [`StreamMemory`]: the memory of received items.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The memory that received items may occupy until they are read, of a connection or of all connections together.
#[derive(Debug)]
pub struct StreamMemory {
    limit: usize,
    used: AtomicUsize,
    /// The memory of which this is a part.
    whole: Option<Arc<Self>>,
    /// Whether this is the part of a peer, which takes at most [`PEER_SHARE`] times as much as is free.
    is_share: bool,
}

/// A part of a [`StreamMemory`], which is returned when it is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    memory: Arc<StreamMemory>,
    length: usize,
}

impl StreamMemory {
    /// Creates a memory of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), whole: None, is_share: false })
    }

    /// Creates the part of one peer, which leaves some of this memory to others.
    pub fn share(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { limit: self.limit, used: AtomicUsize::new(0), whole: Some(Arc::clone(self)), is_share: true })
    }

    /// Creates a memory of `limit` bytes that is a part of this one.
    pub fn part(self: &Arc<Self>, limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), whole: Some(Arc::clone(self)), is_share: false })
    }

    /// Returns the number of reserved bytes.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Reserves bytes. Returns `None` if fewer are free.
    pub(super) fn reserve(self: &Arc<Self>, length: usize) -> Option<Reserved> {
        self.take(length).then(|| Reserved { memory: Arc::clone(self), length })
    }

    fn may_grow(&self, length: usize) -> bool {
        self.used() + length <= self.limit / 2 && self.whole.as_ref().is_none_or(|whole| whole.may_grow(length))
    }

    /// Returns whether a share leaves enough to others.
    fn is_fair(&self, length: usize) -> bool {
        let free = |whole: &Self| whole.limit.saturating_sub(whole.used());
        !self.is_share
            || self.whole.as_ref().is_none_or(|whole| self.used() + length <= free(whole).saturating_mul(PEER_SHARE))
    }

    fn take(&self, length: usize) -> bool {
        if !self.is_fair(length) || self.whole.as_ref().is_some_and(|whole| !whole.take(length)) {
            return false;
        }
        let add = |used: usize| used.checked_add(length).filter(|used| *used <= self.limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok();
        if let (false, Some(whole)) = (taken, &self.whole) {
            whole.give(length);
        }
        taken
    }

    fn give(&self, length: usize) {
        self.used.fetch_sub(length, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give(length);
        }
    }
}

impl Reserved {
    /// Returns the number of reserved bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Reserves more bytes if at most half of the memory is reserved then: the rest remains for new streams.
    pub(super) fn grow_if_half_free(&mut self, length: usize) -> bool {
        self.memory.may_grow(length) && self.grow(length)
    }

    /// Reserves more bytes. Returns false if fewer are free.
    pub(super) fn grow(&mut self, length: usize) -> bool {
        let taken = self.memory.take(length);
        if taken {
            self.length += length;
        }
        taken
    }

    /// Returns all bytes above `length`.
    pub(super) fn shrink(&mut self, length: usize) {
        let surplus = self.length.saturating_sub(length);
        self.memory.give(surplus);
        self.length -= surplus;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.give(self.length);
    }
}

/// A peer may take at most this many times as much memory as is free.
const PEER_SHARE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_a_peer_leaves_memory_to_others() {
        let whole = StreamMemory::new(9_000);
        let (one, other) = (whole.share(), whole.share());
        let reserved: Vec<_> = std::iter::from_fn(|| one.reserve(100)).collect();
        assert_eq!(reserved.len(), 80, "8 times the free 1000 bytes");
        assert!(other.reserve(100).is_some());
    }

    #[test]
    fn windows_grow_only_into_half_of_the_memory() {
        let memory = StreamMemory::new(100);
        let mut reserved = memory.reserve(10).unwrap();
        assert!(reserved.grow_if_half_free(40) && !reserved.grow_if_half_free(1));
        assert!(reserved.grow(1));
    }

    #[test]
    fn part_and_whole_limit_reservations() {
        let whole = StreamMemory::new(10);
        let (one, other) = (whole.part(8), whole.part(8));
        let mut first = one.reserve(6).unwrap();
        assert!(one.reserve(3).is_none(), "the part has 8");
        assert!(other.reserve(5).is_none(), "the whole has 10");
        assert_eq!((whole.used(), one.used(), other.used()), (6, 6, 0), "failed reservations take nothing");
        let second = other.reserve(4).unwrap();
        assert!(!first.grow(1));
        drop(second);
        assert!(first.grow(2));
        first.shrink(1);
        assert_eq!((first.length(), whole.used()), (1, 1));
        drop(first);
        assert_eq!((whole.used(), one.used()), (0, 0));
    }
}
