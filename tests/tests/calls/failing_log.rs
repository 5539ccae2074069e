//! A log that cannot be written costs lines of the log, and no task.
#![cfg(target_os = "linux")]

use std::path::Path;

use rpc_core::rpc_service;
use rpc_server::ServerConfig;
use tests::{
    in_time,
    probe::Probe,
    process::Provider,
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

use crate::caller;

/// A subscriber that panics for each event, like that of tracing-subscriber if stderr cannot be written.
struct Panicking;

impl<S: Subscriber> Layer<S> for Panicking {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        panic!("intended panic of a subscriber");
    }
}

/// The contract of the provider, written independently of the examples.
#[rpc_service(name = "demo.Greeter", version = "1.0")]
trait Greeter {
    #[rpc(idempotent)]
    async fn hello(&self, name: String) -> Result<String, String>;
}

/// Waits until the server answers a ping on a new connection.
async fn expect_served(serving: &Serving) -> RawPeer {
    let mut peer = RawPeer::connect(serving.address()).await;
    assert_eq!(peer.ask(&RawFrame::empty(RawFrame::PING, 7)).await.kind, RawFrame::PONG);
    peer
}

#[tokio::test]
async fn panicking_subscriber_ends_no_task_of_server() {
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(Panicking));
    let mut serving = Serving::probe(&Probe::default(), ServerConfig::default().with_max_connections(2)).await;
    let mut peer = expect_served(&serving).await;
    // A violation, a connection above the limit, and a handler that panics are logged.
    let mut other = RawPeer::connect(serving.address()).await;
    other.send(b"GET / HTTP/1.1\r\n\r\n").await;
    other.expect_end().await;
    let second = expect_served(&serving).await;
    assert_eq!(RawPeer::connect(serving.address()).await.receive().await.kind, RawFrame::GOAWAY);
    let panic = RawFrame::request(1, &RawHead::route("test.Probe:1.0/panic"), r#"{"at_once":true}"#);
    assert_eq!(peer.ask(&panic).await.kind, RawFrame::RESPONSE);
    drop(second);
    serving.until_counted(|counts| counts.connections == 1).await;
    expect_served(&serving).await;
    serving.stop();
    serving.ended().await.expect("the server drains");
}

#[tokio::test]
async fn provider_serves_and_drains_without_its_log() {
    // Each write to this file fails, so each logged line panics in tracing-subscriber.
    let mut provider = Provider::start_logging_at("trace", "memory:", Path::new("/dev/full")).await;
    let greeter = GreeterClient::new(caller());
    for _ in 0..3 {
        let answer = greeter.hello("Bo".to_owned()).address(provider.address()).await;
        assert!(answer.expect("the provider serves").contains("Bo"));
    }
    // The end of a connection is logged too, in order and after a violation.
    let mut peer = RawPeer::connect(provider.address()).await;
    peer.send(b"GET / HTTP/1.1\r\n\r\n").await;
    peer.expect_end().await;
    let mut peer = RawPeer::connect(provider.address()).await;
    assert_eq!(peer.ask(&RawFrame::empty(RawFrame::PING, 7)).await.kind, RawFrame::PONG);
    peer.finish_sending().await;
    peer.expect_end().await;
    greeter.hello("Bo".to_owned()).address(provider.address()).await.expect("the provider serves");
    drop(greeter);
    provider.terminate();
    let (status, lines) = in_time(provider.wait()).await;
    assert!(status.success(), "{status}");
    assert_eq!(lines.last().map(String::as_str), Some("drained"));
}
