//! [`Checks`]: the checks of the program that `/health` executes.

use std::{
    fmt::{self, Display},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

/// Checks by name. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Checks(Arc<Mutex<Vec<(String, Check)>>>);

type Check = Arc<dyn Fn() -> Checking + Send + Sync>;
type Checking = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl Checks {
    /// The time limit of a check.
    pub(crate) const TIME: Duration = Duration::from_secs(2);

    pub(crate) fn add<F, E>(&self, name: String, check: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let check = move || -> Checking {
            let checking = check();
            Box::pin(async move { checking.await.map_err(|error| error.to_string()) })
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name, Arc::new(check)));
    }

    /// Executes all checks at the same time. Returns the failed ones as `name: reason`, in the order of their addition.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the checks.
    pub(crate) async fn failures(&self) -> Vec<String> {
        let checks = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut running = JoinSet::new();
        let ids: Vec<_> = checks
            .iter()
            .map(|(_, check)| {
                let check = Arc::clone(check);
                // The call of the closure is in the task too, which contains its panic.
                running.spawn(async move { timeout(Self::TIME, check()).await }).id()
            })
            .collect();
        let mut failures = Vec::new();
        while let Some(ended) = running.join_next_with_id().await {
            let (id, reason) = match ended {
                Ok((_, Ok(Ok(())))) => continue,
                Ok((id, Ok(Err(reason)))) => (id, reason),
                Ok((id, Err(_))) => (id, format!("no result within {:?} (MonitorPort::CHECK_TIME)", Self::TIME)),
                Err(error) => (error.id(), "the check panicked".to_owned()),
            };
            failures.extend(ids.iter().position(|other| *other == id).map(|at| (at, reason)));
        }
        failures.sort();
        failures.into_iter().map(|(at, reason)| format!("{}: {reason}", checks[at].0)).collect()
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_list().entries(checks.iter().map(|(name, _)| name)).finish()
    }
}
