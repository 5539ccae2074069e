//! TLS: trust in certificates at both ends, names, handshake limits, reload of files, and tokens over TLS.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{
    Code, Delivery, Error, Token, Tokens,
    tls::{ClientTls, ServerTls},
    transport::TransportConfig,
};
use rpc_registry::Memory;
use rpc_server::{Server, ServerBuilder, ServerConfig};
use tests::{
    Task,
    certificates::{Authority, Validity},
    in_time, patient,
    probe::{Event, Probe, ProbingClient},
    process,
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
    until_error, until_ok,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::client::TlsStream;

const HERE: &str = "127.0.0.1";

fn encrypted(probe: &Probe, tls: ServerTls) -> ServerBuilder {
    Server::builder().service(probe.server()).tls(tls)
}

fn client(tls: ClientTls) -> ProbingClient<Client> {
    ProbingClient::new(Client::builder().tls(tls).config(patient()).build().unwrap())
}

async fn identity(client: &ProbingClient<Client>, address: SocketAddr) -> Result<String, Error> {
    client.context().address(address).await.map(|seen| seen.identity)
}

/// Makes a call that fails as unavailable before the client sends it, and checks the reason in its error.
async fn expect_unavailable(client: &ProbingClient<Client>, address: SocketAddr, reason: &str) {
    expect_failure(client, address, Code::Unavailable, reason).await;
}

/// Makes a call that fails with `code` before the client sends it, and checks the reason in its error.
async fn expect_failure(client: &ProbingClient<Client>, address: SocketAddr, code: Code, reason: &str) {
    let error = client.echo("x".to_owned()).address(address).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (code, Delivery::NotExecuted), "{error:?}");
    assert!(error.message().contains(reason), "{error}");
}

/// Connects with a plain TLS client that trusts `authority` and offers the protocols `alpn`.
async fn raw(address: SocketAddr, authority: &Authority, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    authority.connect(TcpStream::connect(address).await.unwrap(), alpn).await
}

#[tokio::test]
async fn tls_carries_calls_of_every_size() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let serving = Serving::start(encrypted(&probe, authority.issue("server", &[HERE]).server())).await;
    let client = client(ClientTls::new(authority.ca()));
    let mut calls = Vec::new();
    for length in [0, 1, 16_383, 16_384, 16_385, 100_000, 4_000_000] {
        let text = "é".repeat(length / 2);
        calls.push((text.clone(), Task::begin(client.echo(text).address(serving.address()))));
    }
    for (text, call) in calls {
        assert!(call.end().await.unwrap() == text);
    }
    assert_eq!(identity(&client, serving.address()).await.unwrap(), "an anonymous caller");
}

#[tokio::test]
async fn client_verifies_address_listed_name_or_server_name() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let named = authority.issue("named", &["greeter.test"]);
    let registry = Arc::new(Memory::named("certificate names"));
    let tls = named.server().name("greeter.test");
    let serving = Serving::start(encrypted(&probe, tls).registry(Arc::clone(&registry) as _)).await;
    let by_registry = |tls: ClientTls| {
        let client = Client::builder().tls(tls).registry(Arc::clone(&registry) as _);
        let config = ClientConfig::default().with_cache_directory(None).with_wait_for_ready(true);
        ProbingClient::new(client.config(config).build().unwrap())
    };
    let trusting = || ClientTls::new(authority.ca());
    by_registry(trusting()).echo("listed".to_owned()).await.unwrap();
    by_registry(trusting().server_name("greeter.test")).echo("asked for".to_owned()).await.unwrap();
    client(trusting().server_name("greeter.test")).echo("x".to_owned()).address(serving.address()).await.unwrap();
    let wrong = "not valid for name";
    expect_unavailable(&client(trusting()), serving.address(), wrong).await;
    expect_unavailable(&client(trusting().server_name("other.test")), serving.address(), wrong).await;
    // A name that the user sets overrides the name that the registry lists.
    let other = by_registry(trusting().server_name("other.test"));
    let call = async || other.echo("x".to_owned()).wait_for_ready(false).await;
    let error = until_error(call, |error: &Error| error.message().contains(wrong)).await;
    assert_eq!(error.delivery(), Delivery::NotExecuted);
    assert!(Client::builder().tls(trusting().server_name("no name")).build().is_err());
}

#[tokio::test]
async fn client_rejects_untrusted_server() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let issued = authority.issue("server", &[HERE]);
    let serving = Serving::start(encrypted(&probe, issued.server())).await;
    let other_authority = Authority::new();
    expect_unavailable(&client(ClientTls::new(other_authority.ca())), serving.address(), "UnknownIssuer").await;
    authority.write(&issued, &[HERE], Validity::Expired);
    let expired = Serving::start(encrypted(&probe, issued.server())).await;
    expect_unavailable(&client(ClientTls::new(authority.ca())), expired.address(), "certificate expired").await;
    assert_eq!(probe.events(), []);
}

#[tokio::test]
async fn certificate_names_identify_client() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let tls = authority.issue("server", &[HERE]).server().client_ca(authority.ca());
    let serving = Serving::start(encrypted(&probe, tls).allow("test.Probe:1.0/echo", ["spiffe://test/shop"])).await;
    let shop = client(authority.issue("shop", &["shop.test", "spiffe://test/shop"]).client(&authority));
    assert_eq!(identity(&shop, serving.address()).await.unwrap(), "shop.test, spiffe://test/shop");
    shop.echo("x".to_owned()).address(serving.address()).await.unwrap();
    let nameless = client(authority.issue("nameless", &[]).client(&authority));
    assert_eq!(identity(&nameless, serving.address()).await.unwrap(), "a caller whose certificate has no name");
    let error = nameless.echo("x".to_owned()).address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn server_rejects_missing_and_invalid_certificates() {
    let (probe, authority, other_authority) = (Probe::default(), Authority::new(), Authority::new());
    let tls = authority.issue("server", &[HERE]).server().client_ca(authority.ca());
    let serving = Serving::start(encrypted(&probe, tls)).await;
    let untrusted = other_authority.issue("untrusted", &["shop.test"]);
    let expired = authority.issue("expired", &["shop.test"]);
    authority.write(&expired, &["shop.test"], Validity::Expired);
    for (tls, reason) in [
        (ClientTls::new(authority.ca()), "the server requires a certificate, and this client has none"),
        (untrusted.client(&authority), "the server rejected this client's certificate: UnknownCA"),
        (expired.client(&authority), "the server rejected this client's certificate: CertificateExpired"),
    ] {
        expect_failure(&client(tls), serving.address(), Code::Unauthenticated, reason).await;
    }
    assert_eq!(probe.events(), []);
}

#[tokio::test]
async fn plaintext_and_tls_peers_report_mismatch() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let encrypted = Serving::start(encrypted(&probe, authority.issue("server", &[HERE]).server())).await;
    let plain = Serving::probe(&probe, ServerConfig::default()).await;
    let speaks_plain = ProbingClient::new(Client::builder().build().unwrap());
    let speaks_tls = client(ClientTls::new(authority.ca()));
    expect_unavailable(&speaks_plain, encrypted.address(), "the peer uses TLS and this end does not").await;
    encrypted.until_counted(|counts| counts.handshakes_failed >= 1).await;
    expect_unavailable(&speaks_tls, plain.address(), "it may not use TLS").await;
    // The servers still answer matching clients.
    speaks_tls.echo("x".to_owned()).address(encrypted.address()).await.unwrap();
    speaks_plain.echo("x".to_owned()).address(plain.address()).await.unwrap();
    // The client also detects a server that answers a ClientHello in plain text.
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answering = Task::begin(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 64];
            stream.read_exact(&mut hello).await.unwrap();
            assert_eq!(hello[..2], [0x16, 0x03], "the client sends nothing in plain text");
            stream.write_all(&RawFrame::empty(RawFrame::PONG, 0).to_bytes()).await.unwrap();
        }
    });
    expect_unavailable(&speaks_tls, address, "the peer does not use TLS").await;
    answering.abort().await;
}

#[tokio::test]
async fn stalled_handshake_times_out_and_blocks_no_caller() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let tls = authority.issue("server", &[HERE]).server();
    let config = ServerConfig::default().with_handshake_time(Duration::from_millis(300)).with_max_connections(3);
    let serving = Serving::start(encrypted(&probe, tls).config(config)).await;
    let mut stalled = TcpStream::connect(serving.address()).await.unwrap();
    let mut halfway = TcpStream::connect(serving.address()).await.unwrap();
    // The beginning of a ClientHello of 512 bytes.
    halfway.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    let served = client(ClientTls::new(authority.ca()));
    served.echo("x".to_owned()).address(serving.address()).await.unwrap();
    // The server is at its limit of three connections.
    let mut fourth = TcpStream::connect(serving.address()).await.unwrap();
    let ended = |read: std::io::Result<usize>| matches!(read, Ok(0) | Err(_));
    assert!(ended(in_time(fourth.read(&mut [0; 1])).await));
    assert!(ended(in_time(stalled.read(&mut [0; 1])).await));
    assert!(ended(in_time(halfway.read(&mut [0; 1])).await));
    let later = client(ClientTls::new(authority.ca()));
    until_ok(async || later.echo("x".to_owned()).address(serving.address()).await).await;
}

#[tokio::test]
async fn server_limits_handshake_message_to_64_kib() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let tls = authority.issue("server", &[HERE]).server();
    let config = ServerConfig::default().with_handshake_time(Duration::from_secs(3600));
    let serving = Serving::start(encrypted(&probe, tls).config(config)).await;
    let hello = |length: u32, sent: usize| {
        let message = [&[1], &length.to_be_bytes()[1..], &vec![0; sent]].concat();
        let record = |piece: &[u8]| [&[0x16, 3, 1], &(piece.len() as u16).to_be_bytes()[..], piece].concat();
        message.chunks(1 << 14).flat_map(record).collect::<Vec<_>>()
    };
    // The server reads the message below the limit completely and sends an alert. It closes the other connection as soon
    // as it has read the length.
    for (bytes, alert) in [(hello(0xf000, 0xf000), Some(0x15)), (hello(0x1_0000, 2), None)] {
        let mut stream = TcpStream::connect(serving.address()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut received = Vec::new();
        // Closing a socket with unread bytes resets the connection.
        let _ = in_time(stream.read_to_end(&mut received)).await;
        assert_eq!(received.first().copied(), alert);
    }
}

#[tokio::test]
async fn stalled_handshake_ends_at_connect_timeout() {
    let authority = Authority::new();
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let config = ClientConfig::default().with_connect_timeout(Duration::from_millis(200));
    let client = Client::builder().tls(ClientTls::new(authority.ca())).config(config).build().unwrap();
    expect_unavailable(&ProbingClient::new(client), listener.local_addr().unwrap(), "cannot connect within 200ms")
        .await;
}

#[tokio::test]
async fn server_requires_msnb_alpn() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let serving = Serving::start(encrypted(&probe, authority.issue("server", &[HERE]).server())).await;
    assert!(raw(serving.address(), &authority, &["h2"]).await.is_err());
    let mut without_alpn = raw(serving.address(), &authority, &[]).await.unwrap();
    assert!(!in_time(without_alpn.read(&mut [0; 1])).await.is_ok_and(|count| count > 0));
    let mut with_alpn = RawPeer::through(raw(serving.address(), &authority, &["h2", "msnb/1"]).await.unwrap());
    assert_eq!(with_alpn.ask(&RawFrame::empty(RawFrame::PING, 7)).await, RawFrame::empty(RawFrame::PONG, 7));
}

#[tokio::test]
async fn running_peers_reload_certificate_files() {
    let (probe, authority, next) = (Probe::default(), Authority::new(), Authority::new());
    let issued = authority.issue("server", &[HERE]);
    let tls = issued.server().client_ca(authority.ca());
    let serving = Serving::start(encrypted(&probe, tls)).await;
    let own = authority.issue("client", &["first.test"]);
    let existing = client(own.client(&authority));
    assert_eq!(identity(&existing, serving.address()).await.unwrap(), "first.test");
    // A new authority and new certificates at both ends.
    next.write(&issued, &[HERE], Validity::Good);
    next.write(&own, &["second.test"], Validity::Good);
    next.write_ca(&authority.ca());
    let fresh = client(own.client(&authority));
    let seen = until_ok(async || identity(&fresh, serving.address()).await).await;
    assert_eq!(seen, "second.test");
    // The server drains the existing connection, whose certificate is no longer valid. The next connection of the same
    // client uses the new files.
    let second = async || identity(&existing, serving.address()).await.is_ok_and(|name| name == "second.test");
    until_ok(async || if second().await { Ok(()) } else { Err(()) }).await;
}

#[tokio::test]
async fn errors_name_unusable_certificate_files() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let (one, other) = (authority.issue("one", &[HERE]), authority.issue("other", &[HERE]));
    let missing = authority.ca().with_file_name("missing.pem");
    let cases = [
        (ServerTls::new(&missing, &one.key), "missing.pem"),
        (ServerTls::new(&one.certificate, &missing), "missing.pem"),
        (ServerTls::new(&one.key, &one.key), "one.key contains no certificate"),
        (ServerTls::new(&one.certificate, &one.certificate), "one.pem contains no private key"),
        (ServerTls::new(&one.certificate, &other.key), "other.key: keys may not be consistent"),
        (one.server().client_ca(&one.key), "one.key contains no certificate"),
    ];
    for (tls, named) in cases {
        let error = encrypted(&probe, tls).bind((HERE, 0)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(named), "{error}");
    }
    for tls in [ClientTls::new(&missing), ClientTls::new(authority.ca()).certificate(&one.certificate, &missing)] {
        let error = Client::builder().tls(tls).build().unwrap_err();
        assert!(error.message().contains("missing.pem"), "{error}");
    }
}

#[tokio::test]
async fn tls_drain_and_restart_lose_no_call() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let issued = authority.issue("server", &[HERE]);
    let mut serving = Serving::start(encrypted(&probe, issued.server())).await;
    let address = serving.address();
    let client = client(ClientTls::new(authority.ca()));
    let held = Task::begin(client.hold(1).address(address).timeout(Duration::from_secs(50)));
    probe.until(Event::Began(1)).await;
    serving.stop();
    // After its goaway the server accepts no new calls.
    until_error(async || client.echo("x".to_owned()).address(address).await, |_| true).await;
    probe.release(1);
    assert_eq!(held.end().await.unwrap(), 1);
    serving.ended().await.unwrap();
    let _again = Serving::start_on(encrypted(&probe, issued.server()), address).await;
    until_ok(async || client.echo("x".to_owned()).address(address).await).await;
}

#[tokio::test]
async fn server_closes_tls_peer_that_stops_reading() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let mut transport = TransportConfig::default();
    transport.write_stall = Duration::from_millis(200);
    let config = ServerConfig::default().with_transport(transport);
    let tls = authority.issue("server", &[HERE]).server();
    let serving = Serving::start(encrypted(&probe, tls).config(config)).await;
    let (_reader, mut writer) =
        RawPeer::through(raw(serving.address(), &authority, &["msnb/1"]).await.unwrap()).into_split();
    let large = |id| RawFrame::request(id, &RawHead::route("test.Probe:1.0/large"), r#"{"length":4000000}"#).to_bytes();
    in_time(async {
        let mut id = 0;
        while writer.send(&large(id + 1)).await.is_ok() {
            id += 1;
        }
    })
    .await;
}

#[tokio::test]
async fn token_proof_is_bound_to_its_tls_connection() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let secret = "the secret of ann, the caller";
    let tokens = Tokens::new().with("ann", secret).unwrap();
    let tls = authority.issue("server", &[HERE]).server().client_ca(authority.ca());
    let both = Serving::start(encrypted(&probe, tls).require_token(tokens.clone())).await;
    let own = authority.issue("client", &["shop.test"]).client(&authority);
    let client = Client::builder().tls(own).token(Token::new("ann", secret).unwrap()).build().unwrap();
    assert_eq!(identity(&ProbingClient::new(client), both.address()).await.unwrap(), "ann, shop.test");
    // A correct proof for a connection without TLS is invalid over TLS.
    let tls = authority.issue("server", &[HERE]).server();
    let serving = Serving::start(encrypted(&probe, tls).require_token(tokens)).await;
    let mut peer = RawPeer::through(raw(serving.address(), &authority, &["msnb/1"]).await.unwrap());
    let challenge = rpc_core::proof::Challenge::read(&peer.receive().await.body).unwrap();
    let token = Token::new("ann", secret).unwrap();
    let proof = rpc_core::proof::Proof::new(&token, challenge, &[0; 32], [0; 32]).to_frame();
    let goaway = peer.ask(&RawFrame::empty(RawFrame::PROOF, 0).with_body(proof.body)).await;
    assert_eq!((goaway.kind, goaway.status().0), (RawFrame::GOAWAY, Code::Unauthenticated as u8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_use_tls_and_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let made = process::run("certificates", &[directory.path().to_str().unwrap()]).await;
    assert!(made.status.success(), "{made:?}");
    fs::write(file("tokens"), "ann:the secret of ann, the caller\n").unwrap();
    let registry = format!("local:{}", file("registry"));
    let (cert, key, ca, tokens) = (file("server.pem"), file("server.key"), file("ca.pem"), file("tokens"));
    let own = ["--tls-cert", &cert, "--tls-key", &key, "--client-ca", &ca, "--accepted-tokens", &tokens];
    let provider = process::Provider::start_with(&registry, &own).await;
    let (cert, key) = (file("client.pem"), file("client.key"));
    let shown =
        ["--calls", "50", "--tls-ca", &ca, "--client-cert", &cert, "--client-key", &key, "--token-file", &tokens];
    let (status, summary) = process::Consumer::start(&registry, &shown).await.wait().await;
    assert!(status.success());
    assert_eq!((summary.ok, summary.failed), (50, 0));
    let (status, summary) = process::Consumer::start(&registry, &["--calls", "1"]).await.wait().await;
    assert!(!status.success());
    assert_eq!((summary.ok, summary.failed), (0, 1));
    drop(provider);
}
