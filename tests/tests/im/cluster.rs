//! Behaviour that users observe, independent of their nodes.

use std::collections::BTreeSet;

use bytes::Bytes;
use rpc_im::{
    LoginError, OtherSideAbsent, Side,
    envelope::{Position, Recipient, ServerFrame},
};
use tests::{
    im::{Cluster, until},
    in_time,
};

#[tokio::test]
async fn single_node_delivers_messages() {
    let cluster = Cluster::start(1).await;
    let (mut ann, mut bo) = (cluster.client(0, "ann").await, cluster.client(0, "bo").await);
    ann.send("c-1", "bo", "hi");
    let ack = ann.acked("c-1").await;
    let push = bo.pushed().await;
    assert_eq!((push.from.as_str(), push.body.as_str(), push.seq), ("ann", "hi", 1));
    assert_eq!((ack.incarnation, ack.seq, ack.conversation), (push.incarnation, push.seq, push.conversation));
}

#[tokio::test]
async fn nodes_deliver_messages_in_both_directions() {
    let cluster = Cluster::start(2).await;
    let (mut ann, mut bo) = (cluster.client(0, "ann").await, cluster.client(1, "bo").await);
    for turn in 0..10 {
        ann.send(&format!("a-{turn}"), "bo", "to bo");
        ann.acked(&format!("a-{turn}")).await;
        bo.pushed_body("to bo").await;
        bo.send(&format!("b-{turn}"), "ann", "to ann");
        let ack = bo.acked(&format!("b-{turn}")).await;
        assert_eq!(ann.pushed_body("to ann").await.seq, ack.seq);
        assert_eq!(ack.seq, 2 * turn + 2);
    }
}

#[tokio::test]
async fn messages_of_one_sender_keep_their_order() {
    let cluster = Cluster::start(2).await;
    let (mut ann, mut bo) = (cluster.client(0, "ann").await, cluster.client(1, "bo").await);
    for number in 0..50 {
        ann.send(&format!("c-{number}"), "bo", &number.to_string());
    }
    for number in 0..50 {
        assert_eq!(ann.acked(&format!("c-{number}")).await.seq, number + 1);
        let push = bo.pushed().await;
        assert_eq!((push.seq, push.body), (number + 1, number.to_string()));
    }
}

#[tokio::test]
async fn later_node_and_earlier_nodes_discover_each_other() {
    let mut cluster = Cluster::start(1).await;
    let mut ann = cluster.client(0, "ann").await;
    cluster.add().await;
    cluster.until_all_see(2).await;
    let mut bo = cluster.client(1, "bo").await;
    ann.send("c-1", "bo", "hi");
    assert_eq!(bo.pushed().await.body, "hi");
    bo.send("c-1", "ann", "hi back");
    assert_eq!(ann.pushed().await.body, "hi back");
    let ids: BTreeSet<_> = cluster.node(0).nodes().into_iter().map(|node| node.id).collect();
    assert_eq!(ids, [cluster.node(0).id(), cluster.node(1).id()].into());
}

#[tokio::test]
async fn repeated_client_id_stores_one_message() {
    let cluster = Cluster::start(3).await;
    let mut ann = cluster.client(0, "ann").await;
    ann.send("c-1", "bo", "hi");
    ann.send("c-1", "bo", "hi");
    let first = ann.acked("c-1").await;
    assert_eq!(ann.acked("c-1").await, first);
    drop(ann);
    // The device reconnects to another node without the ack, and sends the message again.
    let mut again = cluster.client(1, "ann").await;
    again.send("c-1", "bo", "hi");
    assert_eq!(again.acked("c-1").await, first);
    again.send("c-2", "bo", "next");
    assert_eq!(again.acked("c-2").await.seq, 2);
}

#[tokio::test]
async fn offline_user_syncs_missed_messages_in_sequence() {
    let cluster = Cluster::start(3).await;
    let mut ann = cluster.client(0, "ann").await;
    let mut last = None;
    for number in 0..30 {
        ann.send(&format!("c-{number}"), "bo", &number.to_string());
        last = Some(ann.acked(&format!("c-{number}")).await);
    }
    let last = last.unwrap();
    let mut bo = cluster.client(2, "bo").await;
    bo.sync();
    for number in 0..30 {
        assert_eq!(bo.pushed().await.body, number.to_string());
    }
    // A sync with a cursor returns only the later messages.
    let mut again = cluster.client(1, "bo").await;
    again.cursors.insert(last.conversation.clone(), Position { incarnation: last.incarnation, seq: 28 });
    again.sync();
    assert_eq!(again.pushed().await.seq, 29);
    assert_eq!(again.pushed().await.seq, 30);
}

#[tokio::test]
async fn group_message_reaches_only_members_on_all_nodes() {
    let cluster = Cluster::start(3).await;
    let mut ann = cluster.client(0, "ann").await;
    let mut others = Vec::new();
    for (node, user) in [(0, "bo"), (1, "cy"), (2, "di")] {
        others.push(cluster.client(node, user).await);
    }
    let mut eve = cluster.client(1, "eve").await;
    ann.create("g-1", &["bo", "cy", "di"]);
    let created = ann
        .until(|frame| match frame {
            ServerFrame::Conversation(conversation) if conversation.id.is_some() => Some(conversation.clone()),
            _ => None,
        })
        .await;
    assert_eq!(created.members, ["ann", "bo", "cy", "di"]);
    let to = Recipient::Conversation(created.conversation.clone());
    ann.send_to("c-1", to.clone(), "hi all");
    ann.acked("c-1").await;
    for other in &mut others {
        assert_eq!(other.pushed().await.conversation, created.conversation);
    }
    eve.send_to("c-1", to, "not a member");
    let error = eve.until(|frame| if let ServerFrame::Error(error) = frame { Some(error.clone()) } else { None }).await;
    assert_eq!(error.code, "not_found");
    eve.cursors.insert(created.conversation.clone(), Position { incarnation: created.incarnation, seq: 0 });
    eve.sync();
    eve.send("c-2", "eve", "to herself");
    eve.until(|frame| match frame {
        ServerFrame::Push(push) => panic!("eve receives {push:?}"),
        ServerFrame::SendAck(_) => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn message_reaches_only_other_devices_of_its_sender() {
    let cluster = Cluster::start(2).await;
    let mut phone = cluster.client_on(0, "ann", "phone", "ios").await.unwrap();
    let mut browser = cluster.client_on(1, "ann", "browser", "web").await.unwrap();
    phone.send("c-1", "bo", "hi");
    assert_eq!(browser.pushed().await.from, "ann");
    phone.acked("c-1").await;
    // The same id from another device is another message.
    browser.send("c-1", "bo", "hi again");
    assert_eq!(phone.pushed().await.body, "hi again", "the sending device does not receive its own message");
}

#[tokio::test]
async fn kick_ends_sessions_of_user_on_all_nodes() {
    let cluster = Cluster::start(2).await;
    let mut phone = cluster.client_on(0, "ann", "phone", "ios").await.unwrap();
    let mut browser = cluster.client_on(1, "ann", "browser", "web").await.unwrap();
    assert_eq!(cluster.node(0).kick("ann", "kicked by operator").await.unwrap(), 2);
    for client in [&mut phone, &mut browser] {
        let reason =
            client.until(|frame| if let ServerFrame::Kick(kick) = frame { Some(kick.reason.clone()) } else { None });
        assert_eq!(reason.await, "kicked by operator");
    }
}

#[tokio::test]
async fn slow_reader_receives_lagging_and_syncs_all_messages() {
    let cluster = Cluster::start(2).await;
    let (mut ann, mut bo) = (cluster.client(0, "ann").await, cluster.client(1, "bo").await);
    let mut last = None;
    for number in 0..400 {
        ann.send(&format!("c-{number}"), "bo", "x");
        last = Some(ann.acked(&format!("c-{number}")).await);
    }
    let last = last.unwrap();
    bo.until(|frame| matches!(frame, ServerFrame::Lagging(_)).then_some(())).await;
    bo.sync_until(&last.conversation, 400).await;
}

#[tokio::test]
async fn pairing_room_joins_one_connection_per_side_across_nodes() {
    let cluster = Cluster::start(2).await;
    let channel = "0123456789abcdef0123456789abcdef";
    let (app, mut to_app) = in_time(cluster.node(0).pair(channel, Side::App)).await.unwrap();
    assert_eq!(app.send(Bytes::from_static(b"early")).await, Err(OtherSideAbsent));
    let (web, mut to_web) = in_time(cluster.node(1).pair(channel, Side::Web)).await.unwrap();
    for node in [0, 1] {
        assert_eq!(in_time(cluster.node(node).pair(channel, Side::App)).await.err(), Some(LoginError::Taken));
    }
    for number in 0..100_u8 {
        app.send(Bytes::from(vec![number; 1000])).await.unwrap();
    }
    for number in 0..100_u8 {
        assert_eq!(in_time(to_web.next()).await.unwrap(), vec![number; 1000]);
    }
    web.send(Bytes::from_static(&[0, 255])).await.unwrap();
    assert_eq!(in_time(to_app.next()).await.unwrap()[..], [0, 255]);

    // A side is free as soon as its connection ends, and a peer that sends to the old connection is closed.
    drop((web, to_web));
    until(|| cluster.node(1).connections() == 0).await;
    let (_web, _to_web) = in_time(async {
        loop {
            if let Ok(side) = cluster.node(0).pair(channel, Side::Web).await {
                return side;
            }
        }
    })
    .await;
    app.send(Bytes::from_static(b"to the old side")).await.unwrap();
    assert_eq!(in_time(to_app.next()).await, None);
}
