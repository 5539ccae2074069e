//! Pings: their answers and their limits.

use tests::{
    in_time,
    raw_peer::{RawFrame, RawPeer},
};

use super::scene::Scene;

#[tokio::test]
async fn every_ping_receives_pong_with_its_id() {
    let mut scene = Scene::new().await;
    for ping in [
        RawFrame::empty(RawFrame::PING, 0),
        RawFrame::empty(RawFrame::PING, u32::MAX),
        RawFrame::empty(RawFrame::PING, 1).with_codec(1).with_compression(1).with_body(*b"\x1f\x8b\x08not gzip"),
        RawFrame::empty(RawFrame::PING, 2).with_codec(200).with_compression(200).with_body(vec![0xff; 1024]),
    ] {
        assert_eq!(scene.peer.ask(&ping).await, RawFrame::empty(RawFrame::PONG, ping.id));
    }
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn ping_body_over_1_kib_closes_connection() {
    let mut scene = Scene::new().await;
    scene.peer.send(RawFrame::empty(RawFrame::PING, 1).with_body(vec![0; 1025]).to_bytes()).await;
    scene.expect_close().await;
}

#[tokio::test]
async fn server_answers_100_pings_at_once() {
    let mut scene = Scene::new().await;
    let pings: Vec<u8> = (0..100).flat_map(|id| RawFrame::empty(RawFrame::PING, id).to_bytes()).collect();
    scene.peer.send(pings).await;
    for id in 0..100 {
        assert_eq!(scene.peer.receive().await, RawFrame::empty(RawFrame::PONG, id));
    }
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn over_100_pings_per_second_close_connection() {
    let mut scene = Scene::new().await;
    // The server counts per second of the connection: 1 000 pings cannot spread over ten seconds.
    let pings: Vec<u8> = (0..1_000).flat_map(|id| RawFrame::empty(RawFrame::PING, id).to_bytes()).collect();
    let (mut reader, mut writer) = scene.peer.into_split();
    // The server may close the connection during the write.
    let _ = writer.send(&pings).await;
    while let Some(pong) = in_time(reader.receive()).await {
        assert_eq!(pong.kind, RawFrame::PONG);
    }
    scene.peer = RawPeer::connect(scene.server.address()).await;
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}
