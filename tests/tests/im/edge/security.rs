//! TLS at the client port and between nodes, and the origins of pages.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use rpc_im::{
    Login, LoginError, Node, NodeConfig, NodeTls, StoreChoice,
    auth::{Accounts, Secret},
    edge::{EdgeConfig, EdgeTls},
    envelope::{Auth, ClientFrame, Ping, ServerFrame},
};
use rpc_registry::Memory;
use tests::{
    certificates::{Authority, Issued},
    im::until,
    im_edge::Edges,
    in_time,
    program::Program,
    until_ok,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{assert_serves, send_until_acked, until_pushed};

/// Sends a request, and returns the response until the node closes the connection.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    let mut answer = Vec::new();
    in_time(stream.write_all(request.as_bytes())).await.unwrap();
    // The node may end the connection without an alert of TLS.
    let _ = in_time(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: node\r\n{headers}Connection: close\r\n\r\n")
}

fn edge_tls(issued: &Issued) -> EdgeTls {
    EdgeTls { certificate: issued.certificate.clone(), key: issued.key.clone() }
}

/// Sends a ping on a WebSocket, and waits for the pong.
async fn ping(socket: &mut WebSocketStream<TlsStream<TcpStream>>) {
    in_time(socket.send(Message::text(ClientFrame::Ping(Ping {}).to_json()))).await.unwrap();
    let frame = in_time(socket.next()).await.unwrap().unwrap().into_text().unwrap();
    assert!(matches!(ServerFrame::from_json(&frame).unwrap(), ServerFrame::Pong(_)), "{frame}");
}

#[tokio::test]
async fn sessions_with_tls_survive_change_of_certificate() {
    let (first, second) = (Authority::new(), Authority::new());
    let own = first.issue("node", &["127.0.0.1"]);
    let edges = Edges::start(1, EdgeConfig::default().with_tls(Some(edge_tls(&own)))).await;
    let connect = async || first.connect(edges.connect(0).await, &["http/1.1"]).await;
    let body = r#"{"user":"ann"}"#;
    let login = format!(
        "POST /login HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let logged_in = answer(connect().await.unwrap(), &login).await;
    let token = logged_in.split("\"token\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (mut socket, _) = in_time(client_async("ws://node/ws", connect().await.unwrap())).await.unwrap();
    in_time(socket.send(Message::text(ClientFrame::Auth(Auth { token }).to_json()))).await.unwrap();
    let answered = in_time(socket.next()).await.unwrap().unwrap().into_text().unwrap();
    assert!(answered.contains("auth_ok"), "{answered}");
    ping(&mut socket).await;

    // An unusable file changes nothing.
    std::fs::write(&own.key, "no key").unwrap();
    assert!(connect().await.is_ok());
    second.write(&own, &["127.0.0.1"], tests::certificates::Validity::Good);
    until_ok(async || second.connect(edges.connect(0).await, &["http/1.1"]).await).await;
    assert!(connect().await.is_err(), "the first authority has not issued the new certificate");
    ping(&mut socket).await;
    let plain = edges.answer(0, get("/health", "").as_bytes()).await;
    assert!(!plain.contains("HTTP/1.1 200"), "plain text is rejected: {plain}");
}

#[tokio::test]
async fn unfinished_handshakes_leave_sessions_alone() {
    let authority = Authority::new();
    let config = EdgeConfig::default()
        .with_tls(Some(edge_tls(&authority.issue("node", &["127.0.0.1"]))))
        .with_http_time(Duration::from_millis(700))
        .with_max_entering_per_ip(8);
    let edges = Edges::start(1, config).await;
    let health = async || {
        let stream = authority.connect(edges.connect(0).await, &["http/1.1"]).await?;
        Ok::<_, std::io::Error>(answer(stream, &get("/health", "")).await)
    };
    assert!(health().await.unwrap().starts_with("HTTP/1.1 200 "));
    let mut stalled = Vec::new();
    while health().await.is_ok() {
        let mut stream = edges.connect(0).await;
        // The beginning of a TLS record.
        stream.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();
        stalled.push(stream);
        assert!(stalled.len() <= 8, "the address has eight slots");
    }
    for stream in &mut stalled {
        in_time(async { while stream.read(&mut [0; 64]).await.unwrap_or(0) > 0 {} }).await;
    }
    assert!(until_ok(health).await.contains("\"status\":\"ok\""));
}

#[tokio::test]
async fn pages_of_other_origins_are_rejected() {
    let own = "https://chat.example.com";
    let edges = Edges::start(1, EdgeConfig::default().with_allowed_origins(vec![own.to_owned()])).await;
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let channel = "/channel?type=app&channelId=0123456789abcdef0123456789abcdef";
    for path in ["/ws", channel, "/gate", "/login"] {
        for origin in ["https://evil.example.com", "http://chat.example.com", "null", ""] {
            let request = get(path, &format!("{upgrade}Origin: {origin}\r\n"));
            let answer = edges.answer(0, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{path} {origin}: {answer}");
            assert!(!answer.contains("access-control-allow-origin"), "{answer}");
        }
    }
    let mut stream = edges.connect(0).await;
    let request = format!("GET /ws HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\n{upgrade}Origin: {own}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    in_time(stream.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 101");
    let gate = edges.answer(0, get("/gate", &format!("Origin: {own}\r\n")).as_bytes()).await;
    assert!(gate.contains(&format!("access-control-allow-origin: {own}")) && gate.contains("vary: origin"), "{gate}");
    // Programs other than browsers send no origin.
    let mut ann = edges.enter(0, "ann").await;
    assert_serves(&edges, &mut ann).await;
}

#[tokio::test]
async fn pages_read_no_metrics_and_no_health() {
    let edges = Edges::start(1, EdgeConfig::default()).await;
    for (path, is_readable) in [("/gate", true), ("/metrics", false), ("/health", false), ("/", false)] {
        let answer = edges.answer(0, get(path, "Origin: https://other.example.com\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer:.200}");
        assert_eq!(answer.contains("access-control-allow-origin: *"), is_readable, "{path}");
    }
}

#[tokio::test]
async fn nodes_with_tls_accept_only_nodes_of_their_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = |by: &Authority| {
        let own = by.issue("node", &["node.im.internal"]);
        NodeTls::new(own.certificate, own.key, authority.ca()).with_name("node.im.internal")
    };
    let secret = Secret::random();
    let (own, shared) = (tls(&authority), secret.clone());
    let configure = move |node: NodeConfig| node.with_tls(Some(own.clone())).with_secret(Some(shared.clone()));
    let edges = Edges::start_with(2, EdgeConfig::default(), || Accounts::Anyone, configure).await;
    let mut ann = edges.enter(0, "ann").await;
    let mut bo = edges.enter(1, "bo").await;
    send_until_acked(&mut ann, "1", "bo", "over TLS").await;
    until_pushed(&mut bo, "over TLS").await;

    // A node without TLS, and one with a certificate of another authority, have the secret but no access.
    let storing_node = edges.edges[0].node.rpc_address();
    for tls in [None, Some(tls(&other))] {
        let config = NodeConfig::new(Arc::new(Memory::named("tls-strangers")), "ws://stranger/ws")
            .with_secret(Some(secret.clone()))
            .with_tls(tls)
            .with_store(StoreChoice::Node(storing_node));
        let stranger = Node::start(config).await.unwrap();
        let login = Login { user: "eve".to_owned(), device: "d".to_owned(), platform: "p".to_owned() };
        let rejected = in_time(stranger.login(login)).await;
        assert!(matches!(rejected, Err(LoginError::Unavailable(_))), "{rejected:?}");
    }
    until(|| edges.edges[0].node.nodes().len() == 2).await;
}

#[tokio::test]
async fn node_takes_certificates_from_its_arguments() {
    let authority = Authority::new();
    let (for_clients, for_nodes) = (authority.issue("clients", &["127.0.0.1"]), authority.issue("nodes", &["im"]));
    let directory = tempfile::tempdir().unwrap();
    let (log, registry) = (directory.path().join("log"), format!("local:{}", directory.path().display()));
    let path = |path: &std::path::Path| path.display().to_string();
    let (ca, certificate, key) = (path(&authority.ca()), path(&for_nodes.certificate), path(&for_nodes.key));
    let arguments = [
        ["--listen", "127.0.0.1:0", "--registry", &registry, "--tls-cert", &path(&for_clients.certificate)],
        ["--tls-key", &path(&for_clients.key), "--allow-origin", "https://a.example.com", "--node-tls-name", "im"],
        ["--node-tls-cert", &certificate, "--node-tls-key", &key, "--node-tls-ca", &ca],
    ];
    let mut node = Program::start("im-node", &[arguments.as_flattened(), &["--dev-login"]].concat(), &[], &log).await;
    let base = node.line_after("serves clients on ").await;
    let address = base.strip_prefix("https://").unwrap().to_owned();
    let gate = until_ok(async || {
        let stream = authority.connect(TcpStream::connect(&address).await?, &["http/1.1"]).await?;
        let gate = answer(stream, &get("/gate", "")).await;
        if gate.contains("wss://") { Ok(gate) } else { Err(std::io::Error::other(gate)) }
    })
    .await;
    assert!(gate.contains(&format!("wss://{address}/ws")), "{gate}");
    assert!(node.terminate().await.success());
}
