//! [`NacosCluster`]: three official servers that form a cluster.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{sleep, timeout},
};

use super::{Kind, NacosServer, POLL, PORTS, free_ports, http, official::Line};

/// Three official servers. They end when this is dropped.
///
/// Every method panics when it fails: a test has nothing else to do then.
pub struct NacosCluster {
    nodes: Vec<NacosServer>,
    _turn: MutexGuard<'static, ()>,
}

/// One cluster at a time in a test process: nodes that start slowly elect no leader in time.
static TURN: Mutex<()> = Mutex::const_new(());

/// How many nodes there are: the fewest that keep a majority when one dies.
const NODES: usize = 3;

/// How often a node is started. One that cannot find a leader for its database in time ends, and succeeds when it is started again.
const ATTEMPTS: usize = 5;

/// The longest that nodes may take to agree on their state, on a machine that is busy with other tests.
const AGREEMENT: Duration = Duration::from_secs(120);

/// A raft group of the naming module. Its leader is called the leader here; other groups may have others.
const GROUP: &str = "naming_persistent_service_v2";

impl NacosCluster {
    /// Starts the nodes, and returns once each serves and knows the others and a leader.
    pub async fn start(kind: Kind) -> Self {
        let turn = TURN.lock().await;
        let mut members: Vec<u16> = Vec::new();
        while members.len() < NODES {
            let http = free_ports();
            let span = u16::try_from(PORTS[3] - PORTS[0]).expect("the ports of a server are close to each other");
            if members.iter().all(|member| member.abs_diff(http) > span) {
                members.push(http);
            }
        }
        let node = |http: &u16| {
            let mut node = NacosServer::absent(kind);
            (node.http, node.members) = (*http, members.clone());
            node
        };
        let mut cluster = Self { nodes: members.iter().map(node).collect(), _turn: turn };
        join_all(cluster.nodes.iter_mut().map(start)).await;
        cluster.agree().await;
        cluster
    }

    /// The URL for `rpc_registry::connect`, without parameters.
    pub fn url(&self) -> String {
        let servers: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.http)).collect();
        format!("nacos://{}", servers.join(","))
    }

    /// The nodes whose processes run.
    pub fn alive(&self) -> impl Iterator<Item = &NacosServer> {
        self.nodes.iter().filter(|node| node.process.is_some())
    }

    /// The number of the node that is the leader, as the other nodes see it.
    pub async fn leader(&self) -> usize {
        let node = self.alive().next().expect("a node is alive");
        let members = members(node).await.expect("a node answers");
        let leader = members.iter().find_map(Member::leader).expect("the cluster has a leader");
        self.nodes.iter().position(|node| node.http == leader).expect("the leader is one of the nodes")
    }

    /// Ends a node as a crash would.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Starts a node that was killed, and returns once the nodes know each other and a leader.
    pub async fn restart(&mut self, number: usize) {
        start(&mut self.nodes[number]).await;
        self.agree().await;
    }

    /// Waits until every live node says that each of them is up, and names a leader that lives.
    pub async fn agree(&self) {
        let alive: Vec<_> = self.alive().map(|node| node.http).collect();
        let agreed = async {
            for node in self.alive() {
                while !members(node).await.is_ok_and(|members| agree(&members, &alive)) {
                    sleep(POLL * 4).await;
                }
            }
        };
        timeout(AGREEMENT, agreed).await.expect("the nodes agree in time");
    }
}

async fn start(node: &mut NacosServer) {
    for _ in 1..ATTEMPTS {
        match node.launch().await {
            Ok(()) => return,
            Err(error) => {
                eprintln!("a node is started again: {}", error.to_string().lines().next().unwrap_or_default())
            }
        }
        node.kill();
    }
    node.launch().await.expect("the node starts");
}

/// A member as a node sees it.
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
    /// The HTTP port of the leader, whose raft port is given.
    fn leader(&self) -> Option<u16> {
        let leader = self.extend_info.raft_meta_data.meta_data_map.get(GROUP)?.leader.as_ref()?;
        let raft: i32 = leader.rsplit(':').next()?.parse().ok()?;
        u16::try_from(raft - PORTS[0]).ok()
    }
}

fn agree(members: &[Member], alive: &[u16]) -> bool {
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
