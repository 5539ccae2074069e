//! Attacks on the port of a node from one address, beside clients of another one.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use rpc_im::{
    auth::{Accounts, Users},
    edge::EdgeConfig,
};
use tests::{
    Task,
    im_edge::{Edges, RawClient},
    in_time,
    program::Program,
    until_ok,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::tungstenite;

use super::{assert_serves, send_until_acked, until_pushed};

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Returns the users `user-0`, `user-1` and so on, whose password is `right`, with a hash of low cost.
fn users(count: usize) -> Users {
    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$wAHsiCDXvsipOD9dMPSIpg$1h9HI1Blp2bybSXPsKQqRHHDNfn3Wb82eKQHCbyZe48";
    Users::parse(&(0..count).map(|number| format!("user-{number}:{HASH}\n")).collect::<String>()).unwrap()
}

#[tokio::test]
async fn guessers_leave_logins_of_other_addresses_alone() {
    let edges = Edges::start_with(1, EdgeConfig::default(), || Accounts::File(users(48)), |node| node).await;
    let edges = Arc::new(edges);
    let (start, checked) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let guessers: Vec<_> = (0..100)
        .map(|number: usize| {
            let (edges, checked) = (Arc::clone(&edges), Arc::clone(&checked));
            Task::begin(async move {
                for guess in 0.. {
                    // Some guess at one user, the others at all.
                    let user = if number.is_multiple_of(2) { 0 } else { guess % 48 };
                    let answer = edges.login_from(ATTACKER, &format!("user-{user}"), &format!("guess-{guess}")).await;
                    match answer.split(' ').nth(1) {
                        Some("401") => checked.fetch_add(1, Ordering::Relaxed),
                        Some("429" | "503") => 0,
                        _ => panic!("{answer}"),
                    };
                }
            })
        })
        .collect();
    // The guesses are rejected before the honest logins begin.
    until_ok(async || {
        let answer = edges.login_from(ATTACKER, "user-0", "wrong").await;
        if answer.starts_with("HTTP/1.1 429") && answer.contains("retry-after: ") { Ok(()) } else { Err(answer) }
    })
    .await;
    for _ in 0..3 {
        for number in 0..48 {
            let answer = edges.login_from(OTHER, &format!("user-{number}"), "right").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "user-{number}: {answer}");
        }
    }
    // One address has 30 failures at once, and one more each second.
    let (checked, limit) = (checked.load(Ordering::Relaxed), 31 + start.elapsed().as_secs() as usize);
    assert!((1..=limit).contains(&checked), "{checked} guesses were checked, limit is {limit}");
    drop(guessers);
}

#[tokio::test]
async fn clients_behind_trusted_proxy_have_limits_of_their_own() {
    let config = EdgeConfig::default().with_trusted_proxies(vec![ATTACKER.into()]).with_max_entering_per_ip(1);
    let edges = Edges::start_with(1, config, || Accounts::File(users(1)), |node| node).await;
    // The proxy itself may open more connections than a client.
    let _open = [edges.connect_from(ATTACKER, 0).await, edges.connect_from(ATTACKER, 0).await];
    let login = async |client: &str, password: &str| {
        // The client has sent the first address.
        let header = format!("X-Forwarded-For: 10.0.0.9, {client}\r\n");
        edges.login_with(ATTACKER, "user-0", password, &header).await
    };
    until_ok(async || {
        let answer = login("10.0.0.1", "wrong").await;
        if answer.starts_with("HTTP/1.1 429") { Ok(()) } else { Err(answer) }
    })
    .await;
    assert!(login("10.0.0.2", "right").await.starts_with("HTTP/1.1 200 "));
    // The header of a client that is no proxy has no effect.
    for number in 0..20 {
        let header = format!("X-Forwarded-For: 10.0.1.{number}\r\n");
        let answer = edges.login_with(OTHER, "user-0", "wrong", &header).await;
        let expected = if number < 5 { "HTTP/1.1 401" } else { "HTTP/1.1 429" };
        assert!(answer.starts_with(expected), "{number}: {answer}");
    }
}

/// Returns whether the node has closed the connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    in_time(stream.read(&mut [0; 1])).await.unwrap_or(0) == 0
}

#[tokio::test]
async fn half_heads_of_one_address_leave_others_alone() {
    const PER_IP: usize = 20;
    let config = EdgeConfig::default().with_max_entering(2 * PER_IP).with_max_entering_per_ip(PER_IP);
    let edges = Edges::start(1, config).await;
    let mut bystander = edges.enter_from(OTHER, "bo").await;
    let mut half_open = Vec::new();
    for _ in 0..PER_IP {
        let mut stream = edges.connect_from(ATTACKER, 0).await;
        stream.write_all(b"GET /ws HTTP/1.1\r\nHost: no").await.unwrap();
        half_open.push(stream);
    }
    for _ in 0..3 * PER_IP {
        assert!(is_closed(&mut edges.connect_from(ATTACKER, 0).await).await);
    }
    let mut newcomer = edges.enter_from(OTHER, "ann").await;
    send_until_acked(&mut newcomer, "1", "bo", "hello").await;
    until_pushed(&mut bystander, "hello").await;
    // An ended connection makes room for another one of its address.
    drop(half_open.pop());
    until_ok(async || {
        let answer = edges.login_from(ATTACKER, "ann", "").await;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test]
async fn half_heads_of_many_addresses_leave_newcomers_alone() {
    let edges = Edges::start(1, EdgeConfig::default().with_max_entering(50).with_max_entering_per_ip(10)).await;
    let mut half_open = Vec::new();
    for number in 0..200 {
        let mut stream = edges.connect_from(Ipv4Addr::new(127, 0, 1, number % 20), 0).await;
        // The node may have closed the connection.
        let _ = stream.write_all(b"GET /ws HTTP/1.1\r\nHost: no").await;
        half_open.push(stream);
        if number % 50 == 49 {
            let mut newcomer = edges.enter_from(OTHER, &format!("user-{number}")).await;
            assert_serves_from(&mut newcomer).await;
        }
    }
}

/// Checks that a node answers a client.
async fn assert_serves_from(client: &mut RawClient) {
    client.send_frame(rpc_im::envelope::ClientFrame::Ping(rpc_im::envelope::Ping {})).await;
    client.until(|frame| matches!(frame, rpc_im::envelope::ServerFrame::Pong(_)).then_some(())).await;
}

#[tokio::test]
async fn sessions_of_one_address_are_limited() {
    let edges = Edges::start(1, EdgeConfig::default().with_max_connections_per_ip(5)).await;
    let mut sessions = Vec::new();
    for number in 0..5 {
        sessions.push(edges.enter_from(OTHER, &format!("user-{number}")).await);
    }
    assert!(is_closed(&mut edges.connect_from(OTHER, 0).await).await);
    assert_serves(&edges, &mut sessions[0]).await;
    edges.enter_from(Ipv4Addr::new(127, 0, 0, 3), "ann").await;
}

/// Opens a side of the room with this number; returns the status of a rejection.
async fn open_room(edges: &Edges, from: Ipv4Addr, number: usize) -> Result<RawClient, u16> {
    match edges.room_from(from, &format!("type=app&channelId={number:032}")).await {
        Ok(room) => Ok(room),
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn rooms_of_one_address_leave_others_alone() {
    let edges = Edges::start(1, EdgeConfig::default().with_max_rooms(4).with_max_rooms_per_ip(2)).await;
    let mut rooms = Vec::new();
    for number in 0..2 {
        rooms.push(open_room(&edges, ATTACKER, number).await.ok().unwrap());
    }
    assert_eq!(open_room(&edges, ATTACKER, 2).await.err(), Some(429));
    for number in 3..5 {
        rooms.push(open_room(&edges, OTHER, number).await.ok().unwrap());
    }
    let third = Ipv4Addr::new(127, 0, 0, 3);
    assert_eq!(open_room(&edges, third, 5).await.err(), Some(503), "all rooms are in use");
    rooms.truncate(2);
    in_time(async { while open_room(&edges, third, 5).await.is_err() {} }).await;
    // A request that is no WebSocket request takes no side.
    let request = format!("GET /channel?type=app&channelId={:032} HTTP/1.1\r\nHost: node\r\n\r\n", 6);
    let mut stream = edges.connect(0).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(!is_closed(&mut stream).await);
    assert_eq!(edges.edges[0].node.connections(), 2, "the rooms of the attacker");
}

#[tokio::test]
async fn room_requests_of_one_address_are_limited() {
    let edges = Edges::start(1, EdgeConfig::default()).await;
    in_time(async {
        // A side that is free again at once uses no slot, but work in the directory.
        while !matches!(open_room(&edges, ATTACKER, 0).await, Err(429)) {}
    })
    .await;
    assert!(open_room(&edges, OTHER, 1).await.is_ok());
}

#[tokio::test]
async fn node_with_few_open_files_serves_others() {
    let directory = tempfile::tempdir().unwrap();
    let (log, registry) = (directory.path().join("log"), format!("local:{}", directory.path().display()));
    let arguments = ["--listen", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--registry", &registry, "--dev-login"];
    let mut node = Program::start_limited("ulimit -n 256", "im-node", &arguments, &log).await;
    let base = node.line_after("serves clients on ").await;
    let address = base.strip_prefix("http://").unwrap().parse().unwrap();
    until_ok(async || rpc_im::client::login(&base, "ann", "", "phone", "test").await).await;
    // More connections than the process may open files.
    let mut streams = Vec::new();
    for number in 0..512_u16 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 1, number as u8), 0).into()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        // The node may have closed the connection.
        let _ = stream.write_all(b"GET /ws HTTP/1.1\r\n").await;
        streams.push(stream);
    }
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("the limit of open files lowers the limits of connections"), "{text}");
    assert!(!text.contains("cannot accept"), "the node has files for itself: {text}");
    drop(streams);
    until_ok(async || rpc_im::client::login(&base, "ann", "", "phone", "test").await).await;
    assert!(node.terminate().await.success());
}

/// The log of a node must not grow with the number of attacks.
#[tokio::test]
async fn attacks_write_few_log_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("users"), Users::line("ann", "right")).unwrap();
    let (registry, users) = (format!("local:{}", directory.path().display()), path("users").display().to_string());
    let arguments = ["--listen", "127.0.0.1:0", "--registry", &registry, "--users", &users];
    let mut node = Program::start("im-node", &arguments, &[("RUST_LOG", "info")], &path("log")).await;
    let base = node.line_after("serves clients on ").await;
    let address = base.strip_prefix("http://").unwrap();
    let token = until_ok(async || rpc_im::client::login(&base, "ann", "right", "phone", "test").await).await.token;
    let lines = || std::fs::read_to_string(path("log")).unwrap().lines().count();
    let before = lines();
    let login = br#"{"user":"ann","password":"wrong"}"#;
    let post = format!("POST /login HTTP/1.1\r\nHost: node\r\nContent-Length: {}\r\n\r\n", login.len());
    let mut line = tests::im_line::log_in(&format!("{}/ws", base.replace("http", "ws")), &token).await.unwrap();
    for _ in 0..100 {
        for bytes in [
            &b"\x16\x03\x01\x02\x00\x01 a TLS hello"[..],
            b"GET /ws HTTP/1.1\r\nHost: no",
            b"GET /channel?type=app&channelId=x HTTP/1.1\r\nHost: node\r\n\r\n",
            &[post.as_bytes(), login].concat(),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
        }
        line.say(&rpc_im::envelope::ClientFrame::Auth(rpc_im::envelope::Auth { token: String::new() })).await.unwrap();
        line.next().await.unwrap();
    }
    let written = lines() - before;
    assert!(written < 10, "500 attacks wrote {written} lines");
    drop(line);
    assert!(node.terminate().await.success());
}
