//! HTTP requests to a node, connections without a session, the gate and the metrics.

use std::time::Duration;

use rpc_im::{
    client::gate,
    edge::EdgeConfig,
    envelope::{ClientFrame, Ping, ServerFrame},
};
use tests::{im_edge::Edges, in_time};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{assert_serves, send_until_acked};

#[tokio::test]
async fn invalid_http_request_gets_specific_error() {
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
    for (request, status, text) in [
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
        // An incomplete body.
        (b"POST /login HTTP/1.1\r\nHost: node\r\nContent-Length: 10\r\n\r\n{".to_vec(), "400", "EdgeConfig::http_time"),
    ] {
        let answer = edges.answer(0, &request).await;
        let line = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert!(answer.contains(text), "{line}: {answer}");
    }
    assert_serves(&edges, &mut bystander).await;
}

#[tokio::test]
async fn incomplete_requests_do_not_affect_open_sessions() {
    const MAX_ENTERING: usize = 8;
    let config = EdgeConfig::default().with_max_entering(MAX_ENTERING).with_http_time(Duration::from_millis(700));
    let edges = Edges::start(1, config).await;
    let mut bystander = edges.enter(0, "bo").await;
    // Half of the requests end inside the head, half inside a body.
    let mut slow = Vec::<TcpStream>::new();
    for number in 0..MAX_ENTERING {
        let mut stream = edges.connect(0).await;
        let start: &[u8] = match number % 2 {
            0 => b"GET /ws HTTP/1.1\r\nHost: no",
            _ => b"POST /login HTTP/1.1\r\nHost: node\r\nContent-Length: 100\r\n\r\n{",
        };
        stream.write_all(start).await.unwrap();
        slow.push(stream);
    }
    // A further connection displaces the oldest one, without effect on the open session.
    let _further = edges.connect(0).await;
    assert_eq!(in_time(slow[0].read(&mut [0; 1])).await.unwrap_or(0), 0);
    edges.until_metric(0, "im_connections_displaced_total", 2).await;
    bystander.send_frame(ClientFrame::Ping(Ping {})).await;
    bystander.until(|frame| matches!(frame, ServerFrame::Pong(_)).then_some(())).await;
    // The node closes the incomplete requests at their timeout, and then accepts connections again.
    for stream in &mut slow {
        in_time(async { while stream.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {} }).await;
    }
    edges.enter(0, "ann").await;
}

#[tokio::test]
async fn sessions_may_exceed_limit_of_entering_connections() {
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
async fn gate_lists_nodes_and_metrics_count_frames() {
    let edges = Edges::start(7, EdgeConfig::default()).await;
    let nodes = gate(&edges.base(3)).await.unwrap();
    assert_eq!(nodes.len(), 5, "{nodes:?}");
    assert!(nodes.iter().all(|node| node.starts_with("ws://127.0.0.1:") && node.ends_with("/ws")), "{nodes:?}");
    let mut ann = edges.enter(0, "ann").await;
    send_until_acked(&mut ann, "1", "bo", "x").await;
    let metrics = edges.get(0, "/metrics").await;
    for line in ["# TYPE im_sessions gauge", "im_sessions{node=\"1\"} 1", "im_frames_in_total{node=\"1\"} 2"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let page = edges.get(0, "/").await;
    assert!(page.contains("<!doctype html>") && page.contains("content-security-policy"), "{page:.300}");
}
