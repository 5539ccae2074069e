//! `/health`: the state of a node, its store and its directory.

use rpc_im::{
    edge::EdgeConfig,
    envelope::{ClientFrame, ServerFrame, Sync, code},
};
use tests::{
    im_edge::Edges,
    im_line::{log_in, message},
    in_time,
    program::Program,
    until_ok,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Returns the response to `GET /health` of the node at an address.
async fn health(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn health_reports_lost_storing_node() {
    let mut edges = Edges::start(2, EdgeConfig::default()).await;
    let answer = edges.get(1, "/health").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""store":"ok","directory":"ok""#), "{answer}");
    drop(edges.edges.remove(0));
    let answer = in_time(async {
        loop {
            let answer = edges.get(0, "/health").await;
            if answer.contains(r#""store":"unavailable","directory":"unavailable""#) {
                return answer;
            }
        }
    });
    assert!(answer.await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn health_reports_full_disk_of_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (registry, store) = (format!("local:{}", directory.path().display()), path("store").display().to_string());
    let arguments = ["--listen", "127.0.0.1:0", "--registry", &registry, "--store", &store, "--dev-login"];
    let arguments = [&arguments[..], &["--rate", "1000", "--burst", "1000"]].concat();
    // Writes beyond 16 384 blocks of 512 bytes fail, as on a full disk.
    let limits = "trap '' XFSZ; ulimit -f 16384";
    let mut node = Program::start_limited(limits, "im-node", &arguments, &path("log")).await;
    let base = node.line_after("serves clients on ").await;
    let address = base.strip_prefix("http://").unwrap();
    let token = until_ok(async || rpc_im::client::login(&base, "ann", "", "phone", "test").await).await.token;
    let mut line = log_in(&format!("{}/ws", base.replace("http", "ws")), &token).await.unwrap();
    assert!(health(address).await.starts_with("HTTP/1.1 200 "));
    let body = "x".repeat(60_000);
    let (mut stored, rejected) = in_time(async {
        for number in 0_u64.. {
            line.say(&message(&number.to_string(), "bo", &body)).await.unwrap();
            loop {
                match line.next().await.unwrap() {
                    ServerFrame::SendAck(_) => break,
                    ServerFrame::Error(error) => return (number, error.code),
                    _ => {}
                }
            }
        }
        unreachable!("the loop does not end")
    })
    .await;
    assert_eq!(rejected, code::UNAVAILABLE);
    let answer = health(address).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains(r#""store":"unavailable","directory":"ok""#),
        "{answer}"
    );
    drop(line);
    assert!(node.terminate().await.success());

    // With space on the disk, a restarted node has every acknowledged message.
    let mut node = Program::start("im-node", &arguments, &[], &path("log")).await;
    let base = node.line_after("serves clients on ").await;
    let token = until_ok(async || rpc_im::client::login(&base, "ann", "", "phone", "test").await).await.token;
    let mut line = log_in(&format!("{}/ws", base.replace("http", "ws")), &token).await.unwrap();
    line.say(&ClientFrame::Sync(Sync::default())).await.unwrap();
    in_time(async {
        loop {
            match line.next().await.unwrap() {
                ServerFrame::Push(_) => stored -= 1,
                ServerFrame::Synced(_) => return,
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(stored, 0);
    assert!(health(base.strip_prefix("http://").unwrap()).await.starts_with("HTTP/1.1 200 "));
    assert!(node.terminate().await.success());
}
