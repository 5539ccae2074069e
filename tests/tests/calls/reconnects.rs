//! Reconnects after failures: of one lane, of an unstable peer, for lack of local resources, and of all providers.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_client::{Client, ClientConfig, EndpointState};
use rpc_core::{
    BoxFuture, Instance, Registry as _,
    transport::{Connect, Io},
};
use rpc_registry::Memory;
use rpc_server::{Server, ServerConfig};
use rustix::io::Errno;
use tests::{
    pipes::{Fault, PIPE, Pipes, pipes},
    probe::{Probe, ProbingClient},
    serving::{PROBE, Serving},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::sleep,
};

fn config() -> ClientConfig {
    ClientConfig::default().with_seed(Some(1)).with_cache_directory(None)
}

/// Starts a server with `config` and a client that connects to it through pipes.
async fn scene(server: ServerConfig, client: ClientConfig) -> (Pipes, Serving, Client) {
    let (pipes, listener) = pipes();
    let builder = Server::builder().service(Probe::default().server()).config(server);
    let serving = Serving::listen(builder, listener).await;
    let client = Client::builder().connector(pipes.clone()).config(client).build().unwrap();
    (pipes, serving, client)
}

async fn call(client: &Client, timeout: Duration) {
    let probing = ProbingClient::new(client.clone());
    probing.echo("x".to_owned()).address(PIPE).wait_for_ready(true).timeout(timeout).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rejected_lane_does_not_retire_healthy_lanes() {
    let server = ServerConfig::default().with_max_connections(1);
    let (pipes, serving, client) = scene(server, config().with_lanes(2)).await;
    call(&client, Duration::from_secs(5)).await;
    // Far longer than the 16 s of twelve failures.
    sleep(Duration::from_secs(60)).await;
    assert!(pipes.attempts() > 1 + 12, "{} connects", pipes.attempts());
    assert_eq!(client.counts().evictions, 0);
    assert!(matches!(client.endpoints()[..], [(PIPE, EndpointState::Ready { .. })]), "{:?}", client.endpoints());
    call(&client, Duration::from_secs(5)).await;
    assert_eq!(serving.handle().counts().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn endpoint_is_evicted_when_all_lanes_fail() {
    let (pipes, _serving, client) = scene(ServerConfig::default(), config().with_lanes(2)).await;
    pipes.set_fault(Some(Fault::Error(Errno::CONNREFUSED)));
    ProbingClient::new(client.clone()).echo("x".to_owned()).address(PIPE).await.unwrap_err();
    sleep(Duration::from_secs(60)).await;
    assert!(client.counts().evictions >= 1);
    assert!(client.endpoints().is_empty());
}

/// A peer that answers the first ping and closes the connection.
#[derive(Default)]
struct Unstable {
    connects: AtomicUsize,
    peers: Mutex<JoinSet<()>>,
}

impl Connect for Unstable {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async {
            self.connects.fetch_add(1, Ordering::SeqCst);
            let (ours, mut theirs) = tokio::io::duplex(1024);
            self.peers.lock().unwrap().spawn(async move {
                theirs.read_exact(&mut [0; 16]).await.unwrap();
                theirs.write_all(b"msnb\x01\0\0\0\x10\x04\0\0\0\0\0\0").await.unwrap();
            });
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

struct Shared(Arc<Unstable>);

impl Connect for Shared {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        self.0.connect(address)
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_pongs_and_closes_is_backed_off() {
    let unstable = Arc::new(Unstable::default());
    let client = Client::builder().connector(Shared(Arc::clone(&unstable))).config(config()).build().unwrap();
    let probing = ProbingClient::new(client.clone());
    probing.echo("x".to_owned()).address(PIPE).timeout(Duration::from_millis(1)).await.unwrap_err();
    sleep(Duration::from_secs(10)).await;
    // The delays double from 4 ms: eleven of them take 8 s, of which jitter removes up to half.
    let connects = unstable.connects.load(Ordering::SeqCst);
    assert!((10..=13).contains(&connects), "{connects} connects");
    assert_eq!(client.counts().connects, connects as u64);
}

#[tokio::test(start_paused = true)]
async fn lack_of_local_resources_does_not_evict_a_provider() {
    for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL] {
        let (pipes, _serving, client) = scene(ServerConfig::default(), config()).await;
        pipes.set_fault(Some(Fault::Error(error)));
        let probing = ProbingClient::new(client.clone());
        let failed = probing.echo("x".to_owned()).address(PIPE).await.unwrap_err();
        assert!(failed.message().contains(&io::Error::from(error).to_string()), "{failed}");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(client.counts().evictions, 0, "{error}");
        let attempts = pipes.attempts();
        assert!((100..=250).contains(&attempts), "{error}: {attempts} connects");
        pipes.set_fault(None);
        call(&client, Duration::from_millis(600)).await;
    }
}

/// A route that is missing for one address, such as one of another network, may never appear.
#[tokio::test(start_paused = true)]
async fn unreachable_address_is_backed_off_and_evicted() {
    for error in [Errno::NETUNREACH, Errno::NETDOWN, Errno::HOSTUNREACH] {
        let (pipes, _serving, client) = scene(ServerConfig::default(), config()).await;
        pipes.set_fault(Some(Fault::Error(error)));
        let probing = ProbingClient::new(client.clone());
        probing.echo("x".to_owned()).address(PIPE).await.unwrap_err();
        sleep(Duration::from_secs(60)).await;
        assert_eq!((client.counts().evictions, pipes.attempts()), (1, 12), "{error}");
        pipes.set_fault(None);
        probing.echo("x".to_owned()).address(PIPE).await.unwrap();
    }
}

/// Lists two providers that refuse connects for a minute, and counts the virtual time until a call succeeds afterwards.
#[tokio::test(start_paused = true)]
async fn evicted_providers_recover_within_two_seconds() {
    let (pipes, _serving, _) = scene(ServerConfig::default(), config()).await;
    let registry = Arc::new(Memory::named("all are evicted"));
    for port in [1, 2] {
        registry.register(&PROBE, Instance::new(([127, 0, 0, 1], port).into())).await.unwrap();
    }
    let builder = Client::builder().connector(pipes.clone()).registry(registry).config(config());
    let client = builder.build().unwrap();
    let probing = ProbingClient::new(client.clone());
    pipes.set_fault(Some(Fault::Error(Errno::CONNREFUSED)));
    probing.echo("x".to_owned()).await.unwrap_err();
    for _ in 0..6 {
        sleep(Duration::from_secs(10)).await;
        let error = probing.echo("x".to_owned()).await.unwrap_err();
        assert!(error.message().contains("refused"), "the client still tries the providers: {error}");
    }
    assert!(client.counts().evictions >= 2);
    pipes.set_fault(None);
    probing.echo("x".to_owned()).wait_for_ready(true).timeout(Duration::from_millis(2100)).await.unwrap();
}

#[tokio::test]
async fn unlimited_client_times_permit_calls() {
    let unlimited = config()
        .with_timeout(Duration::MAX)
        .with_connect_timeout(Duration::MAX)
        .with_ping_after(Duration::MAX)
        .with_pong_timeout(Duration::MAX)
        .with_delisted_grace(Duration::MAX)
        .with_registry_patience(Duration::MAX);
    let serving = Serving::probe(&Probe::default(), ServerConfig::default()).await;
    let registry = Arc::new(Memory::named("unlimited times"));
    registry.register(&PROBE, Instance::new(serving.address())).await.unwrap();
    let client = Client::builder().registry(registry.clone()).config(unlimited).build().unwrap();
    let probing = ProbingClient::new(client);
    tests::in_time(async {
        probing.echo("x".to_owned()).timeout(Duration::MAX).await.unwrap();
        probing.again("x".to_owned()).await.unwrap();
        registry.deregister(&PROBE, serving.address()).await.unwrap();
        probing.echo("x".to_owned()).await.unwrap();
    })
    .await;
}
