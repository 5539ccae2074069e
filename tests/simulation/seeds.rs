//! [`run_all`]: executes the runs of many seeds on all processors.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::run::{Report, run};

/// Selects the seeds to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedSelection {
    /// One seed, with tracing (`MSNB_SEED`).
    One(u64),
    /// This number of seeds, from 0 (`MSNB_SEEDS`).
    Count(u64),
    /// At most this number of seeds, from 0, until the first failure.
    UntilFailure(u64),
}

impl SeedSelection {
    /// Returns the selection of the environment variables, or `default` seeds if none is set.
    ///
    /// # Panics
    ///
    /// Panics if a variable is not a number.
    pub fn from_environment(default: u64) -> Self {
        let number = |name| {
            let value = env::var(name).ok()?;
            Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
        };
        match number("MSNB_SEED") {
            Some(seed) => Self::One(seed),
            None => Self::Count(number("MSNB_SEEDS").unwrap_or(default)),
        }
    }
}

/// Executes the runs of the selected seeds; returns the reports of the first few failed runs, and the number of runs.
pub fn run_all(selection: SeedSelection) -> (Vec<Report>, u64) {
    match selection {
        SeedSelection::One(seed) => {
            let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "debug".into());
            // Only the first subscriber of the process takes effect.
            let _ = tracing_subscriber::fmt().with_env_filter(filter).without_time().try_init();
            let report = run_guarded(seed);
            tracing::info!(report.calls, report.answered, "the run has ended");
            (if report.violations.is_empty() { Vec::new() } else { vec![report] }, 1)
        }
        SeedSelection::Count(count) | SeedSelection::UntilFailure(count) => {
            let max_failed = if selection == SeedSelection::Count(count) { MAX_FAILED } else { 1 };
            let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
            let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
            thread::scope(|scope| {
                for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                    scope.spawn(|| {
                        loop {
                            let seed = next.fetch_add(1, Ordering::Relaxed);
                            if seed >= count || lock().len() >= max_failed {
                                return;
                            }
                            let report = run_guarded(seed);
                            if !report.violations.is_empty() {
                                lock().push(report);
                            }
                        }
                    });
                }
            });
            let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
            failed.sort_by_key(|report| report.seed);
            (failed, next.into_inner().min(count))
        }
    }
}

fn run_guarded(seed: u64) -> Report {
    catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let violations = vec![format!("panicked: {}", text.unwrap_or("without a message"))];
        Report { seed, violations, events: Vec::new(), calls: 0, answered: 0 }
    })
}

/// Number of failed runs after which no further seeds start.
const MAX_FAILED: usize = 5;
