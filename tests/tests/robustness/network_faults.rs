//! Network faults, simulated by a relay: with one of two paths to a service intact, no idempotent call fails, and the
//! errors of other calls report correctly whether they executed.

use std::{net::SocketAddr, time::Duration};

use bytes::BytesMut;
use rpc_client::{ClientConfig, EndpointState};
use rpc_core::{
    Code, Codec, Delivery, Metadata, Status,
    frame::{Frame, FrameType, Header},
    head::ResponseHead,
    transport::TransportConfig,
};
use rpc_server::{Server, ServerConfig};
use tests::{
    Task,
    branch::{Branch, client_of},
    in_time,
    ledger::{LedgerClient, executions},
    load::{Kind, Load, Tally, seconds, until_endpoints, until_ready},
    probe::{Event, Probe, ProbingClient},
    relay::Mode,
    scripted::Scripted,
    serving::Serving,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

const TIMEOUT: Duration = Duration::from_secs(3);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Calls two providers while the relay of one has the fault `mode`, and until that provider is used again.
async fn call_under_fault(mode: Mode) -> Tally {
    let directory = tempfile::tempdir().unwrap();
    let (faulty, intact) = (Branch::open(directory.path(), ms(10)).await, Branch::open(directory.path(), ms(10)).await);
    let client = client_of(&[&faulty, &intact], ClientConfig::default()).await;
    let load = Load::begin(&client, 32, &Kind::ALL, TIMEOUT);
    let both = [faulty.behind(), intact.behind()];
    load.until_answers(&both, 20).await;

    faulty.relay.set(mode).await;
    tokio::time::sleep(seconds("MSNB_FAULT_SECONDS", 4)).await;
    load.until_answers(&both[1..], 100).await;
    faulty.relay.set(Mode::Pass).await;
    load.until_answers(&both, 20).await;
    let tally = load.end().await;
    client.close().await;

    eprintln!("{mode:?}: {}", tally.line());
    tally.expect_none_failed(Kind::Idempotent);
    assert!(tally.late < Duration::from_secs(2), "a call outlived its deadline by {:?}", tally.late);
    let executions = executions(directory.path());
    assert!(executions.values().all(|times| *times == 1), "a call executed twice");
    for failure in &tally.failures {
        match failure.delivery {
            Delivery::NotExecuted => {
                assert!(!executions.contains_key(&failure.nonce), "the call executed: {failure:#?}")
            }
            Delivery::Unknown => {}
            Delivery::Answered => panic!("no server returned this error: {failure:#?}"),
        }
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn black_hole_fails_no_idempotent_call() {
    call_under_fault(Mode::BlackHole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_answers_fail_no_idempotent_call() {
    call_under_fault(Mode::HoldAnswers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_connection_fails_no_idempotent_call() {
    call_under_fault(Mode::Slow(2_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_answers_fail_no_idempotent_call() {
    call_under_fault(Mode::CutAnswersAfter(1_001)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_fail_no_idempotent_call() {
    call_under_fault(Mode::Reset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_connections_fail_no_idempotent_call() {
    call_under_fault(Mode::Refuse).await;
}

#[tokio::test]
async fn cut_answer_leaves_delivery_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let branch = Branch::open(directory.path(), Duration::ZERO).await;
    let client = client_of(&[&branch], ClientConfig::default()).await;
    let ledger = LedgerClient::new(client);
    branch.relay.set(Mode::CutAnswersAfter(7)).await;
    let error = ledger.enter(1).timeout(Duration::from_secs(30)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.delivery(), error.peer()),
        (Code::Unavailable, Delivery::Unknown, Some(branch.address()))
    );
    assert_eq!(executions(directory.path()).get(&1), Some(&1));
}

/// Starts a server of the probe behind a relay, and a client.
async fn probe(config: ClientConfig) -> (Probe, Serving, tests::relay::Relay, rpc_client::Client) {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = tests::relay::Relay::to(serving.address()).await;
    let client = probing_client(&[relay.address()], config).await;
    (probe, serving, relay, client)
}

async fn probing_client(addresses: &[SocketAddr], config: ClientConfig) -> rpc_client::Client {
    let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let registry = rpc_registry::connect(&format!("fixed:{}", list.join(","))).await.unwrap();
    let client = rpc_client::Client::builder().registry(registry).config(config.with_cache_directory(None));
    let client = client.build().unwrap();
    ProbingClient::new(client.clone()).again("first".to_owned()).wait_for_ready(true).await.unwrap();
    until_ready(&client, addresses).await;
    client
}

#[tokio::test]
async fn call_reported_as_not_executed_never_executes() {
    let mut transport = TransportConfig::default();
    transport.outbox = 256 << 20;
    let (probe, _serving, relay, client) = probe(ClientConfig::default().with_transport(transport)).await;
    let probing = ProbingClient::new(client.clone());
    relay.set(Mode::BlackHole).await;
    // More bytes than the sockets buffer, so that later frames wait in this process.
    let mut large_calls = JoinSet::new();
    for _ in 0..6 {
        large_calls.spawn(probing.again("x".repeat(7 << 20)).timeout(Duration::from_secs(60)));
    }
    let in_flight = |state: &EndpointState| matches!(state, EndpointState::Ready { in_flight: 6 });
    while !client.endpoints().iter().all(|(_, state)| in_flight(state)) {
        tokio::task::yield_now().await;
    }
    let error = probing.echo("late".to_owned()).timeout(ms(500)).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let not_executed = error.delivery() == Delivery::NotExecuted;
    relay.set(Mode::Pass).await;
    for outcome in large_calls.join_all().await {
        outcome.unwrap();
    }
    // The server receives frames in order: `late` has arrived if the client sent it.
    probing.echo("after".to_owned()).await.unwrap();
    let executed = probe.events().contains(&Event::Echoed("late".to_owned()));
    assert!(!(not_executed && executed), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocked_connection_fails_no_retryable_call() {
    let probe = Probe::default();
    let (one, other) =
        (Serving::probe(&probe, ServerConfig::default()).await, Serving::probe(&probe, ServerConfig::default()).await);
    let relay = tests::relay::Relay::to(one.address()).await;
    let client = probing_client(&[relay.address(), other.address()], ClientConfig::default()).await;
    relay.set(Mode::BlackHole).await;
    let mut calls = JoinSet::new();
    for _ in 0..48 {
        calls.spawn(ProbingClient::new(client.clone()).again("x".repeat(1 << 20)).timeout(Duration::from_secs(6)));
    }
    let outcomes = calls.join_all().await;
    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} calls failed, the first: {:#?}", failed.len(), failed[0]);
}

#[tokio::test]
async fn endpoint_state_reports_suspension_and_recovery() {
    let (_probe, _serving, relay, client) = probe(ClientConfig::default()).await;
    let probing = ProbingClient::new(client.clone());
    relay.set(Mode::BlackHole).await;
    let call = Task::begin(probing.again("x".to_owned()).timeout(Duration::from_secs(6)));
    until_endpoints(&client, |all| matches!(all.get(&relay.address()), Some(EndpointState::Suspended))).await;
    relay.set(Mode::Pass).await;
    until_ready(&client, &[relay.address()]).await;
    assert_eq!(call.end().await.unwrap(), "x");
}

#[tokio::test]
async fn expired_attempt_detects_later_unresponsiveness() {
    let (probe, _serving, relay, client) = probe(ClientConfig::default()).await;
    let probing = ProbingClient::new(client.clone());
    let held = Task::begin(probing.hold_again(1).timeout(Duration::from_secs(6)));
    probe.until(Event::Began(1)).await;
    probing.echo("heard after the call was sent".to_owned()).await.unwrap();
    relay.set(Mode::BlackHole).await;
    until_endpoints(&client, |all| matches!(all.get(&relay.address()), Some(EndpointState::Suspended))).await;
    relay.set(Mode::Pass).await;
    probe.release(1);
    assert_eq!(held.end().await.unwrap(), 1);
}

#[tokio::test]
async fn calls_wait_for_only_suspended_provider() {
    let (_probe, _serving, relay, client) = probe(ClientConfig::default()).await;
    let probing = ProbingClient::new(client.clone());
    relay.set(Mode::BlackHole).await;
    let first = Task::begin(probing.again("x".to_owned()).timeout(Duration::from_secs(6)));
    until_endpoints(&client, |all| matches!(all.get(&relay.address()), Some(EndpointState::Suspended))).await;
    let next = Task::begin(probing.echo("y".to_owned()).timeout(Duration::from_secs(30)));
    tokio::task::yield_now().await;
    relay.set(Mode::Pass).await;
    assert_eq!(first.end().await.unwrap(), "x");
    assert_eq!(next.end().await.unwrap(), "y");
}

#[tokio::test]
async fn waiting_call_is_sent_after_cooldown() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default().with_max_in_flight(1)).await;
    let client = probing_client(&[serving.address()], ClientConfig::default()).await;
    let probing = ProbingClient::new(client.clone());
    let held = Task::begin(probing.hold(1).timeout(Duration::from_secs(30)));
    probe.until(Event::Began(1)).await;
    let rejected = probing.echo("x".to_owned()).await.unwrap_err();
    assert_eq!((rejected.code(), rejected.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{rejected}");
    let waiting = Task::begin(probing.echo("y".to_owned()).wait_for_ready(true).timeout(Duration::from_secs(30)));
    probe.release(1);
    held.end().await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(waiting.end().await.unwrap(), "y");
    assert!(started.elapsed() < Duration::from_secs(15), "the call waited until its deadline");
}

#[tokio::test]
async fn client_retries_call_after_retry_after() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registry = rpc_registry::connect(&format!("fixed:{address}")).await.unwrap();
    let config = ClientConfig::default().with_cache_directory(None);
    let client = rpc_client::Client::builder().registry(registry).config(config).build().unwrap();
    let call = ProbingClient::new(client).echo("x".to_owned()).wait_for_ready(true).timeout(Duration::from_secs(30));
    let call = Task::begin(call);

    let mut provider = Scripted::accept(&listener).await;
    let request = provider.receive_type(FrameType::Request).await;
    let status = Status::new(Code::ResourceExhausted, "not now");
    let metadata = Metadata::default();
    let rejection = ResponseHead { status, metadata, retry_after: Some(ms(50)), not_executed: true };
    provider.send(&response(request.header.id, &rejection, &[])).await;
    let again = provider.receive_type(FrameType::Request).await;
    // Echo the argument: a text of one byte.
    let (status, metadata) = (Status::OK, Metadata::default());
    let success = ResponseHead { status, metadata, retry_after: None, not_executed: false };
    provider.send(&response(again.header.id, &success, &again.body[again.body.len() - 9..])).await;
    assert_eq!(call.end().await.unwrap(), "x");
}

fn response(id: u32, head: &ResponseHead, payload: &[u8]) -> Frame {
    let mut body = BytesMut::new();
    head.write(&mut body);
    body.extend_from_slice(payload);
    Frame {
        header: Header { codec: Codec::Bincode as u8, ..Header::empty(FrameType::Response, id) },
        body: body.freeze(),
    }
}

#[tokio::test]
async fn suspended_delisted_provider_recovers() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = tests::relay::Relay::to(serving.address()).await;
    let registry = rpc_registry::connect("memory:unresponsive-and-delisted").await.unwrap();
    let (service, instance) = (&tests::serving::PROBE, rpc_core::Instance::new(relay.address()));
    rpc_core::Registry::register(&*registry, service, instance).await.unwrap();
    let config = ClientConfig::default().with_cache_directory(None);
    let client = rpc_client::Client::builder().registry(registry.clone()).config(config).build().unwrap();
    let probing = ProbingClient::new(client.clone());
    probing.again("first".to_owned()).wait_for_ready(true).await.unwrap();

    relay.set(Mode::BlackHole).await;
    let call = Task::begin(probing.again("x".to_owned()).timeout(Duration::from_secs(4)));
    until_endpoints(&client, |all| matches!(all.get(&relay.address()), Some(EndpointState::Suspended))).await;
    let mut changes = client.changes();
    changes.borrow_and_update();
    rpc_core::Registry::deregister(&*registry, service, relay.address()).await.unwrap();
    // Give the client time to process the list.
    drop(tokio::time::timeout(ms(500), changes.changed()).await);
    relay.set(Mode::Pass).await;
    assert_eq!(call.end().await.unwrap(), "x");
    probing.again("y".to_owned()).wait_for_ready(true).await.unwrap();
}

/// Answers every connection like a web server.
async fn web_server(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let mut request = [0; 1024];
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        });
    }
}

/// Sends the received bytes back.
async fn echo_server(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let (mut from, mut to) = stream.split();
            drop(tokio::io::copy(&mut from, &mut to).await);
        });
    }
}

/// The program that takes over a provider's port.
enum Impostor {
    Web,
    Echo,
    /// An msnb server of another service.
    Other,
}

/// Starts an impostor on the port of one of two providers under load, while the registry still lists the port.
async fn take_over(impostor: Impostor) {
    let directory = tempfile::tempdir().unwrap();
    let mut killed = Branch::open(directory.path(), ms(5)).await;
    let intact = Branch::open(directory.path(), ms(5)).await;
    let client = client_of(&[&killed, &intact], ClientConfig::default()).await;
    let load = Load::begin(&client, 16, &Kind::ALL, TIMEOUT);
    load.until_answers(&[killed.behind(), intact.behind()], 20).await;

    let was_accepted = killed.relay.count().accepted;
    killed.kill().await;
    let mut taken = JoinSet::new();
    match impostor {
        Impostor::Web => drop(taken.spawn(web_server(TcpListener::bind(killed.behind()).await.unwrap()))),
        Impostor::Echo => drop(taken.spawn(echo_server(TcpListener::bind(killed.behind()).await.unwrap()))),
        Impostor::Other => killed.replace_with(Server::builder().service(Probe::default().server())).await,
    }
    killed.relay.until(|count| count.accepted > was_accepted).await;
    load.until_answers(&[intact.behind()], 2_000).await;
    let tally = load.end().await;
    client.close().await;

    eprintln!("{}", tally.line());
    tally.expect_none_failed(Kind::Idempotent);
    let executions = executions(directory.path());
    assert!(executions.values().all(|times| *times == 1), "a call executed twice");
    for failure in &tally.failures {
        // Only calls in flight on the killed provider may fail.
        assert_eq!(failure.delivery, Delivery::Unknown, "{failure:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_server_on_providers_port_answers_no_call() {
    take_over(Impostor::Web).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_server_on_providers_port_answers_no_call() {
    take_over(Impostor::Echo).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_service_on_providers_port_fails_no_call() {
    take_over(Impostor::Other).await;
}

#[tokio::test]
async fn unresponsive_provider_costs_a_third_of_timeout() {
    let directory = tempfile::tempdir().unwrap();
    let (unresponsive, intact) =
        (Branch::open(directory.path(), Duration::ZERO).await, Branch::open(directory.path(), Duration::ZERO).await);
    let client = client_of(&[&unresponsive, &intact], ClientConfig::default()).await;
    let ledger = LedgerClient::new(client.clone());
    unresponsive.relay.set(Mode::HoldAnswers).await;
    // The client distributes the concurrent calls over both providers.
    let mut calls = JoinSet::new();
    for nonce in 0..16 {
        calls.spawn(ledger.look_up(nonce).timeout(TIMEOUT).explain());
    }
    let mut hedged = 0;
    for (outcome, explanation) in in_time(calls.join_all()).await {
        outcome.unwrap();
        if explanation.attempts.len() == 1 {
            assert_eq!(explanation.attempts[0].address, intact.address());
            continue;
        }
        hedged += 1;
        let [first, second] = &explanation.attempts[..] else { panic!("{explanation}") };
        assert_eq!((first.address, second.address), (unresponsive.address(), intact.address()), "{explanation}");
        assert!(first.ended.is_none() && second.error.is_none(), "{explanation}");
        assert!(second.sent >= TIMEOUT / 3 && explanation.took < TIMEOUT, "{explanation}");
        let text = explanation.to_string();
        assert!(text.contains("abandoned") && text.contains("answered after"), "{text}");
    }
    assert!(hedged > 0);
    // The client sends no call to the unresponsive provider.
    for nonce in 16..48 {
        let (outcome, explanation) = in_time(ledger.look_up(nonce).timeout(TIMEOUT).explain()).await;
        outcome.unwrap();
        assert_eq!(explanation.attempts.len(), 1, "{explanation}");
    }
    unresponsive.relay.set(Mode::Pass).await;
    until_ready(&client, &[unresponsive.address()]).await;
}
