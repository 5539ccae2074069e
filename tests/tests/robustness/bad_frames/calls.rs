//! Ids of calls, the limit of calls in flight, and calls that end without a result.

use rpc_server::ServerConfig;
use tests::{
    in_time,
    raw_peer::{RawFrame, RawHead},
};

use super::scene::{
    CANCELLED, INTERNAL, INVALID_ARGUMENT, MAX_FRAME, RESOURCE_EXHAUSTED, Scene, UNAVAILABLE, call, echo, route,
};

#[tokio::test]
async fn server_drops_frames_without_call() {
    let mut scene = Scene::new().await;
    for kind in [RawFrame::RESPONSE, RawFrame::ITEM, 8, 9] {
        scene.peer.send(RawFrame::empty(kind, 5).with_body(*b"\0\0").to_bytes()).await;
    }
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn stream_frame_fails_its_call() {
    for kind in [RawFrame::ITEM, 8, 9] {
        let mut scene = Scene::new().await;
        scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
        scene.server.until_waiting(2).await;
        scene.expect_error(RawFrame::empty(kind, 1), INVALID_ARGUMENT, &["stream"]).await;
    }
}

#[tokio::test]
async fn duplicate_request_id_closes_connection() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    scene.peer.send(echo(1).to_bytes()).await;
    scene.peer.expect_end().await;
    scene.server.until_waiting(1).await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn oversized_duplicate_request_id_closes_connection() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    scene.peer.send(RawFrame::empty(RawFrame::REQUEST, 1).header(MAX_FRAME + 1)).await;
    scene.expect_close().await;
}

#[tokio::test]
async fn answer_frees_id_for_next_call() {
    let mut scene = Scene::new().await;
    for _ in 0..100 {
        scene.expect_answer().await;
    }
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn request_with_id_0_closes_connection() {
    let mut scene = Scene::new().await;
    scene.peer.send(echo(0).to_bytes()).await;
    scene.expect_close().await;
}

#[tokio::test]
async fn server_rejects_call_over_max_in_flight() {
    let mut scene = Scene::with(ServerConfig::default().with_max_in_flight(1)).await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    let answer = scene.peer.ask(&echo(2)).await;
    assert_eq!((answer.id, answer.status().0), (2, RESOURCE_EXHAUSTED));
    assert!(answer.entry(RawHead::RETRY_AFTER).is_some_and(|wait| wait.len() == 4), "RETRY AFTER has 4 bytes");
}

#[tokio::test]
async fn connection_limits_calls_to_1024() {
    let mut scene = Scene::new().await;
    let calls: Vec<u8> = (1..=1024).flat_map(|id| call(id, "wait", "{}").to_bytes()).collect();
    scene.peer.send(calls).await;
    scene.server.until_waiting(1025).await;
    let answer = scene.peer.ask(&echo(2000)).await;
    assert_eq!((answer.id, answer.status().0), (2000, RESOURCE_EXHAUSTED));
    scene.peer.send(RawFrame::empty(RawFrame::CANCEL, 7).to_bytes()).await;
    assert_eq!(scene.peer.receive().await.id, 7);
    scene.server.until_waiting(1024).await;
    in_time(async { while scene.peer.ask(&echo(2001)).await.status().0 != 0 {} }).await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn cancel_ends_call_with_cancelled_answer() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    scene.peer.send(RawFrame::empty(RawFrame::CANCEL, 1).to_bytes()).await;
    let answer = scene.peer.receive().await;
    assert_eq!((answer.id, answer.status().0), (1, CANCELLED));
    scene.server.until_waiting(1).await;
    // The server ignores a CANCEL for an answered or unknown call.
    scene.peer.send(RawFrame::empty(RawFrame::CANCEL, 1).to_bytes()).await;
    scene.peer.send(RawFrame::empty(RawFrame::CANCEL, 99).to_bytes()).await;
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn panic_fails_only_its_call() {
    Scene::new().await.expect_error(call(1, "panic", "{}"), INTERNAL, &["panicked"]).await;
}

#[tokio::test]
async fn one_way_call_has_no_answer() {
    let mut scene = Scene::new().await;
    let note = |method: &str| route(method).with(RawHead::CALL_FLAGS, [1]);
    for frame in [
        RawFrame::request(1, &note("note"), r#"{"text":"x"}"#),
        RawFrame::request(1, &note("note"), "not JSON"),
        RawFrame::request(1, &note("nothing"), "{}"),
        RawFrame::request(1, &note("panic"), "{}"),
        RawFrame::request(1, &note("note"), r#"{"text":"x"}"#).with_codec(9),
    ] {
        scene.peer.send(frame.to_bytes()).await;
    }
    let answer = scene.peer.ask(&call(2, "notes", "{}")).await;
    assert_eq!((answer.id, answer.text()), (2, "1"), "the next answer belongs to the next call");
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn draining_server_sends_goaway_and_serves_late_calls() {
    let mut scene = Scene::new().await;
    scene.server.drain();
    for peer in [&mut scene.peer, &mut scene.bystander] {
        let goaway = peer.receive().await;
        assert_eq!((goaway.kind, goaway.id, goaway.status().0), (RawFrame::GOAWAY, 0, UNAVAILABLE));
    }
    scene.expect_answer().await;
    scene.peer.expect_end().await;
    scene.server.release();
    assert_eq!(scene.bystander.receive().await.text(), r#""released""#);
    scene.bystander.expect_end().await;
    scene.server.ended().await;
}
