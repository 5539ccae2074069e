//! [`Leases`]: which nodes hold their leases in Redis.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::server::{Away, Lease, Server};
use crate::identity::{NodeId, NodeKey};

/// Which nodes hold their leases in Redis, as it was a moment ago: so not everybody asks for it anew.
pub(super) struct Leases {
    server: Arc<Server>,
    /// As many as there are numbers for nodes.
    known: Mutex<HashMap<NodeId, Known>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    lease: Option<Lease>,
    asked: Instant,
    /// Since when nobody has held it, as far as it was asked for.
    free_since: Option<Instant>,
}

/// What is to be thought of one life of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It holds its lease.
    Lives,
    /// It does not. It may have been held up, and come back.
    Absent,
    /// There is a later one, or it has been absent for so long that it is not waited for.
    Over,
}

impl Leases {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, known: Mutex::default() }
    }

    /// What is to be thought of these. For who has read what they have entered before: one that is said not to live has entered it
    /// before it was asked for.
    pub(super) async fn standings(
        &self,
        nodes: impl Iterator<Item = NodeKey>,
    ) -> Result<HashMap<NodeKey, Standing>, Away> {
        let (begun, nodes) = (Instant::now(), nodes.collect::<BTreeSet<_>>());
        let lives = |known: &Known, node: &NodeKey| known.lease.is_some_and(|lease| lease.epoch == node.epoch);
        let is_news =
            |known: &Known, node: &NodeKey| known.asked < begun && (known.is_old(begun) || !lives(known, node));
        self.ask(&nodes, is_news).await?;
        let known = self.known();
        let standing = |node: &NodeKey| match known.get(&node.id) {
            Some(known) if lives(known, node) => Standing::Lives,
            Some(Known { lease: Some(lease), .. }) if lease.epoch > node.epoch => Standing::Over,
            Some(known) if known.free_since.is_some_and(|since| since.elapsed() >= PATIENCE) => Standing::Over,
            _ => Standing::Absent,
        };
        Ok(nodes.iter().map(|node| (*node, standing(node))).collect())
    }

    /// Whether all of them live and have all their sessions in the directory.
    pub(super) async fn are_whole(&self, nodes: &BTreeSet<NodeKey>) -> Result<bool, Away> {
        let begun = Instant::now();
        self.ask(nodes, |known, _| known.is_old(begun)).await?;
        let known = self.known();
        let is_whole = |lease: Lease, node: &NodeKey| lease.epoch == node.epoch && lease.is_whole;
        Ok(nodes.iter().all(|node| {
            known.get(&node.id).is_some_and(|known| known.lease.is_some_and(|lease| is_whole(lease, node)))
        }))
    }

    async fn ask(&self, nodes: &BTreeSet<NodeKey>, is_news: impl Fn(&Known, &NodeKey) -> bool) -> Result<(), Away> {
        let asked = Instant::now();
        let wanted: Vec<_> = {
            let known = self.known();
            let is_wanted = |node: &&NodeKey| known.get(&node.id).is_none_or(|known| is_news(known, node));
            nodes.iter().filter(is_wanted).map(|node| node.id).collect()
        };
        if wanted.is_empty() {
            return Ok(());
        }
        let leases = self.server.leases(&wanted).await?;
        let mut known = self.known();
        for (node, lease) in wanted.into_iter().zip(leases) {
            let before = known.get(&node).and_then(|known| known.free_since);
            let free_since = lease.is_none().then(|| before.unwrap_or(asked));
            known.insert(node, Known { lease, asked, free_since });
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<NodeId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked) >= FRESH
    }
}

/// For how long it is believed what was read.
const FRESH: Duration = Duration::from_millis(500);
/// How long what a node has entered is kept for it while it does not hold its lease.
const PATIENCE: Duration = Duration::from_secs(60);
