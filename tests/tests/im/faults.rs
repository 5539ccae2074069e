//! What users of a cluster see when nodes die, come back, leave, or cannot reach each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use rpc_im::envelope::ServerFrame;
use tests::im::{Client, Cluster, LEASE, until};
use tokio::time::Instant;

/// Messages that ann has sent and been told to be safe, by conversation; and who they were for.
struct Talk {
    ann: Client,
    acked: Vec<(String, u64, String)>,
    sent: usize,
}

impl Talk {
    async fn begin(cluster: &Cluster, node: usize) -> Self {
        Self { ann: cluster.client(node, "ann").await, acked: Vec::new(), sent: 0 }
    }

    /// Says something to each of many, so that conversations of all nodes are among them.
    async fn round(&mut self) {
        for friend in 0..FRIENDS {
            self.sent += 1;
            let (id, body) = (format!("c-{}", self.sent), format!("message {}", self.sent));
            let ack = self.ann.send_until_acked(&id, &format!("friend-{friend}"), &body).await;
            self.acked.push((ack.conversation, ack.seq, body));
        }
    }

    /// Every acknowledged message is where it was said to be, once, and there is nothing else.
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

/// With three nodes, that all of these conversations have the same home has a chance of 1 in 500.
const FRIENDS: usize = 8;

#[tokio::test]
async fn when_a_node_is_killed_the_talk_goes_on_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(3).await;
    let mut talk = Talk::begin(&cluster, 0).await;
    talk.round().await;
    cluster.kill(1);
    talk.round().await;
    talk.check(&cluster, 2).await;
    talk.round().await;
    talk.check(&cluster, 0).await;
}

#[tokio::test]
async fn a_node_that_comes_back_inside_its_lease_catches_up() {
    let mut cluster = Cluster::start(3).await;
    let address = cluster.node(1).rpc_address();
    let mut talk = Talk::begin(&cluster, 0).await;
    talk.round().await;
    cluster.kill(1);
    cluster.restart(1, address).await;
    talk.round().await;
    cluster.until_all_see(3).await;
    talk.round().await;
    talk.check(&cluster, 1).await;
}

#[tokio::test]
async fn a_node_that_was_away_for_long_catches_up_and_another_may_die_then() {
    let mut cluster = Cluster::start(3).await;
    let address = cluster.node(1).rpc_address();
    let mut talk = Talk::begin(&cluster, 0).await;
    talk.round().await;
    cluster.kill(1);
    cluster.until_all_see(2).await;
    talk.round().await;
    cluster.restart(1, address).await;
    cluster.until_all_see(3).await;
    talk.round().await;
    cluster.kill(2);
    talk.round().await;
    talk.check(&cluster, 1).await;
}

#[tokio::test]
async fn the_sessions_of_a_killed_node_are_gone_when_its_lease_is_over() {
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
    println!("the node was gone {:?} after the kill, with a lease of {LEASE:?}", killed.elapsed());
    let mut offline = 0;
    while offline < FRIENDS {
        offline += ann.until(|frame| presence(frame).map(|online| usize::from(!online))).await;
    }
    println!("all its sessions were said to be gone {:?} after it", killed.elapsed());
    for friend in 0..FRIENDS {
        assert_eq!(cluster.node(0).kick(&format!("friend-{friend}"), "nobody").await, 0);
    }
}

#[tokio::test]
async fn who_was_on_a_killed_node_is_reached_where_it_logs_in_next() {
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
async fn a_node_that_leaves_sends_its_clients_elsewhere_and_loses_nothing() {
    let mut cluster = Cluster::start(3).await;
    let mut talk = Talk::begin(&cluster, 0).await;
    talk.round().await;
    let mut bo = cluster.client(1, "bo").await;
    let leaving = cluster.nodes[1].take().unwrap();
    let (_, ()) = tokio::join!(leaving.drain(), async {
        let reconnect = |frame: &ServerFrame| match frame {
            ServerFrame::Reconnect(reconnect) => Some(reconnect.clone()),
            _ => None,
        };
        let mut nodes = bo.until(reconnect).await.nodes;
        nodes.sort();
        assert_eq!(nodes, ["ws://node-0/ws", "ws://node-2/ws"]);
        bo = cluster.client(2, "bo").await;
    });
    talk.round().await;
    drop(leaving);
    talk.check(&cluster, 2).await;
    talk.ann.send_until_acked("to-bo", "bo", "hi").await;
    assert_eq!(bo.pushed().await.body, "hi");
}

#[tokio::test]
async fn all_nodes_restart_one_after_the_other_and_nothing_is_lost() {
    let mut cluster = Cluster::start(3).await;
    for node in 0..3 {
        let mut talk = Talk::begin(&cluster, (node + 1) % 3).await;
        talk.sent = node * 1000;
        talk.round().await;
        let address = cluster.node(node).rpc_address();
        let leaving = cluster.nodes[node].take().unwrap();
        leaving.drain().await;
        drop(leaving);
        cluster.restart(node, address).await;
        cluster.until_all_see(3).await;
        talk.round().await;
        let mut friend = cluster.client(node, "friend-0").await;
        let (conversation, last, _) = &talk.acked[FRIENDS];
        friend.sync_until(conversation, *last).await;
        assert_eq!(*last as usize, 2 * (node + 1));
    }
}

#[tokio::test]
async fn two_nodes_that_cannot_reach_each_other_deliver_through_the_third_or_when_they_can_again() {
    let cluster = Cluster::start_cuttable(3).await;
    let mut talk = Talk::begin(&cluster, 0).await;
    let mut friends = Vec::new();
    for friend in 0..FRIENDS {
        friends.push(cluster.client(1, &format!("friend-{friend}")).await);
    }
    talk.round().await;
    cluster.cut(0, 1).await;
    until(|| cluster.node(0).nodes().len() == 2 && cluster.node(1).nodes().len() == 2).await;
    talk.round().await;
    cluster.mend(0, 1).await;
    cluster.until_all_see(3).await;
    talk.round().await;
    for (friend, mut client) in friends.into_iter().enumerate() {
        let of_friend: Vec<_> = talk.acked.iter().skip(friend).step_by(FRIENDS).collect();
        let (conversation, last, _) = of_friend.last().unwrap();
        client.sync_until(conversation, *last).await;
        let expected: Vec<_> = of_friend.iter().map(|(_, _, body)| body.clone()).collect();
        assert_eq!(client.bodies(conversation), expected, "friend-{friend}");
    }
}

#[tokio::test]
async fn clients_of_a_node_that_was_cut_off_are_told_that_they_may_have_missed_something() {
    let cluster = Cluster::start_cuttable(3).await;
    let (mut ann, mut bo) = (cluster.client(0, "ann").await, cluster.client(1, "bo").await);
    cluster.cut(1, 0).await;
    cluster.cut(1, 2).await;
    until(|| cluster.node(0).nodes().len() == 2 && cluster.node(2).nodes().len() == 2).await;
    // Nobody knows of bo now: this is only stored.
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
