//! [`Server`]: what the directory says to Redis, each time about one key, and for a bounded time.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError, RedisResult, Script,
    aio::MultiplexedConnection,
};
use rpc_core::{Code, Error};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use tracing::{info, warn};

use super::{RedisUrl, fields};
use crate::{
    directory::Entry,
    identity::{Epoch, NodeId, NodeKey},
};

/// A Redis: what the directory says to it, over one connection.
///
/// When it does not answer in time, it is away. Then nobody waits for it until it has answered to [`hold`](Self::hold), which alone
/// connects to it.
pub(super) struct Server {
    client: Client,
    link: Mutex<Link>,
    /// Told when the connection is lost.
    lost: Notify,
    asking: Semaphore,
    scripts: Scripts,
}

#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    /// Which one it is.
    number: u64,
}

struct Scripts {
    hold: Script,
    let_go: Script,
    swap: Script,
    remove: Script,
}

/// It does not answer, or not as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("redis does not answer")]
pub(super) struct Away;

/// What a node says of itself, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    pub(super) node: NodeKey,
    pub(super) address: String,
    pub(super) connections: usize,
    /// Whether all its sessions are in the directory.
    pub(super) is_whole: bool,
    pub(super) lease: Duration,
}

/// What came of holding a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// It was held before, without a gap.
    Kept,
    /// It was free: sessions of this node are not in the directory, or nobody believed in them for a while.
    Taken,
    /// Another node holds it, or a later life of this one.
    Refused { epoch: Epoch, address: String },
}

/// What Redis has of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) epoch: Epoch,
    pub(super) is_whole: bool,
}

/// The sessions of a user as Redis has them: device and value of each.
pub(super) type Fields = Vec<(String, String)>;

impl Server {
    /// The way to a Redis; it is connected to by [`hold`](Self::hold).
    pub(super) fn new(url: &RedisUrl) -> Result<Self, Error> {
        // What the error says of a URL does not have the URL in it.
        let client = Client::open(url.as_str()).map_err(|error| {
            Error::not_executed(Code::InvalidArgument, format!("the URL of the redis is not understood: {error}"))
        })?;
        Ok(Self {
            client,
            link: Mutex::default(),
            lost: Notify::new(),
            asking: Semaphore::new(AT_ONCE),
            scripts: Scripts {
                hold: Script::new(include_str!("hold.lua")),
                let_go: Script::new(include_str!("let_go.lua")),
                swap: Script::new(include_str!("swap.lua")),
                remove: Script::new(include_str!("remove.lua")),
            },
        })
    }

    /// Host and port.
    pub(super) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Waits until the connection is lost.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Takes or renews a node's lease. For one who asks at a time.
    pub(super) async fn hold(&self, holding: &Holding) -> Result<Held, Away> {
        let Holding { node, address, connections, is_whole, lease } = holding;
        let mut hold = self.scripts.hold.key(node_key(node.id));
        hold.arg(node.epoch.0).arg(address).arg(*connections).arg(u8::from(*is_whole));
        hold.arg(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        let is_new = self.link().connection.is_none();
        let held = async {
            let mut connection = self.connection().await?;
            hold.invoke_async::<Vec<String>>(&mut connection).await
        };
        let outcome = timeout(ANSWER, held).await;
        let number = self.link().number;
        let answer = match outcome {
            Ok(Ok(answer)) => answer,
            // Whatever is wrong with it, it is not to be relied on.
            Ok(Err(error)) => return Err(self.lose(number, &error.to_string())),
            Err(_) => return Err(self.lose(number, "no answer in time")),
        };
        if is_new {
            info!(redis = %self.address(), "redis answers");
        }
        match &answer[..] {
            [outcome] if outcome == "kept" => Ok(Held::Kept),
            [_, epoch, address] => {
                Ok(Held::Refused { epoch: Epoch(epoch.parse().unwrap_or(u64::MAX)), address: address.clone() })
            }
            _ => Ok(Held::Taken),
        }
    }

    /// Lets go of a node's lease.
    pub(super) async fn let_go(&self, node: NodeKey) -> Result<(), Away> {
        let mut let_go = self.scripts.let_go.key(node_key(node.id));
        let_go.arg(node.epoch.0);
        let (mut connection, number) = self.open()?;
        self.answer(number, let_go.invoke_async::<i64>(&mut connection)).await.map(drop)
    }

    /// What it has of these nodes.
    pub(super) async fn leases(&self, nodes: &[NodeId]) -> Result<Vec<Option<Lease>>, Away> {
        let mut pipeline = Pipeline::with_capacity(nodes.len());
        for node in nodes {
            pipeline.cmd("HMGET").arg(node_key(*node)).arg("epoch").arg("whole");
        }
        let answers: Vec<(Option<u64>, Option<u8>)> = self.all(pipeline).await?;
        let lease = |(epoch, whole): (Option<u64>, Option<u8>)| {
            epoch.map(|epoch| Lease { epoch: Epoch(epoch), is_whole: whole == Some(1) })
        };
        Ok(answers.into_iter().map(lease).collect())
    }

    /// The sessions that it has of each of these users, whether their nodes live or not.
    pub(super) async fn sessions(&self, users: &[String]) -> Result<Vec<Fields>, Away> {
        let mut sessions = Vec::with_capacity(users.len());
        for some in users.chunks(MAX_PIPELINE) {
            let mut pipeline = Pipeline::with_capacity(some.len());
            for user in some {
                pipeline.cmd("HGETALL").arg(fields::key(user));
            }
            sessions.extend(self.all::<Fields>(pipeline).await?);
        }
        Ok(sessions)
    }

    /// Puts other sessions in the place of a user's; false when those are not what they were taken to be.
    pub(super) async fn swap(&self, user: &str, before: &Fields, after: &[Entry]) -> Result<bool, Away> {
        let mut swap = self.scripts.swap.key(fields::key(user));
        swap.arg(KEEP.as_secs()).arg(before.len());
        for (device, value) in before {
            swap.arg(device).arg(value);
        }
        for entry in after {
            swap.arg(&entry.device).arg(fields::value(entry));
        }
        let (mut connection, number) = self.open()?;
        self.answer(number, swap.invoke_async(&mut connection)).await
    }

    /// Takes exactly this session out.
    pub(super) async fn remove(&self, entry: &Entry) -> Result<(), Away> {
        let mut remove = self.scripts.remove.key(fields::key(&entry.user));
        remove.arg(&entry.device).arg(fields::value(entry));
        let (mut connection, number) = self.open()?;
        self.answer(number, remove.invoke_async::<i64>(&mut connection)).await.map(drop)
    }

    async fn all<T: FromRedisValue>(&self, pipeline: Pipeline) -> Result<Vec<T>, Away> {
        let (mut connection, number) = self.open()?;
        self.answer(number, pipeline.query_async(&mut connection)).await
    }

    /// The connection, and which one it is.
    fn open(&self) -> Result<(MultiplexedConnection, u64), Away> {
        let link = self.link();
        Ok((link.connection.clone().ok_or(Away)?, link.number))
    }

    async fn answer<T>(&self, number: u64, asking: impl Future<Output = RedisResult<T>>) -> Result<T, Away> {
        let asked = async {
            let _turn = self.asking.acquire().await;
            asking.await
        };
        match timeout(ANSWER, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if is_of_the_connection(&error) => Err(self.lose(number, &error.to_string())),
            Ok(Err(error)) => {
                warn!(redis = %self.address(), %error, "redis refuses");
                Err(Away)
            }
            Err(_) => Err(self.lose(number, "no answer in time")),
        }
    }

    /// The connection, made if there is none.
    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = &self.link().connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER))
            .set_pipeline_buffer_size(AT_ONCE);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut link = self.link();
        link.number += 1;
        link.connection = Some(connection.clone());
        Ok(connection)
    }

    fn lose(&self, number: u64, why: &str) -> Away {
        let mut link = self.link();
        // Not a newer one, which may be sound.
        if link.number == number && link.connection.take().is_some() {
            warn!(redis = %self.address(), why, "redis is away; until it is back nobody logs in, and sessions are looked for at all nodes");
            self.lost.notify_one();
        }
        Away
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of_the_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}

fn node_key(node: NodeId) -> String {
    format!("im:node:{node}")
}

/// How long an answer is waited for, with the connection if there is none.
const ANSWER: Duration = Duration::from_secs(1);
/// Requests at once; more wait, for no longer than for an answer.
const AT_ONCE: usize = 256;
/// Users that are looked up with one request.
const MAX_PIPELINE: usize = 256;
/// How long Redis keeps the sessions of a user of whom nothing is entered: what is forgotten there is garbage.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);
