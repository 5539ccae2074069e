//! [`NodeLease`]: this node's id, which it leases in Redis.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_core::{Code, Error, contained};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, error, warn};

use super::{
    RedisUrl,
    client::{LeaseOutcome, LeaseRequest, RedisClient, RedisUnavailable},
};
use crate::{
    identity::{Epoch, NodeId, NodeKey},
    session::local_sessions::LocalSessions,
};

/// This node's id, which it leases in Redis.
pub(crate) struct NodeLease {
    client: Arc<RedisClient>,
    node: NodeKey,
    address: SocketAddr,
    /// The interval of renewals, and the lease.
    times: (Duration, Duration),
    state: Mutex<State>,
    /// Notified when the lease is acquired again after a gap.
    acquired: Notify,
    /// Notified when another node has the id.
    rejected: Notify,
    /// Triggers the next renewal early.
    renew_now: Notify,
}

#[derive(Debug, Clone, Copy)]
struct State {
    held_until: Option<Instant>,
    /// Counts the gaps in the lease. After a gap, all sessions have to be registered again.
    gaps: u64,
    /// The value of `gaps` at the last complete registration of all sessions.
    complete_at: u64,
}

impl NodeLease {
    /// Acquires the lease of an id: `wanted`, or the first free one from `likely` on.
    ///
    /// The lease lasts `times.1` and is renewed at the interval `times.0`.
    ///
    /// An id is free if no node holds its lease, or an earlier epoch of this node does, at the same address. A wanted
    /// id that is held is retried for the time of one lease.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if another node holds the wanted id or all ids are held, `Unavailable` if Redis does not answer
    /// within 10 s, `InvalidArgument` for an invalid URL.
    pub(crate) async fn acquire(
        url: &RedisUrl,
        (wanted, likely): (Option<NodeId>, NodeKey),
        address: SocketAddr,
        times: (Duration, Duration),
    ) -> Result<Self, Error> {
        let client = Arc::new(RedisClient::new(url)?);
        let started = Instant::now();
        let mut node = NodeKey { id: wanted.unwrap_or(likely.id), ..likely };
        let (mut attempts, mut acquired) = (0, None);
        while acquired.is_none() {
            let address = address.to_string();
            let request = LeaseRequest { node, address, connections: 0, is_complete: false, lease: times.1 };
            let asked = Instant::now();
            attempts += 1;
            match client.acquire_lease(&request).await {
                Ok(LeaseOutcome::Renewed | LeaseOutcome::Acquired) => acquired = Some(asked),
                // The clock was set back after an earlier start of this node.
                Ok(LeaseOutcome::Rejected { epoch, address })
                    if address == request.address && attempts < MAX_ATTEMPTS =>
                {
                    node.epoch = Epoch(epoch.0.saturating_add(1));
                }
                Ok(LeaseOutcome::Rejected { .. }) if wanted.is_none() && attempts < MAX_ATTEMPTS => {
                    node.id = node.id.next();
                }
                Ok(LeaseOutcome::Rejected { .. }) if wanted.is_some() && started.elapsed() <= times.1 => {
                    sleep(RETRY_PAUSE).await;
                }
                Ok(LeaseOutcome::Rejected { address, .. }) => {
                    let message = format!("the node at {address} holds the node id {} in redis", node.id);
                    return Err(Error::not_executed(Code::AlreadyExists, message));
                }
                Err(RedisUnavailable) if started.elapsed() <= START_TIME => sleep(RETRY_PAUSE).await,
                Err(RedisUnavailable) => {
                    let message = format!("redis at {} did not answer within {START_TIME:?}", client.address());
                    return Err(Error::not_executed(Code::Unavailable, message));
                }
            }
        }
        let held_until = acquired.map(|acquired| acquired + times.1);
        Ok(Self {
            client,
            node,
            address,
            times,
            state: Mutex::new(State { held_until, gaps: 0, complete_at: 0 }),
            acquired: Notify::new(),
            rejected: Notify::new(),
            renew_now: Notify::new(),
        })
    }

    pub(crate) fn node(&self) -> NodeKey {
        self.node
    }

    pub(super) fn client(&self) -> &Arc<RedisClient> {
        &self.client
    }

    /// Returns whether no other node can have acquired the id.
    pub(super) fn is_held(&self) -> bool {
        self.state().held_until.is_some_and(|until| Instant::now() < until)
    }

    /// Returns the number of gaps in the lease so far.
    pub(super) fn gaps(&self) -> u64 {
        self.state().gaps
    }

    /// Announces that all sessions were registered after this number of gaps.
    pub(super) fn set_complete(&self, gaps: u64) {
        let mut state = self.state();
        if state.complete_at != gaps {
            state.complete_at = gaps;
            drop(state);
            self.renew_now.notify_one();
        }
    }

    /// Waits until the lease is acquired again after a gap.
    pub(super) async fn acquired(&self) {
        self.acquired.notified().await;
    }

    /// Waits until Redis reports that another node has the id.
    pub(super) async fn rejected(&self) {
        self.rejected.notified().await;
    }

    /// Renews the lease until dropped.
    pub(super) async fn run(&self, sessions: &LocalSessions) {
        let (beat, _) = self.times;
        loop {
            let pause = match self.renew(sessions).await {
                Ok(()) => beat,
                Err(RedisUnavailable) => (beat / 6).min(RETRY_PAUSE),
            };
            let early = async {
                tokio::select! {
                    // Both branches are cancel safe: the next renewal follows either way.
                    () = self.renew_now.notified() => {}
                    () = self.client.lost() => {}
                }
            };
            let _ = timeout(pause, early).await;
        }
    }

    /// Releases the id.
    pub(super) async fn release(&self) {
        self.state().held_until = None;
        if let Err(error) = self.client.release_lease(self.node).await {
            contained(|| debug!(%error, "releasing the lease of the node id failed; the lease expires"));
        }
    }

    async fn renew(&self, sessions: &LocalSessions) -> Result<(), RedisUnavailable> {
        let asked = Instant::now();
        let state = *self.state();
        let request = LeaseRequest {
            node: self.node,
            address: self.address.to_string(),
            connections: sessions.len(),
            is_complete: state.complete_at == state.gaps,
            lease: self.times.1,
        };
        match self.client.acquire_lease(&request).await? {
            LeaseOutcome::Renewed => self.state().held_until = Some(asked + self.times.1),
            LeaseOutcome::Acquired => {
                contained(
                    || warn!(node = %self.node, "this node's lease in redis had expired; registering all sessions again"),
                );
                let mut state = self.state();
                (state.held_until, state.gaps) = (Some(asked + self.times.1), state.gaps + 1);
                self.acquired.notify_one();
            }
            LeaseOutcome::Rejected { address, .. } => {
                contained(
                    || error!(node = %self.node, %address, "another node holds this node's id in redis; closing all sessions"),
                );
                self.state().held_until = None;
                self.rejected.notify_one();
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum number of attempts to acquire an id: each id once, and once more with a later epoch.
const MAX_ATTEMPTS: u32 = 2 * (NodeId::MAX as u32 + 1);
/// The time for which a starting node waits for Redis.
const START_TIME: Duration = Duration::from_secs(10);
/// The pause after a failed attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
