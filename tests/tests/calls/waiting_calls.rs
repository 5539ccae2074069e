//! Calls that wait for a provider: their deadlines hold, and they cost other calls nothing.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{
    BoxFuture, Code, Instance, Registry as _, Status,
    layer::{IncomingCall, Served, ServerLayer, ServerNext},
    transport::{Connect, Io},
};
use rpc_registry::Memory;
use rpc_server::Server;
use tests::{
    ledger::{Clerk, LEDGER, LedgerClient},
    pipes::{PIPE, Pipes, pipes},
    probe::{Probe, ProbingClient},
    serving::{PROBE, Serving},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// Connects to [`PIPE`]; all other addresses refuse.
struct OnlyPipe(Pipes);

impl Connect for OnlyPipe {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        if address == PIPE { self.0.connect(address) } else { Box::pin(async { Err(REFUSED.into()) }) }
    }
}

const REFUSED: io::ErrorKind = io::ErrorKind::ConnectionRefused;

/// Counts the polls of a future.
struct Counted<F> {
    future: F,
    polls: Arc<AtomicUsize>,
}

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.future).poll(cx)
    }
}

/// A client of `test.Probe`, whose provider is healthy, and of `test.Ledger` with `dead` providers that refuse.
async fn scene(name: &str, dead: u16) -> (Serving, Client) {
    let (pipes, listener) = pipes();
    let serving = Serving::listen(Server::builder().service(Probe::default().server()), listener).await;
    let registry = Arc::new(Memory::named(name));
    registry.register(&PROBE, Instance::new(PIPE)).await.unwrap();
    for port in 1..=dead {
        registry.register(&LEDGER, Instance::new(([127, 0, 0, 2], port).into())).await.unwrap();
    }
    let config = ClientConfig::default().with_cache_directory(None).with_seed(Some(1)).with_subset(None);
    (serving, Client::builder().registry(registry).connector(OnlyPipe(pipes)).config(config).build().unwrap())
}

/// The connects of the dead providers change their states some thousand times.
#[tokio::test(start_paused = true)]
async fn dead_providers_do_not_wake_waiting_calls() {
    const CALLS: usize = 2_000;
    let (_serving, client) = scene("dead providers", 200).await;
    let (ledger, polls) = (LedgerClient::new(client.clone()), Arc::new(AtomicUsize::new(0)));
    let mut calls = JoinSet::new();
    let start = Instant::now();
    for nonce in 0..CALLS {
        let call = ledger.look_up(nonce as u64).wait_for_ready(true).timeout(Duration::from_secs(5));
        let call = Counted { future: call, polls: Arc::clone(&polls) };
        calls.spawn(async move { (call.await, start.elapsed()) });
    }
    let probing = ProbingClient::new(client.clone());
    for _ in 0..100 {
        probing.echo("x".to_owned()).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    while let Some(ended) = calls.join_next().await {
        let (outcome, elapsed) = ended.unwrap();
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.message().contains("and 192 more"), "{error}");
        // Virtual time: the timer of a call has a resolution of one millisecond.
        assert_eq!(elapsed.as_millis() / 10, 500, "{elapsed:?}");
    }
    assert!(client.counts().connect_failures > 1_000);
    let polls = polls.load(Ordering::Relaxed);
    assert!(polls <= 5 * CALLS, "{polls} polls of {CALLS} calls");
}

#[tokio::test(start_paused = true)]
async fn calls_fail_together_when_no_connect_is_pending() {
    const CALLS: usize = 1_000;
    let (_serving, client) = scene("fail fast", 200).await;
    let (ledger, polls) = (LedgerClient::new(client.clone()), Arc::new(AtomicUsize::new(0)));
    let mut calls = JoinSet::new();
    for nonce in 0..CALLS {
        let call = ledger.look_up(nonce as u64).timeout(Duration::from_secs(50));
        calls.spawn(Counted { future: call, polls: Arc::clone(&polls) });
    }
    while let Some(ended) = calls.join_next().await {
        assert_eq!(ended.unwrap().unwrap_err().code(), Code::Unavailable);
    }
    let polls = polls.load(Ordering::Relaxed);
    assert!(polls <= 5 * CALLS, "{polls} polls of {CALLS} calls");
}

/// Rejects the calls of `test.Ledger` for a time that exceeds their timeout.
struct Overloaded;

impl ServerLayer for Overloaded {
    async fn serve(&self, call: &IncomingCall, next: ServerNext<'_>) -> Served {
        match call.method().route().starts_with("test.Ledger") {
            true => next.reject_until(Status::resource_exhausted("overloaded"), Duration::from_secs(60)),
            false => next.run().await,
        }
    }
}

/// The connects of the dead providers change their states some thousand times while the other one is in a cooldown.
#[tokio::test(start_paused = true)]
async fn dead_providers_do_not_wake_calls_in_a_cooldown() {
    const CALLS: usize = 2_000;
    let (pipes, listener) = pipes();
    let directory = tempfile::tempdir().unwrap();
    let clerk = Clerk::new(directory.path(), Duration::ZERO);
    let _serving = Serving::listen(Server::builder().service(clerk.server()).layer(Overloaded), listener).await;
    let registry = Arc::new(Memory::named("cooldown"));
    registry.register(&LEDGER, Instance::new(PIPE)).await.unwrap();
    for port in 1..=200 {
        registry.register(&LEDGER, Instance::new(([127, 0, 0, 2], port).into())).await.unwrap();
    }
    let config = ClientConfig::default().with_cache_directory(None).with_seed(Some(1)).with_subset(None);
    let client = Client::builder().registry(registry).connector(OnlyPipe(pipes)).config(config).build().unwrap();
    let (ledger, polls) = (LedgerClient::new(client.clone()), Arc::new(AtomicUsize::new(0)));
    ledger.look_up(0).timeout(Duration::from_millis(100)).await.unwrap_err();
    let failures = client.counts().connect_failures;
    let mut calls = JoinSet::new();
    for nonce in 0..CALLS {
        let call = ledger.look_up(nonce as u64).timeout(Duration::from_secs(2));
        calls.spawn(Counted { future: call.into_future(), polls: Arc::clone(&polls) });
    }
    while let Some(ended) = calls.join_next().await {
        let error = ended.unwrap().unwrap_err();
        assert!(error.message().contains("suspended"), "{error}");
    }
    assert!(client.counts().connect_failures > failures + 200);
    let polls = polls.load(Ordering::Relaxed);
    assert!(polls <= 5 * CALLS, "{polls} polls of {CALLS} calls");
}

#[tokio::test(start_paused = true)]
async fn waiting_calls_proceed_when_a_provider_appears() {
    let (_serving, client) = scene("appears", 3).await;
    let probing = ProbingClient::new(client.clone());
    let registry = Memory::named("appears");
    registry.deregister(&PROBE, PIPE).await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let call = probing.echo("x".to_owned()).wait_for_ready(true).timeout(Duration::from_secs(5));
        calls.spawn(call);
    }
    sleep(Duration::from_secs(1)).await;
    registry.register(&PROBE, Instance::new(PIPE)).await.unwrap();
    while let Some(ended) = calls.join_next().await {
        ended.unwrap().unwrap();
    }
}
