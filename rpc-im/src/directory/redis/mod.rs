//! [`RedisDirectory`]: the directory in a Redis server that all nodes share.
//!
//! | key | value | lifetime |
//! |---|---|---|
//! | `im:node:<id>` | epoch, address and connections of the node with this id, and whether the directory has all its sessions | a lease, which the node renews |
//! | `im:user:<id>` | device → node, epoch, session and platform | a day after the last login; a node registers its sessions again every five minutes |
//! | `im:room:<channel>` | side → the same | the same |
//!
//! An entry is valid while its node holds its lease in that epoch. A node that could not renew its lease rejects logins
//! until it has acquired the lease again. Then it registers all its sessions again, and those that have lost to others
//! in the meantime end. Each script and command has one key.

mod client;
mod fields;
mod lease;
mod lease_cache;
mod url;

pub(crate) use lease::NodeLease;
pub use url::RedisUrl;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use client::{RedisClient, RedisUnavailable};
use futures_util::{
    StreamExt as _,
    future::{join, try_join_all},
    stream,
};
use lease_cache::{LeaseCache, LeaseStatus};
use rpc_core::{BoxFuture, contained};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::{
    AUDIT_INTERVAL, CLAIM_PAUSE, CLAIM_TIME, ClaimError, Directory, LookupResult, Policy, REPLACED, SessionEntry,
    user_sessions::{ClaimRejection, UserSessions, excludes},
};
use crate::{
    cluster::router::NodeRouter,
    session::{local_sessions::LocalSessions, resync::ResyncNotifier, terminator::SessionTerminator},
};

/// The directory in a Redis server that all nodes share.
pub(crate) struct RedisDirectory {
    lease: NodeLease,
    lease_cache: LeaseCache,
    router: Arc<NodeRouter>,
    sessions: Arc<LocalSessions>,
    terminator: Arc<SessionTerminator>,
    resync: Arc<ResyncNotifier>,
    policy: Policy,
    /// Sessions that have ended and are to be removed from Redis.
    releases: Mutex<VecDeque<SessionEntry>>,
}

/// The rules by which a session is registered.
#[derive(Debug, Clone, Copy)]
enum Registration {
    /// The session is new.
    New,
    /// The session was registered before.
    Restored,
}

/// The reason why a session was not registered.
enum RegisterError {
    Rejected(ClaimRejection),
    Unavailable,
    /// Other nodes changed the user's sessions during each of [`MAX_WRITES`] attempts.
    Contended,
}

impl RedisDirectory {
    pub(crate) fn new(
        lease: NodeLease,
        router: Arc<NodeRouter>,
        sessions: Arc<LocalSessions>,
        terminator: Arc<SessionTerminator>,
        resync: Arc<ResyncNotifier>,
        policy: Policy,
    ) -> Self {
        let lease_cache = LeaseCache::new(Arc::clone(lease.client()));
        Self { lease, lease_cache, router, sessions, terminator, resync, policy, releases: Mutex::default() }
    }

    /// Registers a session; returns the sessions that it replaces.
    ///
    /// Each attempt is a compare-and-swap of the user's sessions.
    async fn register(
        &self,
        entry: &SessionEntry,
        registration: Registration,
    ) -> Result<Vec<SessionEntry>, RegisterError> {
        let policy = entry.policy(self.policy);
        for _ in 0..MAX_WRITES {
            let before = self.client().sessions(std::slice::from_ref(&entry.user)).await?.pop().unwrap_or_default();
            let entries = fields::decode(&entry.user, &before);
            let statuses = self.lease_cache.statuses(entries.iter().map(|entry| entry.node)).await?;
            let has_status = |status, entry: &SessionEntry| statuses[&entry.node] == status;
            let active = entries.iter().filter(|entry| has_status(LeaseStatus::Active, entry)).cloned().collect();
            let mut sessions = UserSessions::new(active);
            let mut replaced = match registration {
                Registration::New => sessions.claim(entry.clone(), policy),
                Registration::Restored => sessions.restore(entry.clone(), policy),
            }
            .map_err(RegisterError::Rejected)?;
            let mut after = sessions.into_entries();
            // A node with a lapsed lease may return: its sessions stay, except those that this session excludes, which
            // end then.
            for lapsed in entries.iter().filter(|entry| has_status(LeaseStatus::Lapsed, entry)).cloned() {
                let list = if excludes(policy.scope, &lapsed, entry) { &mut replaced } else { &mut after };
                list.push(lapsed);
            }
            if self.client().replace_sessions(&entry.user, &before, &after).await? {
                return Ok(replaced);
            }
        }
        Err(RegisterError::Contended)
    }

    async fn try_claim(&self, entry: &SessionEntry) -> Result<(), ClaimError> {
        let unavailable = |message: &str| Err(ClaimError::Unavailable(message.to_owned()));
        if !self.lease.is_held() {
            return unavailable("this node does not hold its lease in redis");
        }
        match self.register(entry, Registration::New).await {
            Ok(replaced) => {
                self.terminator.terminate(replaced, REPLACED);
                Ok(())
            }
            Err(RegisterError::Rejected(rejection)) => Err(rejection.into()),
            Err(RegisterError::Unavailable) => unavailable("redis does not answer"),
            Err(RegisterError::Contended) => unavailable("too many concurrent logins of the user"),
        }
    }

    /// Registers all sessions of this node again and ends those that lose; returns the number of all.
    async fn restore_all(&self) -> Result<usize, RedisUnavailable> {
        let entries = self.sessions.registered();
        let count = entries.len();
        let restores = stream::iter(entries).map(|entry| self.restore(entry));
        let mut restores = std::pin::pin!(restores.buffer_unordered(MAX_RESTORES));
        while let Some(outcome) = restores.next().await {
            outcome?;
        }
        Ok(count)
    }

    async fn restore(&self, entry: SessionEntry) -> Result<(), RedisUnavailable> {
        match self.register(&entry, Registration::Restored).await {
            Ok(replaced) => self.terminator.terminate(replaced, REPLACED),
            Err(RegisterError::Rejected(_)) => drop(self.sessions.kick(entry.session, REPLACED)),
            // The next audit repeats the registration.
            Err(RegisterError::Contended) => {}
            Err(RegisterError::Unavailable) => return Err(RedisUnavailable),
        }
        // The session may have ended, and been released, before it was registered.
        if !self.sessions.contains(entry.session) {
            self.queue_release(entry);
        }
        Ok(())
    }

    /// Queues a session to be removed from Redis.
    fn queue_release(&self, entry: SessionEntry) {
        let mut releases = self.releases();
        if releases.len() < MAX_RELEASES {
            releases.push_back(entry);
        } else {
            contained(|| {
                warn!(
                    limit = MAX_RELEASES,
                    "too many sessions ended while redis did not answer; failed deliveries will remove some of them"
                )
            });
        }
    }

    /// Removes the queued sessions from Redis. At most one caller at a time.
    async fn execute_releases(&self) -> Result<(), RedisUnavailable> {
        loop {
            let Some(entry) = self.releases().front().cloned() else { return Ok(()) };
            self.client().remove_session(&entry).await?;
            self.releases().pop_front();
        }
    }

    /// Registers all sessions after each gap in the lease and at each audit, until dropped.
    ///
    /// Also removes the queued ended sessions.
    async fn maintain_entries(&self) {
        let mut restored = (self.lease.gaps(), Instant::now());
        loop {
            let gaps = self.lease.gaps();
            if self.lease.is_held() {
                let is_due = restored.0 != gaps || restored.1.elapsed() >= AUDIT_INTERVAL;
                if is_due && let Ok(sessions) = self.restore_all().await {
                    if restored.0 != gaps {
                        contained(|| info!(sessions, "all sessions of this node are registered in redis again"));
                        // While the entries were missing, other nodes may not have delivered to these sessions.
                        self.resync.request();
                    }
                    restored = (gaps, Instant::now());
                    self.lease.set_complete(gaps);
                }
                // The next iteration continues after a failure.
                let _ = self.execute_releases().await;
            }
            let _ = timeout(CHECK_INTERVAL, self.lease.acquired()).await;
        }
    }

    /// Ends all sessions whenever another node has this node's id: no other node can locate them.
    async fn close_when_rejected(&self) {
        loop {
            self.lease.rejected().await;
            self.sessions.close_all();
        }
    }

    /// Returns whether the directory has all sessions of all nodes in the view.
    async fn is_complete(&self) -> Result<bool, RedisUnavailable> {
        if !self.lease.is_held() {
            return Ok(false);
        }
        self.lease_cache.are_complete(&self.router.view().nodes.iter().map(|node| node.key).collect()).await
    }

    async fn try_lookup(&self, users: &[String]) -> Result<Vec<LookupResult>, RedisUnavailable> {
        // Checked before the entries are read: a node that is complete now had registered its sessions before the read.
        let is_complete = self.is_complete().await?;
        let fields = self.client().sessions(users).await?;
        let read: Vec<_> = users.iter().zip(&fields).map(|(user, fields)| fields::decode(user, fields)).collect();
        let statuses = self.lease_cache.statuses(read.iter().flatten().map(|entry| entry.node)).await?;
        let expired = read.iter().flatten().filter(|entry| statuses[&entry.node] == LeaseStatus::Expired);
        // The next lookup removes what this one cannot.
        let _ = try_join_all(expired.map(|entry| self.client().remove_session(entry))).await;
        let results = read.into_iter().map(|mut entries| {
            entries.retain(|entry| statuses[&entry.node] == LeaseStatus::Active);
            if is_complete { LookupResult::Complete(entries) } else { LookupResult::Partial(entries) }
        });
        Ok(results.collect())
    }

    fn client(&self) -> &RedisClient {
        self.lease.client()
    }

    fn releases(&self) -> MutexGuard<'_, VecDeque<SessionEntry>> {
        self.releases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory for RedisDirectory {
    fn claim(&self, entry: SessionEntry) -> BoxFuture<'_, Result<(), ClaimError>> {
        Box::pin(async move {
            let started = Instant::now();
            loop {
                match self.try_claim(&entry).await {
                    Err(ClaimError::Unavailable(_)) if started.elapsed() < CLAIM_TIME => sleep(CLAIM_PAUSE).await,
                    outcome => {
                        if outcome.is_ok() {
                            self.sessions.set_registered(entry.session);
                        }
                        return outcome;
                    }
                }
            }
        })
    }

    fn release(&self, entry: SessionEntry) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.client().remove_session(&entry).await.is_err() {
                self.queue_release(entry);
            }
        })
    }

    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Vec<LookupResult>> {
        Box::pin(async move {
            let results = self.try_lookup(&users).await;
            results.unwrap_or_else(|RedisUnavailable| vec![LookupResult::Partial(Vec::new()); users.len()])
        })
    }

    fn run(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let entries = join(self.lease.run(&self.sessions), self.maintain_entries());
            join(entries, self.close_when_rejected()).await;
        })
    }

    fn is_ready(&self) -> bool {
        self.lease.is_held()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // After a failure the entries end with the lease.
            let _ = self.execute_releases().await;
            self.lease.release().await;
        })
    }
}

impl From<RedisUnavailable> for RegisterError {
    fn from(RedisUnavailable: RedisUnavailable) -> Self {
        Self::Unavailable
    }
}

/// The maximum number of attempts to write the sessions of a user while other nodes change them.
const MAX_WRITES: u32 = 16;
/// The maximum number of sessions that are restored concurrently.
const MAX_RESTORES: usize = 64;
/// The maximum number of ended sessions that wait to be removed from Redis.
const MAX_RELEASES: usize = 65_536;
/// The interval at which the node checks whether sessions have to be registered or removed.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
