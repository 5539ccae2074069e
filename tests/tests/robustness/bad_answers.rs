//! A client's reaction to invalid frames from a scripted server: the rows of the table in docs/PROTOCOL.md that concern
//! clients.

use std::{net::SocketAddr, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{CallError, Code, Codec, Delivery, Error, Phase};
use tests::{
    in_time, patient,
    raw_peer::{RawFrame, RawHead, RawPeer},
    wire::WireClient,
};
use tokio::{net::TcpListener, task::JoinSet};

/// Default frame limit in bytes.
const MAX_FRAME: u32 = 8 << 20;

/// Error message of calls on a connection that the client closed after a protocol violation.
const VIOLATION: &str = "the peer violated the protocol";

/// A client, and the listener of the scripted server that it calls.
struct Scene {
    listener: TcpListener,
    address: SocketAddr,
    wire: WireClient<Client>,
    /// Runs the calls.
    calls: JoinSet<()>,
}

/// A call of `echo` in progress.
struct Call(tokio::sync::oneshot::Receiver<Result<String, Error>>);

impl Call {
    async fn outcome(self) -> Result<String, Error> {
        in_time(self.0).await.unwrap()
    }

    async fn error(self) -> Error {
        self.outcome().await.unwrap_err()
    }
}

impl Scene {
    async fn new() -> Self {
        Self::with(patient()).await
    }

    /// Returns a scene whose calls wait while the client reconnects.
    async fn waiting() -> Self {
        Self::with(patient().with_wait_for_ready(true)).await
    }

    async fn with(config: ClientConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = Client::builder().config(config.with_codec(Codec::Json)).build().unwrap();
        Self { listener, address, wire: WireClient::new(client), calls: JoinSet::new() }
    }

    async fn accept(&self) -> RawPeer {
        RawPeer::accept(&self.listener).await
    }

    fn echo(&mut self, text: &str) -> Call {
        self.echo_within(text, Duration::from_secs(60))
    }

    fn echo_within(&mut self, text: &str, timeout: Duration) -> Call {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let call = self.wire.echo(text.to_owned()).address(self.address).timeout(timeout);
        self.calls.spawn(async move { drop(sender.send(call.await)) });
        Call(receiver)
    }

    /// Makes the first call and accepts its connection; returns the call, the server's end and the call's id.
    async fn first_call(&mut self) -> (Call, RawPeer, u32) {
        let call = self.echo("first");
        let mut peer = self.accept().await;
        let id = request(&mut peer).await.id;
        (call, peer, id)
    }

    /// Answers the first call with `bytes`, expects the client to close the connection, and returns the call's error.
    async fn error_after_close(bytes: &[u8]) -> Error {
        let mut scene = Self::waiting().await;
        let (call, mut peer, _) = scene.first_call().await;
        peer.send(bytes).await;
        let error = call.error().await;
        in_time(async {
            while let Some(frame) = peer.try_receive().await {
                assert_eq!(frame.kind, RawFrame::PING, "{frame:?}");
            }
        })
        .await;
        // The client reconnects for the next call.
        let next = scene.echo("next");
        let mut peer = scene.accept().await;
        let id = request(&mut peer).await.id;
        peer.send(answer(id, "next").to_bytes()).await;
        assert_eq!(next.outcome().await.unwrap(), "next");
        error
    }

    /// Answers the first call with `frame` and returns its error; the same connection serves the next call.
    async fn error_of(frame: impl FnOnce(u32) -> RawFrame) -> Error {
        let mut scene = Self::new().await;
        let (call, mut peer, id) = scene.first_call().await;
        peer.send(frame(id).to_bytes()).await;
        let error = call.error().await;
        scene.expect_next_call(&mut peer).await;
        assert_eq!(error.peer(), Some(scene.address));
        error
    }

    /// Expects the client to make the next call on the same connection.
    async fn expect_next_call(&mut self, peer: &mut RawPeer) {
        let call = self.echo("still here");
        let id = request(peer).await.id;
        peer.send(answer(id, "still here").to_bytes()).await;
        assert_eq!(call.outcome().await.unwrap(), "still here");
    }
}

/// Returns the next call and answers pings before it.
async fn request(peer: &mut RawPeer) -> RawFrame {
    in_time(async {
        loop {
            let frame = peer.receive().await;
            match frame.kind {
                RawFrame::REQUEST => return frame,
                RawFrame::PING => peer.send(RawFrame::empty(RawFrame::PONG, frame.id).to_bytes()).await,
                _ => panic!("expected a call or a ping: {frame:?}"),
            }
        }
    })
    .await
}

fn answer(id: u32, text: &str) -> RawFrame {
    RawFrame::response(id, &RawHead::new(), format!("{text:?}"))
}

fn error_answer(id: u32, code: u8, message: &str) -> RawFrame {
    RawFrame::response(id, &RawHead::status(code, message), "")
}

/// Expects the error of a call whose connection was closed for `reason`, so that its execution is unknown.
fn assert_unknown(error: &Error, reason: &str) {
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::Unknown), "{error:?}");
    assert!(error.message().contains(reason), "{error:?}");
}

fn assert_answered(error: &Error, code: Code, phase: Phase) {
    let found = (error.code(), error.delivery(), error.phase());
    assert_eq!(found, (code, Delivery::Answered, Some(phase)), "{error:?}");
}

#[tokio::test]
async fn client_sends_call_as_specified() {
    let mut scene = Scene::new().await;
    let call = scene.echo("x");
    let mut peer = scene.accept().await;
    let request = request(&mut peer).await;
    assert_eq!((request.codec, request.compression, request.text()), (3, 0, r#"{"text":"x"}"#));
    assert_ne!(request.id, 0);
    assert_eq!(request.entry(RawHead::ROUTE), Some(&b"test.Wire:1.0/echo"[..]));
    let timeout = u32::from_be_bytes(request.entry(RawHead::TIMEOUT).unwrap().try_into().unwrap());
    assert!((1..=60_000).contains(&timeout), "{timeout}");
    peer.send(answer(request.id, "x").to_bytes()).await;
    assert_eq!(call.outcome().await.unwrap(), "x");
}

#[tokio::test]
async fn protocol_violation_closes_connection() {
    let ping = || RawFrame::empty(RawFrame::PING, 1);
    let mut version = ping().to_bytes();
    version[4] = 0;
    for bytes in [
        b"HTTP/1.1 400 Bad Request".to_vec(),
        version,
        ping().header(15).to_vec(),
        ping().header(0).to_vec(),
        RawFrame::empty(13, 1).to_bytes(),
        RawFrame::empty(128, 1).to_bytes(),
        RawFrame::empty(RawFrame::RESPONSE, 1).header(16 * MAX_FRAME + 1).to_vec(),
        ping().with_body(vec![0; 1025]).to_bytes(),
    ] {
        assert_unknown(&Scene::error_after_close(&bytes).await, VIOLATION);
    }
}

#[tokio::test]
async fn head_longer_than_body_closes_connection() {
    for kind in [RawFrame::RESPONSE, RawFrame::GOAWAY] {
        for body in [&b""[..], b"\0", b"\0\x01", b"\0\x02\x05\0", b"\0\x03\x05\0\x01"] {
            let frame = RawFrame::empty(kind, 1).with_body(body);
            assert_unknown(&Scene::error_after_close(&frame.to_bytes()).await, VIOLATION);
        }
    }
}

#[tokio::test]
async fn over_100_pings_per_second_close_connection() {
    let pings: Vec<u8> = (0..1_000).flat_map(|id| RawFrame::empty(RawFrame::PING, id).to_bytes()).collect();
    let mut scene = Scene::new().await;
    let (call, mut peer, _) = scene.first_call().await;
    peer.send(pings).await;
    assert_unknown(&call.error().await, VIOLATION);
}

#[tokio::test]
async fn request_with_id_0_closes_connection() {
    let request = RawFrame::request(0, &RawHead::route("test.Wire:1.0/echo"), "{}");
    assert_unknown(&Scene::error_after_close(&request.to_bytes()).await, VIOLATION);
}

#[tokio::test]
async fn answer_before_protocol_violation_reaches_caller() {
    let mut scene = Scene::new().await;
    let (first, mut peer, id) = scene.first_call().await;
    let second = scene.echo("second");
    request(&mut peer).await;
    let answer_and_garbage = [answer(id, "first").to_bytes(), b"no frame at all".to_vec()].concat();
    peer.send(answer_and_garbage).await;
    assert_eq!(first.outcome().await.unwrap(), "first");
    assert_unknown(&second.error().await, VIOLATION);
}

#[tokio::test]
async fn end_inside_frame_fails_call_as_unknown() {
    for cut in [0, 5, 20] {
        let mut scene = Scene::new().await;
        let (call, mut peer, id) = scene.first_call().await;
        peer.send(&answer(id, "cut short").to_bytes()[..cut]).await;
        drop(peer);
        assert_unknown(&call.error().await, "closed the connection");
    }
}

#[tokio::test]
async fn client_ignores_types_from_64_to_127() {
    let mut scene = Scene::new().await;
    let (call, mut peer, id) = scene.first_call().await;
    for kind in [64, 127] {
        peer.send(RawFrame::empty(kind, id).with_body(*b"?").to_bytes()).await;
    }
    peer.send(answer(id, "x").to_bytes()).await;
    assert_eq!(call.outcome().await.unwrap(), "x");
}

#[tokio::test]
async fn response_over_limit_fails_only_its_call() {
    // 16 bytes of header, 2 of the empty head, 2 quotes.
    let text = "x".repeat(MAX_FRAME as usize - 16 - 2 - 2);
    let mut scene = Scene::new().await;
    let (call, mut peer, id) = scene.first_call().await;
    peer.send(answer(id, &text).to_bytes()).await;
    assert_eq!(call.outcome().await.unwrap().len(), text.len());

    let error = Scene::error_of(|id| answer(id, &(text + "x"))).await;
    assert_answered(&error, Code::ResourceExhausted, Phase::Decode);
    for word in ["8388608", "8388609"] {
        assert!(error.message().contains(word), "{error}");
    }
}

#[tokio::test]
async fn client_limits_decompressed_result() {
    const LIMIT: usize = 16 << 20;
    let packed = |id, length: usize| {
        let plain = format!("\"{}\"", "x".repeat(length - 2));
        let packed = zstd::bulk::compress(plain.as_bytes(), 1).unwrap();
        RawFrame::response(id, &RawHead::new(), packed).with_compression(2)
    };
    let mut scene = Scene::new().await;
    let (call, mut peer, id) = scene.first_call().await;
    peer.send(packed(id, LIMIT).to_bytes()).await;
    assert_eq!(call.outcome().await.unwrap().len(), LIMIT - 2);
    let error = Scene::error_of(|id| packed(id, LIMIT + 1)).await;
    assert_answered(&error, Code::ResourceExhausted, Phase::Decode);
}

#[tokio::test]
async fn unknown_codec_or_compression_fails_call() {
    for unknown in [
        |id| answer(id, "x").with_codec(1),
        |id| answer(id, "x").with_codec(255),
        |id| answer(id, "x").with_compression(4),
    ] {
        assert_answered(&Scene::error_of(unknown).await, Code::Unimplemented, Phase::Decode);
    }
}

#[tokio::test]
async fn undecodable_response_is_internal_error() {
    for payload in ["", "7", r#""x" and more"#, "{"] {
        let error = Scene::error_of(|id| RawFrame::response(id, &RawHead::new(), payload)).await;
        assert_answered(&error, Code::Internal, Phase::Decode);
    }
    for compression in 1..=3 {
        let error = Scene::error_of(|id| answer(id, "x").with_compression(compression)).await;
        assert_answered(&error, Code::Internal, Phase::Decode);
    }
}

#[tokio::test]
async fn unexpected_error_value_is_internal_error() {
    let error = Scene::error_of(|id| RawFrame::response(id, &RawHead::status(32, ""), r#""Oops""#)).await;
    assert_answered(&error, Code::Internal, Phase::Decode);
}

#[tokio::test]
async fn client_skips_unknown_even_tag() {
    let mut scene = Scene::new().await;
    let (call, mut peer, id) = scene.first_call().await;
    peer.send(RawFrame::response(id, &RawHead::new().with(254, "?"), r#""x""#).to_bytes()).await;
    assert_eq!(call.outcome().await.unwrap(), "x");
}

#[tokio::test]
async fn unknown_odd_tag_fails_call() {
    let error = Scene::error_of(|id| RawFrame::response(id, &RawHead::new().with(255, "?"), r#""x""#)).await;
    assert_answered(&error, Code::Unimplemented, Phase::Decode);
}

#[tokio::test]
async fn metadata_over_limit_fails_call() {
    let metadata = b"\x01k\0\0".repeat(65);
    let error =
        Scene::error_of(|id| RawFrame::response(id, &RawHead::new().with(RawHead::METADATA, metadata), r#""x""#)).await;
    assert_answered(&error, Code::ResourceExhausted, Phase::Decode);
}

#[tokio::test]
async fn malformed_entry_is_internal_error() {
    for (tag, value) in [(RawHead::STATUS, &b""[..]), (RawHead::RETRY_AFTER, b"\0"), (RawHead::METADATA, b"\x01")] {
        let error = Scene::error_of(|id| RawFrame::response(id, &RawHead::new().with(tag, value), r#""x""#)).await;
        assert_answered(&error, Code::Internal, Phase::Decode);
    }
}

#[tokio::test]
async fn status_determines_delivery() {
    let error_of_status = |code: u8| Scene::error_of(move |id| error_answer(id, code, "why"));
    let rejection = |code: u8| RawHead::status(code, "why").with(RawHead::NOT_EXECUTED, []);
    for (number, code) in [(14, Code::Unavailable), (12, Code::Unimplemented), (16, Code::Unauthenticated)] {
        assert_answered(&error_of_status(number).await, code, Phase::Wait);
        let error = Scene::error_of(|id| RawFrame::response(id, &rejection(number), "")).await;
        assert_eq!((error.code(), error.delivery()), (code, Delivery::NotExecuted));
    }
    assert_answered(&error_of_status(8).await, Code::ResourceExhausted, Phase::Wait);
    assert_answered(&error_of_status(13).await, Code::Internal, Phase::Wait);
    assert_answered(&error_of_status(1).await, Code::Cancelled, Phase::Wait);
    assert_answered(&error_of_status(200).await, Code::Unknown, Phase::Wait);
    let later = rejection(8).with(RawHead::RETRY_AFTER, 50_u32.to_be_bytes());
    let mut scene = Scene::new().await;
    let (call, mut peer, id) = scene.first_call().await;
    peer.send(RawFrame::response(id, &later, "").to_bytes()).await;
    let error = call.error().await;
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted));
    assert_eq!(error.retry_after(), Some(Duration::from_millis(50)));
    assert_eq!(error.message(), "why");
}

#[tokio::test]
async fn client_drops_frames_without_call() {
    let mut scene = Scene::new().await;
    let (call, mut peer, id) = scene.first_call().await;
    for stray in [0, id + 1, id ^ (1 << 20), u32::MAX] {
        peer.send(answer(stray, "stray").to_bytes()).await;
    }
    for kind in [RawFrame::ITEM, 8, 9, RawFrame::CANCEL] {
        peer.send(RawFrame::empty(kind, id).with_body(*b"\0\0").to_bytes()).await;
    }
    peer.send(answer(id, "mine").to_bytes()).await;
    peer.send(answer(id, "again").to_bytes()).await;
    assert_eq!(call.outcome().await.unwrap(), "mine");
    scene.expect_next_call(&mut peer).await;
}

#[tokio::test]
async fn client_drops_late_answer() {
    let mut scene = Scene::new().await;
    let (_first, mut peer, _) = scene.first_call().await;
    let late = scene.echo_within("late", Duration::from_millis(50));
    let id = request(&mut peer).await.id;
    let error = late.error().await;
    assert_eq!((error.code(), error.delivery()), (Code::DeadlineExceeded, Delivery::Unknown));
    let mut cancelled = false;
    let next = scene.echo("next");
    let next_id = loop {
        let frame = peer.receive().await;
        match frame.kind {
            RawFrame::CANCEL => cancelled = frame.id == id,
            RawFrame::REQUEST => break frame.id,
            _ => {}
        }
    };
    assert!(cancelled, "the client cancels the expired call");
    assert_ne!(next_id, id, "the id of the expired call is reserved until its answer arrives");
    peer.send(answer(id, "late").to_bytes()).await;
    peer.send(answer(next_id, "next").to_bytes()).await;
    assert_eq!(next.outcome().await.unwrap(), "next");
}

#[tokio::test]
async fn every_ping_receives_pong_with_its_id() {
    let mut scene = Scene::new().await;
    let (_call, mut peer, _) = scene.first_call().await;
    for ping in [
        RawFrame::empty(RawFrame::PING, 0),
        RawFrame::empty(RawFrame::PING, 7).with_codec(1).with_compression(1).with_body(*b"\x1f\x8bnot gzip"),
        RawFrame::empty(RawFrame::PING, u32::MAX).with_codec(99).with_compression(99).with_body(vec![0; 1024]),
    ] {
        assert_eq!(peer.ask(&ping).await, RawFrame::empty(RawFrame::PONG, ping.id));
    }
}

#[tokio::test]
async fn client_rejects_call() {
    let mut scene = Scene::new().await;
    let (_call, mut peer, _) = scene.first_call().await;
    let rejection = peer.ask(&RawFrame::request(5, &RawHead::route("test.Wire:1.0/echo"), "{}")).await;
    assert_eq!((rejection.kind, rejection.id, rejection.status().0), (RawFrame::RESPONSE, 5, 12));
    scene.expect_next_call(&mut peer).await;
}

#[tokio::test]
async fn goaway_redirects_only_new_calls() {
    let mut scene = Scene::waiting().await;
    let (call, mut peer, id) = scene.first_call().await;
    let goaway = RawFrame::response(0, &RawHead::status(14, "draining"), "").with_codec(0);
    // The pong proves that the client has read the GOAWAY.
    peer.send(RawFrame { kind: RawFrame::GOAWAY, ..goaway }.to_bytes()).await;
    assert_eq!(peer.ask(&RawFrame::empty(RawFrame::PING, 1)).await.kind, RawFrame::PONG);
    let next = scene.echo("next");
    peer.send(answer(id, "first").to_bytes()).await;
    assert_eq!(call.outcome().await.unwrap(), "first");
    peer.expect_end().await;
    let mut other = scene.accept().await;
    let next_id = request(&mut other).await.id;
    other.send(answer(next_id, "next").to_bytes()).await;
    assert_eq!(next.outcome().await.unwrap(), "next");
}

#[tokio::test]
async fn application_error_is_service_error() {
    use contracts::{GreetError, GreeterClient};
    let scene = Scene::new().await;
    let client = Client::builder().config(patient().with_codec(Codec::Json)).build().unwrap();
    let mut calls: JoinSet<_> = JoinSet::new();
    let call = GreeterClient::new(client).hello(String::new()).address(scene.address);
    calls.spawn(call);
    let mut peer = scene.accept().await;
    let id = request(&mut peer).await.id;
    peer.send(RawFrame::response(id, &RawHead::status(32, ""), r#""EmptyName""#).to_bytes()).await;
    match in_time(calls.join_next()).await.unwrap().unwrap() {
        Err(CallError::Service(error)) => assert_eq!(error, GreetError::EmptyName),
        other => panic!("{other:?}"),
    }
}
