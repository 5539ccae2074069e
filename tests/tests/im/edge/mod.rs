//! What clients may do at a node's port, what they are told when they may not, and that nobody else suffers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::{sync::Arc, time::Duration};

use rpc_im::{
    auth::{Accounts, Users},
    client::{gate, health, login},
    edge::EdgeConfig,
    envelope::{Auth, ClientFrame, Encoding, Ping, Recipient, Send, ServerFrame, Sync, code},
};
use tests::{
    im_edge::{Edges, RawClient, Received},
    in_time,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};
use tokio_tungstenite::tungstenite::{self, Message, protocol::frame::coding::CloseCode};

fn send(id: impl ToString, to: &str, body: impl Into<String>) -> ClientFrame {
    ClientFrame::Send(Send { id: id.to_string(), to: Some(Recipient::User(to.to_owned())), body: body.into() })
}

/// Lets a user send a message, and waits until it is safe.
async fn tell(visitor: &mut RawClient, id: &str, to: &str, body: &str) {
    visitor.send_frame(send(id, to, body)).await;
    visitor.until(|frame| matches!(frame, ServerFrame::SendAck(ack) if ack.id == id).then_some(())).await;
}

async fn hear(visitor: &mut RawClient, body: &str) {
    visitor.until(|frame| matches!(frame, ServerFrame::Push(push) if push.body == body).then_some(())).await;
}

/// That a node works for somebody who has done nothing wrong.
async fn assert_serves(edges: &Edges, bystander: &mut RawClient) {
    bystander.send_frame(ClientFrame::Ping(Ping {})).await;
    bystander.until(|frame| matches!(frame, ServerFrame::Pong(_)).then_some(())).await;
    assert!(health(&edges.base(0)).await.unwrap());
}

#[tokio::test]
async fn both_subprotocols_say_the_same() {
    let edges = Edges::start(2, EdgeConfig::default()).await;
    let mut ann = edges.connect_websocket(0, Encoding::Json).await;
    ann.log_in(edges.token("ann", "browser").await).await;
    let mut bo = edges.connect_websocket(1, Encoding::Protobuf).await;
    bo.log_in(edges.token("bo", "phone").await).await;
    tell(&mut ann, "1", "bo", "grüße").await;
    hear(&mut bo, "grüße").await;
    tell(&mut bo, "1", "ann", "\u{1f600}").await;
    hear(&mut ann, "\u{1f600}").await;
}

#[tokio::test]
async fn a_password_gives_a_token_and_a_wrong_one_does_not() {
    let accounts = || Accounts::File(Users::parse(&Users::line("ann", "right")).unwrap());
    let edges = Edges::start_with(1, EdgeConfig::default(), accounts, |node| node).await;
    for (user, password) in [("ann", "wrong"), ("bo", "right"), ("ann", "")] {
        let error = login(&edges.base(0), user, password, "d", "p").await.unwrap_err();
        assert!(error.to_string().starts_with("401"), "{error}");
    }
    let token = login(&edges.base(0), "ann", "right", "d", "p").await.unwrap().token;
    edges.connect_websocket(0, Encoding::Json).await.log_in(token.clone()).await;

    let mut forged = token.clone().into_bytes();
    let last = forged.last_mut().unwrap();
    *last = if *last == b'A' { b'B' } else { b'A' };
    for bad in [String::new(), "x".repeat(100), String::from_utf8(forged).unwrap()] {
        let mut visitor = edges.connect_websocket(0, Encoding::Json).await;
        visitor.send_frame(ClientFrame::Auth(Auth { token: bad })).await;
        assert_eq!(visitor.error().await, code::UNAUTHENTICATED);
        assert_eq!(visitor.end().await, Received::Closed(CloseCode::Policy, "rejected".to_owned()));
    }
    assert_eq!((edges.metric(0, "im_logins_total").await, edges.metric(0, "im_logins_refused_total").await), (1, 3));
}

#[tokio::test]
async fn who_presents_no_token_in_time_is_closed() {
    let edges = Edges::start(1, EdgeConfig::default().with_login_time(Duration::from_millis(200))).await;
    let mut silent = edges.connect_websocket(0, Encoding::Json).await;
    assert_eq!(
        silent.receive().await,
        Received::Closed(CloseCode::Policy, "login timeout (EdgeConfig::login_time)".to_owned())
    );
    let mut hasty = edges.connect_websocket(0, Encoding::Json).await;
    hasty.send_frame(ClientFrame::Ping(Ping {})).await;
    assert_eq!(hasty.error().await, code::UNAUTHENTICATED, "the first frame is auth");
    edges.until_metric(0, "im_closed_login_total", 1).await;
}

#[tokio::test]
async fn an_idle_session_is_closed_and_one_that_pings_is_not() {
    let edges = Edges::start(1, EdgeConfig::default().with_idle(Duration::from_millis(1000))).await;
    let mut idle = edges.enter(0, "ann").await;
    let mut living = edges.enter(0, "bo").await;
    let pings = async {
        loop {
            living.send_frame(ClientFrame::Ping(Ping {})).await;
            assert_eq!(living.receive().await, Received::Frame(ServerFrame::Pong(Default::default())));
            sleep(Duration::from_millis(50)).await;
        }
    };
    let end = tokio::select! {
        end = idle.receive() => end,
        () = pings => unreachable!("it pings for ever"),
    };
    assert_eq!(end, Received::Closed(CloseCode::Away, "idle timeout (EdgeConfig::idle)".to_owned()));
    assert_serves(&edges, &mut living).await;
    edges.until_metric(0, "im_closed_idle_total", 1).await;
    edges.until_metric(0, "im_sessions", 1).await;
}

#[tokio::test]
async fn who_does_not_take_a_write_is_closed_and_the_others_go_on() {
    let config = EdgeConfig::default().with_write_stall(Duration::from_millis(500)).with_rate(100_000, 100_000);
    let edges = Edges::start(2, config).await;
    let mut stuck = edges.enter_narrow(1, "bo").await;
    let mut ann = edges.enter(0, "ann").await;
    let body = "x".repeat(60_000);
    in_time(async {
        let mut number = 0;
        while edges.metric(1, "im_closed_stuck_total").await == 0 {
            tell(&mut ann, &number.to_string(), "bo", &body).await;
            number += 1;
        }
    })
    .await;
    edges.until_metric(1, "im_sessions", 0).await;
    assert_eq!(stuck.end().await, Received::Disconnected);
    assert_serves(&edges, &mut ann).await;
}

#[tokio::test]
async fn who_reads_late_is_told_that_it_lags_and_gets_everything_by_sync() {
    let edges = Edges::start(2, EdgeConfig::default().with_rate(100_000, 100_000)).await;
    let mut late = edges.enter_narrow(1, "bo").await;
    let mut ann = edges.enter(0, "ann").await;
    const COUNT: u64 = 400;
    let body = "x".repeat(20_000);
    for number in 0..COUNT {
        tell(&mut ann, &number.to_string(), "bo", &body).await;
    }
    let mut cursor = 0;
    let mut conversation = String::new();
    let mut lagged = 0;
    while cursor < COUNT {
        match late.receive().await {
            Received::Frame(ServerFrame::Push(push)) => {
                conversation = push.conversation;
                if push.seq == cursor + 1 {
                    cursor = push.seq;
                }
            }
            Received::Frame(ServerFrame::Lagging(_)) => {
                lagged += 1;
                let cursors = [(conversation.clone(), cursor)].into();
                late.send_frame(ClientFrame::Sync(Sync { cursors })).await;
            }
            Received::Frame(_) => {}
            end => panic!("{end:?} after {cursor} messages"),
        }
    }
    assert!(lagged > 0, "8 MB fit nowhere");
    assert_eq!(edges.metric(1, "im_closed_stuck_total").await, 0);
}

#[tokio::test]
async fn a_burst_is_taken_and_a_flood_is_refused_and_then_closed() {
    // Nothing is saved up again while the test runs.
    let edges = Edges::start(1, EdgeConfig::default().with_rate(0, 40)).await;
    let mut bystander = edges.enter(0, "bo").await;
    let mut ann = edges.enter(0, "ann").await;
    for number in 0..41 {
        ann.send_frame(send(number, "bo", "x")).await;
    }
    let mut acks = 0;
    let refused = loop {
        match ann.receive().await {
            Received::Frame(ServerFrame::SendAck(_)) => acks += 1,
            Received::Frame(ServerFrame::Error(error)) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((refused.code.as_str(), refused.id.as_deref()), (code::TOO_MANY, Some("40")));
    while acks < 40 {
        ann.until(|frame| matches!(frame, ServerFrame::SendAck(_)).then_some(())).await;
        acks += 1;
    }
    // What costs nobody anything is not counted.
    assert_serves(&edges, &mut ann).await;
    for number in 0..300 {
        ann.send_frame(send(number, "bo", "x")).await;
    }
    assert_eq!(ann.end().await, Received::Closed(CloseCode::Policy, "rejected".to_owned()));
    assert_eq!(edges.metric(0, "im_closed_flood_total").await, 1);
    assert_serves(&edges, &mut bystander).await;
}

#[tokio::test]
async fn a_frame_may_be_64_kib_long_and_not_one_byte_more() {
    let edges = Edges::start(1, EdgeConfig::default()).await;
    let mut ann = edges.enter(0, "ann").await;
    let frame = |length: usize| {
        let empty = send("1", "bo", "").to_json().len();
        send("1", "bo", "x".repeat(length - empty)).to_json()
    };
    ann.send(Message::text(frame(64 << 10))).await;
    ann.until(|frame| matches!(frame, ServerFrame::SendAck(_)).then_some(())).await;
    ann.send(Message::text(frame((64 << 10) + 1))).await;
    assert_eq!(ann.error().await, code::TOO_LARGE);
    assert_eq!(ann.end().await, Received::Closed(CloseCode::Size, "rejected".to_owned()));
}

#[tokio::test]
async fn a_bad_frame_is_answered_and_the_session_goes_on() {
    let edges = Edges::start(1, EdgeConfig::default()).await;
    let mut ann = edges.enter(0, "ann").await;
    for bad in [
        Message::text("not JSON"),
        Message::text("{}"),
        Message::text(r#"{"type":"no such"}"#),
        Message::text(r#"{"type":"send","id":7}"#),
        Message::text(send("1", "", "x").to_json()),
        Message::text(send("x".repeat(300), "bo", "x").to_json()),
        Message::text(ClientFrame::Auth(Auth { token: String::new() }).to_json()),
        Message::binary(send("1", "bo", "x").to_protobuf()),
        Message::binary(vec![]),
    ] {
        let said = format!("{bad:?}");
        ann.send(bad).await;
        let answer = ann.receive().await;
        let is_refusal = matches!(&answer, Received::Frame(ServerFrame::Error(error)) if error.code == code::BAD_FRAME);
        assert!(is_refusal, "{said}: {answer:?}");
    }
    let to = Some(Recipient::Conversation("no such".to_owned()));
    ann.send_frame(ClientFrame::Send(Send { id: "2".to_owned(), to, body: "x".to_owned() })).await;
    assert_eq!(ann.error().await, code::NOT_FOUND);
    assert_serves(&edges, &mut ann).await;
}

#[tokio::test]
async fn what_is_no_websocket_frame_ends_its_connection_and_no_other() {
    let edges = Edges::start(1, EdgeConfig::default()).await;
    let mut bystander = edges.enter(0, "bo").await;
    let long_ping = [&[0x89, 0xfe, 0x01, 0x00, 0, 0, 0, 0][..], &[b'x'; 256]].concat();
    for bad in [
        // Not masked, a reserved bit, an unknown kind, a long ping, text that is not UTF-8, a length of 2^63.
        &[0x81, 0x01, b'x'][..],
        &[0xf1, 0x81, 0, 0, 0, 0, b'x'],
        &[0x83, 0x81, 0, 0, 0, 0, b'x'],
        &long_ping,
        &[0x81, 0x81, 0, 0, 0, 0, 0xff],
        &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut ann = edges.enter(0, "ann").await;
        ann.write_raw(bad).await;
        let end = ann.end().await;
        assert!(matches!(end, Received::Disconnected | Received::Closed(..)), "{bad:?}: {end:?}");
        edges.until_metric(0, "im_sessions", 1).await;
    }
    assert_serves(&edges, &mut bystander).await;
}

#[tokio::test]
async fn a_request_that_is_wrong_is_told_what_is_wrong() {
    let edges = Edges::start(1, EdgeConfig::default().with_http_time(Duration::from_millis(500))).await;
    let mut bystander = edges.enter(0, "bo").await;
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: node\r\n{headers}Connection: close\r\n\r\n").into_bytes()
    };
    let post = |body: &str| {
        let length = body.len();
        format!("POST /login HTTP/1.1\r\nHost: node\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
            .into_bytes()
    };
    let handshake =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let upgrade = |headers: &str| {
        format!("GET /ws HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\n{handshake}{headers}\r\n").into_bytes()
    };
    let many_headers: String = (0..100).map(|number| format!("h{number}: x\r\n")).collect();
    let bad_name = r#"{"user":"","password":"x"}"#;
    for (request, status, word) in [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello".to_vec(), "400", ""),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n".to_vec(), "400", ""),
        (get(&format!("/{}", "x".repeat(70_000)), ""), "431", ""),
        (get("/", &format!("x: {}\r\n", "x".repeat(20_000))), "431", ""),
        (get("/", &many_headers), "431", ""),
        (get("/nothing", ""), "404", "no such path"),
        (get("/login", ""), "405", "method not allowed"),
        (get("/ws", ""), "426", "error"),
        (upgrade("Sec-WebSocket-Protocol: chat\r\n"), "400", "im.v1.json or im.v1.pb"),
        (get("/channel?type=app&channelId=short", ""), "400", "32 letters"),
        (get("/channel?channelId=0123456789abcdef0123456789abcdef", ""), "400", "app or web"),
        (post("not JSON"), "400", "not JSON with user"),
        (post(bad_name), "400", "user"),
        (post(&" ".repeat(5000)), "400", "too long"),
        // A body that never comes.
        (b"POST /login HTTP/1.1\r\nHost: node\r\nContent-Length: 10\r\n\r\n{".to_vec(), "400", "EdgeConfig::http_time"),
    ] {
        let answer = edges.answer(0, &request).await;
        let line = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert!(answer.contains(word), "{line}: {answer}");
    }
    assert_serves(&edges, &mut bystander).await;
}

#[tokio::test]
async fn beginnings_of_requests_take_no_places_from_those_who_are_in() {
    const ENTRANCES: usize = 8;
    let config = EdgeConfig::default().with_max_entering(ENTRANCES).with_http_time(Duration::from_millis(700));
    let edges = Edges::start(1, config).await;
    let mut bystander = edges.enter(0, "bo").await;
    // Half of them in the head, half of them in a body.
    let mut slow = Vec::<TcpStream>::new();
    for number in 0..ENTRANCES {
        let mut stream = edges.connect(0).await;
        let begun: &[u8] = match number % 2 {
            0 => b"GET /ws HTTP/1.1\r\nHost: no",
            _ => b"POST /login HTTP/1.1\r\nHost: node\r\nContent-Length: 100\r\n\r\n{",
        };
        stream.write_all(begun).await.unwrap();
        slow.push(stream);
    }
    // One more is closed as it comes; nobody who is in notices.
    let mut further = edges.connect(0).await;
    assert_eq!(in_time(further.read(&mut [0; 1])).await.unwrap_or(0), 0);
    bystander.send_frame(ClientFrame::Ping(Ping {})).await;
    bystander.until(|frame| matches!(frame, ServerFrame::Pong(_)).then_some(())).await;
    // They are given up in their time, and there is room again.
    for stream in &mut slow {
        in_time(async { while stream.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {} }).await;
    }
    edges.enter(0, "ann").await;
    assert!(edges.metric(0, "im_connections_refused_total").await >= 1);
}

#[tokio::test]
async fn more_sessions_than_there_are_entrances_may_be_in() {
    let edges = Edges::start(1, EdgeConfig::default().with_max_entering(4)).await;
    let mut sessions = Vec::new();
    for number in 0..12 {
        sessions.push(edges.enter(0, &format!("user-{number}")).await);
    }
    for session in &mut sessions {
        assert_serves(&edges, session).await;
    }
}

#[tokio::test]
async fn the_gate_names_the_nodes_and_metrics_count() {
    let edges = Edges::start(7, EdgeConfig::default()).await;
    let nodes = gate(&edges.base(3)).await.unwrap();
    assert_eq!(nodes.len(), 5, "{nodes:?}");
    assert!(nodes.iter().all(|node| node.starts_with("ws://127.0.0.1:") && node.ends_with("/ws")), "{nodes:?}");
    let mut ann = edges.enter(0, "ann").await;
    tell(&mut ann, "1", "bo", "x").await;
    let metrics = edges.get(0, "/metrics").await;
    for line in ["# TYPE im_sessions gauge", "im_sessions{node=\"1\"} 1", "im_frames_in_total{node=\"1\"} 2"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let page = edges.get(0, "/").await;
    assert!(page.contains("<!doctype html>") && page.contains("content-security-policy"), "{page:.300}");
}

#[tokio::test]
async fn a_room_joins_its_sides_across_nodes_and_carries_bytes_only() {
    let edges = Edges::start(2, EdgeConfig::default()).await;
    let channel = "0123456789abcdef0123456789abcdef";
    let mut app = edges.room(0, &format!("type=app&channelId={channel}")).await.unwrap();
    let mut web = edges.room(1, &format!("type=web&channelId={channel}")).await.unwrap();
    for number in [0, 1] {
        match edges.room(number, &format!("channelId={channel}&type=app")).await {
            Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 409),
            other => panic!("{:?}", other.err()),
        }
    }
    for bytes in [vec![], vec![0, 255], vec![7; 60_000]] {
        app.send(Message::binary(bytes.clone())).await;
        assert_eq!(web.bytes().await, bytes);
        web.send(Message::binary(bytes.clone())).await;
        assert_eq!(app.bytes().await, bytes);
    }
    app.send(Message::text("words")).await;
    assert_eq!(
        app.end().await,
        Received::Closed(CloseCode::Unsupported, "rooms accept binary messages only".to_owned())
    );
    // The side is free again, for a third one.
    in_time(async { while edges.room(1, &format!("type=app&channelId={channel}")).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_node_that_leaves_sends_its_clients_elsewhere_and_ends() {
    let mut edges = Edges::start(2, EdgeConfig::default()).await;
    let (base, other) = (edges.base(0), edges.base(1).replace("http", "ws") + "/ws");
    let mut clients = Vec::new();
    for number in 0..20 {
        clients.push(edges.enter(0, &format!("user-{number}")).await);
    }
    let mut half_open = edges.connect(0).await;
    half_open.write_all(b"GET /heal").await.unwrap();
    let leaving = edges.edges.remove(0);
    let node = Arc::clone(&leaving.node);
    let drained = leaving.stop();
    for client in &mut clients {
        let reconnect = client
            .until(|frame| if let ServerFrame::Reconnect(reconnect) = frame { Some(reconnect.clone()) } else { None })
            .await;
        assert_eq!(reconnect.nodes, std::slice::from_ref(&other));
        assert!(reconnect.within_ms > 0, "not all at once");
    }
    // It still answers, to say that it takes nobody.
    assert!(!node.is_ready());
    assert!(!health(&base).await.unwrap());
    assert_eq!(gate(&base).await.unwrap(), [other]);
    // What one of them says last is kept.
    let mut last = clients.pop().unwrap();
    tell(&mut last, "1", "user-0", "my last words").await;
    drop(clients);
    assert_eq!(last.end().await, Received::Closed(CloseCode::Away, "session closed".to_owned()));
    drained.end().await;
    assert!(health(&base).await.is_err(), "nobody listens there any more");
    let mut elsewhere = edges.enter(0, "user-0").await;
    elsewhere.send_frame(ClientFrame::Sync(Sync::default())).await;
    hear(&mut elsewhere, "my last words").await;
}
