//! [`Shared`]: the state that the tasks of one handle share.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rpc_core::Error;
use tokio::sync::OnceCell;

use super::{backoff, catalog::Catalog, http::Http, login::Login, naming::Naming, url::Config};
use crate::{supervision::log, tasks::Tasks, throttle::Throttle, watches::Watches};

/// The configuration, the connections and the counters of a handle.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    /// The URL without user and password.
    pub(super) url: String,
    pub(super) catalog: Catalog,
    pub(super) watches: Arc<Watches>,
    /// All tasks of the handle.
    pub(super) tasks: Tasks,
    login: Arc<Login>,
    /// The connection of all watches; replaced when the runtime of its relay has ended.
    consumer: Mutex<Arc<OnceCell<Naming>>>,
    /// Connections of addresses that are no longer registered, kept for reuse.
    ///
    /// At most one for each such address.
    idle: Mutex<Vec<Naming>>,
    unlisted: AtomicU64,
}

impl Shared {
    pub(super) fn new(config: Arc<Config>, http: Arc<Http>, login: Arc<Login>) -> Self {
        Self {
            url: config.to_string(),
            catalog: Catalog::new(Arc::clone(&config), http, Arc::clone(&login)),
            config,
            watches: Arc::default(),
            tasks: Tasks::new(),
            login,
            consumer: Mutex::default(),
            idle: Mutex::default(),
            unlisted: AtomicU64::new(0),
        }
    }

    /// Tries once to open a connection.
    pub(super) async fn connect(&self) -> Result<Naming, Error> {
        Naming::connect(Arc::clone(&self.config), Arc::clone(&self.login), &self.tasks).await
    }

    /// Returns the connection of the watches. The first caller opens it, and retries without a time limit.
    pub(super) async fn consumer(&self) -> Naming {
        let connect = || async {
            let (mut failures, warnings) = (0, Throttle::default());
            loop {
                match self.connect().await {
                    Ok(naming) => return naming,
                    Err(error) => {
                        failures += 1;
                        if warnings.allow(Instant::now()) {
                            let cause = std::error::Error::source(&error);
                            log(|| tracing::warn!(%error, cause, "no providers can be found; trying again"));
                        }
                        tokio::time::sleep(backoff::delay(failures)).await;
                    }
                }
            }
        };
        let consumer = {
            let mut consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
            if consumer.get().is_some_and(Naming::has_ended) {
                *consumer = Arc::default();
            }
            Arc::clone(&consumer)
        };
        consumer.get_or_init(connect).await.clone()
    }

    /// Returns the connection of the watches if it is open.
    pub(super) fn existing_consumer(&self) -> Option<Naming> {
        let consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        consumer.get().filter(|naming| !naming.has_ended()).cloned()
    }

    pub(super) fn take_idle(&self) -> Option<Naming> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|naming| !naming.has_ended());
        idle.pop()
    }

    pub(super) fn add_idle(&self, naming: Naming) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(naming);
    }

    pub(super) fn unlisted_count(&self) -> u64 {
        self.unlisted.load(Ordering::Relaxed)
    }

    pub(super) fn count_unlisted(&self) {
        self.unlisted.fetch_add(1, Ordering::Relaxed);
    }
}
