//! [`Tally`]: how calls went; and [`Tallies`], where many tasks count.

use std::{
    cell::Cell,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{Failure, latencies::Latencies};

/// How calls went.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Calls with the right reply.
    pub(crate) calls: u64,
    /// Calls that failed, or whose reply was another's.
    pub(crate) errors: u64,
    pub(crate) latencies: Latencies,
    /// What the first error was, also one before or after the measured time.
    pub(crate) first_error: Option<String>,
}

impl Tally {
    /// Counts one call.
    pub(crate) fn count(&mut self, succeeded: bool, latency: Duration) {
        if succeeded {
            self.calls += 1;
        } else {
            self.errors += 1;
        }
        self.latencies.record(latency);
    }

    /// Keeps what went wrong, if nothing did before.
    pub(crate) fn note(&mut self, failure: &Failure) {
        self.first_error.get_or_insert_with(|| failure.to_string());
    }

    /// Adds that of another.
    pub(crate) fn merge(&mut self, other: Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.latencies.merge(&other.latencies);
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// Where many tasks count: a tally for each thread, whose lock is then free.
///
/// One for each task would keep hundreds of histograms going through the cache, which cost an eighth of a client's time.
#[derive(Debug, Default)]
pub(crate) struct Tallies([Padded; THREADS]);

/// Two threads do not share a line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(Mutex<Tally>);

impl Tallies {
    /// This thread's tally.
    pub(crate) fn local(&self) -> MutexGuard<'_, Tally> {
        self.0[THREAD.get() % THREADS].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them together.
    pub(crate) fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        for tally in &self.0 {
            sum.merge(std::mem::take(&mut *tally.0.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        sum
    }
}

const THREADS: usize = 4;

thread_local! {
    /// This thread's number.
    static THREAD: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed))
    };
}
