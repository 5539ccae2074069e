//! The client port of a node: permitted frames and requests, the answers to others, and their isolation from other clients.

mod accounts;
mod attacks;
mod requests;
mod security;

use std::{sync::Arc, time::Duration};

use rpc_im::{
    auth::{Accounts, Users},
    client::{gate, health, login},
    edge::EdgeConfig,
    envelope::{Auth, ClientFrame, Encoding, Ping, Position, Recipient, Send, ServerFrame, Sync, code},
};
use tests::{
    im_edge::{Edges, RawClient, Received},
    in_time,
};
use tokio::{io::AsyncWriteExt as _, time::sleep};
use tokio_tungstenite::tungstenite::{self, Message, protocol::frame::coding::CloseCode};

fn send(id: impl ToString, to: &str, body: impl Into<String>) -> ClientFrame {
    ClientFrame::Send(Send { id: id.to_string(), to: Some(Recipient::User(to.to_owned())), body: body.into() })
}

/// Sends a message, and waits for its acknowledgement.
async fn send_until_acked(client: &mut RawClient, id: &str, to: &str, body: &str) {
    client.send_frame(send(id, to, body)).await;
    client.until(|frame| matches!(frame, ServerFrame::SendAck(ack) if ack.id == id).then_some(())).await;
}

/// Waits for a message with this body.
async fn until_pushed(client: &mut RawClient, body: &str) {
    client.until(|frame| matches!(frame, ServerFrame::Push(push) if push.body == body).then_some(())).await;
}

/// Checks that a node is healthy and answers an unaffected client.
async fn assert_serves(edges: &Edges, bystander: &mut RawClient) {
    bystander.send_frame(ClientFrame::Ping(Ping {})).await;
    bystander.until(|frame| matches!(frame, ServerFrame::Pong(_)).then_some(())).await;
    assert!(health(&edges.base(0)).await.unwrap());
}

#[tokio::test]
async fn both_subprotocols_carry_the_same_messages() {
    let edges = Edges::start(2, EdgeConfig::default()).await;
    let mut ann = edges.connect_websocket(0, Encoding::Json).await;
    ann.log_in(edges.token("ann", "browser").await).await;
    let mut bo = edges.connect_websocket(1, Encoding::Protobuf).await;
    bo.log_in(edges.token("bo", "phone").await).await;
    send_until_acked(&mut ann, "1", "bo", "grüße").await;
    until_pushed(&mut bo, "grüße").await;
    send_until_acked(&mut bo, "1", "ann", "\u{1f600}").await;
    until_pushed(&mut ann, "\u{1f600}").await;
}

#[tokio::test]
async fn login_issues_token_for_correct_password_only() {
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
        let mut client = edges.connect_websocket(0, Encoding::Json).await;
        client.send_frame(ClientFrame::Auth(Auth { token: bad })).await;
        assert_eq!(client.error().await, code::UNAUTHENTICATED);
        assert_eq!(client.end().await, Received::Closed(CloseCode::Policy, "rejected".to_owned()));
    }
    assert_eq!((edges.metric(0, "im_logins_total").await, edges.metric(0, "im_logins_refused_total").await), (1, 3));
}

#[tokio::test]
async fn node_closes_connection_without_timely_token() {
    let edges = Edges::start(1, EdgeConfig::default().with_login_time(Duration::from_millis(200))).await;
    let mut unresponsive = edges.connect_websocket(0, Encoding::Json).await;
    assert_eq!(
        unresponsive.receive().await,
        Received::Closed(CloseCode::Policy, "login timeout (EdgeConfig::login_time)".to_owned())
    );
    let mut unauthenticated = edges.connect_websocket(0, Encoding::Json).await;
    unauthenticated.send_frame(ClientFrame::Ping(Ping {})).await;
    assert_eq!(unauthenticated.error().await, code::UNAUTHENTICATED, "the first frame must be auth");
    edges.until_metric(0, "im_closed_login_total", 1).await;
}

#[tokio::test]
async fn node_closes_idle_session_but_keeps_pinging_one() {
    let edges = Edges::start(1, EdgeConfig::default().with_idle(Duration::from_millis(1000))).await;
    let mut idle = edges.enter(0, "ann").await;
    let mut active = edges.enter(0, "bo").await;
    let pings = async {
        loop {
            active.send_frame(ClientFrame::Ping(Ping {})).await;
            assert_eq!(active.receive().await, Received::Frame(ServerFrame::Pong(Default::default())));
            sleep(Duration::from_millis(50)).await;
        }
    };
    let end = tokio::select! {
        end = idle.receive() => end,
        () = pings => unreachable!("the pings do not end"),
    };
    assert_eq!(end, Received::Closed(CloseCode::Away, "idle timeout (EdgeConfig::idle)".to_owned()));
    assert_serves(&edges, &mut active).await;
    edges.until_metric(0, "im_closed_idle_total", 1).await;
    edges.until_metric(0, "im_sessions", 1).await;
}

#[tokio::test]
async fn node_closes_only_session_that_stalls_writes() {
    let config = EdgeConfig::default().with_write_stall(Duration::from_millis(500)).with_rate(100_000, 100_000);
    let edges = Edges::start(2, config).await;
    let mut stalled = edges.enter_narrow(1, "bo").await;
    let mut ann = edges.enter(0, "ann").await;
    let body = "x".repeat(60_000);
    in_time(async {
        let mut number = 0;
        while edges.metric(1, "im_closed_stuck_total").await == 0 {
            send_until_acked(&mut ann, &number.to_string(), "bo", &body).await;
            number += 1;
        }
    })
    .await;
    edges.until_metric(1, "im_sessions", 0).await;
    assert_eq!(stalled.end().await, Received::Disconnected);
    assert_serves(&edges, &mut ann).await;
}

#[tokio::test]
async fn slow_client_receives_lagging_and_syncs_all_messages() {
    let edges = Edges::start(2, EdgeConfig::default().with_rate(100_000, 100_000)).await;
    let mut slow = edges.enter_narrow(1, "bo").await;
    let mut ann = edges.enter(0, "ann").await;
    const COUNT: u64 = 400;
    let body = "x".repeat(20_000);
    for number in 0..COUNT {
        send_until_acked(&mut ann, &number.to_string(), "bo", &body).await;
    }
    let (mut cursor, mut conversation, mut incarnation) = (0, String::new(), 0);
    let mut lagged = 0;
    while cursor < COUNT {
        match slow.receive().await {
            Received::Frame(ServerFrame::Push(push)) => {
                (conversation, incarnation) = (push.conversation, push.incarnation);
                if push.seq == cursor + 1 {
                    cursor = push.seq;
                }
            }
            Received::Frame(ServerFrame::Lagging(_)) => {
                lagged += 1;
                let cursors = [(conversation.clone(), Position { incarnation, seq: cursor })].into();
                slow.send_frame(ClientFrame::Sync(Sync { cursors, ..Sync::default() })).await;
            }
            Received::Frame(_) => {}
            end => panic!("{end:?} after {cursor} messages"),
        }
    }
    assert!(lagged > 0, "8 MB exceed all buffers");
    assert_eq!(edges.metric(1, "im_closed_stuck_total").await, 0);
}

#[tokio::test]
async fn rate_limit_accepts_burst_and_closes_flood() {
    // With a rate of 0, the burst is not replenished.
    let edges = Edges::start(1, EdgeConfig::default().with_rate(0, 40)).await;
    let mut bystander = edges.enter(0, "bo").await;
    let mut ann = edges.enter(0, "ann").await;
    for number in 0..41 {
        ann.send_frame(send(number, "bo", "x")).await;
    }
    let mut acks = 0;
    let rejection = loop {
        match ann.receive().await {
            Received::Frame(ServerFrame::SendAck(_)) => acks += 1,
            Received::Frame(ServerFrame::Presence(_)) => {}
            Received::Frame(ServerFrame::Error(error)) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((rejection.code.as_str(), rejection.id.as_deref()), (code::TOO_MANY, Some("40")));
    while acks < 40 {
        ann.until(|frame| matches!(frame, ServerFrame::SendAck(_)).then_some(())).await;
        acks += 1;
    }
    // Pings do not count towards the rate.
    assert_serves(&edges, &mut ann).await;
    for number in 0..300 {
        ann.send_frame(send(number, "bo", "x")).await;
    }
    assert_eq!(ann.end().await, Received::Closed(CloseCode::Policy, "rejected".to_owned()));
    assert_eq!(edges.metric(0, "im_closed_flood_total").await, 1);
    assert_serves(&edges, &mut bystander).await;
}

#[tokio::test]
async fn node_accepts_frame_of_64_kib_and_rejects_longer() {
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
async fn bad_frame_gets_error_and_keeps_session_open() {
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
        let sent = format!("{bad:?}");
        ann.send(bad).await;
        let answer = ann.receive().await;
        let is_rejection =
            matches!(&answer, Received::Frame(ServerFrame::Error(error)) if error.code == code::BAD_FRAME);
        assert!(is_rejection, "{sent}: {answer:?}");
    }
    let to = Some(Recipient::Conversation("no such".to_owned()));
    ann.send_frame(ClientFrame::Send(Send { id: "2".to_owned(), to, body: "x".to_owned() })).await;
    assert_eq!(ann.error().await, code::NOT_FOUND);
    assert_serves(&edges, &mut ann).await;
}

#[tokio::test]
async fn invalid_websocket_frame_closes_only_its_connection() {
    let edges = Edges::start(1, EdgeConfig::default()).await;
    let mut bystander = edges.enter(0, "bo").await;
    let long_ping = [&[0x89, 0xfe, 0x01, 0x00, 0, 0, 0, 0][..], &[b'x'; 256]].concat();
    for bad in [
        // No mask, a reserved bit, an unknown opcode, a long ping, text that is not UTF-8, a length of 2^63.
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
async fn room_forwards_only_binary_messages_across_nodes() {
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
    app.send(Message::text("text")).await;
    assert_eq!(
        app.end().await,
        Received::Closed(CloseCode::Unsupported, "rooms accept binary messages only".to_owned())
    );
    // The side is free for a third connection.
    in_time(async { while edges.room(1, &format!("type=app&channelId={channel}")).await.is_err() {} }).await;
}

#[tokio::test]
async fn draining_node_redirects_clients_and_ends() {
    let mut edges = Edges::start(2, EdgeConfig::default()).await;
    let (base, other) = (edges.base(1), edges.base(0).replace("http", "ws") + "/ws");
    let mut clients = Vec::new();
    for number in 0..20 {
        clients.push(edges.enter(1, &format!("user-{number}")).await);
    }
    let mut half_open = edges.connect(1).await;
    half_open.write_all(b"GET /heal").await.unwrap();
    let draining = edges.edges.remove(1);
    let node = Arc::clone(&draining.node);
    let drained = draining.stop();
    for client in &mut clients {
        let reconnect = client
            .until(|frame| if let ServerFrame::Reconnect(reconnect) = frame { Some(reconnect.clone()) } else { None })
            .await;
        assert_eq!(reconnect.nodes, std::slice::from_ref(&other));
        assert!(reconnect.within_ms > 0, "clients reconnect at different times");
    }
    // The node still answers, and reports that it accepts no logins.
    assert!(!node.is_ready());
    assert!(!health(&base).await.unwrap());
    assert_eq!(gate(&base).await.unwrap(), [other]);
    // The node stores a message that a client sends during the drain.
    let mut last = clients.pop().unwrap();
    send_until_acked(&mut last, "1", "user-0", "sent during the drain").await;
    drop(clients);
    assert_eq!(last.end().await, Received::Closed(CloseCode::Away, "session closed".to_owned()));
    drained.end().await;
    assert!(health(&base).await.is_err(), "the port is closed");
    let mut reconnected = edges.enter(0, "user-0").await;
    reconnected.send_frame(ClientFrame::Sync(Sync::default())).await;
    until_pushed(&mut reconnected, "sent during the drain").await;
}
