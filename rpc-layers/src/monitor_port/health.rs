//! [`Checks`]: the checks of the program that `/health` executes.

use std::{
    fmt::{self, Display},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::SetOnce,
    task::JoinSet,
    time::{Instant, timeout},
};

/// Checks by name. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Checks(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    checks: Vec<(String, Check)>,
    /// The execution that runs or ended last.
    latest: Option<Arc<Execution>>,
}

/// An execution of all checks, for all requests that arrive until its results expire. Dropping it aborts the checks.
struct Execution {
    outcome: Arc<SetOnce<Outcome>>,
    _task: JoinSet<()>,
}

struct Outcome {
    /// The failed checks as `name: reason`, in the order of their addition.
    failures: Arc<[String]>,
    at: Instant,
}

impl Outcome {
    fn is_valid(&self) -> bool {
        self.at.elapsed() < Checks::VALIDITY
    }
}

type Check = Arc<dyn Fn() -> Checking + Send + Sync>;
type Checking = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl Checks {
    /// The time limit of a check.
    pub(crate) const TIME: Duration = Duration::from_secs(2);

    /// How long the results of the checks are valid.
    pub(crate) const VALIDITY: Duration = Duration::from_secs(1);

    pub(crate) fn add<F, E>(&self, name: String, check: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let check = move || -> Checking {
            let checking = check();
            Box::pin(async move { checking.await.map_err(|error| error.to_string()) })
        };
        let mut state = self.lock();
        state.checks.push((name, Arc::new(check)));
        // The next request executes the new check too; requests that wait own the previous execution. Dropped after the
        // lock, because that may drop the program's checks.
        let previous = state.latest.take();
        drop(state);
        drop(previous);
    }

    /// Returns the failed checks as `name: reason`, in the order of their addition.
    ///
    /// Executes all checks at the same time, unless an execution runs or ended less than [`VALIDITY`](Self::VALIDITY)
    /// ago.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time; the execution continues for other requests.
    pub(crate) async fn failures(&self) -> Arc<[String]> {
        let execution = self.execution();
        Arc::clone(&execution.outcome.wait().await.failures)
    }

    /// Returns the latest execution if its results are valid, or a new one.
    fn execution(&self) -> Arc<Execution> {
        let mut state = self.lock();
        let latest = state.latest.as_ref();
        if let Some(valid) = latest.filter(|latest| latest.outcome.get().is_none_or(Outcome::is_valid)) {
            return Arc::clone(valid);
        }
        let (checks, outcome) = (state.checks.clone(), Arc::<SetOnce<Outcome>>::default());
        let (executed, mut task) = (Arc::clone(&outcome), JoinSet::new());
        task.spawn(async move {
            let failures = execute(checks).await.into();
            // Only this task sets it.
            let _ = executed.set(Outcome { failures, at: Instant::now() });
        });
        let execution = Arc::new(Execution { outcome, _task: task });
        let previous = state.latest.replace(Arc::clone(&execution));
        drop(state);
        drop(previous);
        execution
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Executes checks at the same time. Returns the failed ones as `name: reason`, in the order of `checks`.
async fn execute(checks: Vec<(String, Check)>) -> Vec<String> {
    let mut running = JoinSet::new();
    let ids: Vec<_> = checks
        .iter()
        .map(|(_, check)| {
            let check = Arc::clone(check);
            // The call of the closure is in the task too, which contains its panic.
            running.spawn(async move { timeout(Checks::TIME, check()).await }).id()
        })
        .collect();
    let mut failures = Vec::new();
    while let Some(ended) = running.join_next_with_id().await {
        let (id, reason) = match ended {
            Ok((_, Ok(Ok(())))) => continue,
            Ok((id, Ok(Err(reason)))) => (id, reason),
            Ok((id, Err(_))) => (id, format!("no result within {:?} (MonitorPort::CHECK_TIME)", Checks::TIME)),
            Err(error) => (error.id(), "the check panicked".to_owned()),
        };
        failures.extend(ids.iter().position(|other| *other == id).map(|at| (at, reason)));
    }
    failures.sort();
    failures.into_iter().map(|(at, reason)| format!("{}: {reason}", checks[at].0)).collect()
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().checks.iter().map(|(name, _)| name)).finish()
    }
}
