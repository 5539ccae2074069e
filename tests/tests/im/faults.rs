//! Behaviour that users observe when nodes are killed, restart, drain, or cannot reach each other.

use rpc_im::envelope::ServerFrame;
use tests::im::{Client, Cluster, LEASE, until};
use tokio::time::Instant;

/// A user, `ann`, that sends messages to several friends, and the record of the acknowledged ones.
struct Workload {
    ann: Client,
    /// Conversation, sequence number and body of each acknowledged message.
    acked: Vec<(String, u64, String)>,
    sent: usize,
}

impl Workload {
    async fn start(cluster: &Cluster, node: usize) -> Self {
        Self { ann: cluster.client(node, "ann").await, acked: Vec::new(), sent: 0 }
    }

    /// Logs in again, because the session may have ended with the lease of its node.
    async fn log_in_again(&mut self, cluster: &Cluster, node: usize) {
        self.ann = cluster.client(node, "ann").await;
    }

    /// Sends a message to each friend.
    async fn round(&mut self) {
        for friend in 0..FRIENDS {
            self.sent += 1;
            let (id, body) = (format!("c-{}", self.sent), format!("message {}", self.sent));
            let ack = self.ann.send_until_acked(&id, &format!("friend-{friend}"), &body).await;
            self.acked.push((ack.conversation, ack.seq, body));
        }
    }

    /// Checks that each friend has each acknowledged message once, in order, and no other message.
    async fn check(&self, cluster: &Cluster, node: usize) {
        for friend in 0..FRIENDS {
            let mut client = cluster.client(node, &format!("friend-{friend}")).await;
            let of_friend: Vec<_> = self.acked.iter().skip(friend).step_by(FRIENDS).collect();
            let (conversation, last, _) = of_friend.last().unwrap();
            client.sync_until(conversation, *last).await;
            let expected: Vec<_> = of_friend.iter().map(|(_, _, body)| body.clone()).collect();
            assert_eq!(client.bodies(conversation), expected, "friend-{friend}");
        }
    }
}

/// The number of conversations.
const FRIENDS: usize = 8;

#[tokio::test]
async fn killed_node_loses_no_acknowledged_message() {
    let mut cluster = Cluster::start(3).await;
    let mut workload = Workload::start(&cluster, 0).await;
    workload.round().await;
    cluster.kill(1);
    workload.round().await;
    workload.check(&cluster, 2).await;
    workload.round().await;
    workload.check(&cluster, 0).await;
}

#[tokio::test]
async fn node_restarted_within_lease_catches_up() {
    let mut cluster = Cluster::start(3).await;
    let address = cluster.node(1).rpc_address();
    let mut workload = Workload::start(&cluster, 0).await;
    workload.round().await;
    cluster.kill(1);
    cluster.restart(1, address).await;
    workload.round().await;
    cluster.until_all_see(3).await;
    workload.round().await;
    workload.check(&cluster, 1).await;
}

#[tokio::test]
async fn killed_storing_node_loses_no_acknowledged_message() {
    let mut cluster = Cluster::start(3).await;
    let address = cluster.node(0).rpc_address();
    let mut workload = Workload::start(&cluster, 1).await;
    for _ in 0..3 {
        workload.round().await;
        cluster.kill(0);
        workload.ann.send("refused", "bo", "hi");
        let refused = |frame: &ServerFrame| match frame {
            ServerFrame::Error(error) if error.id.as_deref() == Some("refused") => Some(error.code.clone()),
            _ => None,
        };
        assert_eq!(workload.ann.until(refused).await, "unavailable");
        cluster.restart(0, address).await;
        cluster.until_all_see(3).await;
        workload.log_in_again(&cluster, 1).await;
        workload.round().await;
    }
    workload.check(&cluster, 2).await;
}

#[tokio::test]
async fn node_without_directory_closes_its_sessions() {
    let cluster = Cluster::start_cuttable(3).await;
    let mut bo = cluster.client(1, "bo").await;
    cluster.cut(1, 0).await;
    while bo.next().await.is_some() {}
    until(|| !cluster.node(1).is_ready()).await;
    let mut elsewhere = cluster.client(2, "bo").await;
    let mut ann = cluster.client(0, "ann").await;
    ann.send_until_acked("c-1", "bo", "hi").await;
    assert_eq!(elsewhere.pushed().await.body, "hi");
    cluster.mend(1, 0).await;
    until(|| cluster.node(1).is_ready()).await;
    assert_eq!(cluster.node(1).kick("bo", "next").await.unwrap(), 1, "the device has one session");
}

#[tokio::test]
async fn killed_node_sessions_end_with_its_lease() {
    let mut cluster = Cluster::start(3).await;
    let mut ann = cluster.client(0, "ann").await;
    for friend in 0..FRIENDS {
        ann.send_until_acked(&format!("c-{friend}"), &format!("friend-{friend}"), "hi").await;
    }
    let mut friends = Vec::new();
    for friend in 0..FRIENDS {
        friends.push(cluster.client(1, &format!("friend-{friend}")).await);
    }
    let mut online = 0;
    while online < FRIENDS {
        online += ann.until(|frame| presence(frame).map(usize::from)).await;
    }
    let killed = Instant::now();
    cluster.kill(1);
    until(|| cluster.node(0).nodes().len() == 2).await;
    println!("the node left the cluster {:?} after the kill, with a lease of {LEASE:?}", killed.elapsed());
    let mut offline = 0;
    while offline < FRIENDS {
        offline += ann.until(|frame| presence(frame).map(|online| usize::from(!online))).await;
    }
    println!("all its users were reported offline {:?} after the kill", killed.elapsed());
    for friend in 0..FRIENDS {
        assert_eq!(cluster.node(0).kick(&format!("friend-{friend}"), "any").await.unwrap(), 0);
    }
}

#[tokio::test]
async fn user_of_killed_node_receives_messages_at_next_node() {
    let mut cluster = Cluster::start(3).await;
    let mut ann = cluster.client(0, "ann").await;
    let old = cluster.client(1, "bo").await;
    cluster.kill(1);
    drop(old);
    let mut bo = cluster.client(2, "bo").await;
    ann.send_until_acked("c-1", "bo", "hi").await;
    assert_eq!(bo.pushed().await.body, "hi");
}

#[tokio::test]
async fn draining_node_redirects_clients_and_loses_no_message() {
    let mut cluster = Cluster::start(3).await;
    let mut workload = Workload::start(&cluster, 0).await;
    workload.round().await;
    let mut bo = cluster.client(1, "bo").await;
    let draining = cluster.nodes[1].take().unwrap();
    let (_, ()) = tokio::join!(draining.drain(), async {
        let reconnect = |frame: &ServerFrame| match frame {
            ServerFrame::Reconnect(reconnect) => Some(reconnect.clone()),
            _ => None,
        };
        let mut nodes = bo.until(reconnect).await.nodes;
        nodes.sort();
        assert_eq!(nodes, ["ws://node-0/ws", "ws://node-2/ws"]);
        bo = cluster.client(2, "bo").await;
    });
    workload.round().await;
    drop(draining);
    workload.check(&cluster, 2).await;
    workload.ann.send_until_acked("to-bo", "bo", "hi").await;
    assert_eq!(bo.pushed().await.body, "hi");
}

#[tokio::test]
async fn sequential_node_restarts_lose_no_message() {
    let mut cluster = Cluster::start(3).await;
    let mut workload = Workload::start(&cluster, 0).await;
    for node in 0..3 {
        workload.log_in_again(&cluster, (node + 1) % 3).await;
        workload.round().await;
        let address = cluster.node(node).rpc_address();
        let draining = cluster.nodes[node].take().unwrap();
        draining.drain().await;
        drop(draining);
        cluster.restart(node, address).await;
        cluster.until_all_see(3).await;
        workload.log_in_again(&cluster, (node + 1) % 3).await;
        workload.round().await;
        workload.check(&cluster, node).await;
    }
}

#[tokio::test]
async fn reconnected_nodes_deliver_or_report_missed_messages() {
    let cluster = Cluster::start_cuttable(3).await;
    let (mut ann, mut bo) = (cluster.client(1, "ann").await, cluster.client(2, "bo").await);
    cluster.cut(1, 2).await;
    let ack = ann.send_until_acked("c-1", "bo", "hi").await;
    until(|| cluster.node(1).nodes().len() == 2 && cluster.node(2).nodes().len() == 2).await;
    cluster.mend(1, 2).await;
    // The relay forwards delayed bytes, perhaps the push itself.
    bo.until(|frame| matches!(frame, ServerFrame::Lagging(_) | ServerFrame::Push(_)).then_some(())).await;
    bo.sync_until(&ack.conversation, ack.seq).await;
    assert_eq!(bo.bodies(&ack.conversation), ["hi"]);
}

#[tokio::test]
async fn clients_of_unreachable_node_receive_lagging() {
    let cluster = Cluster::start_cuttable(3).await;
    let (mut ann, mut bo) = (cluster.client(1, "ann").await, cluster.client(2, "bo").await);
    // Node 2 still reaches node 1, which tells it of missed messages.
    cluster.cut_calls(1, 2).await;
    let ack = ann.send_until_acked("c-1", "bo", "hi").await;
    bo.until(|frame| matches!(frame, ServerFrame::Lagging(_)).then_some(())).await;
    bo.sync_until(&ack.conversation, ack.seq).await;
    assert_eq!(bo.bodies(&ack.conversation), ["hi"]);
}

fn presence(frame: &ServerFrame) -> Option<bool> {
    match frame {
        ServerFrame::Presence(presence) => Some(presence.online),
        _ => None,
    }
}
