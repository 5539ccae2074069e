//! [`NacosCluster`]: three official servers that form a cluster.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{sleep, timeout},
};

use super::{
    http,
    kind::ServerKind,
    official::Line,
    ports::{PORTS, free_ports},
    server::NacosServer,
};

/// Three official servers. Dropping this value kills them.
///
/// Every method panics on failure, because a test cannot continue.
pub struct NacosCluster {
    nodes: Vec<NacosServer>,
    _lock: MutexGuard<'static, ()>,
}

/// Limits a test process to one cluster at a time: nodes that start slowly elect no leader in time.
static CLUSTER_LOCK: Mutex<()> = Mutex::const_new(());

/// The number of nodes: the minimum that keeps a majority after the loss of one node.
const NODES: usize = 3;

/// The maximum number of starts of a node. A node that finds no leader for its database in time ends, and a later start
/// succeeds.
const ATTEMPTS: usize = 5;

/// The interval between two polls of a node.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The limit of an agreement of the nodes on their state, on a machine that is busy with other tests.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// The raft group of the naming module, whose leader this file calls the leader. Other groups may have other leaders.
const GROUP: &str = "naming_persistent_service_v2";

impl NacosCluster {
    /// Starts the nodes, and waits until each serves and lists the others and a leader.
    pub async fn start(kind: ServerKind) -> Self {
        let lock = CLUSTER_LOCK.lock().await;
        let mut members: Vec<u16> = Vec::new();
        while members.len() < NODES {
            let http = free_ports();
            let span = u16::try_from(PORTS[3] - PORTS[0]).expect("the span of a server's ports is less than 65536");
            if members.iter().all(|member| member.abs_diff(http) > span) {
                members.push(http);
            }
        }
        let node = |http: &u16| {
            let mut node = NacosServer::stopped(kind);
            (node.http, node.members) = (*http, members.clone());
            node
        };
        let mut cluster = Self { nodes: members.iter().map(node).collect(), _lock: lock };
        join_all(cluster.nodes.iter_mut().map(start)).await;
        cluster.until_agreed().await;
        cluster
    }

    /// Returns the URL for `rpc_registry::connect`, without parameters.
    pub fn url(&self) -> String {
        let servers: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.http)).collect();
        format!("nacos://{}", servers.join(","))
    }

    /// Returns the running nodes.
    pub fn alive(&self) -> Vec<&NacosServer> {
        self.nodes.iter().filter(|node| node.process.is_some()).collect()
    }

    /// Returns the number of the leader, as a running node lists it.
    pub async fn leader(&self) -> usize {
        let alive = self.alive();
        let members = members(alive.first().expect("a node runs")).await.expect("a node answers");
        let leader = members.iter().find_map(Member::leader).expect("the cluster has a leader");
        self.nodes.iter().position(|node| node.http == leader).expect("the leader is one of the nodes")
    }

    /// Kills a node like a crash.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Starts a killed node, and waits until the nodes list each other and a leader.
    pub async fn restart(&mut self, number: usize) {
        start(&mut self.nodes[number]).await;
        self.until_agreed().await;
    }

    /// Waits until every running node lists all running nodes as up and a running node as the leader.
    pub async fn until_agreed(&self) {
        let alive: Vec<_> = self.alive().iter().map(|node| node.http).collect();
        let agreed = async {
            for node in self.alive() {
                while !members(node).await.is_ok_and(|members| agrees(&members, &alive)) {
                    sleep(POLL_INTERVAL).await;
                }
            }
        };
        timeout(AGREEMENT_TIMEOUT, agreed).await.expect("the nodes agree in time");
    }
}

/// Starts a node, and repeats the start if the process ends.
async fn start(node: &mut NacosServer) {
    for _ in 1..ATTEMPTS {
        match node.launch().await {
            Ok(()) => return,
            Err(error) => {
                eprintln!("starting a node again: {}", error.to_string().lines().next().unwrap_or_default())
            }
        }
        node.kill();
    }
    node.launch().await.expect("the node starts");
}

/// A member of the cluster, as a node lists it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    port: u16,
    state: String,
    #[serde(default)]
    extend_info: ExtendInfo,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExtendInfo {
    raft_meta_data: RaftMetaData,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RaftMetaData {
    meta_data_map: BTreeMap<String, RaftGroup>,
}

#[derive(Deserialize)]
struct RaftGroup {
    leader: Option<String>,
}

impl Member {
    /// Returns the HTTP port of the leader, derived from its raft port.
    fn leader(&self) -> Option<u16> {
        let leader = self.extend_info.raft_meta_data.meta_data_map.get(GROUP)?.leader.as_ref()?;
        let raft: i32 = leader.rsplit(':').next()?.parse().ok()?;
        u16::try_from(raft - PORTS[0]).ok()
    }
}

/// Returns whether these members include all of `alive` as up and one of `alive` as the leader.
fn agrees(members: &[Member], alive: &[u16]) -> bool {
    let up = |port: &u16| members.iter().any(|member| member.port == *port && member.state == "UP");
    let leader = |member: &Member| member.leader().is_some_and(|leader| alive.contains(&leader));
    alive.iter().all(up) && members.iter().filter(|member| alive.contains(&member.port)).any(leader)
}

async fn members(node: &NacosServer) -> std::io::Result<Vec<Member>> {
    #[derive(Deserialize)]
    struct Members {
        data: Vec<Member>,
    }
    let path = match node.kind.line() {
        Some(Line::Two) | None => "/nacos/v1/core/cluster/nodes",
        Some(Line::Three) => "/nacos/v3/admin/core/cluster/node/list",
    };
    let body = http::get(node.http, path).await?;
    Ok(serde_json::from_str::<Members>(&body)?.data)
}
