//! Messages that are sent again, and messages that are not read.

use tests::{
    im_line::{log_in, message, send, token, until_closed},
    im_nodes::Nodes,
    im_talk::ChatWorkload,
    im_user::{User, UserOptions},
    load::number,
    nacos::NacosServer,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_sent_again_is_the_same_message_on_whichever_node() {
    let nacos = NacosServer::start().await;
    let mut nodes = Nodes::start(3, &nacos.url(), &[]).await;
    let ann = token(&nodes.bases(), "ann", "browser", "web").await;
    let mut acks = Vec::new();
    let rounds = number("MSNB_ROUNDS", 12) as usize;
    for round in 0..rounds {
        let (id, body) = (format!("c-{round}"), format!("message {round}"));
        // Said and not waited for; said again on another node, where it may come first; and said there once more.
        let mut line = log_in(&nodes.websocket(round % 3), &ann).await.expect("ann is let in");
        line.say(&message(&id, "bo", &body)).await.expect("the line is there");
        drop(line);
        let mut line = log_in(&nodes.websocket((round + 1) % 3), &ann).await.expect("ann is let in");
        let ack = send(&mut line, &id, "bo", &body).await;
        assert_eq!(send(&mut line, &id, "bo", &body).await, ack);
        acks.push(ack);
    }
    // And once more, when whoever is responsible for the conversation has died.
    for victim in 0..3 {
        nodes.kill(victim).await;
        let mut line = log_in(&nodes.websocket((victim + 1) % 3), &ann).await.expect("ann is let in");
        for (round, ack) in acks.iter().enumerate() {
            assert_eq!(send(&mut line, &ack.id, "bo", &format!("message {round}")).await, *ack);
        }
        drop(line);
        nodes.start_node(victim).await;
        nodes.until_ready().await;
    }
    let bo = User::connect("bo", nodes.bases(), UserOptions::default()).await;
    bo.sync_until(&acks[0].conversation, rounds as u64).await;
    let log = bo.log();
    let got =
        log.messages[&acks[0].conversation].iter().map(|(seq, message)| (*seq, message.message, message.body.clone()));
    let said = acks.iter().enumerate().map(|(round, ack)| (ack.seq, ack.message, format!("message {round}")));
    assert_eq!(got.collect::<Vec<_>>(), said.collect::<Vec<_>>());
    println!("{rounds} messages were sent {} times each, and are there once", 3 + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_never_reads_is_closed_harms_nobody_and_finds_everything_later() {
    let nacos = NacosServer::start().await;
    let nodes = Nodes::start(3, &nacos.url(), &[]).await;
    let talk = ChatWorkload::start(&nodes, 6).await;
    let deaf = token(&nodes.bases(), "deaf", "browser", "web").await;
    let mut line = log_in(&nodes.websocket(1), &deaf).await.expect("it is let in");
    // More than the sockets between the two ends hold, so that the node finds that nothing is taken.
    let body = "x".repeat(BODY);
    let mut sent = 0;
    while nodes.metric(1, "im_closed_stuck_total").await == 0 {
        assert!(sent < MAX_SENT, "the node has said {sent} messages to one who does not read");
        for user in talk.users() {
            user.send_until_stored("deaf", &body).await;
            sent += 1;
        }
    }
    talk.until_stored(4).await;
    let found = User::connect(
        "deaf",
        nodes.bases(),
        UserOptions { device: "new".to_owned(), ..UserOptions::at(nodes.websocket(2)) },
    )
    .await;
    for user in talk.users() {
        let stored = user
            .log()
            .stored
            .values()
            .filter(|stored| stored.message.body.ends_with(&body))
            .cloned()
            .collect::<Vec<_>>();
        let last = stored.last().expect("it said something");
        found.sync_until(&last.conversation, last.seq).await;
        let log = found.log();
        assert!(stored.iter().all(|stored| log.messages[&stored.conversation][&stored.seq] == stored.message));
    }
    // It learns that it was closed, and what it did not read is no loss.
    until_closed(&mut line).await;
    drop(found);
    let line = talk.end(&nodes, 0).await;
    println!("one who never reads was closed after {sent} messages of {BODY} bytes; {line}");
}

/// The length of what is said to one who does not read: a frame may have 64 KiB.
const BODY: usize = 60_000;
/// More than any sockets hold.
const MAX_SENT: usize = 2000;
