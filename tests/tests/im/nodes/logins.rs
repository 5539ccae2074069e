//! Logins that exclude each other: one of them stands, whatever else happens.

use std::{collections::BTreeMap, time::Instant};

use rpc_im::client::Line;
use tests::{
    im_line::{log_in, message, send, token, until_closed},
    im_nodes::{Nodes, with_each_directory},
    im_talk::ChatWorkload,
    im_user::{User, UserOptions},
    in_time,
    load::number,
    nacos::NacosServer,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_logins_at_once_on_two_nodes_one_stands() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let nodes = directory.nodes(3, &nacos.url(), &["--devices", "single", "--refuse"]).await;
        let rounds = number("MSNB_ROUNDS", 8);
        let mut standing = Vec::new();
        for round in 0..rounds as usize {
            let urls = [nodes.websocket(round % 3), nodes.websocket((round + 1) % 3)];
            standing.push(one_device(&nodes, &urls, &format!("twin-{round}")).await);
            standing.push(two_devices(&nodes, &urls, &format!("owner-{round}")).await);
            one_side(&nodes, [round % 3, (round + 1) % 3], round).await;
        }
        nodes.until_sessions(standing.len() as u64).await;
        println!(
            "{rounds} logins each of one device, of two devices and of one side of a room, {directory}: one stood"
        );
    })
    .await;
}

/// The same device comes to two nodes at once: both are let in, and one is sent away.
async fn one_device(nodes: &Nodes, urls: &[String; 2], user: &str) -> Line {
    let token = token(&nodes.bases(), user, "browser", "web").await;
    let (one, other) = tokio::join!(log_in(&urls[0], &token), log_in(&urls[1], &token));
    let mut stands = match (one, other) {
        (Ok(mut one), Ok(mut other)) => {
            // Dropped, neither has lost what it was told: the one that goes on is told nothing.
            let (gone, is_first) = tokio::select! {
                gone = until_closed(&mut one) => (gone, true),
                gone = until_closed(&mut other) => (gone, false),
            };
            assert_eq!(gone.as_deref(), Some("replaced"), "{user}");
            if is_first { other } else { one }
        }
        // It was replaced before it was told that it is in.
        (Ok(line), Err(why)) | (Err(why), Ok(line)) => {
            assert_eq!(why, "replaced", "{user}");
            line
        }
        (Err(one), Err(other)) => panic!("{user} is let in nowhere: {one}, {other}"),
    };
    send(&mut stands, "here", user, "I am here").await;
    stands
}

/// Two devices of a user who may have one: one is let in, and the other is refused.
async fn two_devices(nodes: &Nodes, urls: &[String; 2], user: &str) -> Line {
    let phone = token(&nodes.bases(), user, "phone", "ios").await;
    let browser = token(&nodes.bases(), user, "browser", "web").await;
    let (one, other) = tokio::join!(log_in(&urls[0], &phone), log_in(&urls[1], &browser));
    let (mut stands, why) = match (one, other) {
        (Ok(line), Err(why)) | (Err(why), Ok(line)) => (line, why),
        (one, other) => panic!("of {user}, one is let in, not {one:?} and {other:?}"),
    };
    assert_eq!(why, "another session is active");
    send(&mut stands, "here", user, "I am here").await;
    stands
}

/// Two come for the same side of a room: one is let in, and the other is refused; and in the end the side is free.
async fn one_side(nodes: &Nodes, numbers: [usize; 2], round: usize) {
    let path = format!("/channel?type=app&channelId=room_{round:027}");
    let ask = async |number: usize| {
        let address = nodes.base(number).replace("http://", "");
        let mut stream = BufReader::new(TcpStream::connect(&address).await.expect("the node listens"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("the node reads");
        let mut line = String::new();
        in_time(stream.read_line(&mut line)).await.expect("the node answers");
        (line.split(' ').nth(1).unwrap_or_default().to_owned(), stream)
    };
    let (one, other) = tokio::join!(ask(numbers[0]), ask(numbers[1]));
    let mut statuses = [one.0.as_str(), &other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, ["101", "409"]);
    drop((one, other));
    in_time(async { while ask(numbers[0]).await.0 != "101" {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_logins_one_stands_also_when_a_node_dies_meanwhile() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let mut nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let talk = ChatWorkload::start(&nodes, 3).await;
        let kills = number("MSNB_KILLS", 2) as usize;
        let mut all = Vec::new();
        for kill in 0..kills {
            let victim = kill % 3;
            let begin =
                |name: &str, number: usize| User::start(name, nodes.bases(), UserOptions::at(nodes.websocket(number)));
            let mut pairs: Vec<_> = (0..PAIRS)
                .map(|pair| {
                    let name = format!("pair-{kill}-{pair}");
                    [begin(&name, (victim + 1) % 3), begin(&name, (victim + 2) % 3)]
                })
                .collect();
            nodes.kill(victim).await;
            for pair in &mut pairs {
                until_one_stands(pair).await;
            }
            nodes.start_node(victim).await;
            nodes.until_ready().await;
            all.extend(pairs);
        }
        let line = talk.end(&nodes, all.len()).await;
        for pair in &all {
            let ended: Vec<_> = pair.iter().filter_map(|user| user.log().ended.clone()).collect();
            assert_eq!(ended, ["replaced"], "of {}, one stands", pair[0].name());
        }
        println!("{} pairs of logins amid {kills} kills, {directory}: one stood; {line}", all.len());
    })
    .await;
}

/// Waits until one of two was sent away and the other is on a node.
async fn until_one_stands([one, other]: &[User; 2]) {
    let (stands, _) = tokio::select! {
        () = one.until("ended", |log| log.ended.is_some()) => (other, one),
        () = other.until("ended", |log| log.ended.is_some()) => (one, other),
    };
    stands.until("connected", |log| log.node.is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_disconnect_leaves_a_newer_login_of_the_device_alone() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let mut ann = log_in(&nodes.websocket(0), &token(&nodes.bases(), "ann", "browser", "web").await).await;
        let ann = ann.as_mut().expect("ann is let in");
        let mut old = BTreeMap::new();
        for number in 0..DEVICES {
            let name = format!("mover-{number}");
            let token = token(&nodes.bases(), &name, "browser", "web").await;
            let line = log_in(&nodes.websocket(1), &token).await.expect("it is let in");
            old.insert(name, (token, line));
        }
        // Node 1 hears of nothing any more, neither that they go nor that they are elsewhere.
        nodes.pause(1);
        let begun = Instant::now();
        let mut tokens = BTreeMap::new();
        for (name, (token, line)) in old {
            drop(line);
            tokens.insert(name, token);
        }
        let mut logins = tokio::task::JoinSet::new();
        for (number, (name, token)) in tokens.into_iter().enumerate() {
            let url = nodes.websocket(2 * (number % 2));
            logins.spawn(async move { (name, log_in(&url, &token).await.expect("it is let in")) });
        }
        // Those for whom another node is responsible are in at once; the others wait for the one that stands still.
        let mut new = BTreeMap::new();
        for _ in 0..DEVICES / 4 {
            new.extend(in_time(logins.join_next()).await.expect("there are more").ok());
        }
        let moved = begun.elapsed();
        nodes.resume(1);
        while let Some(login) = logins.join_next().await {
            new.extend(login.ok());
        }
        nodes.until_ready().await;
        nodes.until_sessions(new.len() as u64 + 1).await;
        assert_eq!(new.len(), DEVICES);
        for (name, line) in &mut new {
            let ack = send(ann, &format!("to {name}"), name, "are you there?").await;
            let pushed = in_time(async {
                loop {
                    let frame = line.next().await.expect("it was not sent away");
                    if let rpc_im::envelope::ServerFrame::Push(push) = frame {
                        return push;
                    }
                }
            });
            assert_eq!(pushed.await.message, ack.message);
            line.say(&message("1", "ann", "I am")).await.expect("the line is there");
        }
        println!("{DEVICES} devices moved from a node that stood still, {directory}: the first ones after {moved:.1?}; all stayed");
    })
    .await;
}

/// Devices that come to two nodes at once, for each kill.
const PAIRS: usize = 8;
/// Devices that move while a node stands still.
const DEVICES: usize = 12;
