//! What networks do to connections, through a relay that does it: with one of two ways to a service in order, no call fails that
//! may be made again, and the others are told the truth.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

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

/// Calls two branches while one of them is treated so, and until it is back in use.
async fn ill_treat(mode: Mode) -> Tally {
    let directory = tempfile::tempdir().unwrap();
    let (sick, sound) = (Branch::open(directory.path(), ms(10)).await, Branch::open(directory.path(), ms(10)).await);
    let client = client_of(&[&sick, &sound], ClientConfig::default()).await;
    let load = Load::begin(&client, 32, &Kind::ALL, TIMEOUT);
    let both = [sick.behind(), sound.behind()];
    load.until_answers(&both, 20).await;

    sick.relay.set(mode).await;
    tokio::time::sleep(seconds("MSNB_FAULT_SECONDS", 4)).await;
    load.until_answers(&both[1..], 100).await;
    sick.relay.set(Mode::Pass).await;
    load.until_answers(&both, 20).await;
    let tally = load.end().await;
    client.close().await;

    eprintln!("{mode:?}: {}", tally.line());
    tally.expect_none_failed(Kind::Idempotent);
    assert!(tally.late < Duration::from_secs(2), "a call outlived its deadline by {:?}", tally.late);
    let executions = executions(directory.path());
    assert!(executions.values().all(|times| *times == 1), "something ran twice");
    for failure in &tally.failures {
        match failure.delivery {
            Delivery::NotExecuted => assert!(!executions.contains_key(&failure.nonce), "it ran: {failure:#?}"),
            Delivery::Unknown => {}
            Delivery::Answered => panic!("nobody answered so: {failure:#?}"),
        }
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole() {
    ill_treat(Mode::BlackHole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_do_not_come() {
    ill_treat(Mode::HoldAnswers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_connection() {
    ill_treat(Mode::Slow(2_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_amid_an_answer() {
    ill_treat(Mode::CutAnswersAfter(1_001)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_reset() {
    ill_treat(Mode::Reset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_refused() {
    ill_treat(Mode::Refuse).await;
}

#[tokio::test]
async fn a_call_whose_answer_is_cut_is_told_that_it_may_have_run() {
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

/// A server of the probe behind a relay, and a client of it.
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
async fn what_is_said_not_to_have_been_sent_does_not_run_later() {
    let mut transport = TransportConfig::default();
    transport.outbox = 256 << 20;
    let (probe, _serving, relay, client) = probe(ClientConfig::default().with_transport(transport)).await;
    let probing = ProbingClient::new(client.clone());
    relay.set(Mode::BlackHole).await;
    // More than the sockets on the way take, so that what comes after waits in this process.
    let mut clogged = JoinSet::new();
    for _ in 0..6 {
        clogged.spawn(probing.again("x".repeat(7 << 20)).timeout(Duration::from_secs(60)).into_future());
    }
    let in_flight = |state: &EndpointState| matches!(state, EndpointState::Ready { in_flight: 6 });
    while !client.endpoints().iter().all(|(_, state)| in_flight(state)) {
        tokio::task::yield_now().await;
    }
    let error = probing.echo("late".to_owned()).timeout(ms(500)).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let promised = error.delivery() == Delivery::NotExecuted;
    relay.set(Mode::Pass).await;
    for outcome in clogged.join_all().await {
        outcome.unwrap();
    }
    // What was behind it has come by now.
    probing.echo("after".to_owned()).await.unwrap();
    let ran = probe.events().contains(&Event::Echoed("late".to_owned()));
    assert!(!(promised && ran), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_takes_no_more_holds_up_no_call_that_could_go_elsewhere() {
    let probe = Probe::default();
    let (one, other) =
        (Serving::probe(&probe, ServerConfig::default()).await, Serving::probe(&probe, ServerConfig::default()).await);
    let relay = tests::relay::Relay::to(one.address()).await;
    let client = probing_client(&[relay.address(), other.address()], ClientConfig::default()).await;
    relay.set(Mode::BlackHole).await;
    let mut calls = JoinSet::new();
    for _ in 0..48 {
        let call = ProbingClient::new(client.clone()).again("x".repeat(1 << 20)).timeout(Duration::from_secs(6));
        calls.spawn(call.into_future());
    }
    let outcomes = calls.join_all().await;
    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} failed, the first: {:#?}", failed.len(), failed[0]);
}

#[tokio::test]
async fn a_program_is_told_when_an_address_falls_silent_and_when_it_speaks_again() {
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
async fn an_attempt_that_has_had_its_time_finds_a_silence_that_began_after_it() {
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
async fn a_provider_that_may_only_be_slow_is_waited_for_where_there_is_no_other() {
    let (_probe, _serving, relay, client) = probe(ClientConfig::default()).await;
    let probing = ProbingClient::new(client.clone());
    relay.set(Mode::BlackHole).await;
    let slow = Task::begin(probing.again("x".to_owned()).timeout(Duration::from_secs(6)));
    until_endpoints(&client, |all| matches!(all.get(&relay.address()), Some(EndpointState::Suspended))).await;
    let next = Task::begin(probing.echo("y".to_owned()).timeout(Duration::from_secs(30)));
    tokio::task::yield_now().await;
    relay.set(Mode::Pass).await;
    assert_eq!(slow.end().await.unwrap(), "x");
    assert_eq!(next.end().await.unwrap(), "y");
}

#[tokio::test]
async fn a_call_that_waits_for_a_resting_provider_is_sent_when_the_rest_is_over() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default().with_max_in_flight(1)).await;
    let client = probing_client(&[serving.address()], ClientConfig::default()).await;
    let probing = ProbingClient::new(client.clone());
    let held = Task::begin(probing.hold(1).timeout(Duration::from_secs(30)));
    probe.until(Event::Began(1)).await;
    let refused = probing.echo("x".to_owned()).await.unwrap_err();
    assert_eq!((refused.code(), refused.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{refused}");
    let patient = Task::begin(probing.echo("y".to_owned()).wait_for_ready(true).timeout(Duration::from_secs(30)));
    probe.release(1);
    held.end().await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(patient.end().await.unwrap(), "y");
    assert!(begun.elapsed() < Duration::from_secs(15), "it waited for its deadline");
}

#[tokio::test]
async fn a_call_that_is_asked_to_come_later_comes_later() {
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
    let refusal = ResponseHead { status, metadata: Metadata::default(), retry_after: Some(ms(50)) };
    provider.send(&response(request.header.id, &refusal, &[])).await;
    let again = provider.receive_type(FrameType::Request).await;
    // A text of one byte, as it was sent.
    let fine = ResponseHead { status: Status::new(Code::Ok, ""), metadata: Metadata::default(), retry_after: None };
    provider.send(&response(again.header.id, &fine, &again.body[again.body.len() - 9..])).await;
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
async fn a_provider_that_is_silent_for_a_moment_outlives_a_registry_that_forgot_it() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = tests::relay::Relay::to(serving.address()).await;
    let registry = rpc_registry::connect("memory:silent-and-forgotten").await.unwrap();
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
    // Whatever the client makes of the list, it does now.
    drop(tokio::time::timeout(ms(500), changes.changed()).await);
    relay.set(Mode::Pass).await;
    assert_eq!(call.end().await.unwrap(), "x");
    probing.again("y".to_owned()).wait_for_ready(true).await.unwrap();
}

/// Answers whatever comes as a web server would.
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

/// Says what it hears.
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

/// Who takes a provider's port.
enum Impostor {
    Web,
    Echo,
    /// An msnb server that serves something else.
    Other,
}

/// Lets somebody else take the port of one of two providers under load: the list says that it is one still.
async fn take_over(impostor: Impostor) {
    let directory = tempfile::tempdir().unwrap();
    let mut gone = Branch::open(directory.path(), ms(5)).await;
    let sound = Branch::open(directory.path(), ms(5)).await;
    let client = client_of(&[&gone, &sound], ClientConfig::default()).await;
    let load = Load::begin(&client, 16, &Kind::ALL, TIMEOUT);
    load.until_answers(&[gone.behind(), sound.behind()], 20).await;

    let was_accepted = gone.relay.count().accepted;
    gone.kill().await;
    let mut taken = JoinSet::new();
    match impostor {
        Impostor::Web => drop(taken.spawn(web_server(TcpListener::bind(gone.behind()).await.unwrap()))),
        Impostor::Echo => drop(taken.spawn(echo_server(TcpListener::bind(gone.behind()).await.unwrap()))),
        Impostor::Other => gone.replace_with(Server::builder().service(Probe::default().server())).await,
    }
    gone.relay.until(|count| count.accepted > was_accepted).await;
    load.until_answers(&[sound.behind()], 2_000).await;
    let tally = load.end().await;
    client.close().await;

    eprintln!("{}", tally.line());
    tally.expect_none_failed(Kind::Idempotent);
    let executions = executions(directory.path());
    assert!(executions.values().all(|times| *times == 1), "something ran twice");
    for failure in &tally.failures {
        // What was in flight when the provider died; nobody else has anything to say.
        assert_eq!(failure.delivery, Delivery::Unknown, "{failure:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_server_on_a_providers_port_answers_no_call() {
    take_over(Impostor::Web).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echo_on_a_providers_port_answers_no_call() {
    take_over(Impostor::Echo).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_service_on_a_providers_port_fails_no_call() {
    take_over(Impostor::Other).await;
}

#[tokio::test]
async fn a_silent_provider_costs_a_third_of_the_timeout_and_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let (silent, sound) =
        (Branch::open(directory.path(), Duration::ZERO).await, Branch::open(directory.path(), Duration::ZERO).await);
    let client = client_of(&[&silent, &sound], ClientConfig::default()).await;
    let ledger = LedgerClient::new(client.clone());
    silent.relay.set(Mode::HoldAnswers).await;
    // Of so many at once, some go to either.
    let mut calls = JoinSet::new();
    for nonce in 0..16 {
        calls.spawn(ledger.look_up(nonce).timeout(TIMEOUT).explain());
    }
    let mut hedged = 0;
    for (outcome, explanation) in in_time(calls.join_all()).await {
        outcome.unwrap();
        if explanation.attempts.len() == 1 {
            assert_eq!(explanation.attempts[0].address, sound.address());
            continue;
        }
        hedged += 1;
        let [first, second] = &explanation.attempts[..] else { panic!("{explanation}") };
        assert_eq!((first.address, second.address), (silent.address(), sound.address()), "{explanation}");
        assert!(first.ended.is_none() && second.error.is_none(), "{explanation}");
        assert!(second.sent >= TIMEOUT / 3 && explanation.took < TIMEOUT, "{explanation}");
        let text = explanation.to_string();
        assert!(text.contains("abandoned") && text.contains("answered after"), "{text}");
    }
    assert!(hedged > 0);
    // Nobody is sent there while it is silent.
    for nonce in 16..48 {
        let (outcome, explanation) = in_time(ledger.look_up(nonce).timeout(TIMEOUT).explain()).await;
        outcome.unwrap();
        assert_eq!(explanation.attempts.len(), 1, "{explanation}");
    }
    silent.relay.set(Mode::Pass).await;
    until_ready(&client, &[silent.address()]).await;
}
