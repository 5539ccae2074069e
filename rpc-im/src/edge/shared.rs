//! [`Shared`] and [`Booked`]: the state of an edge that its connections share, and the permits of one connection.

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{config::EdgeConfig, metrics::Metrics, watch::Watch};
use crate::{
    Node,
    auth::{Accounts, Secret},
};

/// State that all connections of an edge share.
pub(super) struct Shared {
    pub(super) node: Arc<Node>,
    pub(super) secret: Secret,
    pub(super) accounts: Accounts,
    pub(super) config: EdgeConfig,
    pub(super) metrics: Metrics,
    pub(super) watch: Arc<Watch>,
    pub(super) tasks: TaskTracker,
    /// Permits of all connections, [`EdgeConfig::max_connections`].
    pub(super) connections: Arc<Semaphore>,
    /// Permits of connections that have not logged in yet, [`EdgeConfig::max_entering`].
    pub(super) logins: Arc<Semaphore>,
    /// Closes the connections that are still open after the drain.
    pub(super) abort: CancellationToken,
}

/// One TCP connection with its permits, which it returns on drop.
pub(super) struct Booked {
    pub(super) shared: Arc<Shared>,
    _connection: OwnedSemaphorePermit,
    /// Held until the connection carries a session or a side of a pairing room.
    login: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Shared {
    /// Returns the node's name as clients receive it.
    pub(super) fn name(&self) -> String {
        self.node.key().id.to_string()
    }
}

impl Booked {
    /// Acquires the permits of a new connection.
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, TryAcquireError> {
        let connection = Arc::clone(&shared.connections).try_acquire_owned()?;
        let login = Arc::clone(&shared.logins).try_acquire_owned()?;
        shared.metrics.connections.fetch_add(1, Relaxed);
        Ok(Self { shared: Arc::clone(shared), _connection: connection, login: Mutex::new(Some(login)) })
    }

    /// Returns the login permit: the connection carries a session or a side of a pairing room.
    pub(super) fn has_entered(&self) {
        self.login.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Booked {
    fn drop(&mut self) {
        self.shared.metrics.connections.fetch_sub(1, Relaxed);
    }
}
