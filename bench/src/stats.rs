//! [`CallStats`]: the results of calls; [`ShardedStats`]: the same, for concurrent updates.

use std::{
    cell::Cell,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use loadgen::Latencies;

use crate::failure::Failure;

/// The results of calls.
#[derive(Debug, Default)]
pub(crate) struct CallStats {
    /// The number of calls with a correct reply.
    pub(crate) calls: u64,
    /// The number of calls that failed or received a wrong reply.
    pub(crate) errors: u64,
    pub(crate) latencies: Latencies,
    /// The first error, including errors before or after the measured time.
    pub(crate) first_error: Option<String>,
}

impl CallStats {
    /// Records one call.
    pub(crate) fn count(&mut self, succeeded: bool, latency: Duration) {
        if succeeded {
            self.calls += 1;
        } else {
            self.errors += 1;
        }
        self.latencies.record(latency);
    }

    /// Stores the first error.
    pub(crate) fn note(&mut self, failure: &Failure) {
        self.first_error.get_or_insert_with(|| failure.to_string());
    }

    /// Adds the results of `other`.
    pub(crate) fn merge(&mut self, other: Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.latencies.merge(&other.latencies);
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// Statistics with one shard per thread, so that the lock of a shard is uncontended.
///
/// With one shard per task, hundreds of histograms would exceed the cache, which took an eighth of a client's time.
#[derive(Debug, Default)]
pub(crate) struct ShardedStats([CachePadded; SHARDS]);

/// Aligned so that two shards do not share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CachePadded(Mutex<CallStats>);

impl ShardedStats {
    /// Returns the shard of this thread.
    pub(crate) fn local(&self) -> MutexGuard<'_, CallStats> {
        self.0[THREAD.get() % SHARDS].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the sum of all shards and resets them.
    pub(crate) fn sum(&self) -> CallStats {
        let mut sum = CallStats::default();
        for shard in &self.0 {
            sum.merge(std::mem::take(&mut *shard.0.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        sum
    }
}

const SHARDS: usize = 4;

thread_local! {
    /// The number of this thread.
    static THREAD: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed))
    };
}
