//! [`RedisClient`]: the directory's scripts on a Redis server, over one connection, with time limits.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, InfoDict, RedisError, Script, ScriptInvocation,
    aio::MultiplexedConnection,
};
use rpc_core::{Code, Error, contained, stable_hash};
use tokio::{sync::Semaphore, time::timeout};
use tracing::{info, warn};

use super::{
    RedisUrl,
    fields::{self, UserHash},
};
use crate::{
    directory::{DirectoryError, Renewal, SessionEntry},
    identity::{NodeId, SessionId},
};

/// The directory's scripts on a Redis server, over one connection.
///
/// When the server does not answer in time, all scripts fail immediately until [`renew`](Self::renew) has connected
/// again. So a node does not use a server before it has learned whether the server lost entries.
pub(super) struct RedisClient {
    client: Client,
    link: Mutex<Link>,
    /// Held by the caller that connects.
    connecting: tokio::sync::Mutex<()>,
    permits: Semaphore,
    scripts: Scripts,
}

#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    /// Counts the connections.
    number: u64,
}

struct Scripts {
    renew: Script,
    read: Script,
    write: Script,
    release: Script,
    leave: Script,
}

/// The outcome of [`RedisClient::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// The sessions are changed.
    Written,
    /// The sessions were not the expected ones.
    Changed,
    /// The node does not hold its lease.
    NoLease,
}

impl RedisClient {
    /// Connects to a server.
    pub(super) async fn connect(url: &RedisUrl) -> Result<Self, Error> {
        // The error does not contain the URL, which may have a password.
        let client = Client::open(url.as_str())
            .map_err(|error| Error::not_executed(Code::InvalidArgument, format!("invalid Redis URL: {error}")))?;
        let client = Self {
            client,
            link: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            permits: Semaphore::new(MAX_CONCURRENT),
            scripts: Scripts {
                renew: Script::new(include_str!("renew.lua")),
                read: Script::new(include_str!("read.lua")),
                write: Script::new(include_str!("write.lua")),
                release: Script::new(include_str!("release.lua")),
                leave: Script::new(include_str!("leave.lua")),
            },
        };
        let unavailable = |error: DirectoryError| Error::not_executed(Code::Unavailable, error.to_string());
        let mut connection = client.reconnect().await.map_err(unavailable)?;
        let answer = timeout(ANSWER_TIME, redis::cmd("INFO").arg("memory").query_async(&mut connection)).await;
        let memory: InfoDict = client.answer(client.link().number, answer).map_err(unavailable)?;
        match memory.get::<String>("maxmemory_policy") {
            Some(policy) if policy != NO_EVICTION => {
                let address = client.address();
                let message =
                    format!("redis at {address}: maxmemory-policy is {policy}, the directory requires {NO_EVICTION}");
                Err(Error::not_executed(Code::FailedPrecondition, message))
            }
            _ => Ok(client),
        }
    }

    /// Acquires or renews the lease of a node, after connecting if there is no connection.
    pub(super) async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal, DirectoryError> {
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).clamp(1, MAX_LEASE_MILLIS);
        let mut script = self.scripts.renew.key(lease_key(node));
        script.arg(node.to_string()).arg(lease).arg(rand::random::<u64>()).arg(MAX_CLEANUP);
        if self.link().connection.is_none() {
            self.reconnect().await?;
        }
        let number = self.link().number;
        type Answer = (bool, Vec<u64>, String, InfoDict, InfoDict);
        // Any error here makes the connection unusable for the lease, for example that the server is a replica now.
        let answer: Answer = self.execute(&script).await.inspect_err(|error| self.disconnect(number, &error.0))?;
        let (acquired, replaced, stored, server, replication) = answer;
        let text = |info: &InfoDict, key| info.get::<String>(key).unwrap_or_default();
        let parts = [stored, text(&server, "run_id"), text(&replication, "master_replid")];
        Ok(Renewal {
            incarnation: stable_hash(parts.join(" ").as_bytes()),
            acquired,
            replaced: replaced.into_iter().map(SessionId).collect(),
        })
    }

    /// Returns the sessions of each of these users, and whether `node` holds its lease.
    pub(super) async fn read(
        &self,
        node: Option<NodeId>,
        users: &[String],
    ) -> Result<(bool, Vec<UserHash>), DirectoryError> {
        let mut script = self.scripts.read.key(node.map_or_else(|| LEASE_PREFIX.to_owned(), lease_key));
        for user in users {
            script.key(fields::key(user));
        }
        let (holds_lease, answers): (bool, Vec<Vec<String>>) = self.invoke(&script).await?;
        let hashes = users.iter().zip(answers).map(|(user, answer)| {
            let (mut pairs, mut leases) = (Vec::with_capacity(answer.len() / 3), Vec::with_capacity(answer.len() / 3));
            let mut parts = answer.into_iter();
            while let (Some(device), Some(value), Some(lease)) = (parts.next(), parts.next(), parts.next()) {
                pairs.push((device, value));
                leases.push(lease == "1");
            }
            UserHash::new(user, pairs, &leases)
        });
        Ok((holds_lease, hashes.collect()))
    }

    /// Changes the sessions of a user from `before` to `after`, which differs by sessions of `node` that it has in
    /// addition, and by sessions that it lacks.
    pub(super) async fn write(
        &self,
        node: NodeId,
        user: &str,
        before: &UserHash,
        after: &[SessionEntry],
    ) -> Result<WriteOutcome, DirectoryError> {
        let mut script = self.scripts.write.key(lease_key(node));
        script.key(fields::key(user)).arg(node.to_string());
        let expected = &before.fields;
        script.arg(expected.len());
        for (device, value) in expected {
            script.arg(device).arg(value);
        }
        let decoded = expected.iter().map(|(device, value)| (device, fields::decode(user, device, value)));
        let is_kept = |entry: &SessionEntry| before.valid.contains(entry) && after.contains(entry);
        let removed: Vec<_> = decoded.filter(|(_, entry)| !entry.as_ref().is_some_and(is_kept)).collect();
        script.arg(removed.len());
        for (device, entry) in removed {
            let is_reported = entry.as_ref().is_some_and(|entry| before.valid.contains(entry));
            let ids = entry.map(|entry| (entry.node.to_string(), entry.session.to_string()));
            let (node, session) = ids.unwrap_or_default();
            script.arg(device).arg(node).arg(session).arg(u8::from(is_reported));
        }
        let added: Vec<_> = after.iter().filter(|entry| !before.valid.contains(entry)).collect();
        script.arg(added.len());
        for entry in added {
            script.arg(&entry.device).arg(entry.session.0).arg(&entry.platform);
        }
        let outcome: String = self.invoke(&script).await?;
        match outcome.as_str() {
            "written" => Ok(WriteOutcome::Written),
            "changed" => Ok(WriteOutcome::Changed),
            "no lease" => Ok(WriteOutcome::NoLease),
            other => Err(self.error(&format!("unexpected answer {other}"))),
        }
    }

    /// Removes exactly these sessions.
    pub(super) async fn release(&self, entries: &[SessionEntry]) -> Result<(), DirectoryError> {
        let mut script = self.scripts.release.prepare_invoke();
        for entry in entries {
            let SessionEntry { user, device, platform, node, session } = entry;
            script.key(fields::key(user)).arg(device).arg(node.to_string()).arg(session.0).arg(platform);
        }
        self.invoke::<String>(&script).await.map(drop)
    }

    /// Ends the lease of a node.
    pub(super) async fn leave(&self, node: NodeId) -> Result<(), DirectoryError> {
        let mut script = self.scripts.leave.key(lease_key(node));
        script.arg(node.to_string());
        self.invoke::<String>(&script).await.map(drop)
    }

    /// Returns an error that names the server.
    pub(super) fn error(&self, reason: &str) -> DirectoryError {
        DirectoryError(format!("redis at {}: {reason}", self.address()))
    }

    /// Runs a script within the limit of concurrent scripts.
    async fn invoke<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, DirectoryError> {
        let permit = timeout(ANSWER_TIME, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| self.error("too many concurrent requests, limit is 256 (MAX_CONCURRENT)"))?;
        self.execute(script).await
    }

    async fn execute<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, DirectoryError> {
        let (mut connection, number) = self.connection()?;
        let answer = timeout(ANSWER_TIME, script.invoke_async(&mut connection)).await;
        self.answer(number, answer)
    }

    /// Gives up the connection with this number if it did not answer in time, or is broken.
    fn answer<T>(
        &self,
        number: u64,
        answer: Result<Result<T, RedisError>, tokio::time::error::Elapsed>,
    ) -> Result<T, DirectoryError> {
        let (is_usable, reason) = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => {
                let is_broken = error.is_io_error() || error.is_unrecoverable_error();
                (!is_broken, error.to_string())
            }
            Err(_) => (false, NO_ANSWER.to_owned()),
        };
        if !is_usable {
            self.disconnect(number, &reason);
        }
        Err(self.error(&reason))
    }

    /// Returns the connection and its number.
    fn connection(&self) -> Result<(MultiplexedConnection, u64), DirectoryError> {
        let (connection, number) = {
            let link = self.link();
            (link.connection.clone(), link.number)
        };
        Ok((connection.ok_or_else(|| self.error("not connected"))?, number))
    }

    /// Connects, unless there is a connection.
    async fn reconnect(&self) -> Result<MultiplexedConnection, DirectoryError> {
        let config = AsyncConnectionConfig::new()
            // The callers limit both.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(MAX_CONCURRENT);
        let connected = async {
            let _connecting = self.connecting.lock().await;
            if let Some(connection) = self.link().connection.clone() {
                return Ok(connection);
            }
            let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let mut link = self.link();
            link.number += 1;
            link.connection = Some(connection.clone());
            drop(link);
            contained(|| info!(redis = %self.address(), "connected to redis"));
            Ok(connection)
        };
        match timeout(ANSWER_TIME, connected).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.error(&RedisError::to_string(&error))),
            Err(_) => Err(self.error(NO_ANSWER)),
        }
    }

    fn disconnect(&self, number: u64, reason: &str) {
        let mut link = self.link();
        // A newer connection may be intact.
        if link.number == number && link.connection.take().is_some() {
            drop(link);
            let redis = self.address();
            contained(|| warn!(%redis, reason, "lost the connection to redis; until it is back, logins fail"));
        }
    }

    /// Returns host and port.
    fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lease_key(node: NodeId) -> String {
    format!("{LEASE_PREFIX}{node}")
}

const LEASE_PREFIX: &str = "im:node:";
/// The time limit of the wait for a connection, for a permit, and for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(1);
const NO_ANSWER: &str = "no answer within 1 s";
/// The maximum number of concurrent requests, except renewals; further ones wait within the time limit.
const MAX_CONCURRENT: usize = 256;
/// The maximum number of entries of an expired node that one renewal removes.
const MAX_CLEANUP: usize = 256;
/// The maximum lease, a year: Redis rejects an expiry that overflows.
const MAX_LEASE_MILLIS: u64 = 365 * 24 * 60 * 60 * 1000;
const NO_EVICTION: &str = "noeviction";
