//! Layers of clients, servers and services, and the rate limit of rpc-layers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_client::Client;
use rpc_core::{
    Code, Context, Delivery, Error, Local, Reply, Status, Token, Tokens,
    frame::FrameType,
    layer::{
        ClientLayer, ClientNext, IncomingCall, Layered, LayeredService, OutgoingCall, Served, ServerLayer, ServerNext,
    },
};
use rpc_layers::RateLimit;
use rpc_server::{Server, ServerBuilder, ServerConfig};
use tests::{
    Task, in_time, patient,
    probe::{Event, Probe, ProbingClient, ProbingServer},
    raw_peer::{RawFrame, RawHead, RawPeer},
    scripted::{Scripted, head, request},
    serving::Serving,
    wire::{WireClient, WireServer, Wired},
};
use tokio::{sync::watch, task};

use crate::caller;

/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(50);

/// A layer that records calls and outcomes. Clones share the record.
#[derive(Clone, Default)]
struct Recorder {
    name: &'static str,
    lines: Arc<watch::Sender<Vec<String>>>,
}

impl Recorder {
    fn named(&self, name: &'static str) -> Self {
        Self { name, ..self.clone() }
    }

    fn record(&self, line: String) {
        self.lines.send_modify(|lines| lines.push(line));
    }

    async fn until(&self, line: &str) {
        let mut lines = self.lines.subscribe();
        let waited = in_time(lines.wait_for(|lines| lines.iter().any(|recorded| recorded == line))).await;
        drop(waited.expect("the recorder owns the sender"));
    }

    fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }
}

/// Records the outcome of a call on drop.
struct Ending<'a>(&'a Recorder, &'a Context, &'a str);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.record(format!("{}: {} ended with {:?}", self.0.name, self.2, self.1.outcome()));
    }
}

impl ServerLayer for Recorder {
    async fn serve(&self, arrival: &IncomingCall, next: ServerNext<'_>) -> Served {
        let method = arrival.method().name();
        let tenant = arrival.context().metadata().get("tenant").unwrap_or("no tenant");
        self.record(format!("{}: {method} for {tenant}", self.name));
        let _ending = Ending(self, arrival.context(), method);
        let served = next.run().await;
        self.record(format!("{}: {}", self.name, served.code()));
        served
    }
}

impl ClientLayer for Recorder {
    async fn call(&self, mut call: OutgoingCall, next: ClientNext<'_>) -> Result<Reply, Error> {
        self.record(format!("{}: {}", self.name, call.method.name()));
        call.options.metadata.insert("tenant", self.name).expect("the metadata is within its limit");
        let outcome = next.run(call).await;
        let ended = outcome.as_ref().map(|reply| reply.is_application_error).map_err(Error::code);
        self.record(format!("{}: {ended:?}", self.name));
        outcome
    }
}

async fn serving(recorder: &Recorder, probe: &Probe) -> Serving {
    Serving::start(layered(recorder, probe)).await
}

fn layered(recorder: &Recorder, probe: &Probe) -> ServerBuilder {
    Server::builder().layer(recorder.named("server")).service(probe.server())
}

#[tokio::test]
async fn server_layers_wrap_all_services_in_order() {
    let (recorder, probe) = (Recorder::default(), Probe::default());
    let server = Server::builder()
        .service(probe.server())
        .layer(recorder.named("first"))
        .layer(recorder.named("second"))
        .service(WireServer::new(Wired::default()));
    let serving = Serving::start(server).await;
    let (client, address) = (caller(), serving.address());
    let (probing, wire) = (ProbingClient::new(client.clone()), WireClient::new(client));
    probing.echo("x".to_owned()).metadata("tenant", "a").address(address).await.expect("the call succeeds");
    wire.echo("x".to_owned()).address(address).await.expect("the call succeeds");
    probing.fail("why".to_owned()).address(address).await.expect_err("the service returns an error");
    let expected =
        ["echo for a", "echo for no tenant", "fail for no tenant"].into_iter().zip(["Ok", "Ok", "Application"]);
    let expected: Vec<_> = expected
        .flat_map(|(before, after)| {
            let ended = format!("{} ended with Some({after})", &before[..4]);
            [
                format!("first: {before}"),
                format!("second: {before}"),
                format!("second: {after}"),
                format!("second: {ended}"),
                format!("first: {after}"),
                format!("first: {ended}"),
            ]
        })
        .collect();
    assert_eq!(recorder.lines(), expected);
}

#[tokio::test]
async fn service_layer_wraps_only_its_service() {
    let (recorder, probe) = (Recorder::default(), Probe::default());
    let server = Server::builder()
        .service(LayeredService::new(probe.server()).layer(recorder.named("one")))
        .service(WireServer::new(Wired::default()));
    let serving = Serving::start(server).await;
    let client = caller();
    WireClient::new(client.clone()).echo("x".to_owned()).address(serving.address()).await.expect("the call succeeds");
    assert!(recorder.lines().is_empty());
    ProbingClient::new(client).echo("x".to_owned()).address(serving.address()).await.expect("the call succeeds");
    assert!(!recorder.lines().is_empty());
}

#[tokio::test]
async fn unknown_methods_bypass_layers() {
    let (recorder, probe) = (Recorder::default(), Probe::default());
    let serving = serving(&recorder, &probe).await;
    let mut peer = RawPeer::connect(serving.address()).await;
    for route in ["test.Probe:1.0/nothing", "no.Such:1.0/echo"] {
        let answer = peer.ask(&RawFrame::request(1, &RawHead::route(route), "{}")).await;
        assert_eq!(answer.status().0, Code::Unimplemented as u8);
    }
    assert!(recorder.lines().is_empty());
    assert_eq!(serving.handle().counts().unknown, 2);
}

#[tokio::test]
async fn denied_calls_bypass_layers() {
    let (recorder, probe) = (Recorder::default(), Probe::default());
    let tokens = Tokens::new().with("ann", "the secret of ann, the caller").expect("the token is valid");
    let around_one = LayeredService::new(probe.server()).layer(recorder.named("one"));
    let server = Server::builder().layer(recorder.named("all")).service(around_one).require_token(tokens);
    let serving = Serving::start(server.allow("test.Probe:1.0/echo", ["bob"])).await;
    let token = Token::new("ann", "the secret of ann, the caller").expect("the token is valid");
    let probing =
        ProbingClient::new(Client::builder().config(patient()).token(token).build().expect("the config is valid"));
    let error = probing.echo("x".to_owned()).address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "{error:?}");
    assert_eq!((recorder.lines(), probe.events()), (vec![], vec![]));
    probing.again("x".to_owned()).address(serving.address()).await.expect("it is allowed");
    assert_eq!(recorder.lines()[..2], ["all: again for no tenant", "one: again for no tenant"]);
}

/// Rejects every call before the handler.
struct Guard(Option<Duration>);

impl ServerLayer for Guard {
    async fn serve(&self, _: &IncomingCall, next: ServerNext<'_>) -> Served {
        // A layer can reject after it has waited.
        task::yield_now().await;
        match self.0 {
            None => next.reject(Status::new(Code::PermissionDenied, "not you")),
            Some(wait) => next.reject_until(Status::new(Code::ResourceExhausted, "not now"), wait),
        }
    }
}

#[tokio::test]
async fn layer_rejects_call_before_handler_executes() {
    let retry_after = Duration::from_millis(1);
    for (guard, code, delivery) in [
        (Guard(None), Code::PermissionDenied, Delivery::NotExecuted),
        (Guard(Some(retry_after)), Code::ResourceExhausted, Delivery::NotExecuted),
    ] {
        let (recorder, probe) = (Recorder::default(), Probe::default());
        let serving = Serving::start(layered(&recorder, &probe).layer(guard)).await;
        let probing = ProbingClient::new(caller());
        let error = probing.echo("x".to_owned()).address(serving.address()).await.unwrap_err();
        assert_eq!((error.code(), error.delivery()), (code, delivery), "{error:?}");
        assert!(probe.events().is_empty(), "the handler did not execute");
        assert_eq!(recorder.lines()[1], format!("server: {code}"), "an outer layer observes the rejection");
    }
}

/// Drops the call and never returns.
struct DropsCall;

impl ServerLayer for DropsCall {
    async fn serve(&self, _: &IncomingCall, next: ServerNext<'_>) -> Served {
        drop(next);
        std::future::pending().await
    }
}

#[tokio::test]
async fn server_answers_call_that_layer_drops() {
    let (recorder, probe) = (Recorder::default(), Probe::default());
    let serving = Serving::start(layered(&recorder, &probe).layer(DropsCall)).await;
    let probing = ProbingClient::new(caller());
    let error = probing.echo("x".to_owned()).address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error:?}");
}

#[tokio::test]
async fn layer_observes_outcome_of_interrupted_call() {
    let (recorder, probe) = (Recorder::default(), Probe::default());
    let config = ServerConfig::default().with_max_unattended(Duration::from_millis(20));
    let serving = Serving::start(layered(&recorder, &probe).config(config)).await;
    let address = serving.address();
    let probing = ProbingClient::new(caller());

    // The peer sends no CANCEL, so the server's own deadline ends the call.
    let mut peer = RawPeer::connect(address).await;
    let head = RawHead::route("test.Probe:1.0/hold_briefly").with(RawHead::TIMEOUT, 50_u32.to_be_bytes());
    let answer = peer.ask(&RawFrame::request(1, &head, r#"{"key":1}"#)).await;
    assert_eq!(answer.status().0, Code::DeadlineExceeded as u8);
    recorder.until("server: hold_briefly ended with Some(DeadlineExceeded)").await;

    let held = Task::begin(probing.hold(2).address(address).timeout(LONG));
    probe.until(Event::Began(2)).await;
    held.abort().await;
    recorder.until("server: hold ended with Some(Cancelled)").await;

    for at_once in [true, false] {
        let error = probing.panic(at_once).address(address).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal);
    }
    recorder.until("server: panic ended with Some(Internal)").await;

    // A one-way call, which continues after its connection has ended.
    let head = RawHead::route("test.Probe:1.0/hold_again").with(RawHead::CALL_FLAGS, [1]);
    RawPeer::connect(address).await.send(RawFrame::request(1, &head, r#"{"key":3}"#).to_bytes()).await;
    recorder.until("server: hold_again ended with Some(DeadlineExceeded)").await;
}

#[tokio::test]
async fn layer_observes_outcome_of_once_call() {
    let recorder = Recorder::default();
    let service = WireServer::new(Wired::default());
    let serving = Serving::start(Server::builder().service(service).layer(recorder.named("server"))).await;
    let wire = WireClient::new(caller());
    // On a busy machine, the timeout of a call may pass before the server receives it.
    let calls = async {
        loop {
            let call = wire.once_released().address(serving.address()).timeout(Duration::from_millis(20));
            call.await.expect_err("the call exceeds its timeout");
        }
    };
    // Both futures are safe to drop.
    tokio::select! {
        () = recorder.until("server: once_released ended with Some(DeadlineExceeded)") => {}
        () = calls => {}
    }
}

/// Records the task that executes each call.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<task::Id>>>);

impl ServerLayer for Tasks {
    async fn serve(&self, _: &IncomingCall, next: ServerNext<'_>) -> Served {
        self.0.lock().expect("the lock is not poisoned").push(task::id());
        let served = next.run().await;
        self.0.lock().expect("the lock is not poisoned").push(task::id());
        served
    }
}

#[tokio::test]
async fn layers_keep_immediate_handlers_inline() {
    let (tasks, probe) = (Tasks::default(), Probe::default());
    let server = Server::builder().service(probe.server()).layer(tasks.clone()).layer(Recorder::default());
    let serving = Serving::start(server).await;
    let probing = ProbingClient::new(caller());
    for _ in 0..3 {
        probing.echo("x".to_owned()).address(serving.address()).await.expect("the call succeeds");
    }
    let seen = tasks.0.lock().expect("the lock is not poisoned").clone();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|id| *id == seen[0]), "the connection's own task executes all calls: {seen:?}");
}

#[tokio::test]
async fn client_layers_wrap_calls_in_order() {
    let (recorder, probe) = (Recorder::default(), Probe::default());
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let layered = Layered::new(caller()).layer(recorder.named("first")).layer(recorder.named("second"));
    let (probing, address) = (ProbingClient::new(layered), serving.address());
    let seen = probing.context().address(address).await.expect("the call succeeds");
    assert_eq!(seen.metadata("tenant"), Some("first"), "the outer layer's value comes first");
    assert_eq!(seen.metadata.len(), 2);
    probing.fail("why".to_owned()).address(address).await.expect_err("the service returns an error");
    probing.panic(true).address(address).await.expect_err("the handler panics");
    let expected = ["context", "fail", "panic"].into_iter().zip(["Ok(false)", "Ok(true)", "Err(Internal)"]);
    let expected: Vec<_> = expected
        .flat_map(|(name, ended)| {
            [("first", name), ("second", name), ("second", ended), ("first", ended)]
                .map(|(layer, event)| format!("{layer}: {event}"))
        })
        .collect();
    assert_eq!(recorder.lines(), expected);
}

#[tokio::test]
async fn explain_covers_call_through_layers() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let probing = ProbingClient::new(Layered::new(caller()).layer(Recorder::default()));
    let (outcome, explanation) = probing.echo("x".to_owned()).address(serving.address()).explain().await;
    outcome.expect("the call succeeds");
    assert_eq!(explanation.route, "test.Probe:1.0/echo");
    assert_eq!(explanation.attempts.len(), 1, "{explanation}");
}

/// Waits forever, before or after the call.
struct Slow {
    before: bool,
}

impl ClientLayer for Slow {
    async fn call(&self, call: OutgoingCall, next: ClientNext<'_>) -> Result<Reply, Error> {
        if self.before {
            std::future::pending::<()>().await;
        }
        let _outcome = next.run(call).await;
        std::future::pending().await
    }
}

#[tokio::test]
async fn deadline_ends_call_inside_layer() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    for (before, delivery, executions) in [(true, Delivery::NotExecuted, 0), (false, Delivery::Unknown, 1)] {
        let probing = ProbingClient::new(Layered::new(caller()).layer(Slow { before }));
        let text = format!("before: {before}");
        let call = probing.echo(text.clone()).address(serving.address()).timeout(Duration::from_millis(200));
        let error = in_time(call).await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(error.delivery(), delivery, "{error:?}");
        assert_eq!(probe.count(|event| *event == Event::Echoed(text.clone())), executions);
    }
    // Below the layers the client itself enforces the deadline and reports the peer.
    let probing = ProbingClient::new(Layered::new(caller()).layer(Recorder::default()));
    let error = probing.hold_briefly(1).address(serving.address()).await.unwrap_err();
    assert_eq!((error.is_timeout(), error.peer()), (true, Some(serving.address())), "{error:?}");
}

#[tokio::test]
async fn dropping_layered_call_drops_its_handler() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let probing = ProbingClient::new(Layered::new(caller()).layer(Recorder::default()));
    let held = Task::begin(probing.hold(1).address(serving.address()).timeout(LONG));
    probe.until(Event::Began(1)).await;
    held.abort().await;
    probe.until(Event::Dropped(1)).await;
}

#[tokio::test]
async fn layers_wrap_in_process_service() {
    let (recorder, probe) = (Recorder::default(), Probe::default());
    let service = LayeredService::new(ProbingServer::new(probe)).layer(recorder.named("server"));
    let probing = ProbingClient::new(Layered::new(Local::new(service)).layer(recorder.named("client")));
    assert_eq!(probing.echo("x".to_owned()).await.expect("the call succeeds"), "x");
    assert_eq!(recorder.lines()[..2], ["client: echo", "server: echo for client"]);
}

#[tokio::test]
async fn rate_limit_rejects_calls_with_retry_after() {
    let probe = Probe::default();
    // The limit refills by less than one call during the test.
    let server = Server::builder().service(probe.server()).layer(RateLimit::per_peer(0.001, 3.0));
    let serving = Serving::start(server).await;
    let address = serving.address();
    for number in 0..3 {
        // The limit covers all connections of an address.
        let probing = ProbingClient::new(caller());
        probing.echo(number.to_string()).address(address).await.expect("the call succeeds");
    }
    let error = ProbingClient::new(caller()).echo("over".to_owned()).address(address).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{error:?}");
    assert!(error.retry_after().is_some_and(|wait| wait > Duration::from_secs(600)), "{error:?}");
    assert_eq!(probe.events().len(), 3, "the rejected call did not execute");
    // Another address has its own limit.
    let mut peer = Scripted::connect_from("127.0.0.2", address).await;
    peer.send(&request(1, "test.Probe:1.0/echo", LONG, &"x")).await;
    let answer = peer.receive_type(FrameType::Response).await;
    assert_eq!(head(answer).0.status.code(), Code::Ok);
}
