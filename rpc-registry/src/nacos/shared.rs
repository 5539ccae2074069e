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

use super::{
    backoff, catalog::Catalog, configuration::Configuration, http::Http, login::Login, naming::Naming, url::Config,
};
use crate::{supervision::log, tasks::Tasks, throttle::Throttle, watches::Watches};

/// The configuration, the connections and the counters of a handle.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    /// The URL without user and password.
    pub(super) url: String,
    pub(super) catalog: Catalog,
    pub(super) watches: Arc<Watches>,
    /// The watches of the rules of services.
    pub(super) rules: Arc<Watches<Arc<str>>>,
    /// All tasks of the handle.
    pub(super) tasks: Tasks,
    login: Arc<Login>,
    /// The connection of all watches; replaced when the runtime of its relay has ended.
    consumer: Mutex<Arc<OnceCell<Naming>>>,
    /// The connections of the watches of rules, as `consumer`.
    configuration: Mutex<Arc<OnceCell<Arc<Configuration>>>>,
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
            rules: Arc::default(),
            tasks: Tasks::new(),
            login,
            consumer: Mutex::default(),
            configuration: Mutex::default(),
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
        let consumer = {
            let mut consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
            if consumer.get().is_some_and(Naming::has_ended) {
                *consumer = Arc::default();
            }
            Arc::clone(&consumer)
        };
        let connect = || retried("no providers can be found; trying again", || self.connect());
        consumer.get_or_init(connect).await.clone()
    }

    /// Returns the connection of the watches if it is open.
    pub(super) fn existing_consumer(&self) -> Option<Naming> {
        let consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        consumer.get().filter(|naming| !naming.has_ended()).cloned()
    }

    /// Returns the connections of the watches of rules, as [`consumer`](Self::consumer).
    pub(super) async fn configuration(&self) -> Arc<Configuration> {
        let configuration = {
            let mut configuration = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
            if configuration.get().is_some_and(|configuration| configuration.has_ended()) {
                *configuration = Arc::default();
            }
            Arc::clone(&configuration)
        };
        let open = || async {
            let (config, login) = (Arc::clone(&self.config), Arc::clone(&self.login));
            Configuration::connect(config, login, &self.tasks).await.map(Arc::new)
        };
        Arc::clone(configuration.get_or_init(|| retried("no rules can be read; trying again", open)).await)
    }

    /// Returns the connections of the watches of rules if they are open.
    pub(super) fn existing_configuration(&self) -> Option<Arc<Configuration>> {
        let configuration = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
        configuration.get().filter(|configuration| !configuration.has_ended()).cloned()
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

/// Opens a connection, and retries without a time limit. Logs `problem` meanwhile.
async fn retried<T, F>(problem: &str, open: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    let (mut failures, warnings) = (0, Throttle::default());
    loop {
        match open().await {
            Ok(connection) => return connection,
            Err(error) => {
                failures += 1;
                if warnings.allow(Instant::now()) {
                    let cause = std::error::Error::source(&error);
                    log(|| tracing::warn!(%error, cause, "{problem}"));
                }
                tokio::time::sleep(backoff::delay(failures)).await;
            }
        }
    }
}
