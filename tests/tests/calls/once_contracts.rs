//! Once calls between peers whose contracts or settings differ: a call never executes twice.

use rpc_core::{Code, Delivery, rpc_service};
use rpc_server::{Server, ServerConfig};
use tests::{
    ledger::{Clerk, SharedLedgerServer},
    probe::{Event, Probe},
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
    wire::Listening,
};

use crate::caller;

const UNIMPLEMENTED: u8 = 12;

/// A later version of the probe's contract, whose `echo` is a once method.
#[rpc_service(name = "test.Probe", version = "1.0")]
trait Later {
    #[rpc(once)]
    async fn echo(&self, text: String) -> String;
}

#[tokio::test]
async fn server_without_once_method_rejects_once_call() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let call = LaterClient::new(caller()).echo("x".to_owned()).address(serving.address());
    let error = call.await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unimplemented, Delivery::NotExecuted), "{error:?}");
    assert!(error.message().contains("test.Probe:1.0/echo is not a once method here"), "{error}");
    assert_eq!(probe.count(|event| matches!(event, Event::Echoed(_))), 0);
    assert_eq!(serving.handle().counts().unknown, 1);
}

#[tokio::test]
async fn only_a_once_key_must_be_understood() {
    let server = Listening::start(ServerConfig::default()).await;
    let mut peer = RawPeer::connect(server.address()).await;
    let echo = |tag: u8| {
        let head = RawHead::route("test.Wire:1.0/echo").with(tag, [7; 16]);
        RawFrame::request(1, &head, r#"{"text":"x"}"#)
    };
    assert_eq!(peer.ask(&echo(RawHead::ONCE_KEY)).await.status().0, UNIMPLEMENTED);
    assert_eq!(peer.ask(&echo(RawHead::IDEMPOTENCY_KEY)).await.text(), r#""x""#);
    // A one-way call has no answer that could be repeated, so it does not execute.
    let note = RawHead::route("test.Wire:1.0/note").with(RawHead::CALL_FLAGS, [1]).with(RawHead::ONCE_KEY, [7; 16]);
    peer.send(RawFrame::request(2, &note, r#"{"text":"x"}"#).to_bytes()).await;
    let notes = RawFrame::request(3, &RawHead::route("test.Wire:1.0/notes"), "{}");
    assert_eq!(peer.ask(&notes).await.text(), "0");
}

#[tokio::test]
async fn cluster_method_requires_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let clerk = Clerk::new(directory.path(), std::time::Duration::ZERO);
    let server = Server::builder().service(clerk.clone().server()).service(SharedLedgerServer::new(clerk));
    let error = server.bind("127.0.0.1:0").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    for part in ["test.SharedLedger:1.0/enter_once_of_all", "ServerBuilder::once_store"] {
        assert!(error.message().contains(part), "{error}");
    }
}
