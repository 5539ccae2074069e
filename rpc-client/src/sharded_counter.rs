//! [`ShardedCounter`]: a counter that many threads increment.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::cache_padded::CachePadded;

/// A counter that many threads increment, each in a shard that it shares with few others.
#[derive(Debug, Default)]
pub(crate) struct ShardedCounter([CachePadded<AtomicU64>; SHARDS]);

impl ShardedCounter {
    /// Adds one.
    pub(crate) fn increment(&self) {
        SHARD.with(|shard| self.0[shard.get()].0.fetch_add(1, Ordering::Relaxed));
    }

    /// Returns the sum of all shards.
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.load(Ordering::Relaxed)).sum()
    }
}

const SHARDS: usize = 8;

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: Cell<usize> = Cell::new(NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_includes_all_threads() {
        let counter = ShardedCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| (0..1000).for_each(|_| counter.increment()));
            }
        });
        assert_eq!(counter.sum(), 2 * SHARDS as u64 * 1000);
    }
}
