//! [`pause_after`]: limits how much of a large list each process reads in a second.
//!
//! Every provider reads the list of its service periodically. At a constant interval, the load of the servers would grow
//! with the square of the number of providers.

use std::time::Duration;

/// Returns the minimum pause after a list of `len` instances was read, until it is read again without a cause.
pub(super) fn pause_after(len: usize) -> Duration {
    PAUSE_PER_INSTANCE.saturating_mul(u32::try_from(len).unwrap_or(u32::MAX))
}

/// The pause for each instance of a list: a process reads at most 20 instances, some 8 KB, in a second.
const PAUSE_PER_INSTANCE: Duration = Duration::from_millis(50);
