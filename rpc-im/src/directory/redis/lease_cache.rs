//! [`LeaseCache`]: the leases of all nodes, read from Redis and cached for a moment.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::client::{LeaseRecord, RedisClient, RedisUnavailable};
use crate::identity::{NodeId, NodeKey};

/// The leases of all nodes, cached for [`MAX_AGE`], so that not every lookup reads them.
pub(super) struct LeaseCache {
    client: Arc<RedisClient>,
    /// The number of node ids limits the size.
    cached: Mutex<HashMap<NodeId, CachedLease>>,
}

#[derive(Debug, Clone, Copy)]
struct CachedLease {
    lease: Option<LeaseRecord>,
    /// The time before the lease was read.
    read_at: Instant,
    /// The first of the consecutive reads that found the lease free.
    free_since: Option<Instant>,
}

/// The state of the lease of one epoch of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseStatus {
    /// The node holds its lease.
    Active,
    /// The node does not hold its lease. It may have been suspended and return.
    Lapsed,
    /// A later epoch holds the lease, or it has been free for [`MAX_LAPSE`].
    Expired,
}

impl LeaseCache {
    pub(super) fn new(client: Arc<RedisClient>) -> Self {
        Self { client, cached: Mutex::default() }
    }

    /// Returns the states of these nodes' leases.
    ///
    /// The caller has read the nodes' entries before: a node without an active lease wrote them before its lease was
    /// read.
    pub(super) async fn statuses(
        &self,
        nodes: impl Iterator<Item = NodeKey>,
    ) -> Result<HashMap<NodeKey, LeaseStatus>, RedisUnavailable> {
        let (started, nodes) = (Instant::now(), nodes.collect::<BTreeSet<_>>());
        let is_active = |cached: &CachedLease, node: &NodeKey| cached.lease.is_some_and(|it| it.epoch == node.epoch);
        let is_stale = |cached: &CachedLease, node: &NodeKey| {
            cached.read_at < started && (cached.is_old(started) || !is_active(cached, node))
        };
        self.refresh(&nodes, is_stale).await?;
        let cached = self.cached();
        let status = |node: &NodeKey| match cached.get(&node.id) {
            Some(cached) if is_active(cached, node) => LeaseStatus::Active,
            Some(CachedLease { lease: Some(lease), .. }) if lease.epoch > node.epoch => LeaseStatus::Expired,
            Some(cached) if cached.free_since.is_some_and(|since| since.elapsed() >= MAX_LAPSE) => LeaseStatus::Expired,
            _ => LeaseStatus::Lapsed,
        };
        Ok(nodes.iter().map(|node| (*node, status(node))).collect())
    }

    /// Returns whether all of these nodes hold their leases and have all their sessions in the directory.
    pub(super) async fn are_complete(&self, nodes: &BTreeSet<NodeKey>) -> Result<bool, RedisUnavailable> {
        let started = Instant::now();
        self.refresh(nodes, |cached, _| cached.is_old(started)).await?;
        let cached = self.cached();
        let is_complete = |lease: LeaseRecord, node: &NodeKey| lease.epoch == node.epoch && lease.is_complete;
        Ok(nodes.iter().all(|node| {
            cached.get(&node.id).is_some_and(|cached| cached.lease.is_some_and(|lease| is_complete(lease, node)))
        }))
    }

    /// Reads the leases that are not cached, or for which `is_stale` returns true.
    async fn refresh(
        &self,
        nodes: &BTreeSet<NodeKey>,
        is_stale: impl Fn(&CachedLease, &NodeKey) -> bool,
    ) -> Result<(), RedisUnavailable> {
        let read_at = Instant::now();
        let wanted: Vec<_> = {
            let cached = self.cached();
            let is_wanted = |node: &&NodeKey| cached.get(&node.id).is_none_or(|cached| is_stale(cached, node));
            nodes.iter().filter(is_wanted).map(|node| node.id).collect()
        };
        if wanted.is_empty() {
            return Ok(());
        }
        let leases = self.client.leases(&wanted).await?;
        let mut cached = self.cached();
        for (node, lease) in wanted.into_iter().zip(leases) {
            let before = cached.get(&node).and_then(|cached| cached.free_since);
            let free_since = lease.is_none().then(|| before.unwrap_or(read_at));
            cached.insert(node, CachedLease { lease, read_at, free_since });
        }
        Ok(())
    }

    fn cached(&self) -> MutexGuard<'_, HashMap<NodeId, CachedLease>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachedLease {
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.read_at) >= MAX_AGE
    }
}

/// The maximum age of a cached lease.
const MAX_AGE: Duration = Duration::from_millis(500);
/// The time for which the directory keeps the entries of a node that does not hold its lease.
const MAX_LAPSE: Duration = Duration::from_secs(60);
