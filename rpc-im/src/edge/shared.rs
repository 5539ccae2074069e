//! [`Shared`]: the state of all connections of an edge; [`AdmittedConnection`]: the permits of one.

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{config::EdgeConfig, metrics::Metrics, watch::Watchdog};
use crate::{
    Node,
    auth::{Accounts, Secret},
};

/// The state that all connections of an edge share.
pub(super) struct Shared {
    pub(super) node: Arc<Node>,
    pub(super) secret: Secret,
    pub(super) accounts: Accounts,
    pub(super) config: EdgeConfig,
    pub(super) metrics: Metrics,
    pub(super) watchdog: Arc<Watchdog>,
    pub(super) tasks: TaskTracker,
    /// The permits of all connections, [`EdgeConfig::max_connections`].
    pub(super) connections: Arc<Semaphore>,
    /// The permits of connections that are not logged in, [`EdgeConfig::max_entering`].
    pub(super) logins: Arc<Semaphore>,
    /// Closes the connections that are still open after the drain.
    pub(super) abort: CancellationToken,
}

/// One TCP connection with its permits, which it releases on drop.
pub(super) struct AdmittedConnection {
    pub(super) shared: Arc<Shared>,
    _connection_permit: OwnedSemaphorePermit,
    /// Held until the connection carries a session or a side of a pairing room.
    login_permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Shared {
    /// Returns the node's name as clients receive it.
    pub(super) fn name(&self) -> String {
        self.node.name().to_owned()
    }
}

impl AdmittedConnection {
    /// Acquires the permits of a new connection, or returns an error if a limit is reached.
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, TryAcquireError> {
        let connection_permit = Arc::clone(&shared.connections).try_acquire_owned()?;
        let login_permit = Arc::clone(&shared.logins).try_acquire_owned()?;
        shared.metrics.connections.fetch_add(1, Relaxed);
        Ok(Self {
            shared: Arc::clone(shared),
            _connection_permit: connection_permit,
            login_permit: Mutex::new(Some(login_permit)),
        })
    }

    /// Releases the login permit, once the connection carries a session or a side of a pairing room.
    pub(super) fn release_login_permit(&self) {
        self.login_permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for AdmittedConnection {
    fn drop(&mut self) {
        self.shared.metrics.connections.fetch_sub(1, Relaxed);
    }
}
