//! The client's connection to each provider: shared, kept open, checked by pings, restored, and closed after a drain.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{
    Addresses, Code, Delivery, Discovery, Error, Instance, Phase, Registry as _, ServiceId, frame::FrameType,
};
use rpc_registry::Memory;
use rpc_server::{Server, ServerConfig};
use tests::{
    Task, in_time, patient,
    probe::{Event, Probe, ProbingClient},
    relay::Relay,
    scripted::Scripted,
    serving::{PROBE, Serving},
    until_error, until_ok,
};
use tokio::{net::TcpListener, sync::watch};

/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(50);

fn client(config: ClientConfig) -> ProbingClient<Client> {
    ProbingClient::new(Client::builder().config(config).build().expect("the config is valid"))
}

fn client_of(registry: Arc<dyn Discovery>, config: ClientConfig) -> ProbingClient<Client> {
    ProbingClient::new(Client::builder().registry(registry).config(config).build().expect("the config is valid"))
}

/// Starts a provider and waits until `registry` lists it.
async fn provider(registry: &Arc<Memory>) -> (Probe, Serving) {
    let probe = Probe::default();
    let serving = Serving::start(Server::builder().service(probe.server()).registry(Arc::clone(registry) as _)).await;
    let mut listed = registry.watch(&PROBE);
    let is_listed = |list: &Option<Arc<[Instance]>>| {
        list.as_ref().is_some_and(|list| list.iter().any(|instance| instance.address() == serving.address()))
    };
    in_time(listed.wait_for(is_listed)).await.expect("the registry exists");
    (probe, serving)
}

/// Calls until each of `addresses` has answered; the client may still be connecting.
async fn until_used(client: &ProbingClient<Client>, addresses: impl IntoIterator<Item = SocketAddr>) {
    let mut unused: BTreeSet<_> = addresses.into_iter().collect();
    in_time(async {
        while !unused.is_empty() {
            let seen = client.context().await.expect("a provider answers");
            unused.remove(&seen.local_address.expect("the call came over a socket"));
        }
    })
    .await;
}

/// A registry whose list a test sets.
#[derive(Debug)]
struct TestRegistry(watch::Sender<Option<Arc<[Instance]>>>);

impl TestRegistry {
    fn new(addresses: &[SocketAddr]) -> Arc<Self> {
        let list = Self(watch::Sender::new(None));
        list.set(addresses);
        Arc::new(list)
    }

    fn set(&self, addresses: &[SocketAddr]) {
        self.0.send_replace(Some(addresses.iter().copied().map(Instance::new).collect()));
    }
}

impl Discovery for TestRegistry {
    fn watch(&self, _: &ServiceId) -> Addresses {
        self.0.subscribe()
    }

    fn url(&self) -> &str {
        "test://registry"
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_first_calls_share_one_connection() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let (named, listed) = (Relay::to(serving.address()).await, Relay::to(serving.address()).await);
    let by_name = client(ClientConfig::default());
    let by_registry = client_of(TestRegistry::new(&[listed.address()]), patient());
    let mut calls = Vec::new();
    for key in 0..100 {
        calls.push(Task::begin(by_name.hold(key).address(named.address()).timeout(LONG)));
        calls.push(Task::begin(by_registry.hold(key).timeout(LONG)));
    }
    probe.until_true(|events| events.len() == 200).await;
    probe.release_all();
    for call in calls {
        call.end().await.expect("the call succeeds");
    }
    assert_eq!((named.count().accepted, listed.count().accepted), (1, 1));
}

#[tokio::test]
async fn server_closes_connection_without_traffic() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_read_idle(Duration::from_millis(100));
    let serving = Serving::probe(&probe, config).await;
    let mut idle = Scripted::connect(serving.address()).await;
    assert_eq!(idle.receive().await, None);
}

#[tokio::test]
async fn client_pings_keep_idle_connection_open() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_read_idle(Duration::from_secs(2));
    let serving = Serving::probe(&probe, config).await;
    let relay = Relay::to(serving.address()).await;
    let client = client(ClientConfig::default().with_ping_after(Duration::from_millis(100)));
    client.echo("x".to_owned()).address(relay.address()).await.expect("the call succeeds");
    let before = relay.count();
    // 30 pings of 16 bytes, each with its pong, take 3 s: longer than the server's idle time.
    let pings = 30 * 16;
    relay.until(|count| count.sent >= before.sent + pings && count.received >= before.received + pings).await;
    client.echo("x".to_owned()).address(relay.address()).await.expect("the call succeeds");
    assert_eq!((relay.count().accepted, relay.count().open), (1, 1));
}

#[tokio::test]
async fn client_closes_connection_without_pongs() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = Relay::to(serving.address()).await;
    let config = ClientConfig::default()
        .with_ping_after(Duration::from_millis(50))
        .with_pong_timeout(Duration::from_millis(300));
    let client = client(config);
    let held = Task::begin(client.hold(1).address(relay.address()).timeout(Duration::from_secs(3600)));
    probe.until(Event::Began(1)).await;
    relay.freeze();
    let error = held.end().await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::Unknown), "{error:?}");
    assert_eq!((error.phase(), error.peer()), (Some(Phase::Wait), Some(relay.address())));
    assert!(!error.is_retryable(), "the handler may have executed");

    relay.thaw();
    until_ok(async || client.echo("x".to_owned()).address(relay.address()).await).await;
    assert!(relay.count().accepted >= 2);
}

#[tokio::test]
async fn provider_crash_fails_only_its_in_flight_calls() {
    let registry = Arc::new(Memory::named("provider-crash"));
    let ((one, first), (other, second)) = (provider(&registry).await, provider(&registry).await);
    let client = client_of(registry, patient());
    until_used(&client, [first.address(), second.address()]).await;

    let held: Vec<_> = (0..20).map(|key| Task::begin(client.hold(key).timeout(LONG))).collect();
    let again: Vec<_> = (100..120).map(|key| Task::begin(client.hold_again(key).timeout(LONG))).collect();
    let began = |probe: &Probe| probe.count(|event| matches!(event, Event::Began(_)));
    in_time(async {
        while began(&one) + began(&other) < 40 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let lost = one.count(|event| matches!(event, Event::Began(0..20)));
    assert!(lost > 0, "both providers have calls");
    first.kill().await;
    other.release_all();

    let mut failed = 0;
    for call in held {
        if let Err(error) = call.end().await {
            assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::Unknown), "{error:?}");
            failed += 1;
        }
    }
    assert_eq!(failed, lost, "calls of the killed provider fail, and no others");
    for (key, call) in (100..120).zip(again) {
        assert_eq!(call.end().await.expect("the client retries an idempotent call on the other provider"), key);
    }
    for _ in 0..100 {
        let seen = client.context().await.expect("the other provider answers");
        assert_eq!(seen.local_address, Some(second.address()));
    }
}

#[tokio::test]
async fn client_reuses_restarted_provider() {
    let registry = Arc::new(Memory::named("provider-restart"));
    let ((_, first), (_, second)) = (provider(&registry).await, provider(&registry).await);
    let address = first.address();
    // The registry does not change during the restart.
    let client = client_of(TestRegistry::new(&[address, second.address()]), patient());
    until_used(&client, [address, second.address()]).await;
    first.kill().await;
    for _ in 0..100 {
        client.again("x".to_owned()).await.expect("the other provider answers");
    }
    let probe = Probe::default();
    let _first = Serving::start_on(Server::builder().service(probe.server()), address).await;
    until_used(&client, [address, second.address()]).await;
}

#[tokio::test]
async fn client_reuses_restarted_only_provider() {
    let registry = Arc::new(Memory::named("only-provider-restart"));
    let (_, only) = provider(&registry).await;
    let address = only.address();
    let client = client_of(TestRegistry::new(&[address]), patient());
    until_used(&client, [address]).await;
    only.kill().await;
    until_error(async || client.echo("x".to_owned()).await, |_| true).await;
    let probe = Probe::default();
    let _only = Serving::start_on(Server::builder().service(probe.server()), address).await;
    until_ok(async || client.echo("x".to_owned()).await).await;
}

#[tokio::test]
async fn client_reconnects_without_a_call() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = Relay::to(serving.address()).await;
    let client = client_of(TestRegistry::new(&[relay.address()]), patient());
    client.echo("x".to_owned()).await.expect("the call succeeds");
    for accepted in 2..5 {
        relay.cut();
        relay.until(|count| count.accepted >= accepted && count.open == 1).await;
    }
}

#[tokio::test]
async fn client_backs_off_from_closing_provider() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("no port is free");
    let address = listener.local_addr().expect("the listener has an address");
    let client = client_of(TestRegistry::new(&[address]), patient());
    let call = client.echo("x".to_owned());
    let accepted = Task::begin(async move {
        let mut times = Vec::new();
        // The backoffs before the seventh attempt sum up to 4 + 8 + … + 128 ms; jitter removes at most half of it.
        while times.len() < 7 {
            drop(listener.accept().await.expect("cannot accept a connection"));
            times.push(tokio::time::Instant::now());
        }
        times[6] - times[0]
    });
    assert_eq!(in_time(call).await.unwrap_err().code(), Code::Unavailable);
    let took = accepted.end().await;
    assert!(took >= Duration::from_millis((4 + 8 + 16 + 32 + 64 + 128) / 2), "{took:?}");
}

#[tokio::test]
async fn slow_provider_receives_fewer_calls() {
    const CALLERS: u64 = 16;
    let registry = Arc::new(Memory::named("a-slow-provider"));
    let ((slow, first), (quick, second)) = (provider(&registry).await, provider(&registry).await);
    quick.release_all();
    let client = client_of(registry, patient());
    until_used(&client, [first.address(), second.address()]).await;
    let callers: Vec<_> = (0..CALLERS)
        .map(|key| {
            let client = client.clone();
            Task::begin(async move { while client.hold(key).timeout(LONG).await.is_ok() {} })
        })
        .collect();
    let began = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Began(_))).count();
    quick.until_true(|events| began(events) >= 2000).await;
    // The slow provider never answers. A caller picks it only while it has no more calls in flight than the other.
    assert!(began(&slow.events()) as u64 <= CALLERS / 2 + 1, "{}", began(&slow.events()));
    drop(callers);
}

#[tokio::test]
async fn delisted_provider_finishes_its_calls() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = Relay::to(serving.address()).await;
    let registry = TestRegistry::new(&[relay.address()]);
    // The client applies a removal from the list without delay.
    let config = ClientConfig::default().with_delisted_grace(Duration::ZERO);
    let client = client_of(Arc::clone(&registry) as _, config);
    let held = Task::begin(client.hold(1).timeout(LONG));
    probe.until(Event::Began(1)).await;
    let other = Serving::probe(&Probe::default(), ServerConfig::default()).await;
    registry.set(&[other.address()]);
    until_used(&client, [other.address()]).await;
    assert_eq!(relay.count().open, 1, "a call is in flight on the delisted connection");
    probe.release(1);
    assert_eq!(held.end().await.expect("the call succeeds"), 1);
    relay.until(|count| count.open == 0).await;
    assert_eq!(relay.count().accepted, 1);
}

#[tokio::test]
async fn client_keeps_delisted_providers_that_answer() {
    let ((one, first), (two, second)) = {
        let (one, two) = (Probe::default(), Probe::default());
        let first = Serving::probe(&one, ServerConfig::default()).await;
        let second = Serving::probe(&two, ServerConfig::default()).await;
        ((one, first), (two, second))
    };
    let registry = TestRegistry::new(&[first.address()]);
    let client = client_of(Arc::clone(&registry) as _, patient());
    until_used(&client, [first.address()]).await;
    // The first answer of the second provider proves that the client has read the list without the first one.
    registry.set(&[second.address()]);
    until_used(&client, [second.address()]).await;
    until_used(&client, [first.address(), second.address()]).await;
    // An empty list removes no provider either.
    registry.set(&[]);
    for _ in 0..200 {
        client.echo("x".to_owned()).await.expect("delisted providers still answer");
    }
    until_used(&client, [first.address(), second.address()]).await;
    // The client drops a provider that is neither listed nor answers.
    first.kill().await;
    second.kill().await;
    let is_unresolved = |error: &Error| error.phase() == Some(Phase::Resolve);
    let forgotten = until_error(async || client.echo("x".to_owned()).await, is_unresolved).await;
    assert!(forgotten.message().contains("lists no provider"), "{forgotten}");
    drop((one, two));
}

#[tokio::test]
async fn services_share_one_connection_per_address() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = Relay::to(serving.address()).await;
    let client =
        Client::builder().registry(TestRegistry::new(&[relay.address()]) as _).build().expect("the config is valid");
    let (listed, other) = (ProbingClient::new(client.clone()), other::OtherClient::new(client));
    listed.echo("x".to_owned()).await.expect("the call succeeds");
    let error = other.nothing().await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "the same server does not serve the other service: {error:?}");
    listed.echo("x".to_owned()).address(relay.address()).await.expect("the call succeeds");
    assert_eq!(relay.count().accepted, 1);
}

mod other {
    use rpc_core::rpc_service;

    /// A second service.
    #[rpc_service(name = "test.Other")]
    pub(crate) trait Other {
        async fn nothing(&self);
    }
}

#[tokio::test]
async fn dropping_last_client_closes_connections() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = Relay::to(serving.address()).await;
    let client = client_of(TestRegistry::new(&[relay.address()]), patient());
    let clone = client.clone();
    client.echo("x".to_owned()).await.expect("the call succeeds");
    drop(client);
    clone.echo("x".to_owned()).await.expect("the call succeeds");
    drop(clone);
    relay.until(|count| count.open == 0).await;
    assert_eq!(relay.count().accepted, 1);
}

#[tokio::test]
async fn repeated_registration_keeps_connection() {
    let registry = Arc::new(Memory::named("repeated-registration"));
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = Relay::to(serving.address()).await;
    registry.register(&PROBE, Instance::new(relay.address())).await.expect("the registration succeeds");
    let client = client_of(Arc::clone(&registry) as _, patient());
    client.echo("x".to_owned()).await.expect("the call succeeds");
    for weight in [2.0, 3.0] {
        registry
            .register(&PROBE, Instance::new(relay.address()).with_weight(weight))
            .await
            .expect("the registration succeeds");
        registry.deregister(&PROBE, relay.address()).await.expect("the deregistration succeeds");
        registry
            .register(&PROBE, Instance::new(relay.address()).with_weight(weight))
            .await
            .expect("the registration succeeds");
        client.echo("x".to_owned()).await.expect("the call succeeds");
    }
    assert_eq!(relay.count().accepted, 1);
}

#[tokio::test]
async fn goaway_moves_new_calls_to_new_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("no port is free");
    let registry = TestRegistry::new(&[listener.local_addr().expect("the listener has an address")]);
    let client = client_of(Arc::clone(&registry) as _, ClientConfig::default().with_wait_for_ready(true));
    let call = Task::begin(client.hold(1).timeout(LONG));
    let mut draining = Scripted::accept(&listener).await;
    let request = draining.receive_type(FrameType::Request).await;
    let goaway = rpc_core::frame::Header::empty(FrameType::Goaway, 0);
    draining.send(&rpc_core::frame::Frame { header: goaway, body: vec![0, 0].into() }).await;
    // The call in flight finishes on the draining connection.
    let header = rpc_core::frame::Header { frame_type: FrameType::Response, ..request.header };
    let body = [&[0, 0][..], &1_u64.to_le_bytes()].concat().into();
    draining.send(&rpc_core::frame::Frame { header, body }).await;
    assert_eq!(call.end().await.expect("the call succeeds"), 1);
    assert_eq!(draining.receive().await, None, "the client closes the connection once no call is in flight");
    // The client sends the next call on another connection.
    let _call = Task::begin(client.hold(2).timeout(LONG));
    let mut next = Scripted::accept(&listener).await;
    next.receive_type(FrameType::Request).await;
}
