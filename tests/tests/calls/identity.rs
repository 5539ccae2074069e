//! Identity of callers by token, and access rules of methods. `tls.rs` tests identity by certificate.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rpc_client::{Client, ClientConfig};
use rpc_core::{Code, Delivery, Error, Instance, Phase, Registry as _, Token, Tokens};
use rpc_registry::Memory;
use rpc_server::{Server, ServerBuilder, ServerConfig, ServerState};
use sha2::Sha256;
use tests::{
    Task, in_time, patient,
    probe::{Event, Probe, ProbingClient},
    raw_peer::{RawFrame, RawHead, RawPeer},
    relay::Relay,
    serving::{PROBE, Serving},
    until_ok,
};

const ANN: &str = "the secret of ann, the caller";
const BOB: &str = "the secret of bob, the caller";

const UNAUTHENTICATED: u8 = 16;

fn tokens() -> Tokens {
    Tokens::new().with("ann", ANN).unwrap().with("bob", BOB).unwrap()
}

fn token(name: &str, secret: &str) -> Option<Token> {
    Some(Token::new(name, secret).unwrap())
}

fn guarded(probe: &Probe) -> ServerBuilder {
    Server::builder().service(probe.server()).require_token(tokens())
}

fn client(token: Option<Token>) -> ProbingClient<Client> {
    let builder = token.into_iter().fold(Client::builder().config(patient()), |builder, token| builder.token(token));
    ProbingClient::new(builder.build().unwrap())
}

async fn context(client: &ProbingClient<Client>, address: SocketAddr) -> Result<String, Error> {
    client.context().address(address).await.map(|seen| seen.identity)
}

/// Returns a PROOF for a connection without TLS, as docs/PROTOCOL.md defines it.
fn proof(name: &str, secret: &str, challenge: &RawFrame) -> RawFrame {
    let nonce = [7; 32];
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    for part in [&b"msnb/1 proof"[..], &[0; 32], &challenge.body, &nonce, name.as_bytes()] {
        mac.update(part);
    }
    let mac = mac.finalize().into_bytes();
    RawFrame::empty(RawFrame::PROOF, 0).with_body([&nonce[..], &mac[..], name.as_bytes()].concat())
}

async fn challenged(address: SocketAddr) -> (RawPeer, RawFrame) {
    let mut peer = RawPeer::connect(address).await;
    let challenge = peer.receive().await;
    assert_eq!((challenge.kind, challenge.id, challenge.body.len()), (RawFrame::CHALLENGE, 0, 32));
    (peer, challenge)
}

fn echo(id: u32) -> RawFrame {
    RawFrame::request(id, &RawHead::route("test.Probe:1.0/echo"), r#"{"text":"x"}"#)
}

#[tokio::test]
async fn token_identifies_its_caller() {
    let probe = Probe::default();
    let serving = Serving::start(guarded(&probe)).await;
    assert_eq!(context(&client(token("ann", ANN)), serving.address()).await.unwrap(), "ann");
    assert_eq!(context(&client(token("bob", BOB)), serving.address()).await.unwrap(), "bob");
}

#[tokio::test]
async fn caller_is_anonymous_unless_server_requires_token() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    for token in [None, token("ann", ANN)] {
        assert_eq!(context(&client(token), serving.address()).await.unwrap(), "an anonymous caller");
    }
}

#[tokio::test]
async fn server_rejects_missing_and_wrong_tokens() {
    let probe = Probe::default();
    let serving = Serving::start(guarded(&probe)).await;
    let not_accepted = "the token is not accepted here";
    for (token, reason) in [
        (None, "server requires a token, client has none"),
        (token("ann", BOB), not_accepted),
        (token("eve", ANN), not_accepted),
    ] {
        let error = client(token).echo("x".to_owned()).address(serving.address()).await.unwrap_err();
        assert_eq!((error.code(), error.delivery()), (Code::Unauthenticated, Delivery::NotExecuted), "{error:?}");
        assert_eq!(error.phase(), Some(Phase::Connect));
        assert!(error.message().contains(reason), "{error}");
        assert!(!error.is_retryable());
    }
    assert_eq!(probe.events(), []);
}

#[tokio::test]
async fn wait_for_ready_error_reports_rejected_token() {
    let probe = Probe::default();
    let serving = Serving::start(guarded(&probe)).await;
    let registry = Arc::new(Memory::named("guarded"));
    registry.register(&PROBE, Instance::new(serving.address())).await.unwrap();
    let client = Client::builder().registry(registry).token(Token::new("ann", BOB).unwrap());
    let client = client.config(ClientConfig::default().with_cache_directory(None)).build().unwrap();
    let probing = ProbingClient::new(client.clone());
    // A deadline during a connection attempt may report the attempt instead of the rejection.
    until_ok(async || {
        let call = probing.echo("x".to_owned()).wait_for_ready(true).timeout(Duration::from_millis(300));
        let error = call.await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::NotExecuted);
        if error.message().contains("the token is not accepted here") { Ok(()) } else { Err(error) }
    })
    .await;
    let explained = until_ok(async || {
        let explained = client.explain(&PROBE).to_string();
        if explained.contains("the token is not accepted here") { Ok(explained) } else { Err(explained) }
    });
    assert!(explained.await.contains(&serving.address().to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_evicts_provider_after_twelve_rejections() {
    let probe = Probe::default();
    let serving = Serving::start(guarded(&probe)).await;
    let relay = Relay::to(serving.address()).await;
    // A provider that accepts the client: one that evicts half of its providers does not connect to them again at once.
    let accepting = Serving::probe(&probe, ServerConfig::default()).await;
    let registry = Arc::new(Memory::named("rejected token"));
    for address in [relay.address(), accepting.address()] {
        registry.register(&PROBE, Instance::new(address)).await.unwrap();
    }
    let client = Client::builder().registry(registry).token(Token::new("ann", BOB).unwrap());
    let client = client.config(ClientConfig::default().with_cache_directory(None)).build().unwrap();
    let mut changes = client.changes();
    let probing = ProbingClient::new(client.clone());
    probing.echo("x".to_owned()).wait_for_ready(true).timeout(Duration::from_secs(50)).await.unwrap();
    // The eviction removes the endpoint.
    in_time(async {
        while relay.count().accepted == 0 || client.endpoints().iter().any(|(address, _)| *address == relay.address()) {
            changes.changed().await.unwrap();
        }
    })
    .await;
    assert_eq!(relay.count().accepted, 12);
}

#[tokio::test]
async fn server_serves_nothing_before_token_proof() {
    let probe = Probe::default();
    let serving = Serving::start(guarded(&probe)).await;
    let (mut peer, challenge) = challenged(serving.address()).await;
    peer.send(RawFrame::empty(RawFrame::PING, 5).to_bytes()).await;
    let rejection = peer.ask(&echo(1)).await;
    assert_eq!((rejection.kind, rejection.id, rejection.status().0), (RawFrame::RESPONSE, 1, UNAUTHENTICATED));
    peer.send(proof("ann", ANN, &challenge).to_bytes()).await;
    // The server answers the first request after the proof.
    let answer = peer.ask(&echo(2)).await;
    assert_eq!((answer.id, answer.status().0, answer.text()), (2, 0, r#""x""#));
    let pong = peer.ask(&RawFrame::empty(RawFrame::PING, 6)).await;
    assert_eq!((pong.kind, pong.id), (RawFrame::PONG, 6));
    assert_eq!(probe.events(), [Event::Echoed("x".to_owned())]);
}

#[tokio::test]
async fn server_serves_requests_sent_along_with_token_proof() {
    let probe = Probe::default();
    let serving = Serving::start(guarded(&probe)).await;
    let (mut peer, challenge) = challenged(serving.address()).await;
    let all = [proof("ann", ANN, &challenge).to_bytes(), echo(1).to_bytes(), echo(2).to_bytes()].concat();
    let (most, last) = all.split_at(all.len() - 3);
    peer.send(most).await;
    assert_eq!(peer.receive().await.id, 1);
    peer.send(last).await;
    assert_eq!(peer.receive().await.id, 2);
}

#[tokio::test]
async fn server_closes_connection_without_token_proof() {
    let probe = Probe::default();
    let time = Duration::from_millis(100);
    let config = ServerConfig::default().with_handshake_time(time).with_max_connections(1);
    let serving = Serving::start(guarded(&probe).config(config)).await;
    let (mut peer, _) = challenged(serving.address()).await;
    // The unproved connection occupies the only slot.
    let rejected = RawPeer::connect(serving.address()).await.receive().await;
    assert_eq!(rejected.status().0, Code::ResourceExhausted as u8);
    let goaway = peer.receive().await;
    assert_eq!((goaway.kind, goaway.status().0), (RawFrame::GOAWAY, UNAUTHENTICATED));
    peer.expect_end().await;
    drop(peer);
    until_ok(async || context(&client(token("ann", ANN)), serving.address()).await).await;
}

#[tokio::test]
async fn drain_does_not_wait_for_token_proofs() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_handshake_time(Duration::from_millis(100));
    let mut serving = Serving::start(guarded(&probe).config(config)).await;
    let (mut unproved, _) = challenged(serving.address()).await;
    serving.stop();
    assert_eq!(unproved.receive().await.kind, RawFrame::GOAWAY);
    drop(unproved);
    serving.ended().await.unwrap();
    // A caller that sends its proof after the drain has begun receives a goaway.
    let mut serving = Serving::start(guarded(&probe)).await;
    let (mut late, challenge) = challenged(serving.address()).await;
    serving.stop();
    in_time(async {
        while serving.handle().state() == ServerState::Serving {
            tokio::task::yield_now().await;
        }
    })
    .await;
    late.send(proof("ann", ANN, &challenge).to_bytes()).await;
    let goaway = late.receive().await;
    assert_eq!((goaway.kind, goaway.status().0), (RawFrame::GOAWAY, Code::Unavailable as u8));
    serving.ended().await.unwrap();
}

#[tokio::test]
async fn server_closes_connection_with_wrong_token_proof() {
    let probe = Probe::default();
    let serving = Serving::start(guarded(&probe)).await;
    let (mut first, challenge) = challenged(serving.address()).await;
    let good = proof("ann", ANN, &challenge);
    let broken = [
        good.clone().with_body(&good.body[..40]),
        good.clone().with_body([&good.body[..], b"e"].concat()),
        good.clone().with_body([&good.body[..64], b"bob"].concat()),
        good.clone().with_body(Vec::new()),
    ];
    for wrong in broken {
        let (mut peer, _) = challenged(serving.address()).await;
        let goaway = peer.ask(&wrong).await;
        assert_eq!((goaway.kind, goaway.status().0), (RawFrame::GOAWAY, UNAUTHENTICATED));
        peer.expect_end().await;
    }
    serving.until_counted(|counts| counts.handshakes_failed == 4).await;
    // A proof is valid only on its own connection.
    let (mut replayed, _) = challenged(serving.address()).await;
    assert_eq!(replayed.ask(&good).await.status().0, UNAUTHENTICATED);
    first.send(good.to_bytes()).await;
    assert_eq!(first.ask(&echo(1)).await.status().0, 0);
}

#[tokio::test]
async fn server_limits_frame_size_before_token_proof() {
    let probe = Probe::default();
    let serving = Serving::start(guarded(&probe)).await;
    // A frame of an unknown type with this total length, which the server would ignore.
    let long = |length: usize| RawFrame::empty(100, 0).with_body(vec![0; length - 16]);
    let (mut peer, challenge) = challenged(serving.address()).await;
    peer.send(long(4096).to_bytes()).await;
    peer.send(proof("ann", ANN, &challenge).to_bytes()).await;
    // After the proof the limit no longer applies.
    peer.send(long(4097).to_bytes()).await;
    assert_eq!(peer.ask(&echo(1)).await.status().0, 0);
    let (mut peer, _) = challenged(serving.address()).await;
    peer.send(long(4097).to_bytes()).await;
    peer.expect_end().await;
}

#[tokio::test]
async fn server_limits_frame_count_before_token_proof() {
    let probe = Probe::default();
    let serving = Serving::start(guarded(&probe)).await;
    let ignored = RawFrame::empty(RawFrame::PING, 1).to_bytes();
    let (mut peer, challenge) = challenged(serving.address()).await;
    peer.send(ignored.repeat(15)).await;
    peer.send(proof("ann", ANN, &challenge).to_bytes()).await;
    assert_eq!(peer.ask(&echo(1)).await.status().0, 0);
    let (mut peer, challenge) = challenged(serving.address()).await;
    peer.send(ignored.repeat(16)).await;
    let goaway = peer.ask(&proof("ann", ANN, &challenge)).await;
    assert_eq!((goaway.kind, goaway.status().0), (RawFrame::GOAWAY, UNAUTHENTICATED));
}

#[tokio::test]
async fn server_closes_on_protocol_error_before_token_proof() {
    let probe = Probe::default();
    let serving = Serving::start(guarded(&probe)).await;
    for wrong in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), echo(0).to_bytes()] {
        let (mut peer, _) = challenged(serving.address()).await;
        peer.send(wrong).await;
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn client_answers_one_challenge_per_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(token("ann", ANN));
    let call = Task::begin(client.echo("x".to_owned()).address(listener.local_addr().unwrap()));
    let mut server = RawPeer::accept(&listener).await;
    let challenge = RawFrame::empty(RawFrame::CHALLENGE, 0).with_body([1; 32]);
    server.send(RawFrame::empty(RawFrame::CHALLENGE, 0).with_body([1; 31]).to_bytes().repeat(3)).await;
    server.send(challenge.to_bytes().repeat(3)).await;
    // The client's first ping may arrive before or after the proof.
    let mut frames = vec![server.receive().await, server.receive().await, server.receive().await];
    frames.retain(|frame| frame.kind != RawFrame::PING);
    let [proof_sent] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((proof_sent.kind, &proof_sent.body[64..]), (RawFrame::PROOF, &b"ann"[..]));
    server.send(RawFrame::empty(RawFrame::PONG, 0).to_bytes()).await;
    let request = server.receive().await;
    assert_eq!(request.kind, RawFrame::REQUEST, "the client sends no call before the first pong, and no second proof");
    call.abort().await;
}

#[tokio::test]
async fn token_rotation_has_no_downtime() {
    let directory = tempfile::tempdir().unwrap();
    let (server_file, client_file) = (directory.path().join("accepted"), directory.path().join("token"));
    std::fs::write(&server_file, format!("ann:{ANN}\n")).unwrap();
    std::fs::write(&client_file, format!("ann:{ANN}\n")).unwrap();
    let probe = Probe::default();
    let accepted = Tokens::new().with_file(&server_file);
    let serving = Serving::start(Server::builder().service(probe.server()).require_token(accepted)).await;
    let existing = client(Some(Token::file(&client_file).unwrap()));
    assert_eq!(context(&existing, serving.address()).await.unwrap(), "ann");
    // The server accepts both secrets.
    std::fs::write(&server_file, format!("ann:{ANN}\nann:{BOB}\n")).unwrap();
    until_ok(async || context(&client(token("ann", BOB)), serving.address()).await).await;
    assert_eq!(context(&client(token("ann", ANN)), serving.address()).await.unwrap(), "ann");
    // The client uses the new token for a new connection, here through a relay.
    std::fs::write(&client_file, format!("ann:{BOB}\n")).unwrap();
    // The server rejects the old secret and drains the connections proved with it. Their clients connect again.
    std::fs::write(&server_file, format!("ann:{BOB}\n")).unwrap();
    until_ok(async || match context(&client(token("ann", ANN)), serving.address()).await {
        Ok(_) => Err("the server still accepts the old secret"),
        Err(error) => {
            assert_eq!(error.code(), Code::Unauthenticated);
            Ok(())
        }
    })
    .await;
    assert_eq!(until_ok(async || context(&existing, serving.address()).await).await, "ann");
    let relay = Relay::to(serving.address()).await;
    until_ok(async || context(&existing, relay.address()).await).await;
}

#[tokio::test]
async fn allow_list_restricts_callers_of_method() {
    let probe = Probe::default();
    let rules = guarded(&probe)
        .allow("test.Probe:1.0", ["ann"])
        .allow("test.Probe:1.0/again", ["bob"])
        .allow("test.Probe:1.0/tell", ["bob"])
        .allow("test.Probe:1.0/tell", ["ann"])
        .allow("test.Probe:1.0/hold", Vec::<String>::new());
    let serving = Serving::start(rules).await;
    let (ann, bob) = (client(token("ann", ANN)), client(token("bob", BOB)));
    let text = |text: &str| text.to_owned();
    ann.echo(text("of ann")).address(serving.address()).await.unwrap();
    bob.again(text("of bob")).address(serving.address()).await.unwrap();
    let denied = [
        bob.echo(text("x")).address(serving.address()).await.unwrap_err(),
        ann.again(text("x")).address(serving.address()).await.unwrap_err(),
        ann.hold(1).address(serving.address()).await.unwrap_err(),
    ];
    for error in &denied {
        assert_eq!((error.code(), error.delivery()), (Code::PermissionDenied, Delivery::NotExecuted), "{error:?}");
    }
    assert!(denied[0].message().contains("bob may not call test.Probe:1.0/echo"), "{}", denied[0]);
    ann.tell(text("of ann")).address(serving.address()).await.unwrap();
    bob.tell(text("of bob")).address(serving.address()).await.unwrap();
    probe.until_all(&[Event::Received(text("of ann")), Event::Received(text("of bob"))]).await;
    assert_eq!(probe.events().len(), 4, "{:?}", probe.events());
    let counts = serving.handle().counts();
    assert_eq!((counts.denied, counts.handshakes_failed), (3, 0));
}

#[tokio::test]
async fn server_rejects_invalid_access_rules() {
    let probe = Probe::default();
    let bind = |builder: ServerBuilder| builder.bind("127.0.0.1:0");
    for unknown in ["test.Probe:1.0/nothing", "test.Probe:2.0", "test.Probe", "test.Probe:1.0/", ""] {
        let error = bind(guarded(&probe).allow(unknown, ["ann"])).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(unknown), "{error}");
    }
    let unauthenticated = Server::builder().service(probe.server()).allow("test.Probe:1.0", ["ann"]);
    assert!(bind(unauthenticated).await.unwrap_err().message().contains("neither a token nor a certificate"));
    let no_tokens = Server::builder().service(probe.server()).require_token(Tokens::new());
    assert_eq!(bind(no_tokens).await.unwrap_err().code(), Code::InvalidArgument);
}
