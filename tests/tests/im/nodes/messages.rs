//! Messages that a client resends, and messages that a client does not read.

use tests::{
    im_line::{log_in, message, send, token, until_closed},
    im_nodes::Nodes,
    im_user::{User, UserOptions},
    im_workload::ChatWorkload,
    load::number,
    nacos::NacosServer,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resent_message_stays_one_message_on_every_node() {
    let nacos = NacosServer::start().await;
    let mut nodes = Nodes::start(3, &nacos.url(), &[]).await;
    let ann = token(&nodes.bases(), "ann", "browser", "web").await;
    let mut acks = Vec::new();
    let rounds = number("MSNB_ROUNDS", 12) as usize;
    for round in 0..rounds {
        let (id, body) = (format!("c-{round}"), format!("message {round}"));
        // Sends without waiting for the ack, then twice at another node, at which the message may arrive first.
        let mut line = log_in(&nodes.websocket(round % 3), &ann).await.expect("the login succeeds");
        line.say(&message(&id, "bo", &body)).await.expect("the line is open");
        drop(line);
        let mut line = log_in(&nodes.websocket((round + 1) % 3), &ann).await.expect("the login succeeds");
        let ack = send(&mut line, &id, "bo", &body).await;
        assert_eq!(send(&mut line, &id, "bo", &body).await, ack);
        acks.push(ack);
    }
    // Resends every message after each node, and so also the storing node, was killed.
    for victim in 0..3 {
        nodes.kill(victim).await;
        if victim == 0 {
            nodes.start_node(victim).await;
        }
        let mut line = log_in(&nodes.websocket((victim + 1) % 3), &ann).await.expect("the login succeeds");
        for (round, ack) in acks.iter().enumerate() {
            assert_eq!(send(&mut line, &ack.id, "bo", &format!("message {round}")).await, *ack);
        }
        drop(line);
        if victim != 0 {
            nodes.start_node(victim).await;
        }
        nodes.until_ready().await;
    }
    let bo = User::connect("bo", nodes.bases(), UserOptions::default()).await;
    bo.sync_until(&acks[0].conversation, rounds as u64).await;
    let log = bo.log();
    let received =
        log.messages[&acks[0].conversation].iter().map(|(seq, message)| (*seq, message.time, message.body.clone()));
    let expected = acks.iter().enumerate().map(|(round, ack)| (ack.seq, ack.time, format!("message {round}")));
    assert_eq!(received.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    println!("{rounds} messages, each sent {} times, are stored once", 3 + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_never_reads_is_closed_and_syncs_later() {
    let nacos = NacosServer::start().await;
    let nodes = Nodes::start(3, &nacos.url(), &[]).await;
    let workload = ChatWorkload::start(&nodes, 6).await;
    let token = token(&nodes.bases(), "reader", "browser", "web").await;
    let mut line = log_in(&nodes.websocket(1), &token).await.expect("the login succeeds");
    // Sends more than the buffers of the connection hold, so that the node's writes stall.
    let body = "x".repeat(BODY);
    let mut sent = 0;
    while nodes.metric(1, "im_closed_stuck_total").await == 0 {
        assert!(sent < MAX_SENT, "the node does not close the connection after {sent} unread messages");
        for user in workload.users() {
            user.send_until_stored("reader", &body).await;
            sent += 1;
        }
    }
    workload.until_stored(4).await;
    let device = User::connect(
        "reader",
        nodes.bases(),
        UserOptions { device: "new".to_owned(), ..UserOptions::at(nodes.websocket(2)) },
    )
    .await;
    for user in workload.users() {
        let stored = user
            .log()
            .stored
            .values()
            .filter(|stored| stored.message.body.ends_with(&body))
            .cloned()
            .collect::<Vec<_>>();
        let last = stored.last().expect("the user has sent messages");
        device.sync_until(&last.conversation, last.seq).await;
        let log = device.log();
        assert!(stored.iter().all(|stored| log.messages[&stored.conversation][&stored.seq] == stored.message));
    }
    // The client receives the end of its connection; the new device has received the unread messages.
    until_closed(&mut line).await;
    drop(device);
    let summary = workload.end(&nodes, 0).await;
    println!("a client that never reads was closed after {sent} messages of {BODY} bytes; {summary}");
}

/// The size of the messages to the client that does not read, below the frame limit of 64 KiB.
const BODY: usize = 60_000;
/// The limit of unread messages: more than the buffers of any connection hold.
const MAX_SENT: usize = 2000;
