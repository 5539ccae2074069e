//! Each limit at its value and one above, with the error that a caller or peer receives.

#[path = "../../../rpc-server/fuzz/listener.rs"]
mod listener;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_client::{Balance, Client, ClientConfig, EndpointState};
use rpc_core::{
    Code, Delivery, Phase, Status,
    frame::FrameType,
    layer::{IncomingCall, Served, ServerLayer, ServerNext},
    transport::TransportConfig,
};
use rpc_registry::Memory;
use rpc_server::{Server, ServerConfig};
use tests::{
    Task,
    probe::{Event, Probe, ProbingClient},
    raw_peer::{RawFrame, RawPeer},
    scripted::{Scripted, head},
    serving::Serving,
    until_ok,
};

use self::listener::Listener;

/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(50);

fn client(config: ClientConfig) -> ProbingClient<Client> {
    ProbingClient::new(Client::builder().config(config).build().expect("the config is valid"))
}

#[tokio::test]
async fn server_rejects_calls_over_max_in_flight() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default().with_max_in_flight(2)).await;
    let client = client(ClientConfig::default());
    let held: Vec<_> =
        (0..2).map(|key| Task::begin(client.hold(key).address(serving.address()).timeout(LONG))).collect();
    probe.until_all(&[Event::Began(0), Event::Began(1)]).await;

    let error = client.hold(2).address(serving.address()).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{error:?}");
    assert!(error.retry_after().is_some_and(|wait| !wait.is_zero()), "{error:?}");
    assert!(error.is_retryable() && error.peer() == Some(serving.address()));
    assert_eq!(probe.count(|event| *event == Event::Began(2)), 0, "the rejected call did not execute");
    // The limit does not affect another connection.
    let other = self::client(ClientConfig::default());
    assert_eq!(other.echo("x".to_owned()).address(serving.address()).await.expect("the call succeeds"), "x");

    probe.release(0);
    probe.until(Event::Ended(0)).await;
    probe.release(2);
    let mut held = held.into_iter();
    assert_eq!(held.next().expect("two calls are held").end().await.expect("the call succeeds"), 0);
    assert_eq!(client.hold(2).address(serving.address()).await.expect("capacity is free again"), 2);
    probe.release(1);
    assert_eq!(held.next().expect("one call is held").end().await.expect("the call succeeds"), 1);
}

#[tokio::test]
async fn full_registered_provider_reports_retry_after() {
    let probe = Probe::default();
    let registry = Arc::new(Memory::named("a-full-provider"));
    let config = ServerConfig::default().with_max_in_flight(1);
    let server = Server::builder().service(probe.server()).config(config).registry(Arc::clone(&registry) as _);
    let _serving = Serving::start(server).await;
    let client = ProbingClient::new(Client::builder().registry(registry).build().expect("the config is valid"));
    until_ok(async || client.echo("x".to_owned()).await).await;
    let _held = Task::begin(client.hold(0).timeout(LONG));
    probe.until(Event::Began(0)).await;
    let error = client.hold(1).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{error:?}");
    assert!(error.retry_after().is_some());
}

#[tokio::test]
async fn one_way_calls_count_towards_max_in_flight() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default().with_max_in_flight(1)).await;
    let client = client(ClientConfig::default());
    let held = Task::begin(client.hold(0).address(serving.address()).timeout(LONG));
    probe.until(Event::Began(0)).await;
    // The server rejects the one-way call without an answer.
    client.tell("over".to_owned()).address(serving.address()).await.expect("the client sends the call");
    // The server handles frames in order: this rejection follows that of the one-way call.
    assert_eq!(
        client.hold(1).address(serving.address()).await.expect_err("the connection is full").code(),
        Code::ResourceExhausted
    );
    probe.release(0);
    assert!(held.end().await.is_ok());
    assert_eq!(probe.count(|event| matches!(event, Event::Received(_))), 0);
}

#[tokio::test]
async fn client_queues_calls_over_max_in_flight() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let client = client(ClientConfig::default().with_max_in_flight(2));
    let held: Vec<_> =
        (0..2).map(|key| Task::begin(client.hold(key).address(serving.address()).timeout(LONG))).collect();
    probe.until_all(&[Event::Began(0), Event::Began(1)]).await;

    // If no slot becomes free, the call waits until its deadline.
    let short = Duration::from_millis(100);
    let error = client.hold(2).address(serving.address()).timeout(short).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::NotExecuted), "{error:?}");
    assert_eq!((error.phase(), error.peer()), (Some(Phase::Send), Some(serving.address())));
    assert_eq!(probe.count(|event| *event == Event::Began(2)), 0, "the client did not send the call");

    // Queued calls receive the slots in turn as they become free.
    let waiting: Vec<_> =
        (3..13).map(|key| Task::begin(client.hold(key).address(serving.address()).timeout(LONG))).collect();
    probe.release_all();
    for (key, task) in (3..13).zip(waiting) {
        assert_eq!(task.end().await.expect("the call succeeds"), key);
    }
    for (key, task) in (0..2).zip(held) {
        assert_eq!(task.end().await.expect("the call succeeds"), key);
    }
}

#[tokio::test]
async fn dropping_call_frees_its_slot() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let client = client(ClientConfig::default().with_max_in_flight(1));
    for key in 0..20 {
        let call = Task::begin(client.hold(key).address(serving.address()).timeout(LONG));
        probe.until(Event::Began(key)).await;
        call.abort().await;
    }
    assert_eq!(
        client.echo("x".to_owned()).address(serving.address()).timeout(LONG).await.expect("the slot is free"),
        "x"
    );
}

/// A layer that rejects and counts every call.
#[derive(Clone, Default)]
struct Rejecting(Arc<AtomicUsize>);

impl ServerLayer for Rejecting {
    async fn serve(&self, _: &IncomingCall, next: ServerNext<'_>) -> Served {
        self.0.fetch_add(1, Ordering::Relaxed);
        next.reject(Status::new(Code::Unavailable, "not here"))
    }
}

#[tokio::test]
async fn client_sends_call_at_most_three_times() {
    let (registry, rejecting) = (Arc::new(Memory::named("three times")), Rejecting::default());
    let mut serving = Vec::new();
    for _ in 0..5 {
        let server = Server::builder().service(Probe::default().server()).layer(rejecting.clone());
        serving.push(Serving::start(server.registry(Arc::clone(&registry) as _)).await);
    }
    // An ejected provider is not ready.
    let config = ClientConfig::default().with_cache_directory(None).with_outlier_ejection(false);
    let client = Client::builder().registry(registry).config(config).build().expect("the config is valid");
    let probing = ProbingClient::new(client.clone());
    let is_ready = |(_, state): &(SocketAddr, EndpointState)| matches!(state, EndpointState::Ready { .. });
    until_ok(async || match client.endpoints().iter().filter(|endpoint| is_ready(endpoint)).count() {
        5 => Ok(()),
        _ => probing.echo("x".to_owned()).await.map(drop),
    })
    .await;
    let before = rejecting.0.load(Ordering::Relaxed);
    let error = probing.echo("x".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::NotExecuted), "{error:?}");
    assert_eq!(rejecting.0.load(Ordering::Relaxed) - before, 3);
}

#[tokio::test]
async fn server_rejects_connections_over_limit() {
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default().with_max_connections(2)).await;
    let mut admitted = vec![Scripted::connect(serving.address()).await, Scripted::connect(serving.address()).await];
    for peer in &mut admitted {
        assert_eq!(peer.ping(1).await.expect("the server accepts the connection").header.frame_type, FrameType::Pong);
    }
    let mut over = Scripted::connect(serving.address()).await;
    let (reason, _) = head(over.receive_type(FrameType::Goaway).await);
    assert_eq!(reason.status.code(), Code::ResourceExhausted);
    assert_eq!(over.receive().await, None);

    // The client may or may not have sent the call before it reads the goaway.
    let error = client(ClientConfig::default()).echo("x".to_owned()).address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert_eq!(probe.events(), []);

    // A closed connection frees capacity once the server has noticed it.
    drop(admitted.pop());
    let next = async {
        loop {
            let mut next = Scripted::connect(serving.address()).await;
            // A rejected connection may break before the peer reads the goaway.
            if next.ping(1).await.is_some_and(|frame| frame.header.frame_type == FrameType::Pong) {
                return next;
            }
        }
    };
    let _next = tests::in_time(next).await;
    assert_eq!(admitted[0].ping(2).await.expect("the connection is still open").header.frame_type, FrameType::Pong);
}

/// Needs several loopback addresses, which only Linux provides.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn server_limits_connections_per_ip_address() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_max_connections(4).with_max_connections_per_ip(2);
    let serving = Serving::probe(&probe, config).await;
    let mut admitted = Vec::new();
    for from in ["127.0.0.2", "127.0.0.2", "127.0.0.3"] {
        let mut peer = Scripted::connect_from(from, serving.address()).await;
        assert_eq!(peer.ping(1).await.expect("the server accepts the connection").header.frame_type, FrameType::Pong);
        admitted.push(peer);
    }
    let mut over = Scripted::connect_from("127.0.0.2", serving.address()).await;
    assert_eq!(head(over.receive_type(FrameType::Goaway).await).0.status.code(), Code::ResourceExhausted);
    let mut other = Scripted::connect_from("127.0.0.3", serving.address()).await;
    assert_eq!(other.ping(1).await.expect("the server accepts the connection").header.frame_type, FrameType::Pong);
}

#[tokio::test]
async fn server_limits_connections_per_ipv6_network() {
    let (door, listener) = Listener::new();
    let config = ServerConfig::default().with_max_connections(4).with_max_connections_per_ip(2);
    let server = Server::builder().service(Probe::default().server()).config(config).listen(listener).await;
    let _serving = Task::begin(server.expect("the config is valid").run());
    let mut connected = Vec::new();
    for (from, is_admitted) in [
        ("2001:db8::1", true),
        ("2001:db8::2", true),
        // One above the limit of the /64 network.
        ("2001:db8::ffff:0:0:3", false),
        ("2001:db8:0:1::1", true),
        ("::ffff:10.0.0.1", true),
    ] {
        let from = SocketAddr::new(from.parse().expect("the address is valid"), 1);
        let mut peer = RawPeer::through(door.connect(from, 1 << 16).await);
        let answer = peer.ask(&RawFrame::empty(RawFrame::PING, 1)).await;
        assert_eq!(answer.kind, if is_admitted { RawFrame::PONG } else { RawFrame::GOAWAY }, "{from}");
        connected.push(peer);
    }
}

#[tokio::test]
async fn server_validates_config_before_it_listens() {
    let probe = Probe::default();
    let mut narrow = TransportConfig::default();
    narrow.max_frame = (64 << 10) - 1;
    let invalid = [
        ("read_idle", ServerConfig::default().with_read_idle(Duration::ZERO)),
        ("default_timeout", ServerConfig::default().with_default_timeout(Duration::ZERO)),
        ("max_in_flight", ServerConfig::default().with_max_in_flight(0)),
        ("max_connections", ServerConfig::default().with_max_connections(0)),
        ("max_connections_per_ip", ServerConfig::default().with_max_connections_per_ip(0)),
        ("max_decompressed", ServerConfig::default().with_max_decompressed(0)),
        ("max_pings", ServerConfig::default().with_max_pings(0)),
        ("max_timeout", ServerConfig::default().with_max_timeout(Duration::ZERO)),
        ("max_running", ServerConfig::default().with_max_running(0)),
        ("max_connection_age", ServerConfig::default().with_max_connection_age(Duration::ZERO)),
        ("max_once_calls", ServerConfig::default().with_max_once_calls(0)),
        ("max_once_bytes", ServerConfig::default().with_max_once_bytes(0)),
        ("max_unattended", ServerConfig::default().with_max_unattended(Duration::ZERO)),
        ("handshake_time", ServerConfig::default().with_handshake_time(Duration::ZERO)),
        ("max_frame", ServerConfig::default().with_transport(narrow)),
    ];
    for (field, config) in invalid {
        let outcome = Server::builder().service(probe.server()).config(config).bind("127.0.0.1:0").await;
        let error = outcome.err().unwrap_or_else(|| panic!("the server accepts an invalid {field}"));
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(field), "{error}");
    }
}

#[test]
fn client_validates_config_in_build() {
    let transport = |change: fn(&mut TransportConfig)| {
        let mut transport = TransportConfig::default();
        change(&mut transport);
        ClientConfig::default().with_transport(transport)
    };
    let invalid = [
        ("timeout", ClientConfig::default().with_timeout(Duration::ZERO)),
        ("connect_timeout", ClientConfig::default().with_connect_timeout(Duration::ZERO)),
        ("ping_after", ClientConfig::default().with_ping_after(Duration::ZERO)),
        ("pong_timeout", ClientConfig::default().with_pong_timeout(Duration::ZERO)),
        ("max_in_flight", ClientConfig::default().with_max_in_flight(0)),
        ("max_in_flight", ClientConfig::default().with_max_in_flight(1_000_001)),
        ("max_decompressed", ClientConfig::default().with_max_decompressed(0)),
        ("max_frame", transport(|transport| transport.max_frame = (64 << 10) - 1)),
        ("max_frame", transport(|transport| transport.max_frame = (128 << 20) + 1)),
        ("outbox", transport(|transport| transport.outbox = 0)),
        ("frame_time", transport(|transport| transport.frame_time = Duration::ZERO)),
        ("write_stall", transport(|transport| transport.write_stall = Duration::ZERO)),
        ("min_write", transport(|transport| transport.min_write = 0)),
        ("min_write", transport(|transport| transport.min_write = (1 << 20) + 1)),
    ];
    for (field, config) in invalid {
        let error = Client::builder().config(config).build().expect_err(field);
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(field), "{error}");
    }
    let at_the_limits = [
        ClientConfig::default().with_max_in_flight(1).with_balance(Balance::Random),
        ClientConfig::default().with_max_in_flight(1_000_000),
        transport(|transport| transport.max_frame = 64 << 10),
        transport(|transport| transport.max_frame = 128 << 20),
        transport(|transport| transport.min_write = 1 << 20),
    ];
    for config in at_the_limits {
        assert!(Client::builder().config(config).build().is_ok());
    }
}

#[tokio::test]
async fn full_peers_do_not_deadlock() {
    // More bytes in either direction than both outboxes and the socket buffers hold.
    const CALLS: usize = 300;
    let probe = Probe::default();
    let serving = Serving::probe(&probe, ServerConfig::default()).await;
    let client = client(ClientConfig::default());
    let text = "x".repeat(64 << 10);
    let calls: Vec<_> =
        (0..CALLS).map(|_| Task::begin(client.echo(text.clone()).address(serving.address()).timeout(LONG))).collect();
    for call in calls {
        assert!(call.end().await.expect("the call succeeds") == text);
    }
}
