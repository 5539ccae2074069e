//! [`contained`]: runs foreign code that must not end a task of msnb.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `log`, which calls the program's subscriber. Returns `None` if the subscriber panics.
///
/// A subscriber of tracing-subscriber panics, for instance, if neither its output nor stderr can be written. The
/// program then loses lines of its log, and no task.
pub fn contained<T>(log: impl FnOnce() -> T) -> Option<T> {
    // A subscriber may be inconsistent after a panic, as after a panic in any other part of the program.
    catch_unwind(AssertUnwindSafe(log)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contained_code_runs_and_may_panic() {
        let mut runs = 0;
        contained(|| runs += 1);
        let failed: Option<()> = contained(|| {
            runs += 1;
            panic!("intended panic of a subscriber");
        });
        assert_eq!((runs, failed), (2, None));
    }
}
