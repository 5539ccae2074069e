//! [`Scene`]: the server and the peers of a test, and the frames that tests send.

use rpc_core::transport::TransportConfig;
use rpc_server::ServerConfig;
use tests::{
    raw_peer::{RawFrame, RawHead, RawPeer},
    wire::Listening,
};

/// A server, a peer that sends invalid frames, and a second peer that must stay unaffected.
pub(super) struct Scene {
    pub(super) server: Listening,
    pub(super) peer: RawPeer,
    pub(super) bystander: RawPeer,
}

impl Scene {
    pub(super) async fn new() -> Self {
        Self::with(ServerConfig::default()).await
    }

    pub(super) async fn with(config: ServerConfig) -> Self {
        let server = Listening::start(config).await;
        let (peer, mut bystander) =
            (RawPeer::connect(server.address()).await, RawPeer::connect(server.address()).await);
        // This call is in flight during the whole test.
        bystander.send(call(1, "until_released", "{}").to_bytes()).await;
        server.until_waiting(1).await;
        Self { server, peer, bystander }
    }

    /// Asserts that the peer's connection serves a call.
    pub(super) async fn expect_answer(&mut self) {
        let answer = self.peer.ask(&echo(77)).await;
        assert_eq!((answer.id, answer.status().0, answer.text()), (77, 0, r#""still here""#));
    }

    /// Asserts that the server closes the peer's connection without sending a frame.
    pub(super) async fn expect_close(mut self) {
        self.peer.expect_end().await;
        self.expect_bystander_unaffected().await;
    }

    /// Asserts that the server answers the call in flight and a new call of the bystander.
    pub(super) async fn expect_bystander_unaffected(mut self) {
        assert_eq!(self.bystander.ask(&echo(2)).await.text(), r#""still here""#);
        self.server.release();
        let answer = self.bystander.receive().await;
        assert_eq!((answer.id, answer.text()), (1, r#""released""#));
    }

    /// Asserts that `frame` fails with `code` and a message that contains `words`, and that the connection stays open.
    pub(super) async fn expect_error(mut self, frame: RawFrame, code: u8, words: &[&str]) {
        let answer = self.peer.ask(&frame).await;
        assert_eq!((answer.kind, answer.id), (RawFrame::RESPONSE, frame.id));
        let (found, message) = answer.status();
        assert_eq!(found, code, "{message}");
        for word in words {
            assert!(message.contains(word), "{word:?} is missing from {message:?}");
        }
        self.expect_answer().await;
        self.expect_bystander_unaffected().await;
    }
}

pub(super) fn call(id: u32, method: &str, arguments: &str) -> RawFrame {
    RawFrame::request(id, &route(method), arguments)
}

pub(super) fn route(method: &str) -> RawHead {
    RawHead::route(&format!("test.Wire:1.0/{method}"))
}

pub(super) fn echo(id: u32) -> RawFrame {
    call(id, "echo", r#"{"text":"still here"}"#)
}

/// Returns a call of `echo` whose frame has `full_length` bytes.
pub(super) fn echo_of(id: u32, full_length: u32) -> RawFrame {
    let empty = RawFrame::request(id, &route("echo"), r#"{"text":""}"#).to_bytes().len();
    let text = "x".repeat(full_length as usize - empty);
    RawFrame::request(id, &route("echo"), format!(r#"{{"text":"{text}"}}"#))
}

/// Returns a server configuration with changed transport settings.
pub(super) fn with_transport(transport: impl FnOnce(&mut TransportConfig)) -> ServerConfig {
    let mut config = TransportConfig::default();
    transport(&mut config);
    ServerConfig::default().with_transport(config)
}

pub(super) const INVALID_ARGUMENT: u8 = 3;
pub(super) const DEADLINE_EXCEEDED: u8 = 4;
pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
pub(super) const UNIMPLEMENTED: u8 = 12;
pub(super) const INTERNAL: u8 = 13;
pub(super) const UNAVAILABLE: u8 = 14;
pub(super) const CANCELLED: u8 = 1;

/// Default frame limit in bytes.
pub(super) const MAX_FRAME: u32 = 8 << 20;
