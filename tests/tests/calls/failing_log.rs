//! A log that cannot be written costs lines of the log, and no task.
#![cfg(target_os = "linux")]

use std::path::Path;

use rpc_core::rpc_service;
use tests::{
    in_time,
    process::Provider,
    raw_peer::{RawFrame, RawPeer},
};

use crate::caller;

/// The contract of the provider, written independently of the examples.
#[rpc_service(name = "demo.Greeter", version = "1.0")]
trait Greeter {
    #[rpc(idempotent)]
    async fn hello(&self, name: String) -> Result<String, String>;
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
