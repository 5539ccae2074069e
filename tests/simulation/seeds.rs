//! [`run_all`]: many seeds, on all processors.

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

/// Which seeds to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// One, with tracing: `MSNB_SEED`.
    One(u64),
    /// This many, from 0: `MSNB_SEEDS`.
    Many(u64),
    /// This many, from 0, but none after the first that fails.
    UntilOneFails(u64),
}

impl Asked {
    /// What the environment asks for, else `default` many.
    ///
    /// # Panics
    ///
    /// For a variable that is no number.
    pub fn from_environment(default: u64) -> Self {
        let number = |name| {
            let value = env::var(name).ok()?;
            Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
        };
        match number("MSNB_SEED") {
            Some(seed) => Self::One(seed),
            None => Self::Many(number("MSNB_SEEDS").unwrap_or(default)),
        }
    }
}

/// Runs what was asked for; gives the reports of the runs in which something did not hold, the first few of them, and how many
/// runs there were.
pub fn run_all(asked: Asked) -> (Vec<Report>, u64) {
    match asked {
        Asked::One(seed) => {
            let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "debug".into());
            // A second one in this process changes nothing.
            let _ = tracing_subscriber::fmt().with_env_filter(filter).without_time().try_init();
            let report = run_guarded(seed);
            tracing::info!(report.calls, report.answered, "the run is over");
            (if report.violations.is_empty() { Vec::new() } else { vec![report] }, 1)
        }
        Asked::Many(count) | Asked::UntilOneFails(count) => {
            let enough = if asked == Asked::Many(count) { MOST_FAILED } else { 1 };
            let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
            let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
            thread::scope(|scope| {
                for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                    scope.spawn(|| {
                        loop {
                            let seed = next.fetch_add(1, Ordering::Relaxed);
                            if seed >= count || lock().len() >= enough {
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
        let violations = vec![format!("panicked: {}", text.unwrap_or("without a word"))];
        Report { seed, violations, story: Vec::new(), calls: 0, answered: 0 }
    })
}

/// After as many failed runs there is enough to look at.
const MOST_FAILED: usize = 5;
