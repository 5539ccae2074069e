//! Connections that end inside a frame, close one side, or make no progress.

use std::time::Duration;

use rpc_server::ServerConfig;
use tests::{
    in_time,
    raw_peer::{RawFrame, RawPeer},
    wire::Listening,
};
use tokio::task::JoinSet;

use super::scene::{RESOURCE_EXHAUSTED, Scene, call, echo, echo_of, with_transport};

#[tokio::test]
async fn end_inside_frame_closes_connection() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    scene.peer.send(&echo(2).to_bytes()[..20]).await;
    scene.peer.finish_sending().await;
    scene.peer.expect_end().await;
    scene.server.until_waiting(1).await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn server_answers_peer_after_half_close() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "until_released", "{}").to_bytes()).await;
    scene.peer.send(echo(2).to_bytes()).await;
    scene.peer.finish_sending().await;
    assert_eq!(scene.peer.receive().await.id, 2);
    scene.server.until_waiting(2).await;
    scene.server.release();
    assert_eq!(scene.peer.receive().await.text(), r#""released""#);
    scene.peer.expect_end().await;
}

#[tokio::test]
async fn slow_frame_closes_connection() {
    let config = with_transport(|transport| transport.frame_time = Duration::from_millis(200));
    let mut scene = Scene::with(config).await;
    let (mut reader, mut writer) = scene.peer.into_split();
    let mut slow_writer = JoinSet::new();
    slow_writer.spawn(async move {
        // At this rate the frame would take ten minutes.
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        for byte in echo_of(1, 60_000).to_bytes() {
            pace.tick().await;
            if writer.send(&[byte]).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(reader.receive().await, None);
    scene.peer = RawPeer::connect(scene.server.address()).await;
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn incomplete_header_closes_connection() {
    let config = with_transport(|transport| transport.frame_time = Duration::from_millis(50));
    let mut scene = Scene::with(config).await;
    scene.peer.send(b"msnb\x01").await;
    scene.expect_close().await;
}

#[tokio::test]
async fn missing_body_of_oversized_frame_closes_connection() {
    // The frame time grows by 1 s per 64 KiB.
    let config = with_transport(|transport| {
        transport.frame_time = Duration::from_millis(50);
        transport.max_frame = 64 << 10;
    });
    let mut scene = Scene::with(config).await;
    scene.peer.send(RawFrame::empty(RawFrame::REQUEST, 1).header((64 << 10) + 1)).await;
    assert_eq!(scene.peer.receive().await.status().0, RESOURCE_EXHAUSTED);
    scene.expect_close().await;
}

#[tokio::test]
async fn idle_connection_closes() {
    let config = ServerConfig::default().with_read_idle(Duration::from_millis(100));
    let server = Listening::start(config).await;
    RawPeer::connect(server.address()).await.expect_end().await;
}

#[tokio::test]
async fn server_closes_peer_that_never_reads() {
    let config = with_transport(|transport| {
        transport.outbox = 64 << 10;
        transport.write_stall = Duration::from_millis(500);
    });
    let mut scene = Scene::with(config).await;
    let (reader, mut writer) = scene.peer.into_split();
    let mut calls_without_reads = JoinSet::new();
    calls_without_reads.spawn(async move {
        // Requests answers of 64 KiB until the connection closes, and reads none.
        let calls: Vec<u8> = (1..=1_000).flat_map(|id| call(id, "zeros", r#"{"count":65536}"#).to_bytes()).collect();
        while writer.send(&calls).await.is_ok() {}
    });
    for _ in 0..100 {
        assert_eq!(scene.bystander.ask(&echo(2)).await.text(), r#""still here""#);
    }
    in_time(calls_without_reads.join_next()).await.unwrap().unwrap();
    drop(reader);
    scene.peer = RawPeer::connect(scene.server.address()).await;
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}
