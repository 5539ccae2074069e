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
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{backoff, catalog::Catalog, http::Http, login::Login, naming::Naming, url::Config};
use crate::{throttle::Throttle, watches::Watches};

/// The configuration, the connections and the counters of a handle.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    /// The URL without user and password.
    pub(super) url: String,
    pub(super) catalog: Catalog,
    pub(super) watches: Watches,
    /// The owner of all tasks of the handle.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    login: Arc<Login>,
    /// The connection of all watches.
    consumer: OnceCell<Naming>,
    /// Connections of addresses that are no longer registered, kept for reuse.
    ///
    /// At most one for each such address.
    idle: Mutex<Vec<Naming>>,
    unlisted: AtomicU64,
}

impl Shared {
    pub(super) fn new(config: Arc<Config>, http: Arc<Http>, login: Arc<Login>, stop: CancellationToken) -> Self {
        Self {
            url: config.to_string(),
            catalog: Catalog::new(Arc::clone(&config), http, Arc::clone(&login)),
            config,
            watches: Watches::default(),
            tasks: TaskTracker::new(),
            stop,
            login,
            consumer: OnceCell::new(),
            idle: Mutex::default(),
            unlisted: AtomicU64::new(0),
        }
    }

    /// Tries once to open a connection.
    pub(super) async fn connect(&self) -> Result<Naming, Error> {
        Naming::connect(Arc::clone(&self.config), Arc::clone(&self.login), &self.tasks).await
    }

    /// Returns the connection of the watches. The first caller opens it, and retries without a time limit.
    pub(super) async fn consumer(&self) -> &Naming {
        let connect = || async {
            let (mut failures, warnings) = (0, Throttle::default());
            loop {
                match self.connect().await {
                    Ok(naming) => return naming,
                    Err(error) => {
                        failures += 1;
                        if warnings.allow(Instant::now()) {
                            let cause = std::error::Error::source(&error);
                            tracing::warn!(%error, cause, "no providers can be found; trying again");
                        }
                        tokio::time::sleep(backoff::delay(failures)).await;
                    }
                }
            }
        };
        self.consumer.get_or_init(connect).await
    }

    /// Returns the connection of the watches if it has been opened.
    pub(super) fn existing_consumer(&self) -> Option<&Naming> {
        self.consumer.get()
    }

    pub(super) fn take_idle(&self) -> Option<Naming> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
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
