//! [`RedisDirectory`]: the directory in a Redis server that all nodes share.
//!
//! | key | value |
//! |---|---|
//! | `im:node:<node>` | the term of the lease, a random number; exists while the node holds the lease |
//! | `im:user:<user>` | hash: device → node, session, term of the lease, and platform |
//! | `im:room:<channel>` | hash: side → the same |
//! | `im:replaced:<node>` | set: replaced sessions of the node that it has not released yet |
//! | `im:sessions:<node>` | set: session and user's key of each entry of the node |
//! | `im:nodes` | sorted set: node → the end of its lease in milliseconds since 1970 |
//! | `im:incarnation` | a random value |
//!
//! # Atomicity
//!
//! A claim reads the sessions of the user, decides with [`UserSessions`], and writes. The write is a script that fails
//! if the sessions have changed since they were read, or if the node does not hold its lease; then the claim starts
//! again. The script also records the replaced sessions for their nodes. Entries of nodes without a lease, and of an
//! earlier term of the lease, count as absent, and the next write removes them. Each renewal removes some of the entries
//! of a node whose lease has expired.
//!
//! # Lost entries
//!
//! [`Renewal::incarnation`] is a hash of `im:incarnation`, which FLUSHALL removes, of the run id of the server, which
//! changes when it restarts, and of its replication id, which changes when a replica becomes the primary. So a node
//! notices at its next renewal that entries may be lost, also when the server has loaded an older file. Until all nodes
//! have renewed their leases and restored their sessions, a device whose entry was lost may have two sessions.
//!
//! # Requirements
//!
//! Redis 5 or later. The scripts access several keys and compute some of their names, so they require a single primary
//! with or without replicas: Redis Cluster is not supported. `maxmemory-policy` must be `noeviction`, because Redis may
//! otherwise remove a lease before it expires. A user with restricted rights needs the commands `EVALSHA`, `SCRIPT` and
//! `INFO` and those in the scripts, and access to the keys `im:*`.

mod client;
mod fields;
mod url;

pub use url::RedisUrl;

use std::{collections::BTreeMap, time::Duration};

use client::{RedisClient, WriteOutcome};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rpc_core::{BoxFuture, Error};
use tokio::time::timeout;

use super::{
    ClaimError, ClaimRejection, Directory, DirectoryError, Policy, Renewal, SessionEntry, user_sessions::UserSessions,
};
use crate::identity::{NodeId, SessionId};

/// The directory in a Redis server that all nodes share.
pub struct RedisDirectory {
    client: RedisClient,
}

impl RedisDirectory {
    /// Connects to a server.
    ///
    /// When the connection is lost, all operations fail immediately; [`Directory::renew`] connects again.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidArgument`](rpc_core::Code::InvalidArgument) if the URL is invalid,
    /// [`Code::Unavailable`](rpc_core::Code::Unavailable) if the server does not answer or rejects the credentials,
    /// [`Code::FailedPrecondition`](rpc_core::Code::FailedPrecondition) if its `maxmemory-policy` is not `noeviction`.
    pub async fn connect(url: &RedisUrl) -> Result<Self, Error> {
        Ok(Self { client: RedisClient::connect(url).await? })
    }

    /// Changes the sessions of a user by compare-and-swap; returns the value of the attempt that succeeded.
    ///
    /// `change` returns an error to change nothing.
    async fn change<T>(
        &self,
        node: NodeId,
        user: &str,
        change: impl Fn(&mut UserSessions) -> Result<T, ClaimRejection>,
    ) -> Result<T, ClaimError> {
        for _ in 0..MAX_ATTEMPTS {
            let (holds_lease, mut hashes) = self.client.read(Some(node), &[user.to_owned()]).await?;
            if !holds_lease {
                return Err(ClaimError::NoLease);
            }
            let before = hashes.pop().unwrap_or_default();
            let mut sessions = UserSessions::new(before.valid.clone());
            let value = change(&mut sessions).map_err(ClaimError::Rejected)?;
            match self.client.write(node, user, &before, sessions.as_slice()).await? {
                WriteOutcome::Written => return Ok(value),
                WriteOutcome::Changed => {}
                WriteOutcome::NoLease => return Err(ClaimError::NoLease),
            }
        }
        Err(self.client.error("too many concurrent changes of the user's sessions").into())
    }

    /// Changes the sessions of a user within [`CHANGE_TIME`].
    async fn change_in_time<T>(
        &self,
        node: NodeId,
        user: &str,
        change: impl Fn(&mut UserSessions) -> Result<T, ClaimRejection>,
    ) -> Result<T, ClaimError> {
        let changed = timeout(CHANGE_TIME, self.change(node, user, change)).await;
        changed.unwrap_or_else(|_| Err(self.client.error("the change of a user's sessions exceeded 2 s").into()))
    }

    /// Restores sessions of one user; returns those that lose.
    async fn restore_user(
        &self,
        node: NodeId,
        entries: Vec<SessionEntry>,
        policy: Policy,
    ) -> Result<Vec<SessionId>, DirectoryError> {
        let Some(user) = entries.first().map(|entry| entry.user.clone()) else { return Ok(Vec::new()) };
        let restored = self.change_in_time(node, &user, |sessions| {
            for entry in &entries {
                // A rejected entry is not in the sessions afterwards, as one that another entry replaces.
                let _ = sessions.restore(entry.clone(), policy);
            }
            let losers = entries.iter().filter(|entry| !sessions.as_slice().contains(entry));
            Ok(losers.map(|entry| entry.session).collect())
        });
        restored.await.map_err(|error| match error {
            ClaimError::Unavailable(reason) => DirectoryError(reason),
            ClaimError::NoLease | ClaimError::Rejected(_) => DirectoryError(error.to_string()),
        })
    }
}

impl Directory for RedisDirectory {
    fn renew(&self, node: NodeId, lease: Duration) -> BoxFuture<'_, Result<Renewal, DirectoryError>> {
        Box::pin(self.client.renew(node, lease))
    }

    fn claim(&self, entry: SessionEntry, policy: Policy) -> BoxFuture<'_, Result<Vec<SessionEntry>, ClaimError>> {
        Box::pin(async move {
            let claim = |sessions: &mut UserSessions| sessions.claim(entry.clone(), policy);
            self.change_in_time(entry.node, &entry.user, claim).await
        })
    }

    fn restore(
        &self,
        node: NodeId,
        entries: Vec<SessionEntry>,
        policy: Policy,
    ) -> BoxFuture<'_, Result<Vec<SessionId>, DirectoryError>> {
        Box::pin(async move {
            let mut users: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for entry in entries {
                users.entry(entry.user.clone()).or_default().push(entry);
            }
            let restores = stream::iter(users.into_values().map(|entries| self.restore_user(node, entries, policy)));
            let losers: Vec<_> = restores.buffer_unordered(MAX_RESTORES).try_collect().await?;
            Ok(losers.concat())
        })
    }

    fn release(&self, entries: Vec<SessionEntry>) -> BoxFuture<'_, Result<(), DirectoryError>> {
        Box::pin(async move {
            for chunk in entries.chunks(MAX_CHUNK) {
                self.client.release(chunk).await?;
            }
            Ok(())
        })
    }

    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<SessionEntry>>, DirectoryError>> {
        Box::pin(async move {
            let mut sessions = Vec::with_capacity(users.len());
            for chunk in users.chunks(MAX_CHUNK) {
                let (_, hashes) = self.client.read(None, chunk).await?;
                sessions.extend(hashes.into_iter().map(|hash| hash.valid));
            }
            Ok(sessions)
        })
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), DirectoryError>> {
        Box::pin(self.client.leave(node))
    }
}

impl From<DirectoryError> for ClaimError {
    fn from(DirectoryError(reason): DirectoryError) -> Self {
        Self::Unavailable(reason)
    }
}

/// The maximum number of attempts to change the sessions of a user while other nodes change them: all devices of the
/// user may log in at the same time, and one of them succeeds in each round.
const MAX_ATTEMPTS: usize = UserSessions::MAX;
/// The time limit of all attempts.
const CHANGE_TIME: Duration = Duration::from_secs(2);
/// The maximum number of users whose sessions are restored concurrently.
const MAX_RESTORES: usize = 64;
/// The maximum number of sessions or users in one script.
const MAX_CHUNK: usize = 256;
