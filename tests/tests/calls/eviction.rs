//! A provider that never comes back: after its 12th failure in a row it is left alone, and comes back when the registry says it
//! anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

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

/// TCP, and how often one address was connected to.
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

/// Lets one of two providers die so, and watches how it is left alone and taken up again.
async fn evict(how: Mode) {
    let directory = tempfile::tempdir().unwrap();
    let open = || Branch::open(directory.path(), Duration::from_millis(2));
    let (dying, sound) = (open().await, open().await);
    let registry = Arc::new(Memory::named(&format!("eviction {how:?}")));
    for branch in [&dying, &sound] {
        registry.register(&LEDGER, Instance::new(branch.address())).await.unwrap();
    }
    let connects = Counting { counted: dying.address(), count: Arc::default() };
    let config = ClientConfig::default().with_cache_directory(None);
    let client = Client::builder().registry(registry.clone()).connector(connects.clone()).config(config);
    let client = client.build().unwrap();
    LedgerClient::new(client.clone()).look_up(0).wait_for_ready(true).await.unwrap();
    until_ready(&client, &[dying.address(), sound.address()]).await;
    let load = Load::begin(&client, 4, &[Kind::Idempotent], Duration::from_secs(5));
    let connects = || connects.count.load(Ordering::SeqCst);
    assert_eq!(connects(), 1);

    dying.relay.set(how).await;
    let died = Instant::now();
    until_endpoints(&client, |endpoints| !endpoints.contains_key(&dying.address())).await;
    let took = died.elapsed();
    eprintln!("{how:?}: evicted {took:?} after its death");
    assert_eq!(connects(), 1 + 12);
    // Half of 16.4 s is fixed and half is chance.
    assert!(took > Duration::from_secs(8), "{took:?}");
    let known = |client: &Client| client.explain(&LEDGER).candidates.iter().any(|c| c.address == dying.address());
    in_step(&client, |client| !known(client)).await;

    // It serves again, and nobody looks: the list says nothing new.
    dying.relay.set(Mode::Pass).await;
    let evicted = Instant::now();
    load.until_answers(&[sound.behind()], 300).await;
    registry.register(&LEDGER, Instance::new(sound.address()).with_metadata("changed", "yes")).await.unwrap();
    load.until_answers(&[sound.behind()], 300).await;
    assert_eq!(connects(), 1 + 12, "it is left alone for 30 s while it is merely still listed");
    registry.register(&LEDGER, Instance::new(dying.address()).with_metadata("started", "anew")).await.unwrap();
    load.until_answers(&[dying.behind()], 1).await;
    eprintln!("{how:?}: back in use {:?} after its eviction", evicted.elapsed());
    assert!(evicted.elapsed() < Duration::from_secs(29), "it came back because 30 s had passed");
    assert_eq!(connects(), 1 + 12 + 1);
    load.end().await.expect_none_failed(Kind::Idempotent);
}

/// Waits until `wanted` is true of what a client knows.
async fn in_step(client: &Client, wanted: impl Fn(&Client) -> bool) {
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
    assert_eq!(connects.count.load(Ordering::SeqCst), before, "nobody connects to what is not listed");
}
