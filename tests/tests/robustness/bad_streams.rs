//! A client's streams with a scripted server that follows the protocol or violates it.

use std::{net::SocketAddr, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Code, Codec, Delivery, Status, Streaming};
use tests::{
    Task, in_time, patient,
    raw_peer::{RawFrame, RawHead, RawPeer},
    wire::WireClient,
};
use tokio::net::TcpListener;

/// The credit of a stream at its start.
const INITIAL: usize = 64 << 10;
/// Default frame limit in bytes.
const MAX_FRAME: u32 = 8 << 20;

struct Scene {
    listener: TcpListener,
    address: SocketAddr,
    wire: WireClient<Client>,
}

impl Scene {
    async fn new() -> Self {
        Self::with(patient()).await
    }

    async fn with(config: ClientConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = Client::builder().config(config.with_codec(Codec::Json)).build().unwrap();
        Self { listener, address, wire: WireClient::new(client) }
    }

    /// Expects that the connection serves a unary call.
    async fn expect_echo(&self, peer: &mut RawPeer) {
        let call = Task::begin(self.wire.echo("x".into()).address(self.address));
        let id = next(peer, RawFrame::REQUEST).await.id;
        peer.send(RawFrame::response(id, &RawHead::new(), r#""y""#).to_bytes()).await;
        assert_eq!(call.end().await.unwrap(), "y");
    }

    /// Makes a call of `count`, which the server accepts. Returns its stream, the server's end and the call's id.
    async fn accepted(&self) -> (Streaming<String>, RawPeer, u32) {
        let call = Task::begin(self.wire.count(0, false).address(self.address));
        let mut peer = RawPeer::accept(&self.listener).await;
        let request = next(&mut peer, RawFrame::REQUEST).await;
        assert_eq!(request.entry(RawHead::CALL_FLAGS), Some(&[8][..]));
        peer.send(accept(request.id).to_bytes()).await;
        (call.end().await.unwrap(), peer, request.id)
    }
}

fn accept(id: u32) -> RawFrame {
    RawFrame::response(id, &RawHead::new(), "")
}

fn item(id: u32, text: &str) -> RawFrame {
    RawFrame { kind: RawFrame::CALLEE_ITEM, ..RawFrame::item(id, format!("{text:?}")) }
}

fn end(id: u32, head: &RawHead) -> RawFrame {
    RawFrame { kind: RawFrame::CALLEE_END, ..RawFrame::response(id, head, "") }
}

/// Returns the next frame of this type, and skips others.
async fn next(peer: &mut RawPeer, kind: u8) -> RawFrame {
    in_time(async {
        loop {
            let frame = peer.receive().await;
            match frame.kind {
                found if found == kind => return frame,
                RawFrame::PING => peer.send(RawFrame::empty(RawFrame::PONG, frame.id).to_bytes()).await,
                _ => {}
            }
        }
    })
    .await
}

/// Waits until the client has closed the connection.
async fn until_closed(peer: &mut RawPeer) {
    in_time(async { while peer.try_receive().await.is_some() {} }).await;
}

#[tokio::test]
async fn client_reads_items_until_the_end() {
    let (mut stream, mut peer, id) = Scene::new().await.accepted().await;
    for text in ["a", "b"] {
        peer.send(item(id, text).to_bytes()).await;
        assert_eq!(in_time(stream.next()).await.unwrap().unwrap(), text);
    }
    peer.send(end(id, &RawHead::new()).to_bytes()).await;
    assert!(in_time(stream.next()).await.is_none());
}

#[tokio::test]
async fn end_with_a_status_is_an_error() {
    let (mut stream, mut peer, id) = Scene::new().await.accepted().await;
    peer.send(item(id, "a").to_bytes()).await;
    peer.send(end(id, &RawHead::status(15, "why")).to_bytes()).await;
    assert_eq!(in_time(stream.next()).await.unwrap().unwrap(), "a");
    let error = in_time(stream.next()).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.delivery(), error.message()), (Code::DataLoss, Delivery::Answered, "why"));
}

#[tokio::test]
async fn item_without_credit_closes_the_connection() {
    let (mut stream, mut peer, id) = Scene::new().await.accepted().await;
    peer.send(item(id, &"x".repeat(INITIAL)).to_bytes()).await;
    peer.send(item(id, "x").to_bytes()).await;
    until_closed(&mut peer).await;
    in_time(stream.next()).await.unwrap().expect("the first item was permitted");
    let error = in_time(stream.next()).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::Unknown));
}

#[tokio::test]
async fn frames_before_the_acceptance_close_the_connection() {
    for frame in [item as fn(u32, &str) -> RawFrame, |id, _| end(id, &RawHead::new())] {
        let scene = Scene::new().await;
        let call = Task::begin(scene.wire.count(0, false).address(scene.address));
        let mut peer = RawPeer::accept(&scene.listener).await;
        let id = next(&mut peer, RawFrame::REQUEST).await.id;
        peer.send(frame(id, "x").to_bytes()).await;
        until_closed(&mut peer).await;
        let error = call.end().await.unwrap_err();
        assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::Unknown));
    }
}

#[tokio::test]
async fn bad_credit_closes_the_connection() {
    for body in [&b""[..], b"\0\0\0\x01\0", b"\x7f\xff\xff\xff"] {
        let scene = Scene::new().await;
        let (_sender, texts) = Streaming::channel(1);
        let call = Task::begin(scene.wire.collect(texts).address(scene.address));
        let mut peer = RawPeer::accept(&scene.listener).await;
        let id = next(&mut peer, RawFrame::REQUEST).await.id;
        peer.send(RawFrame::empty(RawFrame::CALLEE_CREDIT, id).with_body(body).to_bytes()).await;
        until_closed(&mut peer).await;
        assert_eq!(call.end().await.unwrap_err().code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn client_sends_only_as_much_as_the_credit() {
    let scene = Scene::new().await;
    let texts: Streaming<String> = std::iter::repeat_n("x".repeat(998), 1_000).collect();
    let call = Task::begin(scene.wire.collect(texts).address(scene.address));
    let mut peer = RawPeer::accept(&scene.listener).await;
    let id = next(&mut peer, RawFrame::REQUEST).await.id;
    // An item has 1000 bytes and costs 1016.
    let within = |credit: usize| credit.div_ceil(1016);
    for _ in 0..within(INITIAL) {
        assert_eq!(next(&mut peer, RawFrame::ITEM).await.body.len(), 1000);
    }
    let credit = |credit: u32| RawFrame::empty(RawFrame::CALLEE_CREDIT, id).with_body(credit.to_be_bytes());
    peer.send(credit(2_000_000).to_bytes()).await;
    for _ in within(INITIAL)..1_000 {
        next(&mut peer, RawFrame::ITEM).await;
    }
    next(&mut peer, RawFrame::END).await;
    peer.send(RawFrame::response(id, &RawHead::new(), "1000").to_bytes()).await;
    assert_eq!(call.end().await.unwrap(), 1_000);
}

#[tokio::test]
async fn answer_before_the_end_stops_the_caller() {
    let scene = Scene::new().await;
    let (sender, texts) = Streaming::channel(1);
    let call = Task::begin(scene.wire.collect(texts).address(scene.address));
    let mut peer = RawPeer::accept(&scene.listener).await;
    let id = next(&mut peer, RawFrame::REQUEST).await.id;
    peer.send(RawFrame::response(id, &RawHead::new(), "7").to_bytes()).await;
    assert_eq!(call.end().await.unwrap(), 7);
    // The id is free only after the END.
    assert_eq!(next(&mut peer, RawFrame::END).await.id, id);
    in_time(sender.closed()).await;
}

#[tokio::test]
async fn dropped_stream_is_cancelled_and_late_items_are_dropped() {
    let scene = Scene::new().await;
    let (stream, mut peer, id) = scene.accepted().await;
    drop(stream);
    assert_eq!(next(&mut peer, RawFrame::CANCEL).await.id, id);
    for _ in 0..3 {
        peer.send(item(id, "late").to_bytes()).await;
    }
    peer.send(end(id, &RawHead::status(1, "cancelled")).to_bytes()).await;
    peer.send(item(id, "stray").to_bytes()).await;
    scene.expect_echo(&mut peer).await;
}

#[tokio::test]
async fn client_measures_the_stream_timeout() {
    let scene = Scene::new().await;
    let limit = Duration::from_millis(50);
    let call = Task::begin(scene.wire.count(0, false).stream_timeout(limit).address(scene.address));
    let mut peer = RawPeer::accept(&scene.listener).await;
    let request = next(&mut peer, RawFrame::REQUEST).await;
    assert_eq!(request.entry(RawHead::STREAM_TIMEOUT), Some(&50_u32.to_be_bytes()[..]));
    peer.send([accept(request.id), item(request.id, "a")].map(|frame| frame.to_bytes()).concat()).await;
    let mut stream = call.end().await.unwrap();
    // The peer never ends its stream.
    let error = loop {
        match in_time(stream.next()).await.unwrap() {
            Ok(text) => assert_eq!(text, "a"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(next(&mut peer, RawFrame::CANCEL).await.id, request.id);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn error_after_the_acceptance_closes_the_connection() {
    let (mut stream, mut peer, id) = Scene::new().await.accepted().await;
    // A repeated acceptance has no effect.
    peer.send(accept(id).to_bytes()).await;
    peer.send(item(id, "a").to_bytes()).await;
    assert_eq!(in_time(stream.next()).await.unwrap().unwrap(), "a");
    peer.send(RawFrame::response(id, &RawHead::status(13, "late"), "").to_bytes()).await;
    until_closed(&mut peer).await;
    assert_eq!(in_time(stream.next()).await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn unreadable_acceptance_is_cancelled() {
    let scene = Scene::new().await;
    let call = Task::begin(scene.wire.count(0, false).address(scene.address));
    let mut peer = RawPeer::accept(&scene.listener).await;
    let id = next(&mut peer, RawFrame::REQUEST).await.id;
    peer.send(RawFrame::response(id, &RawHead::new().with(255, b"?"), "").to_bytes()).await;
    assert_eq!(next(&mut peer, RawFrame::CANCEL).await.id, id);
    assert_eq!(call.end().await.unwrap_err().code(), Code::Unimplemented);
    // The server ends the accepted call, and items that crossed the CANCEL change nothing.
    peer.send(item(id, "late").to_bytes()).await;
    peer.send(end(id, &RawHead::status(1, "")).to_bytes()).await;
    scene.expect_echo(&mut peer).await;
}

#[tokio::test]
async fn items_that_cross_a_failure_of_the_caller_are_dropped() {
    let scene = Scene::new().await;
    let (sender, texts) = Streaming::channel(1);
    let call = Task::begin(scene.wire.copy(texts).address(scene.address));
    let mut peer = RawPeer::accept(&scene.listener).await;
    let id = next(&mut peer, RawFrame::REQUEST).await.id;
    peer.send(accept(id).to_bytes()).await;
    let mut stream = call.end().await.unwrap();
    sender.fail(Status::new(Code::DataLoss, "broken"));
    next(&mut peer, RawFrame::CANCEL).await;
    assert_eq!(in_time(stream.next()).await.unwrap().unwrap_err().code(), Code::DataLoss);
    peer.send(item(id, "late").to_bytes()).await;
    peer.send(end(id, &RawHead::status(1, "")).to_bytes()).await;
    scene.expect_echo(&mut peer).await;
}

#[tokio::test]
async fn oversized_response_frees_the_slot_of_its_call() {
    let scene = Scene::with(patient().with_max_in_flight(1)).await;
    let mut peer = None;
    for _ in 0..3 {
        let (_sender, texts) = Streaming::channel(1);
        let call = Task::begin(scene.wire.collect(texts).address(scene.address));
        if peer.is_none() {
            peer = Some(RawPeer::accept(&scene.listener).await);
        }
        let peer = peer.as_mut().unwrap();
        let id = next(peer, RawFrame::REQUEST).await.id;
        let mut bytes = RawFrame::response(id, &RawHead::new(), "").header(MAX_FRAME + 1).to_vec();
        bytes.resize(MAX_FRAME as usize + 1, 0);
        peer.send(bytes).await;
        assert_eq!(call.end().await.unwrap_err().code(), Code::ResourceExhausted);
        scene.expect_echo(peer).await;
    }
}

#[tokio::test]
async fn panicking_source_cancels_its_call() {
    let scene = Scene::new().await;
    let (armed, panics) = tokio::sync::oneshot::channel::<()>();
    let texts = Streaming::from_stream(futures_util::stream::once(async move {
        let _ = panics.await;
        panic!("the source panics");
    }));
    let call = Task::begin(scene.wire.copy(texts).address(scene.address));
    let mut peer = RawPeer::accept(&scene.listener).await;
    let id = next(&mut peer, RawFrame::REQUEST).await.id;
    peer.send(accept(id).to_bytes()).await;
    let mut stream = call.end().await.unwrap();
    armed.send(()).unwrap();
    assert_eq!(next(&mut peer, RawFrame::CANCEL).await.id, id);
    assert_eq!(in_time(stream.next()).await.unwrap().unwrap_err().code(), Code::Internal);
}
