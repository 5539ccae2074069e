//! The times of a run.

use std::time::Duration;

/// When the fault begins.
pub(super) const BEGIN: Duration = Duration::from_secs(2);
/// When the fault ends.
pub(super) const END: Duration = Duration::from_secs(5);
/// When the last call starts.
pub(super) const LENGTH: Duration = Duration::from_secs(9);
