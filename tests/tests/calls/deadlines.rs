//! A call and its handler end at the deadline, also if the handler, the network or the registry does not respond.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Addresses, Code, Delivery, Discovery, Instance, Phase, Registry as _, ServiceId, frame::FrameType};
use rpc_registry::Memory;
use rpc_server::{Server, ServerConfig};
use tests::{
    Task, in_time,
    probe::{Event, Probe, ProbingClient},
    relay::Relay,
    scripted::{Scripted, head, request},
    serving::{PROBE, Serving},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::{Instant, timeout},
};

/// Timeout of a call that must exceed it.
const SHORT: Duration = Duration::from_millis(100);

fn client() -> ProbingClient<Client> {
    ProbingClient::new(Client::builder().build().expect("the defaults are valid"))
}

async fn probe() -> (Probe, Serving) {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    (probe, serving)
}

/// Returns a listener with a full backlog, so that further connects hang.
async fn black_hole() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("cannot create a socket");
    socket.bind("127.0.0.1:0".parse().expect("the address is valid")).expect("no port is free");
    let listener = socket.listen(1).expect("the socket listens");
    let address = listener.local_addr().expect("the listener has an address");
    let mut waiting = Vec::new();
    // Fills the backlog.
    while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(connected.expect("the connect succeeds"));
    }
    (listener, waiting)
}

#[tokio::test]
async fn timeout_drops_handler_and_fails_call() {
    let (probe, serving) = probe().await;
    let error = client().hold(1).address(serving.address()).timeout(SHORT).await.unwrap_err();
    assert!(error.is_timeout() && !error.is_retryable(), "{error:?}");
    // Either the caller or the server notices the deadline first.
    assert!(matches!(error.delivery(), Delivery::Unknown | Delivery::Answered), "{error:?}");
    assert_eq!((error.phase(), error.peer()), (Some(Phase::Wait), Some(serving.address())));
    probe.until(Event::Dropped(1)).await;
}

#[tokio::test]
async fn server_enforces_deadline_and_answers_once() {
    let (probe, serving) = probe().await;
    // This caller does not enforce the deadline itself.
    let mut caller = Scripted::connect(serving.address()).await;
    caller.send(&request(7, "test.Probe:1.0/hold", SHORT, &1_u64)).await;
    let answer = caller.receive_type(FrameType::Response).await;
    assert_eq!(answer.header.id, 7);
    assert_eq!(head(answer).0.status.code(), Code::DeadlineExceeded);
    probe.until(Event::Dropped(1)).await;
    probe.release(1);
    // The next frame answers the next request: the server sends no second answer.
    assert_eq!(caller.ping(1).await.expect("the connection is open").header.frame_type, FrameType::Pong);
    // The caller can reuse the id and receives the new call's answer.
    caller.send(&request(7, "test.Probe:1.0/hold", Duration::from_secs(50), &1_u64)).await;
    assert_eq!(head(caller.receive_type(FrameType::Response).await).0.status.code(), Code::Ok);
}

#[tokio::test]
async fn server_rejects_expired_call() {
    let (probe, serving) = probe().await;
    let mut caller = Scripted::connect(serving.address()).await;
    caller.send(&request(1, "test.Probe:1.0/hold", Duration::ZERO, &1_u64)).await;
    let answer = caller.receive_type(FrameType::Response).await;
    assert_eq!(head(answer).0.status.code(), Code::DeadlineExceeded);
    assert_eq!(probe.events(), []);
}

#[tokio::test]
async fn client_does_not_send_call_with_zero_timeout() {
    let (probe, serving) = probe().await;
    let error = client().hold(1).address(serving.address()).timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::DeadlineExceeded, Delivery::NotExecuted), "{error:?}");
    assert_eq!(probe.events(), []);
}

#[tokio::test]
async fn unanswered_call_ends_at_its_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("no port is free");
    let address = listener.local_addr().expect("the listener has an address");
    let call = Task::begin(client().hold(1).address(address).timeout(SHORT));
    let mut provider = Scripted::accept(&listener).await;
    let sent = provider.receive_type(FrameType::Request).await;
    let error = call.end().await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::DeadlineExceeded, Delivery::Unknown), "{error:?}");
    // The client cancels the call at the provider.
    assert_eq!(provider.receive_type(FrameType::Cancel).await.header.id, sent.header.id);
}

#[tokio::test]
async fn client_discards_late_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("no port is free");
    let address = listener.local_addr().expect("the listener has an address");
    let client = client();
    let call = Task::begin(client.hold(1).address(address).timeout(SHORT));
    let mut provider = Scripted::accept(&listener).await;
    let late = provider.receive_type(FrameType::Request).await;
    assert!(call.end().await.is_err());
    let call = Task::begin(client.hold(2).address(address).timeout(Duration::from_secs(50)));
    let next = provider.receive_type(FrameType::Request).await;
    assert_ne!(late.header.id, next.header.id, "the client does not reuse the id of an unanswered call");
    for (frame, key) in [(late, 1_u64), (next, 2)] {
        let header = rpc_core::frame::Header { frame_type: FrameType::Response, ..frame.header };
        let body = [&[0, 0][..], &key.to_le_bytes()].concat().into();
        provider.send(&rpc_core::frame::Frame { header, body }).await;
    }
    assert_eq!(call.end().await.expect("the call succeeds"), 2);
}

#[tokio::test]
async fn dropping_call_sends_cancel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("no port is free");
    let address = listener.local_addr().expect("the listener has an address");
    let client = client();
    let call = Task::begin(client.hold(1).address(address).timeout(Duration::from_secs(50)));
    let mut provider = Scripted::accept(&listener).await;
    let sent = provider.receive_type(FrameType::Request).await;
    call.abort().await;
    let cancel = provider.receive_type(FrameType::Cancel).await;
    assert_eq!((cancel.header.id, cancel.body.len()), (sent.header.id, 0));
}

#[tokio::test]
async fn dropping_call_drops_its_handler() {
    let (probe, serving) = probe().await;
    let client = client();
    let call = Task::begin(client.hold(1).address(serving.address()).timeout(Duration::from_secs(50)));
    probe.until(Event::Began(1)).await;
    call.abort().await;
    probe.until(Event::Dropped(1)).await;
}

#[tokio::test]
async fn broken_connection_drops_its_handlers() {
    let (probe, serving) = probe().await;
    let relay = Relay::to(serving.address()).await;
    let call = Task::begin(client().hold(1).address(relay.address()).timeout(Duration::from_secs(50)));
    probe.until(Event::Began(1)).await;
    relay.cut();
    probe.until(Event::Dropped(1)).await;
    let error = call.end().await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::Unknown), "{error:?}");
}

#[tokio::test]
async fn cancellation_reaches_tasks_of_handler() {
    let (probe, serving) = probe().await;
    let client = client();
    // The caller drops the call.
    let call = Task::begin(client.watch_over(1).address(serving.address()).timeout(Duration::from_secs(50)));
    probe.until(Event::Began(1)).await;
    assert_eq!(probe.count(|event| *event == Event::Cancelled(1)), 0);
    call.abort().await;
    probe.until(Event::Cancelled(1)).await;
    // The call exceeds its deadline.
    let call = Task::begin(client.watch_over(2).address(serving.address()).timeout(SHORT));
    probe.until_all(&[Event::Began(2), Event::Cancelled(2)]).await;
    assert!(call.end().await.unwrap_err().is_timeout());
    // The connection breaks.
    let relay = Relay::to(serving.address()).await;
    let call = Task::begin(client.watch_over(3).address(relay.address()).timeout(Duration::from_secs(50)));
    probe.until(Event::Began(3)).await;
    relay.cut();
    probe.until(Event::Cancelled(3)).await;
    assert!(call.end().await.is_err());
}

#[tokio::test]
async fn connect_to_black_hole_ends_at_deadline() {
    let (listener, _waiting) = black_hole().await;
    let address = listener.local_addr().expect("the listener has an address");
    // The timeout is shorter than the connect timeout.
    let error = in_time(client().hold(1).address(address).timeout(SHORT)).await.unwrap_err();
    assert!(matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded), "{error:?}");
    assert_eq!((error.phase(), error.delivery()), (Some(Phase::Connect), Delivery::NotExecuted), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn connect_to_black_hole_ends_at_connect_timeout() {
    let (listener, _waiting) = black_hole().await;
    let address = listener.local_addr().expect("the listener has an address");
    let config = ClientConfig::default().with_connect_timeout(SHORT);
    let client = ProbingClient::new(Client::builder().config(config).build().expect("the config is valid"));
    // The timeout is far longer than the test may take.
    let call = client.hold(1).address(address).timeout(Duration::from_secs(3600));
    let error = in_time(call).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::NotExecuted), "{error:?}");
}

/// A registry whose list a test sets.
#[derive(Debug)]
struct TestRegistry(watch::Sender<Option<Arc<[Instance]>>>);

impl Discovery for TestRegistry {
    fn watch(&self, _: &ServiceId) -> Addresses {
        self.0.subscribe()
    }

    fn url(&self) -> &str {
        "test://a-registry"
    }
}

#[tokio::test]
async fn deadline_error_names_unresponsive_registry() {
    let (probe, serving) = probe().await;
    let registry = Arc::new(TestRegistry(watch::Sender::new(None)));
    let client = Client::builder().registry(Arc::clone(&registry) as _).build().expect("the config is valid");
    let client = ProbingClient::new(client);
    let begun = Instant::now();
    let error = in_time(client.hold(1).timeout(SHORT)).await.unwrap_err();
    assert!(begun.elapsed() >= SHORT, "the call waits for the registry until its deadline");
    assert_eq!((error.code(), error.phase()), (Code::Unavailable, Some(Phase::Resolve)), "{error:?}");
    assert!(error.message().contains("test://a-registry") && error.message().contains("test.Probe:1.0"), "{error}");
    assert!(error.is_retryable());
    // A waiting call continues as soon as the registry answers.
    let mut call = pin!(client.hold(2).timeout(Duration::from_secs(50)));
    assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    registry.0.send_replace(Some([Instance::new(serving.address())].into()));
    probe.release_all();
    assert_eq!(in_time(call).await.expect("the call succeeds"), 2);
}

#[tokio::test]
async fn empty_registry_fails_call_at_once() {
    let registry = Arc::new(Memory::named("no-provider"));
    let client = Client::builder().registry(registry).build().expect("the config is valid");
    // The timeout is far longer than the test may take.
    let error = in_time(ProbingClient::new(client).hold(1).timeout(Duration::from_secs(3600))).await.unwrap_err();
    assert_eq!((error.code(), error.phase()), (Code::Unavailable, Some(Phase::Resolve)), "{error:?}");
    assert!(error.message().contains("memory:no-provider") && error.message().contains("test.Probe:1.0"), "{error}");
}

#[tokio::test]
async fn failing_calls_do_not_starve_other_tasks() {
    let client = Client::builder().registry(Arc::new(Memory::named("starving"))).build().expect("the config is valid");
    let client = ProbingClient::new(client);
    assert!(client.echo("x".to_owned()).await.is_err());
    let other_ran = Arc::new(AtomicBool::new(false));
    let _other = Task::begin({
        let other_ran = Arc::clone(&other_ran);
        async move { other_ran.store(true, Ordering::Relaxed) }
    });
    for _ in 0..10_000 {
        assert!(client.echo("x".to_owned()).await.is_err());
    }
    assert!(other_ran.load(Ordering::Relaxed));
}

#[tokio::test]
async fn refused_connection_fails_call_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("no port is free");
    let address = listener.local_addr().expect("the listener has an address");
    drop(listener);
    let registry = Arc::new(Memory::named("refusing-provider"));
    registry.register(&PROBE, Instance::new(address)).await.expect("the registration succeeds");
    let client = Client::builder().registry(registry).build().expect("the config is valid");
    let error = in_time(ProbingClient::new(client).hold(1).timeout(Duration::from_secs(3600))).await.unwrap_err();
    assert_eq!((error.code(), error.phase()), (Code::Unavailable, Some(Phase::Connect)), "{error:?}");
    assert!(error.is_retryable() && error.message().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn wait_for_ready_waits_until_deadline() {
    let registry = Arc::new(Memory::named("wait-for-ready"));
    let config = ClientConfig::default().with_wait_for_ready(true);
    let client = Client::builder().registry(registry.clone()).config(config).build().expect("the config is valid");
    let client = ProbingClient::new(client);
    let begun = Instant::now();
    let error = in_time(client.hold(1).timeout(SHORT)).await.unwrap_err();
    assert!(begun.elapsed() >= SHORT, "the call waits for a provider until its deadline");
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::NotExecuted), "{error:?}");

    let mut call = pin!(client.hold(2).timeout(Duration::from_secs(50)));
    assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    let probe = Probe::default();
    probe.release_all();
    let _serving = Serving::start(Server::builder().service(probe.server()).registry(registry)).await;
    assert_eq!(in_time(call).await.expect("the call succeeds"), 2);
}

#[tokio::test]
async fn one_way_call_respects_its_deadline() {
    let (listener, _waiting) = black_hole().await;
    let address = listener.local_addr().expect("the listener has an address");
    let error = in_time(client().tell("x".to_owned()).address(address).timeout(SHORT)).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotExecuted, "{error:?}");
}
