//! Heads with missing, unknown, malformed or excessive entries.

use tests::raw_peer::{RawFrame, RawHead};

use super::scene::{DEADLINE_EXCEEDED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, Scene, UNIMPLEMENTED, call, route};

#[tokio::test]
async fn missing_or_invalid_route_fails_call() {
    let invalid_heads =
        [RawHead::new(), RawHead::new().with(RawHead::ROUTE, b"\xff"), RawHead::route(&"r".repeat(514))];
    for head in invalid_heads {
        Scene::new().await.expect_error(RawFrame::request(1, &head, "{}"), INVALID_ARGUMENT, &["route"]).await;
    }
}

#[tokio::test]
async fn server_looks_up_route_of_513_bytes() {
    let frame = RawFrame::request(1, &RawHead::route(&"r".repeat(513)), "{}");
    Scene::new().await.expect_error(frame, UNIMPLEMENTED, &["no such service"]).await;
}

#[tokio::test]
async fn only_unknown_odd_tag_fails_call() {
    let odd = RawFrame::request(1, &route("echo").with(255, "?"), r#"{"text":""}"#);
    Scene::new().await.expect_error(odd, UNIMPLEMENTED, &["255"]).await;
    let even = RawFrame::request(1, &route("echo").with(254, "?"), r#"{"text":"x"}"#);
    assert_eq!(Scene::new().await.peer.ask(&even).await.text(), r#""x""#);
}

#[tokio::test]
async fn unknown_call_flags_fail_call() {
    for flags in [16, 32, 64, 128] {
        let frame = RawFrame::request(1, &route("echo").with(RawHead::CALL_FLAGS, [flags]), r#"{"text":""}"#);
        Scene::new().await.expect_error(frame, UNIMPLEMENTED, &[]).await;
    }
}

#[tokio::test]
async fn entries_of_wrong_length_fail_call() {
    for (tag, value) in [
        (2, &b"\0\0\x01"[..]),
        (2, b""),
        (3, b""),
        (3, b"\0\0"),
        (7, b"fifteen bytes.."),
        (8, b"fifteen bytes.."),
        (4, b"\x01"),
    ] {
        let frame = RawFrame::request(1, &route("echo").with(tag, value), r#"{"text":""}"#);
        Scene::new().await.expect_error(frame, INVALID_ARGUMENT, &[]).await;
    }
}

fn metadata(entries: usize, bytes: usize) -> RawFrame {
    // Each entry has a key of one byte; the first value fills the remaining bytes.
    let value = |index: usize| if index == 0 { bytes - 4 * entries } else { 0 };
    let wire: Vec<u8> = (0..entries)
        .flat_map(|index| {
            let length = u16::try_from(value(index)).unwrap().to_be_bytes();
            [&b"\x01k"[..], &length, &vec![0; value(index)]].concat()
        })
        .collect();
    assert_eq!(wire.len(), bytes);
    RawFrame::request(1, &route("metadata").with(RawHead::METADATA, wire), "{}")
}

#[tokio::test]
async fn server_limits_metadata_to_64_entries_and_16_kib() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.peer.ask(&metadata(64, 16 * 1024)).await.text(), "64");
    scene.expect_error(metadata(65, 16 * 1024), RESOURCE_EXHAUSTED, &["64", "16384"]).await;
    Scene::new().await.expect_error(metadata(64, 16 * 1024 + 1), RESOURCE_EXHAUSTED, &["64", "16384"]).await;
}

#[tokio::test]
async fn timeout_starts_at_arrival_and_zero_is_expired() {
    let mut scene = Scene::new().await;
    let with = |timeout: u32, method: &str| {
        RawFrame::request(1, &route(method).with(RawHead::TIMEOUT, timeout.to_be_bytes()), "{}")
    };
    let remaining: u32 = scene.peer.ask(&with(3_600_000, "remaining")).await.text().parse().unwrap();
    assert!((3_000_000..=3_600_000).contains(&remaining), "{remaining}");
    let remaining: u32 = scene.peer.ask(&call(1, "remaining", "{}")).await.text().parse().unwrap();
    assert!((1..=5_000).contains(&remaining), "the default timeout is 5 s: {remaining}");
    assert_eq!(scene.peer.ask(&with(0, "echo")).await.status().0, DEADLINE_EXCEEDED);
    assert_eq!(scene.peer.ask(&with(1, "wait")).await.status().0, DEADLINE_EXCEEDED);
    scene.server.until_waiting(1).await;
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}
