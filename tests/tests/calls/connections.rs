//! One living connection to each provider: made once, kept alive, found dead, made again, left in order.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{
    Addresses, Code, Delivery, Discovery, Error, Instance, Phase, Registry as _, ServiceId, frame::FrameType,
};
use rpc_registry::Memory;
use rpc_server::{Server, ServerConfig};
use tests::{
    Task, in_time,
    probe::{Event, Probe, ProbingClient},
    relay::Relay,
    scripted::Scripted,
    serving::{PROBE, Serving},
    until_error, until_ok,
};
use tokio::{net::TcpListener, sync::watch};

/// More time than a call needs whose answer is waited for.
const LONG: Duration = Duration::from_secs(50);

fn client(config: ClientConfig) -> ProbingClient<Client> {
    ProbingClient::new(Client::builder().config(config).build().expect("a valid config"))
}

fn client_of(registry: Arc<dyn Discovery>, config: ClientConfig) -> ProbingClient<Client> {
    ProbingClient::new(Client::builder().registry(registry).config(config).build().expect("a valid config"))
}

/// A provider that is listed in `registry`.
async fn provider(registry: &Arc<Memory>) -> (Probe, Serving) {
    let probe = Probe::default();
    let serving = Serving::start(Server::builder().service(probe.server()).registry(Arc::clone(registry) as _)).await;
    let mut listed = registry.watch(&PROBE);
    let is_listed = |list: &Option<Arc<[Instance]>>| {
        list.as_ref().is_some_and(|list| list.iter().any(|instance| instance.address() == serving.address()))
    };
    in_time(listed.wait_for(is_listed)).await.expect("the registry lives");
    (probe, serving)
}

/// Calls until each of the addresses has answered: it takes its moment to connect.
async fn until_used(client: &ProbingClient<Client>, addresses: impl IntoIterator<Item = SocketAddr>) {
    let mut unused: BTreeSet<_> = addresses.into_iter().collect();
    in_time(async {
        while !unused.is_empty() {
            let seen = client.context().await.expect("one of them answers");
            unused.remove(&seen.local_address.expect("it came over a socket"));
        }
    })
    .await;
}

/// What a test says that a registry says.
#[derive(Debug)]
struct Says(watch::Sender<Option<Arc<[Instance]>>>);

impl Says {
    fn these(addresses: &[SocketAddr]) -> Arc<Self> {
        let says = Self(watch::Sender::new(None));
        says.now(addresses);
        Arc::new(says)
    }

    fn now(&self, addresses: &[SocketAddr]) {
        self.0.send_replace(Some(addresses.iter().copied().map(Instance::new).collect()));
    }
}

impl Discovery for Says {
    fn watch(&self, _: &ServiceId) -> Addresses {
        self.0.subscribe()
    }

    fn url(&self) -> &str {
        "test://says"
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_first_calls_share_one_connection() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let (named, listed) = (Relay::to(serving.address()).await, Relay::to(serving.address()).await);
    let by_name = client(ClientConfig::default());
    let by_registry = client_of(Says::these(&[listed.address()]), ClientConfig::default());
    let mut calls = Vec::new();
    for key in 0..100 {
        calls.push(Task::begin(by_name.hold(key).address(named.address()).timeout(LONG)));
        calls.push(Task::begin(by_registry.hold(key).timeout(LONG)));
    }
    probe.until_true(|events| events.len() == 200).await;
    probe.release_all();
    for call in calls {
        call.end().await.expect("it is answered");
    }
    assert_eq!((named.count().accepted, listed.count().accepted), (1, 1));
}

#[tokio::test]
async fn server_closes_connection_without_traffic() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_read_idle(Duration::from_millis(100));
    let serving = Serving::probe(&probe, config).await;
    let mut silent = Scripted::connect(serving.address()).await;
    assert_eq!(silent.receive().await, None);
}

#[tokio::test]
async fn client_pings_keep_idle_connection_open() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_read_idle(Duration::from_secs(2));
    let serving = Serving::probe(&probe, config).await;
    let relay = Relay::to(serving.address()).await;
    let client = client(ClientConfig::default().with_ping_after(Duration::from_millis(100)));
    client.echo("x".to_owned()).address(relay.address()).await.expect("it is answered");
    let before = relay.count();
    // 30 pings of 16 bytes take 3 s, and each has its pong.
    let pings = 30 * 16;
    relay.until(|count| count.sent >= before.sent + pings && count.received >= before.received + pings).await;
    client.echo("x".to_owned()).address(relay.address()).await.expect("it is answered");
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
    assert!(!error.is_retryable(), "it may have run");

    relay.thaw();
    until_ok(async || client.echo("x".to_owned()).address(relay.address()).await).await;
    assert!(relay.count().accepted >= 2);
}

#[tokio::test]
async fn provider_crash_fails_only_its_in_flight_calls() {
    let registry = Arc::new(Memory::named("a-provider-dies"));
    let ((one, first), (other, second)) = (provider(&registry).await, provider(&registry).await);
    let client = client_of(registry, ClientConfig::default());
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
    assert!(lost > 0, "both have some");
    first.kill().await;
    other.release_all();

    let mut failed = 0;
    for call in held {
        if let Err(error) = call.end().await {
            assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::Unknown), "{error:?}");
            failed += 1;
        }
    }
    assert_eq!(failed, lost, "those on the one that died, and no others");
    for (key, call) in (100..120).zip(again) {
        assert_eq!(call.end().await.expect("what may run twice is sent to the other"), key);
    }
    for _ in 0..100 {
        let seen = client.context().await.expect("the other serves");
        assert_eq!(seen.local_address, Some(second.address()));
    }
}

#[tokio::test]
async fn client_reuses_restarted_provider() {
    let registry = Arc::new(Memory::named("a-provider-comes-back"));
    let ((_, first), (_, second)) = (provider(&registry).await, provider(&registry).await);
    let address = first.address();
    let client = client_of(registry, ClientConfig::default());
    until_used(&client, [address, second.address()]).await;
    first.kill().await;
    for _ in 0..100 {
        client.again("x".to_owned()).await.expect("the other serves");
    }
    // The registry never learned of any of it.
    let probe = Probe::default();
    let _first = Serving::start_on(Server::builder().service(probe.server()), address).await;
    until_used(&client, [address, second.address()]).await;
}

#[tokio::test]
async fn client_reuses_restarted_only_provider() {
    let registry = Arc::new(Memory::named("the-only-provider-comes-back"));
    let (_, only) = provider(&registry).await;
    let address = only.address();
    let client = client_of(registry, ClientConfig::default());
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
    let client = client_of(Says::these(&[relay.address()]), ClientConfig::default());
    client.echo("x".to_owned()).await.expect("it is answered");
    for accepted in 2..5 {
        relay.cut();
        relay.until(|count| count.accepted >= accepted && count.open == 1).await;
    }
}

#[tokio::test]
async fn client_backs_off_from_closing_provider() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let client = client_of(Says::these(&[address]), ClientConfig::default());
    let call = client.echo("x".to_owned());
    let accepted = Task::begin(async move {
        let mut times = Vec::new();
        // The seventh attempt comes 4 + 8 + … + 128 ms after the first, half of it at the least.
        while times.len() < 7 {
            drop(listener.accept().await.expect("it listens"));
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
    let client = client_of(registry, ClientConfig::default());
    until_used(&client, [first.address(), second.address()]).await;
    let callers: Vec<_> = (0..CALLERS)
        .map(|key| {
            let client = client.clone();
            Task::begin(async move { while client.hold(key).timeout(LONG).await.is_ok() {} })
        })
        .collect();
    let began = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Began(_))).count();
    quick.until_true(|events| began(events) >= 2000).await;
    // It never answers. A caller chooses it only while no more calls are in flight there than with the other.
    assert!(began(&slow.events()) as u64 <= CALLERS / 2 + 1, "{}", began(&slow.events()));
    drop(callers);
}

#[tokio::test]
async fn delisted_provider_finishes_its_calls() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = Relay::to(serving.address()).await;
    let registry = Says::these(&[relay.address()]);
    // A registry that is believed at once.
    let config = ClientConfig::default().with_delisted_grace(Duration::ZERO);
    let client = client_of(Arc::clone(&registry) as _, config);
    let held = Task::begin(client.hold(1).timeout(LONG));
    probe.until(Event::Began(1)).await;
    let other = Serving::probe(&Probe::default(), ServerConfig::default()).await;
    registry.now(&[other.address()]);
    until_used(&client, [other.address()]).await;
    assert_eq!(relay.count().open, 1, "a call is in flight there");
    probe.release(1);
    assert_eq!(held.end().await.expect("it finishes"), 1);
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
    let registry = Says::these(&[first.address()]);
    let client = client_of(Arc::clone(&registry) as _, ClientConfig::default());
    until_used(&client, [first.address()]).await;
    // A list without it: once the other is used, this list was read; and the first is used still.
    registry.now(&[second.address()]);
    until_used(&client, [second.address()]).await;
    until_used(&client, [first.address(), second.address()]).await;
    // And a list of nobody.
    registry.now(&[]);
    for _ in 0..200 {
        client.echo("x".to_owned()).await.expect("they answer, whatever the registry says");
    }
    until_used(&client, [first.address(), second.address()]).await;
    // One that is not listed and does not answer is forgotten.
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
    let client = Client::builder().registry(Says::these(&[relay.address()]) as _).build().expect("a valid config");
    let (listed, other) = (ProbingClient::new(client.clone()), other::OtherClient::new(client));
    listed.echo("x".to_owned()).await.expect("it is answered");
    let error = other.nothing().await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "another service, the same server: {error:?}");
    listed.echo("x".to_owned()).address(relay.address()).await.expect("it is answered");
    assert_eq!(relay.count().accepted, 1);
}

mod other {
    use rpc_core::rpc_service;

    /// A service of another name.
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
    let client = client_of(Says::these(&[relay.address()]), ClientConfig::default());
    let clone = client.clone();
    client.echo("x".to_owned()).await.expect("it is answered");
    drop(client);
    clone.echo("x".to_owned()).await.expect("it is answered");
    drop(clone);
    relay.until(|count| count.open == 0).await;
    assert_eq!(relay.count().accepted, 1);
}

#[tokio::test]
async fn repeated_registration_keeps_connection() {
    let registry = Arc::new(Memory::named("named-anew"));
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let relay = Relay::to(serving.address()).await;
    registry.register(&PROBE, Instance::new(relay.address())).await.expect("it is listed");
    let client = client_of(Arc::clone(&registry) as _, ClientConfig::default());
    client.echo("x".to_owned()).await.expect("it is answered");
    for weight in [2.0, 3.0] {
        registry.register(&PROBE, Instance::new(relay.address()).with_weight(weight)).await.expect("it is listed");
        registry.deregister(&PROBE, relay.address()).await.expect("it is taken off");
        registry.register(&PROBE, Instance::new(relay.address()).with_weight(weight)).await.expect("it is listed");
        client.echo("x".to_owned()).await.expect("it is answered");
    }
    assert_eq!(relay.count().accepted, 1);
}

#[tokio::test]
async fn goaway_moves_new_calls_to_new_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let registry = Says::these(&[listener.local_addr().expect("it has an address")]);
    let client = client_of(Arc::clone(&registry) as _, ClientConfig::default().with_wait_for_ready(true));
    let call = Task::begin(client.hold(1).timeout(LONG));
    let mut leaves = Scripted::accept(&listener).await;
    let request = leaves.receive_type(FrameType::Request).await;
    let goodbye = rpc_core::frame::Header::empty(FrameType::Goaway, 0);
    leaves.send(&rpc_core::frame::Frame { header: goodbye, body: vec![0, 0].into() }).await;
    // What is in flight finishes there.
    let header = rpc_core::frame::Header { frame_type: FrameType::Response, ..request.header };
    let body = [&[0, 0][..], &1_u64.to_le_bytes()].concat().into();
    leaves.send(&rpc_core::frame::Frame { header, body }).await;
    assert_eq!(call.end().await.expect("it is answered"), 1);
    assert_eq!(leaves.receive().await, None, "the client leaves once nothing is in flight");
    // The next is sent on another connection.
    let _call = Task::begin(client.hold(2).timeout(LONG));
    let mut next = Scripted::accept(&listener).await;
    next.receive_type(FrameType::Request).await;
}
