//! [`RedisClient`]: the directory's commands to Redis, each with one key and a time limit.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError, RedisResult, Script,
    aio::MultiplexedConnection,
};
use rpc_core::{Code, Error, contained};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    RedisUrl,
    fields::{self, HashFields},
};
use crate::{
    directory::SessionEntry,
    identity::{Epoch, NodeId, NodeKey},
};

/// The directory's commands to a Redis server, over one connection.
///
/// When the server does not answer in time, all commands fail immediately until [`acquire_lease`](Self::acquire_lease)
/// succeeds, which alone connects.
pub(super) struct RedisClient {
    client: Client,
    link: Mutex<Link>,
    /// Notified when the connection is lost.
    lost: Notify,
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
    acquire_lease: Script,
    release_lease: Script,
    replace_sessions: Script,
    remove_session: Script,
}

/// Redis did not answer in time, or answered with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("redis does not answer")]
pub(super) struct RedisUnavailable;

/// A request to acquire or renew a node's lease.
#[derive(Debug, Clone)]
pub(super) struct LeaseRequest {
    pub(super) node: NodeKey,
    pub(super) address: String,
    pub(super) connections: usize,
    /// Whether the directory has all sessions of the node.
    pub(super) is_complete: bool,
    pub(super) lease: Duration,
}

/// The outcome of a [`LeaseRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LeaseOutcome {
    /// The node held the lease without a gap.
    Renewed,
    /// The lease was free: the directory may lack sessions of the node, or other nodes have ignored them.
    Acquired,
    /// Another node or a later epoch of this node holds the lease.
    Rejected { epoch: Epoch, address: String },
}

/// A node's lease as Redis has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaseRecord {
    pub(super) epoch: Epoch,
    pub(super) is_complete: bool,
}

impl RedisClient {
    /// Creates a client that is not connected; [`acquire_lease`](Self::acquire_lease) connects.
    pub(super) fn new(url: &RedisUrl) -> Result<Self, Error> {
        // The error does not contain the URL, which may have a password.
        let client = Client::open(url.as_str())
            .map_err(|error| Error::not_executed(Code::InvalidArgument, format!("invalid Redis URL: {error}")))?;
        Ok(Self {
            client,
            link: Mutex::default(),
            lost: Notify::new(),
            permits: Semaphore::new(MAX_CONCURRENT),
            scripts: Scripts {
                acquire_lease: Script::new(include_str!("acquire_lease.lua")),
                release_lease: Script::new(include_str!("release_lease.lua")),
                replace_sessions: Script::new(include_str!("replace_sessions.lua")),
                remove_session: Script::new(include_str!("remove_session.lua")),
            },
        })
    }

    /// Returns host and port.
    pub(super) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Waits until the connection is lost.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Acquires or renews a node's lease. At most one caller at a time.
    pub(super) async fn acquire_lease(&self, request: &LeaseRequest) -> Result<LeaseOutcome, RedisUnavailable> {
        let LeaseRequest { node, address, connections, is_complete, lease } = request;
        let mut script = self.scripts.acquire_lease.key(node_key(node.id));
        script.arg(node.epoch.0).arg(address).arg(*connections).arg(u8::from(*is_complete));
        script.arg(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        let is_new = self.link().connection.is_none();
        let invocation = async {
            let mut connection = self.connect().await?;
            script.invoke_async::<Vec<String>>(&mut connection).await
        };
        let outcome = timeout(ANSWER_TIME, invocation).await;
        let number = self.link().number;
        let answer = match outcome {
            Ok(Ok(answer)) => answer,
            // Any error here makes the connection unusable for the lease.
            Ok(Err(error)) => return Err(self.disconnect(number, &error.to_string())),
            Err(_) => return Err(self.disconnect(number, NO_ANSWER)),
        };
        if is_new {
            contained(|| info!(redis = %self.address(), "connected to redis"));
        }
        match &answer[..] {
            [outcome] if outcome == "renewed" => Ok(LeaseOutcome::Renewed),
            [_, epoch, address] => {
                let epoch = Epoch(epoch.parse().unwrap_or(u64::MAX));
                Ok(LeaseOutcome::Rejected { epoch, address: address.clone() })
            }
            _ => Ok(LeaseOutcome::Acquired),
        }
    }

    /// Releases a node's lease.
    pub(super) async fn release_lease(&self, node: NodeKey) -> Result<(), RedisUnavailable> {
        let mut script = self.scripts.release_lease.key(node_key(node.id));
        script.arg(node.epoch.0);
        let (mut connection, number) = self.connection()?;
        self.execute(number, script.invoke_async::<i64>(&mut connection)).await.map(drop)
    }

    /// Returns the leases of these nodes.
    pub(super) async fn leases(&self, nodes: &[NodeId]) -> Result<Vec<Option<LeaseRecord>>, RedisUnavailable> {
        let mut pipeline = Pipeline::with_capacity(nodes.len());
        for node in nodes {
            pipeline.cmd("HMGET").arg(node_key(*node)).arg("epoch").arg("whole");
        }
        let answers: Vec<(Option<u64>, Option<u8>)> = self.query(pipeline).await?;
        let record = |(epoch, whole): (Option<u64>, Option<u8>)| {
            epoch.map(|epoch| LeaseRecord { epoch: Epoch(epoch), is_complete: whole == Some(1) })
        };
        Ok(answers.into_iter().map(record).collect())
    }

    /// Returns the sessions of each of these users, also those of nodes without a lease.
    pub(super) async fn sessions(&self, users: &[String]) -> Result<Vec<HashFields>, RedisUnavailable> {
        let mut sessions = Vec::with_capacity(users.len());
        for chunk in users.chunks(MAX_PIPELINE) {
            let mut pipeline = Pipeline::with_capacity(chunk.len());
            for user in chunk {
                pipeline.cmd("HGETALL").arg(fields::key(user));
            }
            sessions.extend(self.query::<HashFields>(pipeline).await?);
        }
        Ok(sessions)
    }

    /// Replaces the sessions of a user; returns false if they are not the expected ones.
    pub(super) async fn replace_sessions(
        &self,
        user: &str,
        expected: &HashFields,
        new: &[SessionEntry],
    ) -> Result<bool, RedisUnavailable> {
        let mut script = self.scripts.replace_sessions.key(fields::key(user));
        script.arg(EXPIRY.as_secs()).arg(expected.len());
        for (device, value) in expected {
            script.arg(device).arg(value);
        }
        for entry in new {
            script.arg(&entry.device).arg(fields::value(entry));
        }
        let (mut connection, number) = self.connection()?;
        self.execute(number, script.invoke_async(&mut connection)).await
    }

    /// Removes exactly this session.
    pub(super) async fn remove_session(&self, entry: &SessionEntry) -> Result<(), RedisUnavailable> {
        let mut script = self.scripts.remove_session.key(fields::key(&entry.user));
        script.arg(&entry.device).arg(fields::value(entry));
        let (mut connection, number) = self.connection()?;
        self.execute(number, script.invoke_async::<i64>(&mut connection)).await.map(drop)
    }

    async fn query<T: FromRedisValue>(&self, pipeline: Pipeline) -> Result<Vec<T>, RedisUnavailable> {
        let (mut connection, number) = self.connection()?;
        self.execute(number, pipeline.query_async(&mut connection)).await
    }

    /// Returns the connection and its number.
    fn connection(&self) -> Result<(MultiplexedConnection, u64), RedisUnavailable> {
        let link = self.link();
        Ok((link.connection.clone().ok_or(RedisUnavailable)?, link.number))
    }

    async fn execute<T>(
        &self,
        number: u64,
        command: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, RedisUnavailable> {
        let limited = async {
            let _permit = self.permits.acquire().await;
            command.await
        };
        match timeout(ANSWER_TIME, limited).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if is_connection_error(&error) => Err(self.disconnect(number, &error.to_string())),
            Ok(Err(error)) => {
                contained(|| warn!(redis = %self.address(), %error, "redis rejected a command"));
                Err(RedisUnavailable)
            }
            Err(_) => Err(self.disconnect(number, NO_ANSWER)),
        }
    }

    /// Returns the connection, after connecting if there is none.
    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = &self.link().connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIME))
            .set_response_timeout(Some(ANSWER_TIME))
            .set_pipeline_buffer_size(MAX_CONCURRENT);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut link = self.link();
        link.number += 1;
        link.connection = Some(connection.clone());
        Ok(connection)
    }

    fn disconnect(&self, number: u64, reason: &str) -> RedisUnavailable {
        let mut link = self.link();
        // A newer connection may be intact.
        if link.number == number && link.connection.take().is_some() {
            contained(|| {
                warn!(
                    redis = %self.address(),
                    reason,
                    "lost the connection to redis; until it is back, logins fail and lookups ask all nodes"
                )
            });
            self.lost.notify_one();
        }
        RedisUnavailable
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_connection_error(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}

fn node_key(node: NodeId) -> String {
    format!("im:node:{node}")
}

/// The time limit of a command, including the time to connect.
const ANSWER_TIME: Duration = Duration::from_secs(1);
const NO_ANSWER: &str = "no answer within 1 s";
/// The maximum number of concurrent commands; further ones wait within their time limit.
const MAX_CONCURRENT: usize = 256;
/// The maximum number of users in one pipeline.
const MAX_PIPELINE: usize = 256;
/// The time for which Redis keeps the sessions of a user after the last registration.
const EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
