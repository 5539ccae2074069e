//! Frames of streams, from a caller that follows the protocol or violates it.

use rpc_server::ServerConfig;
use tests::raw_peer::{RawFrame, RawHead};

use super::scene::{
    CANCELLED, DEADLINE_EXCEEDED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, Scene, UNIMPLEMENTED, echo, route,
    with_transport,
};

const SENDS: u8 = 4;
const EXPECTS: u8 = 8;

/// The credit of a stream at its start.
const INITIAL: usize = 64 << 10;

/// Returns a call with streams.
fn streaming(id: u32, method: &str, flags: u8, arguments: &str) -> RawFrame {
    RawFrame::request(id, &route(method).with(RawHead::CALL_FLAGS, [flags]), arguments)
}

fn credit(id: u32, credit: u32) -> RawFrame {
    RawFrame::empty(RawFrame::CREDIT, id).with_body(credit.to_be_bytes())
}

fn end(id: u32) -> RawFrame {
    RawFrame::empty(RawFrame::END, id)
}

/// Receives the acceptance of call `id`.
async fn expect_accepted(scene: &mut Scene, id: u32) {
    let accepted = scene.peer.receive().await;
    assert_eq!((accepted.kind, accepted.id, accepted.status().0), (RawFrame::RESPONSE, id, 0), "{accepted:?}");
    assert!(accepted.payload().is_empty());
}

#[tokio::test]
async fn callee_sends_items_and_an_end() {
    let mut scene = Scene::new().await;
    scene.peer.send(streaming(1, "count", EXPECTS, r#"{"to":2,"long":false}"#).to_bytes()).await;
    expect_accepted(&mut scene, 1).await;
    for text in [r#""1""#, r#""2""#] {
        let item = scene.peer.receive().await;
        assert_eq!((item.kind, item.id, &item.body[..]), (RawFrame::CALLEE_ITEM, 1, text.as_bytes()));
    }
    let end = scene.peer.receive().await;
    assert_eq!((end.kind, end.id, end.status().0), (RawFrame::CALLEE_END, 1, 0));
    scene.expect_answer().await;
}

#[tokio::test]
async fn callee_receives_items_until_the_end() {
    let mut scene = Scene::new().await;
    scene.peer.send(streaming(1, "collect", SENDS, "{}").to_bytes()).await;
    for text in [r#""a""#, r#""b""#, r#""c""#] {
        scene.peer.send(RawFrame::item(1, text).to_bytes()).await;
    }
    let answer = scene.peer.ask(&end(1)).await;
    assert_eq!((answer.kind, answer.id, answer.text()), (RawFrame::RESPONSE, 1, "3"));
    // The id is free again.
    scene.peer.send(streaming(1, "collect", SENDS, "{}").to_bytes()).await;
    assert_eq!(scene.peer.ask(&end(1)).await.text(), "0");
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn callee_sends_only_as_much_as_the_credit() {
    let mut scene = Scene::new().await;
    scene.peer.send(streaming(1, "count", EXPECTS, r#"{"to":1000,"long":true}"#).to_bytes()).await;
    expect_accepted(&mut scene, 1).await;
    // An item has 1002 bytes and costs 1018; the last one may exceed the credit.
    let within = |credit: usize| credit.div_ceil(1018);
    for _ in 0..within(INITIAL) {
        assert_eq!(scene.peer.receive().await.kind, RawFrame::CALLEE_ITEM);
    }
    scene.expect_answer().await;
    scene.peer.send(credit(1, 100_000).to_bytes()).await;
    for _ in within(INITIAL)..within(INITIAL + 100_000) {
        assert_eq!(scene.peer.receive().await.kind, RawFrame::CALLEE_ITEM);
    }
    scene.expect_answer().await;
    let end = scene.peer.ask(&RawFrame::empty(RawFrame::CANCEL, 1)).await;
    assert_eq!((end.kind, end.status().0), (RawFrame::CALLEE_END, CANCELLED));
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn callee_grants_credit_for_items_that_are_read() {
    let mut scene = Scene::new().await;
    scene.peer.send(streaming(1, "copy", SENDS | EXPECTS, "{}").to_bytes()).await;
    expect_accepted(&mut scene, 1).await;
    let text = format!("\"{}\"", "x".repeat(INITIAL / 2));
    scene.peer.send(RawFrame::item(1, &text).to_bytes()).await;
    let (mut item, mut granted) = (None, None);
    for _ in 0..2 {
        let frame = scene.peer.receive().await;
        match frame.kind {
            RawFrame::CALLEE_ITEM => item = Some(frame.body),
            RawFrame::CALLEE_CREDIT => granted = Some(u32::from_be_bytes(frame.body.try_into().unwrap())),
            other => panic!("type {other}"),
        }
    }
    assert_eq!(item.unwrap(), text.as_bytes());
    assert_eq!(granted.unwrap() as usize, text.len() + 16 + 3 * INITIAL, "the cost, and the growth of the window");
    assert_eq!(scene.peer.ask(&end(1)).await.kind, RawFrame::CALLEE_END);
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn item_without_credit_closes_connection() {
    let mut scene = Scene::new().await;
    scene.peer.send(streaming(1, "ignore", SENDS, "{}").to_bytes()).await;
    scene.peer.send(RawFrame::item(1, format!("\"{}\"", "x".repeat(INITIAL))).to_bytes()).await;
    scene.expect_answer().await;
    scene.peer.send(RawFrame::item(1, r#""x""#).to_bytes()).await;
    scene.expect_close().await;
}

#[tokio::test]
async fn item_and_end_after_the_end_close_connection() {
    for frame in [RawFrame::item(1, r#""x""#), end(1)] {
        let mut scene = Scene::new().await;
        scene.peer.send(streaming(1, "ignore", SENDS, "{}").to_bytes()).await;
        scene.peer.send(end(1).to_bytes()).await;
        scene.server.until_waiting(2).await;
        scene.peer.send(frame.to_bytes()).await;
        scene.expect_close().await;
    }
}

#[tokio::test]
async fn bad_credit_closes_connection() {
    for body in [&b""[..], b"\0\0\0", b"\0\0\0\x01\0", b"\x7f\xff\xff\xff"] {
        let mut scene = Scene::new().await;
        scene.peer.send(streaming(1, "copy", SENDS | EXPECTS, "{}").to_bytes()).await;
        expect_accepted(&mut scene, 1).await;
        scene.peer.send(RawFrame::empty(RawFrame::CREDIT, 1).with_body(body).to_bytes()).await;
        scene.expect_close().await;
    }
}

#[tokio::test]
async fn frames_of_another_stream_fail_the_call() {
    for (method, flags, frame) in
        [("count", EXPECTS, RawFrame::item(1, r#""x""#)), ("count", EXPECTS, end(1)), ("ignore", SENDS, credit(1, 1))]
    {
        let mut scene = Scene::new().await;
        // More items than the credit, so that the call is in flight.
        scene.peer.send(streaming(1, method, flags, r#"{"to":1000,"long":true}"#).to_bytes()).await;
        scene.peer.send(frame.to_bytes()).await;
        let answer = loop {
            let answer = scene.peer.receive().await;
            if answer.kind == RawFrame::CALLEE_END || answer.kind == RawFrame::RESPONSE && answer.status().0 != 0 {
                break answer;
            }
        };
        assert_eq!(answer.status().0, INVALID_ARGUMENT, "{answer:?}");
        scene.expect_bystander_unaffected().await;
    }
}

#[tokio::test]
async fn flags_that_do_not_match_the_method_fail_the_call() {
    for (method, flags) in [("echo", SENDS), ("echo", EXPECTS), ("count", 0), ("count", SENDS), ("collect", EXPECTS)] {
        let frame = streaming(1, method, flags, r#"{"text":"","to":1,"long":false}"#);
        Scene::new().await.expect_error(frame, UNIMPLEMENTED, &["stream"]).await;
    }
}

#[tokio::test]
async fn streams_of_a_caller_that_has_closed_its_side_end() {
    let mut scene = Scene::new().await;
    scene.peer.send(streaming(1, "count", EXPECTS, r#"{"to":1000,"long":true}"#).to_bytes()).await;
    scene.peer.send(streaming(2, "collect", SENDS, "{}").to_bytes()).await;
    scene.peer.send(RawFrame::item(2, r#""a""#).to_bytes()).await;
    scene.peer.finish_sending().await;
    let (mut items, mut answers) = (0, Vec::new());
    while let Some(frame) = scene.peer.try_receive().await {
        match (frame.kind, frame.id) {
            (RawFrame::CALLEE_ITEM, 1) => items += frame.body.len() + 16,
            (kind, id) => answers.push((id, kind, frame.status().0)),
        }
    }
    assert!(items >= INITIAL, "{items} bytes: the credit is used");
    answers.sort_unstable();
    let [accepted, lost, ended] = answers[..] else { panic!("{answers:?}") };
    assert_eq!((accepted, lost), ((1, RawFrame::RESPONSE, 0), (1, RawFrame::CALLEE_END, CANCELLED)));
    assert_eq!((ended.0, ended.1), (2, RawFrame::RESPONSE));
    assert_ne!(ended.2, 0, "the stream of the caller was incomplete");
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn items_behind_a_rejected_call_are_dropped() {
    let mut scene = Scene::new().await;
    let answer = scene.peer.ask(&streaming(1, "echo", SENDS, "{}")).await;
    assert_eq!(answer.status().0, UNIMPLEMENTED);
    for _ in 0..10 {
        scene.peer.send(RawFrame::item(1, r#""x""#).to_bytes()).await;
    }
    scene.peer.send(end(1).to_bytes()).await;
    assert_eq!(scene.peer.ask(&echo(1)).await.text(), r#""still here""#, "the id is free");
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn oversized_item_fails_its_call() {
    let mut scene = Scene::with(with_transport(|transport| transport.max_frame = 64 << 10)).await;
    scene.peer.send(streaming(1, "ignore", SENDS, "{}").to_bytes()).await;
    let answer = scene.peer.ask(&RawFrame::item(1, vec![b'x'; 64 << 10])).await;
    assert_eq!((answer.kind, answer.status().0), (RawFrame::RESPONSE, RESOURCE_EXHAUSTED));
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn streams_of_a_connection_have_limited_memory() {
    let mut scene = Scene::with(with_transport(|transport| transport.stream_memory = 2 * INITIAL)).await;
    for id in 1..=2 {
        scene.peer.send(streaming(id, "ignore", SENDS, "{}").to_bytes()).await;
    }
    scene.server.until_waiting(3).await;
    let answer = scene.peer.ask(&streaming(3, "ignore", SENDS, "{}")).await;
    assert_eq!((answer.id, answer.status().0), (3, RESOURCE_EXHAUSTED));
    // An item that exceeds the credit finds no memory either.
    let answer = scene.peer.ask(&RawFrame::item(1, vec![b'x'; INITIAL + 1])).await;
    assert_eq!((answer.id, answer.status().0), (1, RESOURCE_EXHAUSTED));
    scene.server.until_waiting(2).await;
    scene.peer.send(streaming(4, "ignore", SENDS, "{}").to_bytes()).await;
    scene.server.until_waiting(3).await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn item_in_a_rejected_compression_fails_its_call() {
    let mut scene = Scene::with(ServerConfig::default().with_compressions(Vec::new())).await;
    scene.peer.send(streaming(1, "ignore", SENDS, "{}").to_bytes()).await;
    let answer = scene.peer.ask(&RawFrame::item(1, "x").with_compression(1)).await;
    assert_eq!(answer.status().0, UNIMPLEMENTED);
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn deadline_limits_only_the_acceptance() {
    let mut scene = Scene::new().await;
    let head = route("copy").with(RawHead::CALL_FLAGS, [SENDS | EXPECTS]).with(2, 50_u32.to_be_bytes());
    scene.peer.send(RawFrame::request(1, &head, "{}").to_bytes()).await;
    expect_accepted(&mut scene, 1).await;
    // A call with the same timeout, sent later, ends at its deadline. The stream is still open.
    let waiting = RawFrame::request(2, &route("wait").with(2, 50_u32.to_be_bytes()), "{}");
    assert_eq!(scene.peer.ask(&waiting).await.id, 2);
    let item = scene.peer.ask(&RawFrame::item(1, r#""late""#)).await;
    assert_eq!((item.kind, &item.body[..]), (RawFrame::CALLEE_ITEM, &br#""late""#[..]));
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn stream_timeout_ends_an_accepted_call() {
    let mut scene = Scene::new().await;
    let head = route("copy").with(RawHead::CALL_FLAGS, [SENDS | EXPECTS]);
    let limited = head.clone().with(RawHead::STREAM_TIMEOUT, 50_u32.to_be_bytes());
    scene.peer.send(RawFrame::request(1, &limited, "{}").to_bytes()).await;
    expect_accepted(&mut scene, 1).await;
    let ended = scene.peer.receive().await;
    assert_eq!((ended.kind, ended.id, ended.status().0), (RawFrame::CALLEE_END, 1, DEADLINE_EXCEEDED));
    // An entry of another length.
    scene
        .expect_error(RawFrame::request(2, &head.with(RawHead::STREAM_TIMEOUT, [1]), "{}"), INVALID_ARGUMENT, &[])
        .await;
}

#[tokio::test]
async fn calls_with_streams_have_a_limit() {
    let mut scene = Scene::with(ServerConfig::default().with_max_streams(2)).await;
    for id in 1..=2 {
        scene.peer.send(streaming(id, "copy", SENDS | EXPECTS, "{}").to_bytes()).await;
        expect_accepted(&mut scene, id).await;
    }
    let answer = scene.peer.ask(&streaming(3, "copy", SENDS | EXPECTS, "{}")).await;
    assert_eq!((answer.id, answer.status().0), (3, RESOURCE_EXHAUSTED));
    assert_eq!(scene.peer.ask(&end(1)).await.kind, RawFrame::CALLEE_END);
    scene.server.until_streams(1).await;
    scene.peer.send(streaming(4, "copy", SENDS | EXPECTS, "{}").to_bytes()).await;
    expect_accepted(&mut scene, 4).await;
    scene.expect_bystander_unaffected().await;
}
