//! Layers see every call, before and after, at both ends; and those that rpc-layers has do what they say.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_client::Client;
use rpc_core::{
    Code, Context, Delivery, Error, Local, Reply, Status, Token, Tokens,
    frame::FrameType,
    layer::{Arrival, ClientLayer, ClientNext, Layered, LayeredService, Outgoing, Served, ServerLayer, ServerNext},
};
use rpc_layers::RateLimit;
use rpc_server::{Server, ServerBuilder, ServerConfig};
use tests::{
    Task, in_time,
    probe::{Event, Probe, ProbingClient, ProbingServer},
    raw_peer::{RawFrame, RawHead, RawPeer},
    scripted::{Scripted, head, request},
    serving::Serving,
    wire::{WireClient, WireServer, Wired},
};
use tokio::{sync::watch, task};

/// More time than a call needs whose answer is waited for.
const LONG: Duration = Duration::from_secs(50);

fn caller() -> Client {
    Client::builder().build().expect("a valid config")
}

/// Writes down what it sees. Clones write into the same.
#[derive(Clone, Default)]
struct Scribe {
    name: &'static str,
    lines: Arc<watch::Sender<Vec<String>>>,
}

impl Scribe {
    fn named(&self, name: &'static str) -> Self {
        Self { name, ..self.clone() }
    }

    fn note(&self, line: String) {
        self.lines.send_modify(|lines| lines.push(line));
    }

    async fn until(&self, line: &str) {
        let mut lines = self.lines.subscribe();
        let waited = in_time(lines.wait_for(|lines| lines.iter().any(|known| known == line))).await;
        drop(waited.expect("the scribe lives"));
    }

    fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }
}

/// Notes how a call has ended, also when it is dropped.
struct Ending<'a>(&'a Scribe, &'a Context, &'a str);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.note(format!("{}: {} ended with {:?}", self.0.name, self.2, self.1.outcome()));
    }
}

impl ServerLayer for Scribe {
    async fn serve(&self, arrival: &Arrival, next: ServerNext<'_>) -> Served {
        let method = arrival.method().name();
        let tenant = arrival.context().metadata().get("tenant").unwrap_or("nobody");
        self.note(format!("{}: {method} for {tenant}", self.name));
        let _ending = Ending(self, arrival.context(), method);
        let served = next.run().await;
        self.note(format!("{}: {}", self.name, served.code()));
        served
    }
}

impl ClientLayer for Scribe {
    async fn call(&self, mut call: Outgoing, next: ClientNext<'_>) -> Result<Reply, Error> {
        self.note(format!("{}: {}", self.name, call.method.name()));
        call.options.metadata.insert("tenant", self.name).expect("there is room");
        let outcome = next.run(call).await;
        let ended = outcome.as_ref().map(|reply| reply.is_application_error).map_err(Error::code);
        self.note(format!("{}: {ended:?}", self.name));
        outcome
    }
}

async fn serving(scribe: &Scribe, probe: &Probe) -> Serving {
    Serving::start(layered(scribe, probe)).await
}

fn layered(scribe: &Scribe, probe: &Probe) -> ServerBuilder {
    Server::builder().layer(scribe.named("server")).service(probe.server())
}

#[tokio::test]
async fn server_layers_wrap_all_services_in_order() {
    let (scribe, probe) = (Scribe::default(), Probe::default());
    let server = Server::builder()
        .service(probe.server())
        .layer(scribe.named("first"))
        .layer(scribe.named("second"))
        .service(WireServer::new(Wired::default()));
    let serving = Serving::start(server).await;
    let (client, address) = (caller(), serving.address());
    let (probing, wire) = (ProbingClient::new(client.clone()), WireClient::new(client));
    probing.echo("x".to_owned()).metadata("tenant", "a").address(address).await.expect("it is answered");
    wire.echo("x".to_owned()).address(address).await.expect("it is answered");
    probing.fail("why".to_owned()).address(address).await.expect_err("it fails");
    let expected = ["echo for a", "echo for nobody", "fail for nobody"].into_iter().zip(["Ok", "Ok", "Application"]);
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
    assert_eq!(scribe.lines(), expected);
}

#[tokio::test]
async fn service_layer_wraps_only_its_service() {
    let (scribe, probe) = (Scribe::default(), Probe::default());
    let server = Server::builder()
        .service(LayeredService::new(probe.server()).layer(scribe.named("one")))
        .service(WireServer::new(Wired::default()));
    let serving = Serving::start(server).await;
    let client = caller();
    WireClient::new(client.clone()).echo("x".to_owned()).address(serving.address()).await.expect("it is answered");
    assert!(scribe.lines().is_empty());
    ProbingClient::new(client).echo("x".to_owned()).address(serving.address()).await.expect("it is answered");
    assert!(!scribe.lines().is_empty());
}

#[tokio::test]
async fn unknown_methods_bypass_layers() {
    let (scribe, probe) = (Scribe::default(), Probe::default());
    let serving = serving(&scribe, &probe).await;
    let mut peer = RawPeer::connect(serving.address()).await;
    for route in ["test.Probe:1.0/nothing", "no.Such:1.0/echo"] {
        let answer = peer.ask(&RawFrame::request(1, &RawHead::route(route), "{}")).await;
        assert_eq!(answer.status().0, Code::Unimplemented as u8);
    }
    assert!(scribe.lines().is_empty());
    assert_eq!(serving.handle().counts().unknown, 2);
}

#[tokio::test]
async fn denied_calls_bypass_layers() {
    let (scribe, probe) = (Scribe::default(), Probe::default());
    let tokens = Tokens::new().with("ann", "the secret of ann, the caller").expect("a valid token");
    let around_one = LayeredService::new(probe.server()).layer(scribe.named("one"));
    let server = Server::builder().layer(scribe.named("all")).service(around_one).require_token(tokens);
    let serving = Serving::start(server.allow("test.Probe:1.0/echo", ["bob"])).await;
    let token = Token::new("ann", "the secret of ann, the caller").expect("a valid token");
    let probing = ProbingClient::new(Client::builder().token(token).build().expect("a valid config"));
    let error = probing.echo("x".to_owned()).address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "{error:?}");
    assert_eq!((scribe.lines(), probe.events()), (vec![], vec![]));
    probing.again("x".to_owned()).address(serving.address()).await.expect("it is allowed");
    assert_eq!(scribe.lines()[..2], ["all: again for nobody", "one: again for nobody"]);
}

/// Refuses before the handler.
struct Guard(Option<Duration>);

impl ServerLayer for Guard {
    async fn serve(&self, _: &Arrival, next: ServerNext<'_>) -> Served {
        // Also after a wait.
        task::yield_now().await;
        match self.0 {
            None => next.refuse(Status::new(Code::PermissionDenied, "not you")),
            Some(wait) => next.refuse_until(Status::new(Code::ResourceExhausted, "not now"), wait),
        }
    }
}

#[tokio::test]
async fn layer_rejects_call_before_handler_executes() {
    let rest = Duration::from_millis(1);
    for (guard, code, delivery) in [
        (Guard(None), Code::PermissionDenied, Delivery::Answered),
        (Guard(Some(rest)), Code::ResourceExhausted, Delivery::NotExecuted),
    ] {
        let (scribe, probe) = (Scribe::default(), Probe::default());
        let serving = Serving::start(layered(&scribe, &probe).layer(guard)).await;
        let probing = ProbingClient::new(caller());
        let error = probing.echo("x".to_owned()).address(serving.address()).await.unwrap_err();
        assert_eq!((error.code(), error.delivery()), (code, delivery), "{error:?}");
        assert!(probe.events().is_empty(), "the handler did not run");
        assert_eq!(scribe.lines()[1], format!("server: {code}"), "who stands before it learns of it");
    }
}

/// Neither runs nor refuses.
struct Hole;

impl ServerLayer for Hole {
    async fn serve(&self, _: &Arrival, next: ServerNext<'_>) -> Served {
        drop(next);
        std::future::pending().await
    }
}

#[tokio::test]
async fn server_answers_call_that_layer_drops() {
    let (scribe, probe) = (Scribe::default(), Probe::default());
    let serving = Serving::start(layered(&scribe, &probe).layer(Hole)).await;
    let probing = ProbingClient::new(caller());
    let error = probing.echo("x".to_owned()).address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error:?}");
}

#[tokio::test]
async fn layer_observes_outcome_of_interrupted_call() {
    let (scribe, probe) = (Scribe::default(), Probe::default());
    let config = ServerConfig::default().with_max_unattended(Duration::from_millis(20));
    let serving = Serving::start(layered(&scribe, &probe).config(config)).await;
    let address = serving.address();
    let probing = ProbingClient::new(caller());

    probing.hold_briefly(1).address(address).await.expect_err("it takes too long");
    scribe.until("server: hold_briefly ended with Some(DeadlineExceeded)").await;

    let held = Task::begin(probing.hold(2).address(address).timeout(LONG));
    probe.until(Event::Began(2)).await;
    held.abort().await;
    scribe.until("server: hold ended with Some(Cancelled)").await;

    for at_once in [true, false] {
        let error = probing.panic(at_once).address(address).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal);
    }
    scribe.until("server: panic ended with Some(Internal)").await;

    // One-way, and so beyond the reach of its caller.
    let head = RawHead::route("test.Probe:1.0/hold_again").with(RawHead::CALL_FLAGS, [1]);
    RawPeer::connect(address).await.send(RawFrame::request(1, &head, r#"{"key":3}"#).to_bytes()).await;
    scribe.until("server: hold_again ended with Some(DeadlineExceeded)").await;
}

#[tokio::test]
async fn layer_observes_outcome_of_once_call() {
    let scribe = Scribe::default();
    let service = WireServer::new(Wired::default());
    let serving = Serving::start(Server::builder().service(service).layer(scribe.named("server"))).await;
    let wire = WireClient::new(caller());
    let call = wire.once_released().address(serving.address()).timeout(Duration::from_millis(20));
    call.await.expect_err("nobody releases it");
    scribe.until("server: once_released ended with Some(DeadlineExceeded)").await;
}

/// Notes on which task calls are begun.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<task::Id>>>);

impl ServerLayer for Tasks {
    async fn serve(&self, _: &Arrival, next: ServerNext<'_>) -> Served {
        self.0.lock().expect("no one panics").push(task::id());
        let served = next.run().await;
        self.0.lock().expect("no one panics").push(task::id());
        served
    }
}

#[tokio::test]
async fn layers_keep_immediate_handlers_inline() {
    let (tasks, probe) = (Tasks::default(), Probe::default());
    let server = Server::builder().service(probe.server()).layer(tasks.clone()).layer(Scribe::default());
    let serving = Serving::start(server).await;
    let probing = ProbingClient::new(caller());
    for _ in 0..3 {
        probing.echo("x".to_owned()).address(serving.address()).await.expect("it is answered");
    }
    let seen = tasks.0.lock().expect("no one panics").clone();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|id| *id == seen[0]), "all on the connection's own task: {seen:?}");
}

#[tokio::test]
async fn client_layers_wrap_calls_in_order() {
    let (scribe, probe) = (Scribe::default(), Probe::default());
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let layered = Layered::new(caller()).layer(scribe.named("first")).layer(scribe.named("second"));
    let (probing, address) = (ProbingClient::new(layered), serving.address());
    let seen = probing.context().address(address).await.expect("it is answered");
    assert_eq!(seen.metadata("tenant"), Some("first"), "the first that is found");
    assert_eq!(seen.metadata.len(), 2);
    probing.fail("why".to_owned()).address(address).await.expect_err("it fails");
    probing.panic(true).address(address).await.expect_err("it panics");
    let expected = ["context", "fail", "panic"].into_iter().zip(["Ok(false)", "Ok(true)", "Err(Internal)"]);
    let expected: Vec<_> = expected
        .flat_map(|(name, ended)| {
            [("first", name), ("second", name), ("second", ended), ("first", ended)]
                .map(|(layer, what)| format!("{layer}: {what}"))
        })
        .collect();
    assert_eq!(scribe.lines(), expected);
}

#[tokio::test]
async fn explain_covers_call_through_layers() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let probing = ProbingClient::new(Layered::new(caller()).layer(Scribe::default()));
    let (outcome, explanation) = probing.echo("x".to_owned()).address(serving.address()).explain().await;
    outcome.expect("it is answered");
    assert_eq!(explanation.route, "test.Probe:1.0/echo");
    assert_eq!(explanation.attempts.len(), 1, "{explanation}");
}

/// Waits for ever, before or after.
struct Slow {
    before: bool,
}

impl ClientLayer for Slow {
    async fn call(&self, call: Outgoing, next: ClientNext<'_>) -> Result<Reply, Error> {
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
    for (before, delivery, ran) in [(true, Delivery::NotExecuted, 0), (false, Delivery::Unknown, 1)] {
        let probing = ProbingClient::new(Layered::new(caller()).layer(Slow { before }));
        let text = format!("before: {before}");
        let call = probing.echo(text.clone()).address(serving.address()).timeout(Duration::from_millis(200));
        let error = in_time(call).await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(error.delivery(), delivery, "{error:?}");
        assert_eq!(probe.count(|event| *event == Event::Echoed(text.clone())), ran);
    }
    // Below the layers the client itself keeps the deadline, and says where the call was.
    let probing = ProbingClient::new(Layered::new(caller()).layer(Scribe::default()));
    let error = probing.hold_briefly(1).address(serving.address()).await.unwrap_err();
    assert_eq!((error.is_timeout(), error.peer()), (true, Some(serving.address())), "{error:?}");
}

#[tokio::test]
async fn dropping_layered_call_drops_its_handler() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let probing = ProbingClient::new(Layered::new(caller()).layer(Scribe::default()));
    let held = Task::begin(probing.hold(1).address(serving.address()).timeout(LONG));
    probe.until(Event::Began(1)).await;
    held.abort().await;
    probe.until(Event::Dropped(1)).await;
}

#[tokio::test]
async fn layers_wrap_in_process_service() {
    let (scribe, probe) = (Scribe::default(), Probe::default());
    let service = LayeredService::new(ProbingServer::new(probe)).layer(scribe.named("server"));
    let probing = ProbingClient::new(Layered::new(Local::new(service)).layer(scribe.named("client")));
    assert_eq!(probing.echo("x".to_owned()).await.expect("it is answered"), "x");
    assert_eq!(scribe.lines()[..2], ["client: echo", "server: echo for client"]);
}

#[tokio::test]
async fn rate_limit_rejects_calls_with_retry_after() {
    let probe = Probe::default();
    // Nothing is saved up again while the test runs.
    let server = Server::builder().service(probe.server()).layer(RateLimit::per_peer(0.001, 3.0));
    let serving = Serving::start(server).await;
    let address = serving.address();
    for number in 0..3 {
        // Connections do not matter.
        let probing = ProbingClient::new(caller());
        probing.echo(number.to_string()).address(address).await.expect("it is answered");
    }
    let error = ProbingClient::new(caller()).echo("over".to_owned()).address(address).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{error:?}");
    assert!(error.retry_after().is_some_and(|wait| wait > Duration::from_secs(600)), "{error:?}");
    assert_eq!(probe.events().len(), 3, "it did not run");
    // Another address has its own allowance.
    let mut peer = Scripted::connect_from("127.0.0.2", address).await;
    peer.send(&request(1, "test.Probe:1.0/echo", LONG, &"x")).await;
    let answer = peer.receive_type(FrameType::Response).await;
    assert_eq!(head(answer).0.status.code(), Code::Ok);
}
