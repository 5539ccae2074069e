//! [`ResyncNotifier`]: notifies all clients of this node that they may have missed messages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

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
/// A resync is requested when other nodes could not locate sessions of this node for a while: this node was absent from
/// their view, did not answer them, or its sessions were missing in the directory.
pub(crate) struct ResyncNotifier {
    sessions: Arc<LocalSessions>,
    requested: Notify,
    count: AtomicU64,
    /// The number of clients that are notified per second.
    rate: u32,
}

impl ResyncNotifier {
    pub(crate) fn new(sessions: Arc<LocalSessions>, rate: u32) -> Self {
        Self { sessions, requested: Notify::new(), count: AtomicU64::new(0), rate }
    }

    pub(crate) fn request(&self) {
        // Counted first, so that a notified client's sync does not use a leadership that was confirmed before the
        // request.
        self.count.fetch_add(1, Ordering::AcqRel);
        self.requested.notify_one();
    }

    /// Returns the number of requests so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
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
