//! [`ZooKeeperMembership`]: membership in ZooKeeper.
//!
//! | znode | data |
//! |---|---|
//! | `<chroot>/im/nodes` | a random number, which an id of a node is relative to |
//! | `<chroot>/im/nodes/node-<sequence>` | ephemeral: JSON of a member |
//!
//! The id of a run of a node is the random number plus the creation zxid of the first znode of the run. The zxid is
//! unique in an ensemble; with the random number, an id is also unique when the ensemble has lost its data. After a
//! lost ZooKeeper session the node creates another znode with the same id in its data. Until the ensemble has removed
//! the earlier znode, the run has two, of which the list of members has one.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rpc_core::{BoxFuture, Code, Error, contained};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};
use zookeeper_client::{Acls, Client, CreateMode, Error as ZooKeeperError};

use super::{
    Member, Membership, NewMember,
    handle::{DriverEnds, Handle, JOIN_TIME, Joined, Run},
};
use crate::identity::NodeId;

/// Membership in ZooKeeper. Dropping it leaves the cluster.
pub struct ZooKeeperMembership {
    hosts: String,
    handle: Handle,
}

/// The data of a member's znode.
#[derive(Debug, Serialize, Deserialize)]
struct Data {
    /// See [`Run::token`].
    token: u64,
    /// Absent in the first znode of a run, whose creation zxid determines the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    address: SocketAddr,
    websocket: String,
}

/// Keeps the znode of this node and the list of members up to date.
struct Driver {
    hosts: String,
    /// The path of the parent of the znodes.
    directory: String,
    ends: DriverEnds,
}

/// The znode of this node in one ZooKeeper session.
struct OwnNode {
    token: u64,
    path: String,
}

/// A znode of a member as read.
#[derive(Debug, Clone)]
struct Listed {
    token: u64,
    zxid: i64,
    member: Member,
}

impl ZooKeeperMembership {
    /// Connects to an ensemble in the background: `zookeeper://host:port[,host:port …][/chroot]`.
    ///
    /// Must be called on a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidArgument`] if the URL is invalid.
    pub fn connect(url: &str) -> Result<Self, Error> {
        let (hosts, chroot) = parse(url).ok_or_else(|| {
            let message = format!("invalid ZooKeeper URL {url}, expected zookeeper://host:port[,host:port][/chroot]");
            Error::not_executed(Code::InvalidArgument, message)
        })?;
        let (driven, directory) = (hosts.clone(), format!("{chroot}/im/nodes"));
        let handle = Handle::start(|ends| Driver { hosts: driven, directory, ends }.run());
        Ok(Self { hosts, handle })
    }
}

impl Membership for ZooKeeperMembership {
    fn join(&self, node: NewMember) -> BoxFuture<'_, Result<NodeId, Error>> {
        let unavailable = || format!("zookeeper at {}: the node was not registered within {JOIN_TIME:?}", self.hosts);
        self.handle.join(node, unavailable)
    }

    fn watch(&self) -> watch::Receiver<Option<Arc<[Member]>>> {
        self.handle.watch()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        self.handle.leave()
    }
}

impl Driver {
    /// Serves one ZooKeeper session after the other, until dropped.
    async fn run(mut self) {
        let mut pause = MIN_PAUSE;
        loop {
            let connector = Client::connector().with_session_timeout(SESSION_TIME);
            match timeout(CONNECT_TIME, connector.connect(&self.hosts)).await.unwrap_or(Err(ZooKeeperError::Timeout)) {
                Ok(client) => {
                    let session = client.session_id();
                    contained(|| info!(zookeeper = %self.hosts, %session, "connected to zookeeper"));
                    let mut answered = false;
                    let Err(error) = self.serve(&client, &mut answered).await else { return };
                    if answered {
                        pause = MIN_PAUSE;
                    }
                    contained(|| warn!(zookeeper = %self.hosts, %error, "the zookeeper session ended"));
                }
                Err(error) => {
                    contained(|| warn!(zookeeper = %self.hosts, %error, "cannot connect to zookeeper"));
                }
            }
            if self.ends.wanted.borrow().is_none() {
                self.ends.joined.send_replace(None);
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Serves a session until it fails, or until the membership is dropped. Sets `answered` when it lists the members.
    async fn serve(&mut self, client: &Client, answered: &mut bool) -> Result<(), ZooKeeperError> {
        let base = self.base(client).await?;
        let mut own: Option<OwnNode> = None;
        let mut known = HashMap::new();
        loop {
            let wanted = self.ends.wanted.borrow_and_update().clone();
            if let Some(node) = own.take_if(|own| wanted.as_ref().is_none_or(|run| run.token != own.token)) {
                match in_time(client.delete(&node.path, None)).await {
                    Ok(()) | Err(ZooKeeperError::NoNode) => {}
                    Err(error) => return Err(error),
                }
            }
            match &wanted {
                None => {
                    self.ends.joined.send_replace(None);
                }
                Some(run) if own.is_none() => own = Some(self.create(client, base, run).await?),
                Some(_) => {}
            }
            let (names, _, watcher) = in_time(client.get_and_watch_children(&self.directory)).await?;
            self.read(client, base, &names, &mut known).await?;
            *answered = true;
            self.publish(&known);
            let is_listed = own.as_ref().is_none_or(|own| names.iter().any(|name| own.path.ends_with(name.as_str())));
            if !is_listed {
                // An operator removed the znode, or the ensemble lost its data.
                own = None;
                continue;
            }
            // Both branches are cancel-safe.
            tokio::select! {
                event = watcher.changed() => {
                    if event.session_state.is_terminated() {
                        return Err(ZooKeeperError::SessionExpired);
                    }
                }
                changed = self.ends.wanted.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Returns the number that ids are relative to, after creating the parent of the znodes if it does not exist.
    async fn base(&self, client: &Client) -> Result<u64, ZooKeeperError> {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        if let Some((parent, _)) = self.directory.rsplit_once('/') {
            in_time(client.mkdir(parent, &options)).await?;
        }
        let number = format!("{:016x}", rand::random::<u64>());
        match in_time(client.create(&self.directory, number.as_bytes(), &options)).await {
            Ok(_) | Err(ZooKeeperError::NodeExists) => {}
            Err(error) => return Err(error),
        }
        let (data, _) = in_time(client.get_data(&self.directory)).await?;
        let number = std::str::from_utf8(&data).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        number.ok_or_else(|| ZooKeeperError::UnexpectedError(format!("{} has unexpected data", self.directory)))
    }

    /// Creates the znode of this node in the current session.
    ///
    /// After an error the caller has to end the session, because the znode may exist.
    async fn create(&self, client: &Client, base: u64, run: &Run) -> Result<OwnNode, ZooKeeperError> {
        let earlier = self.ends.joined.borrow().filter(|joined| joined.token == run.token);
        let NewMember { address, websocket } = run.node.clone();
        let data = Data { token: run.token, id: earlier.map(|joined| joined.id.0), address, websocket };
        let data = serde_json::to_vec(&data)
            .map_err(|error| ZooKeeperError::UnexpectedError(format!("cannot encode the member: {error}")))?;
        let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
        let prefix = format!("{}/{NAME_PREFIX}", self.directory);
        let (stat, sequence) = in_time(client.create(&prefix, &data, &options)).await?;
        if earlier.is_none() {
            self.ends.joined.send_replace(Some(Joined { token: run.token, id: id_of(base, stat.czxid) }));
        }
        Ok(OwnNode { token: run.token, path: format!("{prefix}{sequence}") })
    }

    /// Reads the znodes that are not known, and forgets those that do not exist any more. The data never changes.
    async fn read(
        &self,
        client: &Client,
        base: u64,
        names: &[String],
        known: &mut HashMap<String, Option<Listed>>,
    ) -> Result<(), ZooKeeperError> {
        known.retain(|name, _| names.contains(name));
        for name in names {
            if known.contains_key(name) {
                continue;
            }
            match in_time(client.get_data(&format!("{}/{name}", self.directory))).await {
                Ok((data, stat)) => drop(known.insert(name.clone(), decode(&data, base, stat.czxid))),
                // The znode was removed; the watch reports that.
                Err(ZooKeeperError::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn publish(&self, known: &HashMap<String, Option<Listed>>) {
        let mut runs: BTreeMap<u64, &Listed> = BTreeMap::new();
        for listed in known.values().flatten() {
            let newest = runs.entry(listed.token).or_insert(listed);
            if listed.zxid > newest.zxid {
                *newest = listed;
            }
        }
        self.ends.publish(runs.into_values().map(|listed| listed.member.clone()).collect());
    }
}

/// Limits the wait for an answer, which otherwise lasts until the session ends.
async fn in_time<T>(answer: impl Future<Output = Result<T, ZooKeeperError>>) -> Result<T, ZooKeeperError> {
    timeout(ANSWER_TIME, answer).await.unwrap_or(Err(ZooKeeperError::Timeout))
}

fn decode(data: &[u8], base: u64, zxid: i64) -> Option<Listed> {
    let Data { token, id, address, websocket } = serde_json::from_slice(data).ok()?;
    let id = id.map_or_else(|| id_of(base, zxid), NodeId);
    Some(Listed { token, zxid, member: Member { id, address, websocket } })
}

fn id_of(base: u64, zxid: i64) -> NodeId {
    NodeId(base.wrapping_add(zxid.cast_unsigned()))
}

/// Returns the hosts and the chroot without a slash at its end.
fn parse(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("zookeeper://")?;
    let (hosts, chroot) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let chroot = chroot.trim_end_matches('/');
    let is_host = |host: &str| {
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "2181"));
        !name.is_empty() && !name.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let is_path = !chroot.contains("//") && !chroot.contains(char::is_whitespace);
    (hosts.split(',').all(is_host) && is_path).then(|| (hosts.to_owned(), chroot.to_owned()))
}

const NAME_PREFIX: &str = "node-";
/// The time after which the ensemble removes the znodes of a node that does not answer.
const SESSION_TIME: Duration = Duration::from_secs(6);
/// The time limit to establish a session.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The time limit of a request, which waits while the client reconnects.
const ANSWER_TIME: Duration = Duration::from_secs(10);
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_hosts_and_chroot() {
        let parsed = |hosts: &str, chroot: &str| Some((hosts.to_owned(), chroot.to_owned()));
        assert_eq!(parse("zookeeper://a:2181"), parsed("a:2181", ""));
        assert_eq!(parse("zookeeper://a,b:1/"), parsed("a,b:1", ""));
        assert_eq!(parse("zookeeper://a:1,[::1]:2/x/y"), parsed("a:1,[::1]:2", "/x/y"));
        for url in ["", "a:1", "zookeeper://", "zookeeper://a:0", "zookeeper://a:1,", "zookeeper://a/x//y"] {
            assert_eq!(parse(url), None, "{url}");
        }
    }

    #[test]
    fn data_without_id_takes_the_creation_zxid() {
        let data = br#"{"token":1,"address":"127.0.0.1:1","websocket":"ws://a"}"#;
        assert_eq!(decode(data, u64::MAX, 5).unwrap().member.id, NodeId(4));
        let data = br#"{"token":1,"id":7,"address":"127.0.0.1:1","websocket":"ws://a"}"#;
        assert_eq!(decode(data, u64::MAX, 5).unwrap().member.id, NodeId(7));
        assert!(decode(b"x", 0, 5).is_none());
    }
}
