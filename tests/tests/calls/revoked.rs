//! Connections end when their credentials are revoked, and at their maximum age.

use std::{fs, path::PathBuf, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rpc_core::Tokens;
use rpc_server::{Server, ServerConfig};
use sha2::Sha256;
use tests::{
    certificates::Authority,
    probe::{Event, Probe},
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
};

const ANN: &str = "the secret of ann, the caller";
const BOB: &str = "the secret of bob, the caller";

const OK: u8 = 0;
const UNAVAILABLE: u8 = 14;

fn hold(id: u32) -> RawFrame {
    let head = RawHead::route("test.Probe:1.0/hold").with(RawHead::TIMEOUT, 50_000_u32.to_be_bytes());
    RawFrame::request(id, &head, format!(r#"{{"key":{id}}}"#))
}

fn ping() -> RawFrame {
    RawFrame::empty(RawFrame::PING, 7)
}

/// Connects and proves a token.
async fn proved(serving: &Serving, name: &str, secret: &str) -> RawPeer {
    let mut peer = RawPeer::connect(serving.address()).await;
    let (challenge, nonce) = (peer.receive().await, [7; 32]);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    for part in [&b"msnb/1 proof"[..], &[0; 32], &challenge.body, &nonce, name.as_bytes()] {
        mac.update(part);
    }
    let body = [&nonce[..], &mac.finalize().into_bytes(), name.as_bytes()].concat();
    peer.send(RawFrame::empty(RawFrame::PROOF, 0).with_body(body).to_bytes()).await;
    assert_eq!(peer.ask(&ping()).await.kind, RawFrame::PONG);
    peer
}

async fn with_file(probe: &Probe, tokens: &str, config: ServerConfig) -> (tempfile::TempDir, PathBuf, Serving) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens");
    fs::write(&file, tokens).unwrap();
    let server = Server::builder().service(probe.server()).require_token(Tokens::new().with_file(&file));
    (directory, file, Serving::start(server.config(config)).await)
}

#[tokio::test]
async fn revoked_token_drains_its_connection() {
    let probe = Probe::default();
    let tokens = format!("ann:{ANN}\nbob:{BOB}\n");
    let (_directory, file, serving) = with_file(&probe, &tokens, ServerConfig::default()).await;
    let (mut ann, mut bob) = (proved(&serving, "ann", ANN).await, proved(&serving, "bob", BOB).await);
    ann.send(hold(1).to_bytes()).await;
    probe.until(Event::Began(1)).await;
    fs::write(&file, format!("bob:{BOB}\n")).unwrap();
    let goaway = ann.receive().await;
    assert_eq!((goaway.kind, goaway.status().0), (RawFrame::GOAWAY, UNAVAILABLE));
    assert!(goaway.status().1.contains("no longer accepted"), "{goaway:?}");
    // A later call does not execute; the running call completes.
    let rejected = ann.ask(&hold(2)).await;
    assert_eq!((rejected.id, rejected.status().0), (2, UNAVAILABLE));
    probe.release_all();
    let answer = ann.receive().await;
    assert_eq!((answer.id, answer.status().0), (1, OK));
    ann.expect_end().await;
    assert_eq!(probe.count(|event| *event == Event::Began(2)), 0);
    assert_eq!(bob.ask(&ping()).await.kind, RawFrame::PONG, "the other token is still accepted");
}

#[tokio::test]
async fn revoked_peer_cannot_prolong_its_connection() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_drain_timeout(Duration::from_millis(500)).with_max_pings(u32::MAX);
    let (_directory, file, serving) = with_file(&probe, &format!("ann:{ANN}\n"), config).await;
    let (mut reader, mut writer) = proved(&serving, "ann", ANN).await.into_split();
    writer.send(&hold(1).to_bytes()).await.unwrap();
    probe.until(Event::Began(1)).await;
    fs::write(&file, format!("bob:{BOB}\n")).unwrap();
    assert_eq!(reader.receive().await.unwrap().kind, RawFrame::GOAWAY);
    // Neither pings nor a running call keep the connection open.
    while writer.send(&ping().to_bytes()).await.is_ok() && reader.receive().await.is_some() {}
    probe.until(Event::Dropped(1)).await;
}

#[tokio::test]
async fn revoked_authority_drains_its_connections() {
    let (probe, authority, next) = (Probe::default(), Authority::new(), Authority::new());
    let tls = authority.issue("server", &["127.0.0.1"]).server().client_ca(authority.ca());
    let serving = Serving::start(Server::builder().service(probe.server()).tls(tls)).await;
    let own = authority.issue("client", &["client.test"]);
    let stream = authority.connect_as(&own, serving.address()).await;
    let mut peer = RawPeer::through(stream);
    assert_eq!(peer.ask(&ping()).await.kind, RawFrame::PONG);
    next.write_ca(&authority.ca());
    assert_eq!(peer.receive().await.kind, RawFrame::GOAWAY);
    assert_eq!(peer.ask(&hold(1)).await.status().0, UNAVAILABLE);
    peer.expect_end().await;
}

#[tokio::test]
async fn aged_connection_drains_and_serves_its_calls() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_max_connection_age(Duration::from_millis(100));
    let serving = Serving::probe(&probe, config).await;
    let mut peer = RawPeer::connect(serving.address()).await;
    peer.send(hold(1).to_bytes()).await;
    let goaway = peer.receive().await;
    assert_eq!((goaway.kind, goaway.status().0), (RawFrame::GOAWAY, UNAVAILABLE));
    assert!(goaway.status().1.contains("max_connection_age"), "{goaway:?}");
    // A call that crossed the goaway executes.
    peer.send(hold(2).to_bytes()).await;
    probe.until_all(&[Event::Began(1), Event::Began(2)]).await;
    probe.release_all();
    let answers = [peer.receive().await, peer.receive().await].map(|answer| (answer.kind, answer.status().0));
    assert_eq!(answers, [(RawFrame::RESPONSE, OK); 2]);
    peer.expect_end().await;
}
