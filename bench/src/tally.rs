//! [`Tally`]: how calls went.

use std::time::Duration;

use crate::{Failure, latencies::Latencies};

/// How the calls of one task went, or of all.
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
