//! [`ResyncNotifier`]: notifies all clients of this node that they may have missed messages.

use std::{sync::Arc, time::Duration};

use rpc_core::contained;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tracing::info;

use super::local_sessions::LocalSessions;
use crate::envelope::{Lagging, ServerFrame};

/// Notifies all clients of this node that they may have missed messages, so that they sync.
///
/// A resync is requested when other nodes could not reach this node for a while, or its sessions were missing in the
/// directory.
pub(crate) struct ResyncNotifier {
    sessions: Arc<LocalSessions>,
    requested: Notify,
    /// The number of clients that are notified per second.
    rate: u32,
}

impl ResyncNotifier {
    pub(crate) fn new(sessions: Arc<LocalSessions>, rate: u32) -> Self {
        Self { sessions, requested: Notify::new(), rate }
    }

    pub(crate) fn request(&self) {
        self.requested.notify_one();
    }

    /// Notifies clients until dropped.
    ///
    /// Requests that arrive while clients are being notified are combined into one.
    pub(crate) async fn run(&self) {
        loop {
            self.requested.notified().await;
            let started = Instant::now();
            let sessions = self.sessions.len();
            contained(|| {
                info!(
                    sessions,
                    rate = self.rate,
                    "clients of this node may have missed messages; notifying them to sync"
                )
            });
            self.sessions.send_to_clients(ServerFrame::Lagging(Lagging::default()), self.rate).await;
            sleep(MIN_INTERVAL.saturating_sub(started.elapsed())).await;
        }
    }
}

/// The minimum interval between two resyncs, because each client answers with a sync.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
