//! Answers that arrive after the deadline of a call and before its caller is polled.

use std::{future::IntoFuture as _, time::Duration};

use rpc_core::Code;
use tests::{
    in_time,
    probe::ProbingClient,
    raw_peer::{RawFrame, RawHead, RawPeer},
};
use tokio::net::TcpListener;

use crate::caller;

#[tokio::test]
async fn passed_deadline_is_not_reported_as_cancelled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = ProbingClient::new(caller());
    let call =
        client.echo("text".to_owned()).address(listener.local_addr().unwrap()).timeout(Duration::from_millis(300));
    let mut call = Box::pin(call.into_future());
    let accepted = async {
        let mut peer = RawPeer::accept(&listener).await;
        let ping = peer.receive().await;
        peer.send(RawFrame::empty(RawFrame::PONG, ping.id).to_bytes()).await;
        let request = peer.receive().await;
        (peer, request)
    };
    let (mut peer, request) = tokio::select! {
        accepted = in_time(accepted) => accepted,
        _ = &mut call => panic!("the peer has not answered"),
    };
    // From here on the caller is not polled, as when its thread is busy: the driver sends CANCEL at the deadline.
    let cancel = peer.receive().await;
    assert_eq!((cancel.kind, cancel.id), (RawFrame::CANCEL, request.id));
    let head = RawHead::status(Code::Cancelled as u8, "the caller cancelled the call");
    peer.send(RawFrame::response(request.id, &head, []).to_bytes()).await;
    // The client answers frames in their order, so it has handled the answer before the ping.
    let pong = peer.ask(&RawFrame::empty(RawFrame::PING, 7)).await;
    assert_eq!(pong.kind, RawFrame::PONG);
    let error = in_time(call).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
}
