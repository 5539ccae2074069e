//! Once calls on the wire: their ids, deadlines, cancellation, and the answers that connections wait for.

use rpc_server::ServerConfig;
use tests::{
    raw_peer::{RawFrame, RawHead, RawPeer},
    wire::Listening,
};

const CANCELLED: u8 = 1;
const DEADLINE_EXCEEDED: u8 = 4;
const ABORTED: u8 = 10;

fn once(id: u32, key: u8, repeat: bool) -> RawFrame {
    once_within(id, key, repeat, 600_000)
}

fn once_within(id: u32, key: u8, repeat: bool, milliseconds: u32) -> RawFrame {
    let head = RawHead::route("test.Wire:1.0/once_released")
        .with(RawHead::TIMEOUT, milliseconds.to_be_bytes())
        .with(RawHead::ONCE_KEY, [key; 16]);
    let head = if repeat { head.with(RawHead::REPEAT, [1]) } else { head };
    RawFrame::request(id, &head, "{}")
}

fn ping() -> RawFrame {
    RawFrame::empty(RawFrame::PING, 0)
}

/// Starts a server, and a peer whose call with id 1 and key 1 executes there.
async fn called() -> (Listening, RawPeer) {
    let server = Listening::start(ServerConfig::default()).await;
    let mut peer = RawPeer::connect(server.address()).await;
    peer.send(once(1, 1, false).to_bytes()).await;
    server.until_waiting(1).await;
    (server, peer)
}

#[tokio::test]
async fn one_execution_answers_all_repeats() {
    let (server, mut peer) = called().await;
    let mut other = RawPeer::connect(server.address()).await;
    other.send(once(9, 1, true).to_bytes()).await;
    // The pong proves that the server has read the repeat.
    assert_eq!(other.ask(&ping()).await.kind, RawFrame::PONG);
    server.until_waiting(1).await;
    server.release();
    for (peer, id) in [(&mut peer, 1), (&mut other, 9)] {
        let answer = peer.receive().await;
        assert_eq!((answer.id, answer.text()), (id, r#""released""#));
    }
    let again = peer.ask(&once(2, 1, true)).await;
    assert_eq!((again.id, again.text()), (2, r#""released""#));
    assert_eq!(peer.ask(&once(3, 3, true)).await.status().0, ABORTED, "the server has no answer of this key");
}

#[tokio::test]
async fn server_answers_half_closed_peers() {
    let (server, mut peer) = called().await;
    peer.finish_sending().await;
    let mut other = RawPeer::connect(server.address()).await;
    other.send(once(9, 1, true).to_bytes()).await;
    assert_eq!(other.ask(&ping()).await.kind, RawFrame::PONG);
    other.finish_sending().await;
    // A third connection opens and closes, so that the server has read the end of both streams.
    let mut third = RawPeer::connect(server.address()).await;
    third.finish_sending().await;
    third.expect_end().await;
    server.release();
    for (peer, id) in [(&mut peer, 1), (&mut other, 9)] {
        let answer = peer.receive().await;
        assert_eq!((answer.id, answer.text()), (id, r#""released""#));
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn drain_waits_for_once_call() {
    let (mut server, mut peer) = called().await;
    let mut idle = RawPeer::connect(server.address()).await;
    assert_eq!(idle.ask(&ping()).await.kind, RawFrame::PONG);
    server.drain();
    for peer in [&mut peer, &mut idle] {
        assert_eq!(peer.receive().await.kind, RawFrame::GOAWAY);
    }
    // A server that did not wait for the answer would have closed the other connection by now.
    idle.expect_end().await;
    server.release();
    assert_eq!(peer.receive().await.text(), r#""released""#);
    peer.expect_end().await;
    server.ended().await;
}

#[tokio::test]
async fn duplicate_request_id_closes_connection() {
    let (server, mut peer) = called().await;
    peer.send(once(1, 2, false).to_bytes()).await;
    peer.expect_end().await;
    // The handler continues: a caller may repeat the call.
    let mut other = RawPeer::connect(server.address()).await;
    other.send(once(9, 1, true).to_bytes()).await;
    assert_eq!(other.ask(&ping()).await.kind, RawFrame::PONG);
    server.release();
    assert_eq!(other.receive().await.text(), r#""released""#);
}

#[tokio::test]
async fn cancelled_once_call_continues_for_repeats() {
    let (server, mut peer) = called().await;
    let answer = peer.ask(&RawFrame::empty(RawFrame::CANCEL, 1)).await;
    assert_eq!((answer.id, answer.status().0), (1, CANCELLED));
    // The peer can reuse the id, even to repeat the call.
    peer.send(once(1, 1, true).to_bytes()).await;
    assert_eq!(peer.ask(&ping()).await.kind, RawFrame::PONG);
    server.until_waiting(1).await;
    server.release();
    let answer = peer.receive().await;
    assert_eq!((answer.id, answer.text()), (1, r#""released""#));
}

#[tokio::test]
async fn repeat_has_its_own_deadline() {
    let (server, mut peer) = called().await;
    let answer = peer.ask(&once_within(2, 1, true, 50)).await;
    assert_eq!((answer.id, answer.status().0), (2, DEADLINE_EXCEEDED));
    server.release();
    assert_eq!(peer.receive().await.text(), r#""released""#);
}
