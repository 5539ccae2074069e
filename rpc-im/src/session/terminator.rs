//! [`SessionTerminator`]: ends sessions on any node.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use rpc_core::{TokenBucket, contained};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, warn};

use super::local_sessions::LocalSessions;
use crate::{
    cluster::{local_node::LocalNode, router::NodeRouter, rpc::NodeForwardClient},
    directory::SessionEntry,
    identity::{NodeId, SessionId},
};

/// Ends sessions on any node in the background, also after the session that replaced them has ended.
pub(crate) struct SessionTerminator {
    local: Arc<LocalNode>,
    sessions: Arc<LocalSessions>,
    router: Arc<NodeRouter>,
    queue: mpsc::Sender<Termination>,
    waiting: Mutex<mpsc::Receiver<Termination>>,
    /// Limits the rate of warnings.
    warnings: std::sync::Mutex<TokenBucket>,
}

struct Termination {
    entries: Vec<SessionEntry>,
    reason: String,
}

impl SessionTerminator {
    pub(crate) fn new(local: Arc<LocalNode>, sessions: Arc<LocalSessions>, router: Arc<NodeRouter>) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let warnings = TokenBucket::new(1.0, WARNINGS_PER_SECOND, Instant::now()).into();
        Self { local, sessions, router, queue, waiting: Mutex::new(waiting), warnings }
    }

    /// Queues these sessions to be ended.
    pub(crate) fn terminate(&self, entries: Vec<SessionEntry>, reason: &str) {
        if entries.is_empty() {
            return;
        }
        let termination = Termination { entries, reason: reason.to_owned() };
        let may_warn = || self.warnings.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()).is_ok();
        if self.queue.try_send(termination).is_err() && may_warn() {
            contained(|| {
                warn!(limit = MAX_WAITING, "too many sessions to end; some end when their nodes renew their leases")
            });
        }
    }

    /// Ends queued sessions until dropped. At most one caller runs it.
    pub(crate) async fn run(&self) {
        let mut waiting = self.waiting.lock().await;
        let mut calls = JoinSet::new();
        while let Some(Termination { entries, reason }) = waiting.recv().await {
            let mut by_node = HashMap::<NodeId, Vec<SessionId>>::new();
            for entry in entries {
                by_node.entry(entry.node).or_default().push(entry.session);
            }
            for (node, sessions) in by_node {
                if node == self.local.id() {
                    for session in sessions {
                        self.sessions.kick(session, &reason);
                    }
                    continue;
                }
                if calls.len() >= MAX_CALLS {
                    calls.join_next().await;
                }
                calls.spawn(kick(Arc::clone(&self.router), node, sessions, reason.clone()));
            }
            while calls.try_join_next().is_some() {}
        }
    }
}

async fn kick(router: Arc<NodeRouter>, node: NodeId, sessions: Vec<SessionId>, reason: String) {
    let client = NodeForwardClient::new(router.client().clone());
    // Otherwise the node learns of replaced sessions when it renews its lease.
    let Some(address) = router.view().node(node).map(|node| node.address) else { return };
    if let Err(error) = client.kick(node, sessions, reason).address(address).await {
        contained(|| debug!(%node, %error, "ending sessions of a node failed; it ends them when it renews its lease"));
    }
}

/// The maximum number of queued terminations.
const MAX_WAITING: usize = 8192;
/// The rate of warnings about a full queue.
const WARNINGS_PER_SECOND: f64 = 0.1;
/// The maximum number of concurrent calls to other nodes.
const MAX_CALLS: usize = 64;
