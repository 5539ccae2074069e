//! Frames that violate the protocol, so that the server closes the connection, and unknown types, which it ignores.

use tests::raw_peer::RawFrame;

use super::scene::{Scene, call};

#[tokio::test]
async fn wrong_magic_closes_connection() {
    let mut scene = Scene::new().await;
    scene.peer.send(b"GET / HTTP/1.1\r\n\r\n").await;
    scene.expect_close().await;
}

#[tokio::test]
async fn wrong_version_closes_connection() {
    let mut scene = Scene::new().await;
    let mut ping = RawFrame::empty(RawFrame::PING, 1).to_bytes();
    ping[4] = 2;
    scene.peer.send(ping).await;
    scene.expect_close().await;
}

#[tokio::test]
async fn full_length_under_16_closes_connection() {
    let mut scene = Scene::new().await;
    scene.peer.send(RawFrame::empty(RawFrame::PING, 1).header(15)).await;
    scene.expect_close().await;
}

#[tokio::test]
async fn unknown_type_outside_64_to_127_closes_connection() {
    for kind in [0, 13, 63, 128, 255] {
        let mut scene = Scene::new().await;
        scene.peer.send(RawFrame::empty(kind, 1).to_bytes()).await;
        scene.expect_close().await;
    }
}

#[tokio::test]
async fn server_ignores_unknown_types_from_64_to_127() {
    let mut scene = Scene::new().await;
    for kind in [64, 100, 127] {
        scene.peer.send(RawFrame::empty(kind, 1).with_body(*b"whatever").to_bytes()).await;
    }
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn head_longer_than_body_closes_connection() {
    for body in [&b""[..], b"\0", b"\0\x01", b"\0\x02\x01\0", b"\0\x03\x01\0\x01", b"\xff\xff\x01\0\x01r"] {
        let mut scene = Scene::new().await;
        scene.peer.send(RawFrame::empty(RawFrame::REQUEST, 1).with_body(body).to_bytes()).await;
        scene.expect_close().await;
    }
}

#[tokio::test]
async fn protocol_violation_ends_calls_in_flight() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    scene.peer.send(b"?").await;
    scene.peer.expect_end().await;
    scene.server.until_waiting(1).await;
    scene.expect_bystander_unaffected().await;
}
