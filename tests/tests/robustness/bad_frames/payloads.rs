//! Payloads that the server cannot decompress or decode, and unknown services and methods.

use tests::raw_peer::{RawFrame, RawHead};

use super::scene::{INVALID_ARGUMENT, RESOURCE_EXHAUSTED, Scene, UNIMPLEMENTED, call, echo, route};

/// Returns a call of `echo` whose text has `length` bytes before gzip compression.
fn packed(id: u32, length: usize) -> RawFrame {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b'x'), length as u64), &mut encoder).unwrap();
    // With the raw codec the payload is only the text.
    RawFrame::request(id, &route("echo"), encoder.finish().unwrap()).with_codec(0).with_compression(1)
}

#[tokio::test]
async fn server_limits_decompressed_payload() {
    const LIMIT: usize = 16 << 20;
    let mut scene = Scene::new().await;
    let answer = scene.peer.ask(&packed(1, LIMIT)).await;
    assert_eq!((answer.status().0, answer.compression), (0, 1), "the server compresses the result, too");
    scene.expect_error(packed(2, LIMIT + 1), RESOURCE_EXHAUSTED, &["16777216"]).await;
}

#[tokio::test]
async fn unknown_codec_fails_call() {
    for codec in [1, 4, 6, 255] {
        let words = ["bincode (2)", "json (3)", &format!("codec {codec}")];
        Scene::new().await.expect_error(echo(1).with_codec(codec), UNIMPLEMENTED, &words).await;
    }
}

#[tokio::test]
async fn unknown_compression_fails_call() {
    for compression in [4, 255] {
        let words = ["gzip (1)", "zstd (2)", "lz4 (3)", &format!("compression {compression}")];
        Scene::new().await.expect_error(echo(1).with_compression(compression), UNIMPLEMENTED, &words).await;
    }
}

#[tokio::test]
async fn invalid_payload_fails_call() {
    for arguments in ["", "{", r#"{"text":7}"#, "{}", r#"{"text":"x"} and more"#] {
        Scene::new().await.expect_error(call(1, "echo", arguments), INVALID_ARGUMENT, &["json"]).await;
    }
    for compression in 1..=3 {
        let garbage = echo(1).with_compression(compression);
        Scene::new().await.expect_error(garbage, INVALID_ARGUMENT, &["the payload is not"]).await;
    }
}

#[tokio::test]
async fn unknown_service_or_method_fails_call() {
    for (route, what) in [
        ("test.Wire:1.0/nothing", "method"),
        ("test.Wire:2.0/echo", "service"),
        ("test.Other:1.0/echo", "service"),
        ("", "service"),
    ] {
        let frame = RawFrame::request(1, &RawHead::route(route), "{}");
        Scene::new().await.expect_error(frame, UNIMPLEMENTED, &[what, route]).await;
    }
}
