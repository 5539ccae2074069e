//! Eviction of a dead provider after its 12th failure in a row, and its return after a new registration.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{
    BoxFuture, Instance, Registry,
    transport::{Connect, Io, Tcp},
};
use rpc_registry::Memory;
use tests::{
    branch::Branch,
    ledger::{LEDGER, LedgerClient},
    load::{Kind, Load, until_endpoints, until_ready},
    relay::Mode,
};

/// A TCP connector that counts the connects to one address.
#[derive(Clone)]
struct Counting {
    counted: SocketAddr,
    count: Arc<AtomicUsize>,
}

impl Connect for Counting {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        if address == self.counted {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        Tcp.connect(address)
    }
}

/// Makes one of two providers fail with `mode`, and checks its eviction and its return.
async fn evict(mode: Mode) {
    let directory = tempfile::tempdir().unwrap();
    let open = || Branch::open(directory.path(), Duration::from_millis(2));
    let (dead, healthy) = (open().await, open().await);
    let registry = Arc::new(Memory::named(&format!("eviction {mode:?}")));
    for branch in [&dead, &healthy] {
        registry.register(&LEDGER, Instance::new(branch.address())).await.unwrap();
    }
    let connects = Counting { counted: dead.address(), count: Arc::default() };
    let config = ClientConfig::default().with_cache_directory(None);
    let client = Client::builder().registry(registry.clone()).connector(connects.clone()).config(config);
    let client = client.build().unwrap();
    LedgerClient::new(client.clone()).look_up(0).wait_for_ready(true).await.unwrap();
    until_ready(&client, &[dead.address(), healthy.address()]).await;
    let load = Load::begin(&client, 4, &[Kind::Idempotent], Duration::from_secs(5));
    let connects = || connects.count.load(Ordering::SeqCst);
    assert_eq!(connects(), 1);
    // The loss of a connection that carried an answer does not count as a failure.
    load.until_answers(&[dead.behind()], 1).await;

    dead.relay.set(mode).await;
    let failed = Instant::now();
    until_endpoints(&client, |endpoints| !endpoints.contains_key(&dead.address())).await;
    let took = failed.elapsed();
    eprintln!("{mode:?}: evicted {took:?} after the first failure");
    assert_eq!(connects(), 1 + 12);
    // The backoffs sum up to 16.4 s, of which jitter removes at most half.
    assert!(took > Duration::from_secs(8), "{took:?}");
    let known = |client: &Client| client.explain(&LEDGER).candidates.iter().any(|c| c.address == dead.address());
    until_client(&client, |client| !known(client)).await;

    // The provider serves again. The client does not connect, because the list has not changed.
    dead.relay.set(Mode::Pass).await;
    let evicted = Instant::now();
    load.until_answers(&[healthy.behind()], 300).await;
    registry.register(&LEDGER, Instance::new(healthy.address()).with_metadata("changed", "yes")).await.unwrap();
    load.until_answers(&[healthy.behind()], 300).await;
    assert_eq!(connects(), 1 + 12, "the client ignores an evicted provider for 30 s while its listing is unchanged");
    registry.register(&LEDGER, Instance::new(dead.address()).with_metadata("started", "anew")).await.unwrap();
    load.until_answers(&[dead.behind()], 1).await;
    eprintln!("{mode:?}: back in use {:?} after its eviction", evicted.elapsed());
    assert!(evicted.elapsed() < Duration::from_secs(29), "it returned only because 30 s had passed");
    assert_eq!(connects(), 1 + 12 + 1);
    load.end().await.expect_none_failed(Kind::Idempotent);
}

/// Waits until `wanted` accepts the state of the client.
async fn until_client(client: &Client, wanted: impl Fn(&Client) -> bool) {
    let mut changes = client.changes();
    let waited = tests::in_time(async {
        loop {
            changes.borrow_and_update();
            if wanted(client) {
                return;
            }
            changes.changed().await.unwrap();
        }
    });
    waited.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_evicts_refusing_provider_after_twelve_failures() {
    evict(Mode::Refuse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_evicts_resetting_provider_after_twelve_failures() {
    evict(Mode::Reset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_drops_delisted_dead_provider_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let gone = Branch::open(directory.path(), Duration::ZERO).await;
    let registry = Arc::new(Memory::named("leaves the list"));
    registry.register(&LEDGER, Instance::new(gone.address())).await.unwrap();
    let connects = Counting { counted: gone.address(), count: Arc::default() };
    let config = ClientConfig::default().with_cache_directory(None);
    let client = Client::builder().registry(registry.clone()).connector(connects.clone()).config(config);
    let client = client.build().unwrap();
    LedgerClient::new(client.clone()).look_up(0).wait_for_ready(true).await.unwrap();
    gone.relay.set(Mode::Refuse).await;
    registry.deregister(&LEDGER, gone.address()).await.unwrap();
    until_endpoints(&client, |endpoints| endpoints.is_empty()).await;
    let error = LedgerClient::new(client.clone()).look_up(1).await.unwrap_err();
    assert!(error.message().contains("memory:leaves the list"), "{error}");
    let before = connects.count.load(Ordering::SeqCst);
    LedgerClient::new(client).look_up(2).wait_for_ready(true).timeout(Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(connects.count.load(Ordering::SeqCst), before, "the client does not connect to a delisted provider");
}
