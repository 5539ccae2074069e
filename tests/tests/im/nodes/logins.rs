//! Conflicting logins: exactly one session remains, also during faults.

use std::{collections::BTreeMap, time::Instant};

use rpc_im::client::Line;
use tests::{
    im_line::{log_in, message, send, token, until_closed},
    im_nodes::{Nodes, with_each_directory},
    im_user::{User, UserOptions},
    im_workload::ChatWorkload,
    in_time,
    load::number,
    nacos::NacosServer,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_logins_leave_one_session() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let nodes = directory.nodes(3, &nacos.url(), &["--devices", "single", "--refuse"]).await;
        let rounds = number("MSNB_ROUNDS", 8);
        let mut lines = Vec::new();
        for round in 0..rounds as usize {
            let urls = [nodes.websocket(round % 3), nodes.websocket((round + 1) % 3)];
            lines.push(log_in_same_device(&nodes, &urls, &format!("twin-{round}")).await);
            lines.push(log_in_two_devices(&nodes, &urls, &format!("owner-{round}")).await);
            open_same_side(&nodes, [round % 3, (round + 1) % 3], round).await;
        }
        nodes.until_sessions(lines.len() as u64).await;
        println!(
            "{rounds} pairs of logins each of one device, of two devices and of one side of a room, {directory}: one \
             session remained of each"
        );
    })
    .await;
}

/// Logs the same device in at two nodes concurrently, and returns the line that remains: the other session is replaced.
async fn log_in_same_device(nodes: &Nodes, urls: &[String; 2], user: &str) -> Line {
    let token = token(&nodes.bases(), user, "browser", "web").await;
    let (one, other) = tokio::join!(log_in(&urls[0], &token), log_in(&urls[1], &token));
    let mut remaining = match (one, other) {
        (Ok(mut one), Ok(mut other)) => {
            // The dropped future loses no frame: the node sends none to the remaining session.
            let (reason, is_first) = tokio::select! {
                reason = until_closed(&mut one) => (reason, true),
                reason = until_closed(&mut other) => (reason, false),
            };
            assert_eq!(reason.as_deref(), Some("replaced"), "{user}");
            if is_first { other } else { one }
        }
        // One session was replaced before it received the acceptance of its login.
        (Ok(line), Err(reason)) | (Err(reason), Ok(line)) => {
            assert_eq!(reason, "replaced", "{user}");
            line
        }
        (Err(one), Err(other)) => panic!("both logins of {user} failed: {one}, {other}"),
    };
    send(&mut remaining, "id", user, "hi").await;
    remaining
}

/// Logs two devices of a user in concurrently under a policy of one device, and returns the accepted line: the other login
/// is rejected.
async fn log_in_two_devices(nodes: &Nodes, urls: &[String; 2], user: &str) -> Line {
    let phone = token(&nodes.bases(), user, "phone", "ios").await;
    let browser = token(&nodes.bases(), user, "browser", "web").await;
    let (one, other) = tokio::join!(log_in(&urls[0], &phone), log_in(&urls[1], &browser));
    let (mut remaining, reason) = match (one, other) {
        (Ok(line), Err(reason)) | (Err(reason), Ok(line)) => (line, reason),
        (one, other) => panic!("expected one accepted login of {user}, got {one:?} and {other:?}"),
    };
    assert_eq!(reason, "another session is active");
    send(&mut remaining, "id", user, "hi").await;
    remaining
}

/// Opens the same side of a room concurrently at two nodes: one request is accepted, and the side is free once its
/// connection ends.
async fn open_same_side(nodes: &Nodes, numbers: [usize; 2], round: usize) {
    let path = format!("/channel?type=app&channelId=room_{round:027}");
    let open = async |number: usize| {
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
    let (one, other) = tokio::join!(open(numbers[0]), open(numbers[1]));
    let mut statuses = [one.0.as_str(), &other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, ["101", "409"]);
    drop((one, other));
    in_time(async { while open(numbers[0]).await.0 != "101" {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_logins_during_node_kill_leave_one_session() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let mut nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let workload = ChatWorkload::start(&nodes, 3).await;
        let kills = number("MSNB_KILLS", 2) as usize;
        let mut all = Vec::new();
        for kill in 0..kills {
            // Without the storing node, nobody logs in.
            let victim = 1 + kill % 2;
            let start =
                |name: &str, number: usize| User::start(name, nodes.bases(), UserOptions::at(nodes.websocket(number)));
            let mut pairs: Vec<_> = (0..PAIRS)
                .map(|pair| {
                    let name = format!("pair-{kill}-{pair}");
                    [start(&name, (victim + 1) % 3), start(&name, (victim + 2) % 3)]
                })
                .collect();
            nodes.kill(victim).await;
            for pair in &mut pairs {
                until_one_remains(pair).await;
            }
            nodes.start_node(victim).await;
            nodes.until_ready().await;
            all.extend(pairs);
        }
        let summary = workload.end(&nodes, all.len()).await;
        for pair in &all {
            let ended: Vec<_> = pair.iter().filter_map(|user| user.log().ended.clone()).collect();
            assert_eq!(ended, ["replaced"], "sessions of {}", pair[0].name());
        }
        println!(
            "{} pairs of logins during {kills} kills, {directory}: one session remained of each; {summary}",
            all.len()
        );
    })
    .await;
}

/// Waits until the session of one of two users has ended and the other user is connected.
async fn until_one_remains([one, other]: &[User; 2]) {
    let remaining = tokio::select! {
        () = one.until("ended", |log| log.ended.is_some()) => other,
        () = other.until("ended", |log| log.ended.is_some()) => one,
    };
    remaining.until("connected", |log| log.node.is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_disconnect_keeps_newer_session_of_device() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let mut ann = log_in(&nodes.websocket(0), &token(&nodes.bases(), "ann", "browser", "web").await).await;
        let ann = ann.as_mut().expect("the login succeeds");
        let mut old = BTreeMap::new();
        for number in 0..DEVICES {
            let name = format!("mover-{number}");
            let token = token(&nodes.bases(), &name, "browser", "web").await;
            let line = log_in(&nodes.websocket(1), &token).await.expect("the login succeeds");
            old.insert(name, (token, line));
        }
        // The paused node 1 receives neither the disconnects of the devices nor their logins on other nodes.
        nodes.pause(1);
        let start = Instant::now();
        let mut tokens = BTreeMap::new();
        for (name, (token, line)) in old {
            drop(line);
            tokens.insert(name, token);
        }
        let mut logins = tokio::task::JoinSet::new();
        for (number, (name, token)) in tokens.into_iter().enumerate() {
            let url = nodes.websocket(2 * (number % 2));
            logins.spawn(async move { (name, log_in(&url, &token).await.expect("the login succeeds")) });
        }
        // Logins do not wait for the paused node.
        let mut new = BTreeMap::new();
        for _ in 0..DEVICES {
            new.extend(in_time(logins.join_next()).await.expect("further logins are running").ok());
        }
        let moved_after = start.elapsed();
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
                    let frame = line.next().await.expect("the session is open");
                    if let rpc_im::envelope::ServerFrame::Push(push) = frame {
                        return push;
                    }
                }
            });
            assert_eq!(pushed.await.seq, ack.seq);
            line.say(&message("1", "ann", "yes")).await.expect("the line is open");
        }
        println!(
            "{DEVICES} devices moved from a paused node, {directory}: the first ones after {moved_after:.1?}; all \
             sessions remained"
        );
    })
    .await;
}

/// The number of devices that log in at two nodes concurrently, for each kill.
const PAIRS: usize = 8;
/// The number of devices that move while a node is paused.
const DEVICES: usize = 12;
