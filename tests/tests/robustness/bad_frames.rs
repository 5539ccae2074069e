//! What a server does with every frame that it should not get: one test for each row of the table in docs/PROTOCOL.md, over
//! real sockets, at the limits and one over.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::time::Duration;

use rpc_core::transport::TransportConfig;
use rpc_server::ServerConfig;
use tests::{
    in_time,
    raw_peer::{RawFrame, RawHead, RawPeer},
    wire::Listening,
};
use tokio::task::JoinSet;

const INVALID_ARGUMENT: u8 = 3;
const DEADLINE_EXCEEDED: u8 = 4;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const CANCELLED: u8 = 1;

/// The default of the longest frame, in bytes.
const MAX_FRAME: u32 = 8 << 20;

fn call(id: u32, method: &str, arguments: &str) -> RawFrame {
    RawFrame::request(id, &route(method), arguments)
}

fn route(method: &str) -> RawHead {
    RawHead::route(&format!("test.Wire:1.0/{method}"))
}

fn echo(id: u32) -> RawFrame {
    call(id, "echo", r#"{"text":"still here"}"#)
}

/// A peer of a server, and another one that must notice nothing of what the first does.
struct Scene {
    server: Listening,
    peer: RawPeer,
    bystander: RawPeer,
}

impl Scene {
    async fn new() -> Self {
        Self::with(ServerConfig::default()).await
    }

    async fn with(config: ServerConfig) -> Self {
        let server = Listening::start(config).await;
        let (peer, mut bystander) =
            (RawPeer::connect(server.address()).await, RawPeer::connect(server.address()).await);
        // A call that is in flight all the while.
        bystander.send(call(1, "until_released", "{}").to_bytes()).await;
        server.until_waiting(1).await;
        Self { server, peer, bystander }
    }

    /// The peer's connection serves.
    async fn serves(&mut self) {
        let answer = self.peer.ask(&echo(77)).await;
        assert_eq!((answer.id, answer.status().0, answer.text()), (77, 0, r#""still here""#));
    }

    /// The peer's connection is closed, with nothing said before.
    async fn closes(mut self) {
        self.peer.expect_end().await;
        self.undisturbed().await;
    }

    /// The call of the other connection, and new ones, are answered.
    async fn undisturbed(mut self) {
        assert_eq!(self.bystander.ask(&echo(2)).await.text(), r#""still here""#);
        self.server.release();
        let answer = self.bystander.receive().await;
        assert_eq!((answer.id, answer.text()), (1, r#""released""#));
    }

    /// The frame fails with this code, its message has these words, and the connection goes on.
    async fn fails(mut self, frame: RawFrame, code: u8, words: &[&str]) {
        let answer = self.peer.ask(&frame).await;
        assert_eq!((answer.kind, answer.id), (RawFrame::RESPONSE, frame.id));
        let (found, message) = answer.status();
        assert_eq!(found, code, "{message}");
        for word in words {
            assert!(message.contains(word), "{message:?} should name {word:?}");
        }
        self.serves().await;
        self.undisturbed().await;
    }
}

/// A config whose times are so short that a test can wait for them.
fn impatient(transport: impl FnOnce(&mut TransportConfig)) -> ServerConfig {
    let mut config = TransportConfig::default();
    transport(&mut config);
    ServerConfig::default().with_transport(config)
}

// Frames that cannot be trusted.

#[tokio::test]
async fn wrong_magic_closes() {
    let mut scene = Scene::new().await;
    scene.peer.send(b"GET / HTTP/1.1\r\n\r\n").await;
    scene.closes().await;
}

#[tokio::test]
async fn wrong_version_closes() {
    let mut scene = Scene::new().await;
    let mut ping = RawFrame::empty(RawFrame::PING, 1).to_bytes();
    ping[4] = 2;
    scene.peer.send(ping).await;
    scene.closes().await;
}

#[tokio::test]
async fn a_full_length_under_16_closes() {
    let mut scene = Scene::new().await;
    scene.peer.send(RawFrame::empty(RawFrame::PING, 1).header(15)).await;
    scene.closes().await;
}

#[tokio::test]
async fn an_unknown_type_under_64_or_over_127_closes() {
    for kind in [0, 10, 63, 128, 255] {
        let mut scene = Scene::new().await;
        scene.peer.send(RawFrame::empty(kind, 1).to_bytes()).await;
        scene.closes().await;
    }
}

#[tokio::test]
async fn an_unknown_type_from_64_to_127_is_ignored() {
    let mut scene = Scene::new().await;
    for kind in [64, 100, 127] {
        scene.peer.send(RawFrame::empty(kind, 1).with_body(*b"whatever").to_bytes()).await;
    }
    scene.serves().await;
    scene.undisturbed().await;
}

#[tokio::test]
async fn a_head_longer_than_its_body_closes() {
    for body in [&b""[..], b"\0", b"\0\x01", b"\0\x02\x01\0", b"\0\x03\x01\0\x01", b"\xff\xff\x01\0\x01r"] {
        let mut scene = Scene::new().await;
        scene.peer.send(RawFrame::empty(RawFrame::REQUEST, 1).with_body(body).to_bytes()).await;
        scene.closes().await;
    }
}

#[tokio::test]
async fn a_frame_that_cannot_be_trusted_ends_the_calls_in_flight() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    scene.peer.send(b"?").await;
    scene.peer.expect_end().await;
    scene.server.until_waiting(1).await;
    scene.undisturbed().await;
}

// Frames that are too long.

/// A call of `echo` whose frame has this length.
fn echo_of(id: u32, full_length: u32) -> RawFrame {
    let empty = RawFrame::request(id, &route("echo"), r#"{"text":""}"#).to_bytes().len();
    let text = "x".repeat(full_length as usize - empty);
    RawFrame::request(id, &route("echo"), format!(r#"{{"text":"{text}"}}"#))
}

#[tokio::test]
async fn a_frame_at_the_limit_is_served() {
    let mut scene = Scene::new().await;
    let frame = echo_of(1, MAX_FRAME);
    let answer = scene.peer.ask(&frame).await;
    // The text in its quotes, without `{"text":` and `}`.
    assert_eq!((answer.status().0, answer.payload().len()), (0, frame.payload().len() - 9));
    scene.serves().await;
    scene.undisturbed().await;
}

#[tokio::test]
async fn a_frame_over_the_limit_is_skipped_and_fails_its_call_alone() {
    let frame = echo_of(1, MAX_FRAME + 1);
    Scene::new().await.fails(frame, RESOURCE_EXHAUSTED, &["8388608", "8388609"]).await;
}

#[tokio::test]
async fn a_frame_far_over_the_limit_is_refused_by_its_header() {
    let mut scene = Scene::new().await;
    scene.peer.send(RawFrame::empty(RawFrame::REQUEST, 1).header(16 * MAX_FRAME)).await;
    let answer = scene.peer.receive().await;
    assert_eq!((answer.id, answer.status().0), (1, RESOURCE_EXHAUSTED), "before its body came");
    scene.undisturbed().await;
}

#[tokio::test]
async fn a_frame_over_16_times_the_limit_closes() {
    let mut scene = Scene::new().await;
    scene.peer.send(RawFrame::empty(RawFrame::REQUEST, 1).header(16 * MAX_FRAME + 1)).await;
    scene.closes().await;
}

#[tokio::test]
async fn a_result_over_the_limit_fails_its_call_alone() {
    // A raw result of n bytes makes a frame of 16 + 2 + n.
    let limit = MAX_FRAME as usize - 18;
    let mut scene = Scene::new().await;
    let bincode = |id, count: usize| call(id, "zeros", "").with_codec(2).with_body(zeros(count - 8));
    let answer = scene.peer.ask(&bincode(1, limit)).await;
    assert_eq!((answer.status().0, answer.payload().len()), (0, limit));
    scene.fails(bincode(2, limit + 1), RESOURCE_EXHAUSTED, &["8388608", "8388609"]).await;
}

/// The body of a call of `zeros` in bincode.
fn zeros(count: usize) -> Vec<u8> {
    RawFrame::request(0, &route("zeros"), (count as u64).to_le_bytes()).body
}

// Payloads.

/// A call of `echo` whose text is this long and packed.
fn packed(id: u32, length: usize) -> RawFrame {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b'x'), length as u64), &mut encoder).unwrap();
    // Raw: the text, and nothing else, is the payload.
    RawFrame::request(id, &route("echo"), encoder.finish().unwrap()).with_codec(0).with_compression(1)
}

#[tokio::test]
async fn a_payload_may_grow_to_the_limit_and_not_over_it() {
    const LIMIT: usize = 16 << 20;
    let mut scene = Scene::new().await;
    let answer = scene.peer.ask(&packed(1, LIMIT)).await;
    assert_eq!((answer.status().0, answer.compression), (0, 1), "and so does the result");
    scene.fails(packed(2, LIMIT + 1), RESOURCE_EXHAUSTED, &["16777216"]).await;
}

#[tokio::test]
async fn an_unknown_codec_fails_the_call() {
    for codec in [1, 4, 6, 255] {
        let words = ["bincode (2)", "json (3)", &format!("codec {codec}")];
        Scene::new().await.fails(echo(1).with_codec(codec), UNIMPLEMENTED, &words).await;
    }
}

#[tokio::test]
async fn an_unknown_compression_fails_the_call() {
    for compression in [4, 255] {
        let words = ["gzip (1)", "zstd (2)", "lz4 (3)", &format!("compression {compression}")];
        Scene::new().await.fails(echo(1).with_compression(compression), UNIMPLEMENTED, &words).await;
    }
}

#[tokio::test]
async fn a_payload_that_does_not_decode_fails_the_call() {
    for arguments in ["", "{", r#"{"text":7}"#, "{}", r#"{"text":"x"} and more"#] {
        Scene::new().await.fails(call(1, "echo", arguments), INVALID_ARGUMENT, &["json"]).await;
    }
    for compression in 1..=3 {
        let garbage = echo(1).with_compression(compression);
        Scene::new().await.fails(garbage, INVALID_ARGUMENT, &["the payload is not"]).await;
    }
}

#[tokio::test]
async fn an_unknown_service_or_method_fails_the_call() {
    for (route, what) in [
        ("test.Wire:1.0/nothing", "method"),
        ("test.Wire:2.0/echo", "service"),
        ("test.Other:1.0/echo", "service"),
        ("", "service"),
    ] {
        let frame = RawFrame::request(1, &RawHead::route(route), "{}");
        Scene::new().await.fails(frame, UNIMPLEMENTED, &[what, route]).await;
    }
}

// Heads.

#[tokio::test]
async fn a_request_without_a_route_or_with_one_that_is_none_fails() {
    let wrong = [RawHead::new(), RawHead::new().with(RawHead::ROUTE, b"\xff"), RawHead::route(&"r".repeat(514))];
    for head in wrong {
        Scene::new().await.fails(RawFrame::request(1, &head, "{}"), INVALID_ARGUMENT, &["route"]).await;
    }
}

#[tokio::test]
async fn a_route_of_513_bytes_is_looked_for() {
    let frame = RawFrame::request(1, &RawHead::route(&"r".repeat(513)), "{}");
    Scene::new().await.fails(frame, UNIMPLEMENTED, &["no such service"]).await;
}

#[tokio::test]
async fn an_unknown_odd_tag_fails_the_call_and_an_even_one_does_not() {
    let odd = RawFrame::request(1, &route("echo").with(255, "?"), r#"{"text":""}"#);
    Scene::new().await.fails(odd, UNIMPLEMENTED, &["255"]).await;
    let even = RawFrame::request(1, &route("echo").with(254, "?"), r#"{"text":"x"}"#);
    assert_eq!(Scene::new().await.peer.ask(&even).await.text(), r#""x""#);
}

#[tokio::test]
async fn unknown_call_flags_and_streams_fail_the_call() {
    for flags in [4, 8, 12, 16, 128] {
        let frame = RawFrame::request(1, &route("echo").with(RawHead::CALL_FLAGS, [flags]), r#"{"text":""}"#);
        Scene::new().await.fails(frame, UNIMPLEMENTED, &[]).await;
    }
}

#[tokio::test]
async fn entries_of_the_wrong_length_fail_the_call() {
    for (tag, value) in [(2, &b"\0\0\x01"[..]), (2, b""), (3, b""), (3, b"\0\0"), (8, b"fifteen bytes.."), (4, b"\x01")]
    {
        let frame = RawFrame::request(1, &route("echo").with(tag, value), r#"{"text":""}"#);
        Scene::new().await.fails(frame, INVALID_ARGUMENT, &[]).await;
    }
}

fn metadata(entries: usize, bytes: usize) -> RawFrame {
    // Each entry is a key of one letter and a value.
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
async fn metadata_is_bounded_to_64_entries_and_16_kib() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.peer.ask(&metadata(64, 16 * 1024)).await.text(), "64");
    scene.fails(metadata(65, 16 * 1024), RESOURCE_EXHAUSTED, &["64", "16384"]).await;
    Scene::new().await.fails(metadata(64, 16 * 1024 + 1), RESOURCE_EXHAUSTED, &["64", "16384"]).await;
}

#[tokio::test]
async fn a_timeout_counts_from_the_arrival_and_zero_has_passed() {
    let mut scene = Scene::new().await;
    let with = |timeout: u32, method: &str| {
        RawFrame::request(1, &route(method).with(RawHead::TIMEOUT, timeout.to_be_bytes()), "{}")
    };
    let remaining: u32 = scene.peer.ask(&with(3_600_000, "remaining")).await.text().parse().unwrap();
    assert!((3_000_000..=3_600_000).contains(&remaining), "{remaining}");
    let remaining: u32 = scene.peer.ask(&call(1, "remaining", "{}")).await.text().parse().unwrap();
    assert!((1..=5_000).contains(&remaining), "5 s unless said: {remaining}");
    assert_eq!(scene.peer.ask(&with(0, "echo")).await.status().0, DEADLINE_EXCEEDED);
    assert_eq!(scene.peer.ask(&with(1, "wait")).await.status().0, DEADLINE_EXCEEDED);
    scene.server.until_waiting(1).await;
    scene.serves().await;
    scene.undisturbed().await;
}

// Ids.

#[tokio::test]
async fn a_response_or_item_for_no_call_is_dropped() {
    let mut scene = Scene::new().await;
    for kind in [RawFrame::RESPONSE, RawFrame::ITEM, 8, 9] {
        scene.peer.send(RawFrame::empty(kind, 5).with_body(*b"\0\0").to_bytes()).await;
    }
    scene.serves().await;
    scene.undisturbed().await;
}

#[tokio::test]
async fn a_frame_of_a_stream_fails_the_call_that_it_is_for() {
    for kind in [RawFrame::ITEM, 8, 9] {
        let mut scene = Scene::new().await;
        scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
        scene.server.until_waiting(2).await;
        scene.fails(RawFrame::empty(kind, 1), UNIMPLEMENTED, &["stream"]).await;
    }
}

#[tokio::test]
async fn a_second_request_with_an_id_in_flight_closes() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    scene.peer.send(echo(1).to_bytes()).await;
    scene.peer.expect_end().await;
    scene.server.until_waiting(1).await;
    scene.undisturbed().await;
}

#[tokio::test]
async fn an_overlong_request_with_an_id_in_flight_closes() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    scene.peer.send(RawFrame::empty(RawFrame::REQUEST, 1).header(MAX_FRAME + 1)).await;
    scene.closes().await;
}

#[tokio::test]
async fn an_id_is_free_again_once_its_call_is_answered() {
    let mut scene = Scene::new().await;
    for _ in 0..100 {
        scene.serves().await;
    }
    scene.undisturbed().await;
}

#[tokio::test]
async fn a_request_with_id_0_closes() {
    let mut scene = Scene::new().await;
    scene.peer.send(echo(0).to_bytes()).await;
    scene.closes().await;
}

#[tokio::test]
async fn more_calls_in_flight_than_may_be_are_refused_before_they_run() {
    let mut scene = Scene::with(ServerConfig::default().with_max_in_flight(1)).await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    let answer = scene.peer.ask(&echo(2)).await;
    assert_eq!((answer.id, answer.status().0), (2, RESOURCE_EXHAUSTED));
    assert!(answer.entry(RawHead::RETRY_AFTER).is_some_and(|wait| wait.len() == 4), "it did not run");
}

#[tokio::test]
async fn a_connection_runs_1024_calls_and_not_one_more() {
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
    scene.undisturbed().await;
}

// Calls that end otherwise than by an answer.

#[tokio::test]
async fn a_cancelled_call_ends_and_is_answered_so() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    scene.peer.send(RawFrame::empty(RawFrame::CANCEL, 1).to_bytes()).await;
    let answer = scene.peer.receive().await;
    assert_eq!((answer.id, answer.status().0), (1, CANCELLED));
    scene.server.until_waiting(1).await;
    // What is cancelled too late, or was never called, is nobody's.
    scene.peer.send(RawFrame::empty(RawFrame::CANCEL, 1).to_bytes()).await;
    scene.peer.send(RawFrame::empty(RawFrame::CANCEL, 99).to_bytes()).await;
    scene.serves().await;
    scene.undisturbed().await;
}

#[tokio::test]
async fn a_panic_fails_its_call_alone() {
    Scene::new().await.fails(call(1, "panic", "{}"), INTERNAL, &["panicked"]).await;
}

#[tokio::test]
async fn a_one_way_call_is_not_answered() {
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
    assert_eq!((answer.id, answer.text()), (2, "1"), "the next answer is of the next call");
    scene.undisturbed().await;
}

#[tokio::test]
async fn a_draining_server_says_goodbye_and_serves_what_crossed_it() {
    let mut scene = Scene::new().await;
    scene.server.drain();
    for peer in [&mut scene.peer, &mut scene.bystander] {
        let goodbye = peer.receive().await;
        assert_eq!((goodbye.kind, goodbye.id, goodbye.status().0), (RawFrame::GOAWAY, 0, UNAVAILABLE));
    }
    scene.serves().await;
    scene.peer.expect_end().await;
    scene.server.release();
    assert_eq!(scene.bystander.receive().await.text(), r#""released""#);
    scene.bystander.expect_end().await;
    scene.server.ended().await;
}

// Connections that end, or nearly.

#[tokio::test]
async fn a_connection_that_ends_inside_a_frame_is_closed() {
    let mut scene = Scene::new().await;
    scene.peer.send(call(1, "wait", "{}").to_bytes()).await;
    scene.server.until_waiting(2).await;
    scene.peer.send(&echo(2).to_bytes()[..20]).await;
    scene.peer.finish_sending().await;
    scene.peer.expect_end().await;
    scene.server.until_waiting(1).await;
    scene.undisturbed().await;
}

#[tokio::test]
async fn a_peer_that_closes_its_sending_side_only_is_answered() {
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
async fn a_frame_that_drips_closes() {
    let config = impatient(|transport| transport.frame_time = Duration::from_millis(200));
    let mut scene = Scene::with(config).await;
    let (mut reader, mut writer) = scene.peer.into_split();
    let mut drip = JoinSet::new();
    drip.spawn(async move {
        // At this pace it would take ten minutes.
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
    scene.serves().await;
    scene.undisturbed().await;
}

#[tokio::test]
async fn a_header_that_drips_closes() {
    let config = impatient(|transport| transport.frame_time = Duration::from_millis(50));
    let mut scene = Scene::with(config).await;
    scene.peer.send(b"msnb\x01").await;
    scene.closes().await;
}

#[tokio::test]
async fn an_overlong_frame_that_does_not_come_closes() {
    // A second is added for each 64 KiB.
    let config = impatient(|transport| {
        transport.frame_time = Duration::from_millis(50);
        transport.max_frame = 64 << 10;
    });
    let mut scene = Scene::with(config).await;
    scene.peer.send(RawFrame::empty(RawFrame::REQUEST, 1).header((64 << 10) + 1)).await;
    assert_eq!(scene.peer.receive().await.status().0, RESOURCE_EXHAUSTED);
    scene.closes().await;
}

#[tokio::test]
async fn a_silent_connection_closes() {
    let config = ServerConfig::default().with_read_idle(Duration::from_millis(100));
    let server = Listening::start(config).await;
    RawPeer::connect(server.address()).await.expect_end().await;
}

#[tokio::test]
async fn a_peer_that_never_reads_is_read_no_more_and_closed() {
    let config = impatient(|transport| {
        transport.outbox = 64 << 10;
        transport.write_stall = Duration::from_millis(500);
    });
    let mut scene = Scene::with(config).await;
    let (reader, mut writer) = scene.peer.into_split();
    let mut flood = JoinSet::new();
    flood.spawn(async move {
        // As much as it takes: answers of 64 KiB, none of which is read.
        let calls: Vec<u8> = (1..=1_000).flat_map(|id| call(id, "zeros", r#"{"count":65536}"#).to_bytes()).collect();
        while writer.send(&calls).await.is_ok() {}
    });
    for _ in 0..100 {
        assert_eq!(scene.bystander.ask(&echo(2)).await.text(), r#""still here""#);
    }
    in_time(flood.join_next()).await.unwrap().unwrap();
    drop(reader);
    scene.peer = RawPeer::connect(scene.server.address()).await;
    scene.serves().await;
    scene.undisturbed().await;
}

// Pings.

#[tokio::test]
async fn any_ping_is_answered_with_its_id() {
    let mut scene = Scene::new().await;
    for ping in [
        RawFrame::empty(RawFrame::PING, 0),
        RawFrame::empty(RawFrame::PING, u32::MAX),
        RawFrame::empty(RawFrame::PING, 1).with_codec(1).with_compression(1).with_body(*b"\x1f\x8b\x08not gzip"),
        RawFrame::empty(RawFrame::PING, 2).with_codec(200).with_compression(200).with_body(vec![0xff; 1024]),
    ] {
        assert_eq!(scene.peer.ask(&ping).await, RawFrame::empty(RawFrame::PONG, ping.id));
    }
    scene.serves().await;
    scene.undisturbed().await;
}

#[tokio::test]
async fn a_ping_with_a_body_over_1_kib_closes() {
    let mut scene = Scene::new().await;
    scene.peer.send(RawFrame::empty(RawFrame::PING, 1).with_body(vec![0; 1025]).to_bytes()).await;
    scene.closes().await;
}

#[tokio::test]
async fn a_hundred_pings_at_once_are_answered() {
    let mut scene = Scene::new().await;
    let pings: Vec<u8> = (0..100).flat_map(|id| RawFrame::empty(RawFrame::PING, id).to_bytes()).collect();
    scene.peer.send(pings).await;
    for id in 0..100 {
        assert_eq!(scene.peer.receive().await, RawFrame::empty(RawFrame::PONG, id));
    }
    scene.serves().await;
    scene.undisturbed().await;
}

#[tokio::test]
async fn more_than_a_hundred_pings_in_a_second_close() {
    let mut scene = Scene::new().await;
    // Whole seconds begin with the connection: the first hundred may fall into one and the next into another, not ten times so.
    let pings: Vec<u8> = (0..1_000).flat_map(|id| RawFrame::empty(RawFrame::PING, id).to_bytes()).collect();
    let (mut reader, mut writer) = scene.peer.into_split();
    // It may be closed while it is still being told.
    let _ = writer.send(&pings).await;
    while let Some(pong) = in_time(reader.receive()).await {
        assert_eq!(pong.kind, RawFrame::PONG);
    }
    scene.peer = RawPeer::connect(scene.server.address()).await;
    scene.serves().await;
    scene.undisturbed().await;
}
