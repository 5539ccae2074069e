//! [`Doubt`]: tells all clients of this node that they may have missed something.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tracing::info;

use crate::{
    envelope::{Lagging, ServerFrame},
    session::local_sessions::Sessions,
};

/// Tells all clients of this node that they may have missed something: they ask for it, and have it then.
///
/// It is raised when other nodes could not know for a while who is here: they had lost sight of this node, could not ask it, or the
/// directory did not have its sessions.
pub(crate) struct Doubt {
    sessions: Arc<Sessions>,
    raised: Notify,
    count: AtomicU64,
    /// Clients that are told in a second.
    rate: u32,
}

impl Doubt {
    pub(crate) fn new(sessions: Arc<Sessions>, rate: u32) -> Self {
        Self { sessions, raised: Notify::new(), count: AtomicU64::new(0), rate }
    }

    pub(crate) fn raise(&self) {
        // First: clients that are told shall not be answered with what was known before.
        self.count.fetch_add(1, Ordering::AcqRel);
        self.raised.notify_one();
    }

    /// How often it was raised.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Tells clients for as long as it is polled: all that are there once it is raised, once, however often it was raised meanwhile.
    pub(crate) async fn run(&self) {
        loop {
            self.raised.notified().await;
            let begun = Instant::now();
            let sessions = self.sessions.len();
            info!(sessions, "clients of this node may have missed something, and are told to ask for it");
            self.sessions.tell_clients(ServerFrame::Lagging(Lagging::default()), self.rate).await;
            sleep(REST.saturating_sub(begun.elapsed())).await;
        }
    }
}

/// All are told at most this often: each of them asks for what it missed.
const REST: Duration = Duration::from_secs(1);
