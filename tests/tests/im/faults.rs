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

    /// Sends a message to each friend; their number makes conversations with different leaders likely.
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

/// The number of conversations. With three nodes, the probability that one node leads all of them is below 1 in 500.
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
async fn node_restarted_after_lease_takes_over_from_killed_node() {
    let mut cluster = Cluster::start(3).await;
    let address = cluster.node(1).rpc_address();
    let mut workload = Workload::start(&cluster, 0).await;
    workload.round().await;
    cluster.kill(1);
    cluster.until_all_see(2).await;
    workload.round().await;
    cluster.restart(1, address).await;
    cluster.until_all_see(3).await;
    workload.round().await;
    cluster.kill(2);
    workload.round().await;
    workload.check(&cluster, 1).await;
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
        assert_eq!(cluster.node(0).kick(&format!("friend-{friend}"), "any").await, 0);
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
    for node in 0..3 {
        let mut workload = Workload::start(&cluster, (node + 1) % 3).await;
        workload.sent = node * 1000;
        workload.round().await;
        let address = cluster.node(node).rpc_address();
        let draining = cluster.nodes[node].take().unwrap();
        draining.drain().await;
        drop(draining);
        cluster.restart(node, address).await;
        cluster.until_all_see(3).await;
        workload.round().await;
        let mut friend = cluster.client(node, "friend-0").await;
        let (conversation, last, _) = &workload.acked[FRIENDS];
        friend.sync_until(conversation, *last).await;
        assert_eq!(*last as usize, 2 * (node + 1));
    }
}

#[tokio::test]
async fn disconnected_nodes_deliver_through_third_or_after_reconnect() {
    let cluster = Cluster::start_cuttable(3).await;
    let mut workload = Workload::start(&cluster, 0).await;
    let mut friends = Vec::new();
    for friend in 0..FRIENDS {
        friends.push(cluster.client(1, &format!("friend-{friend}")).await);
    }
    workload.round().await;
    cluster.cut(0, 1).await;
    until(|| cluster.node(0).nodes().len() == 2 && cluster.node(1).nodes().len() == 2).await;
    workload.round().await;
    cluster.mend(0, 1).await;
    cluster.until_all_see(3).await;
    workload.round().await;
    for (friend, mut client) in friends.into_iter().enumerate() {
        let of_friend: Vec<_> = workload.acked.iter().skip(friend).step_by(FRIENDS).collect();
        let (conversation, last, _) = of_friend.last().unwrap();
        client.sync_until(conversation, *last).await;
        let expected: Vec<_> = of_friend.iter().map(|(_, _, body)| body.clone()).collect();
        assert_eq!(client.bodies(conversation), expected, "friend-{friend}");
    }
}

#[tokio::test]
async fn clients_of_isolated_node_receive_lagging_after_reconnect() {
    let cluster = Cluster::start_cuttable(3).await;
    let (mut ann, mut bo) = (cluster.client(0, "ann").await, cluster.client(1, "bo").await);
    cluster.cut(1, 0).await;
    cluster.cut(1, 2).await;
    until(|| cluster.node(0).nodes().len() == 2 && cluster.node(2).nodes().len() == 2).await;
    // No reachable node has a session of bo: the cluster only stores this message.
    let ack = ann.send_until_acked("c-1", "bo", "hi").await;
    cluster.mend(1, 0).await;
    cluster.mend(1, 2).await;
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
