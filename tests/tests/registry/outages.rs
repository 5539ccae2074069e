//! A registry that goes away, stays away and comes back: real processes, a real Nacos server.
//!
//! Small by default; `MSNB_OUTAGE_SECONDS=20` and `=90` make the longer outage as long.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Code, Instance, Phase, Registry as _};
use rpc_registry::Memory;
use tests::{
    branch::Branch,
    ledger::{LEDGER, LedgerClient},
    load::{Kind, Load, seconds, until_endpoints, until_ready},
    nacos::{self, Listed, NacosServer},
    process::Provider,
    relay::free_address,
};

async fn provider(nacos: &NacosServer, directory: &Path) -> Provider {
    let binary = env!("CARGO_BIN_EXE_tests-provider");
    Provider::start_ledger(binary, &nacos.url(), free_address(), directory).await
}

async fn client(nacos: &NacosServer, cache: Option<&Path>) -> Client {
    let registry = rpc_registry::connect(&nacos.url()).await.unwrap();
    let config = ClientConfig::default().with_cache_directory(cache.map(Path::to_path_buf));
    Client::builder().registry(registry).config(config).build().unwrap()
}

/// Waits for what a client knows.
async fn until_known(client: &Client, wanted: impl Fn(&rpc_core::Explanation) -> bool) {
    let mut changes = client.changes();
    let waited = tokio::time::timeout(LONG, async {
        loop {
            changes.borrow_and_update();
            if wanted(&client.explain(&LEDGER)) {
                return;
            }
            changes.changed().await.unwrap();
        }
    });
    waited.await.unwrap_or_else(|_| panic!("it does not come: {}", client.explain(&LEDGER)));
}

/// Kills the registry for a while under load; nobody notices, and who starts afterwards is found.
async fn outage(length: Duration) {
    let directory = tempfile::tempdir().unwrap();
    let mut nacos = NacosServer::start().await;
    let (one, other) = (provider(&nacos, directory.path()).await, provider(&nacos, directory.path()).await);
    let old = [one.address(), other.address()];
    let client = client(&nacos, None).await;
    drop(LedgerClient::new(client.clone()).look_up(0).timeout(Duration::from_millis(1)).await);
    until_ready(&client, &old).await;
    let load = Load::begin(&client, 64, &Kind::ALL, Duration::from_secs(5));
    load.until_answers(&old, 1).await;

    nacos.kill();
    tokio::time::sleep(length).await;
    load.until_answers(&old, 1).await;
    nacos.restart().await;
    let back = Instant::now();
    let new = provider(&nacos, directory.path()).await;
    // From when the registry lists it, which depends on the registry.
    let listed = |listed: &[Listed]| listed.iter().any(|it| it.address() == new.address());
    tokio::time::timeout(LONG, nacos.wait_for(&LEDGER, listed)).await.unwrap();
    let listed_after = back.elapsed();
    load.until_answers(&[new.address()], 1).await;
    let found_after = back.elapsed();
    let all = [old[0], old[1], new.address()].into_iter().collect::<std::collections::BTreeSet<SocketAddr>>();
    let complete = |list: &[Listed]| list.iter().map(Listed::address).eq(all.iter().copied());
    tokio::time::timeout(LONG, nacos.wait_for(&LEDGER, complete)).await.unwrap();
    let complete_after = back.elapsed();
    // All of them work, and go on to.
    load.until_answers(&[old[0], old[1], new.address()], 100).await;
    let tally = load.end().await;
    eprintln!(
        "outage of {length:?}; after it, a new provider is listed {listed_after:?}, answers {found_after:?}, and the list is \
         whole {complete_after:?}: {}",
        tally.line()
    );
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_outage_fails_no_call() {
    outage(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_outage_fails_no_call() {
    outage(seconds("MSNB_OUTAGE_SECONDS", 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_leaves_or_dies_while_the_registry_is_down_fails_no_call_that_may_be_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let mut nacos = NacosServer::start().await;
    let (mut leaves, mut dies) = (provider(&nacos, directory.path()).await, provider(&nacos, directory.path()).await);
    let stays = provider(&nacos, directory.path()).await;
    let all = [leaves.address(), dies.address(), stays.address()];
    let client = client(&nacos, None).await;
    drop(LedgerClient::new(client.clone()).look_up(0).timeout(Duration::from_millis(1)).await);
    until_ready(&client, &all).await;
    let load = Load::begin(&client, 32, &Kind::ALL, Duration::from_secs(5));
    load.until_answers(&all, 1).await;

    nacos.kill();
    leaves.terminate();
    let asked = Instant::now();
    let (status, _) = leaves.wait().await;
    assert!(status.success());
    let left_after = asked.elapsed();
    for kind in Kind::ALL {
        load.tally().expect_none_failed(kind);
    }
    dies.kill();
    dies.wait().await;
    load.until_answers(&all[2..], 100).await;
    nacos.restart().await;
    // One who is found through the registry again, whatever it remembers of the others.
    let new = provider(&nacos, directory.path()).await;
    load.until_answers(&[stays.address(), new.address()], 100).await;
    let tally = load.end().await;
    eprintln!("left {left_after:?} after SIGTERM: {}", tally.line());
    tally.expect_none_failed(Kind::Idempotent);
    // It waits for the registry no longer than a call to it may take, and drains.
    assert!(left_after < Duration::from_secs(20), "{left_after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_starts_while_the_registry_is_down_uses_the_list_on_disk_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut nacos = NacosServer::start().await;
    let provider = provider(&nacos, directory.path()).await;
    let first = client(&nacos, Some(cache.path())).await;
    LedgerClient::new(first.clone()).look_up(1).wait_for_ready(true).timeout(LONG).await.unwrap();
    assert!(!first.explain(&LEDGER).stale);
    let kept = async {
        while std::fs::read_dir(cache.path()).unwrap().next().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tests::in_time(kept).await;
    first.close().await;
    nacos.kill();

    let second = client(&nacos, Some(cache.path())).await;
    let ledger = LedgerClient::new(second.clone());
    let (outcome, explanation) = ledger.look_up(2).explain().await;
    assert_eq!(outcome.unwrap().address, Some(provider.address()));
    for explanation in [explanation, second.explain(&LEDGER)] {
        assert!(explanation.stale, "{explanation}");
        assert!(explanation.to_string().contains("cached list"), "{explanation}");
        assert_eq!(explanation.registry, nacos.url());
    }
    let load = Load::begin(&second, 8, &Kind::ALL, Duration::from_secs(5));
    nacos.restart().await;
    until_known(&second, |known| !known.stale).await;
    load.until_answers(&[provider.address()], 100).await;
    let tally = load.end().await;
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_starts_while_the_registry_is_down_and_knows_nothing_says_so_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let mut nacos = NacosServer::absent(nacos::Kind::RNacos);
    let client = client(&nacos, None).await;
    let ledger = LedgerClient::new(client.clone());
    for patient in [false, true] {
        let begun = Instant::now();
        let error = ledger.look_up(1).timeout(Duration::from_secs(2)).wait_for_ready(patient).await.unwrap_err();
        assert_eq!((error.code(), error.phase()), (Code::Unavailable, Some(Phase::Resolve)), "{error:?}");
        assert!(error.message().contains(&nacos.url()) && error.message().contains("test.Ledger:1.0"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
    // A provider that starts meanwhile waits too, and serves who knows its address.
    let provider = provider(&nacos, directory.path()).await;
    let told = ledger.look_up(2).address(provider.address()).await.unwrap();
    assert_eq!(told.address, Some(provider.address()));

    nacos.restart().await;
    let back = Instant::now();
    let found = ledger.look_up(3).wait_for_ready(true).timeout(LONG).await.unwrap();
    assert_eq!(found.address, Some(provider.address()));
    eprintln!("found {:?} after the registry came", back.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_lists_nobody_for_long_takes_no_provider_away_that_answers() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Branch::open(directory.path(), Duration::from_millis(2));
    let (old, new) = (open().await, open().await);
    let registry = Arc::new(Memory::named("lists nobody for long"));
    registry.register(&LEDGER, Instance::new(old.address())).await.unwrap();
    let grace = Duration::from_millis(300);
    let config = ClientConfig::default().with_cache_directory(None).with_delisted_grace(grace);
    let client = Client::builder().registry(registry.clone()).config(config).build().unwrap();
    let ledger = LedgerClient::new(client.clone());
    ledger.look_up(0).wait_for_ready(true).await.unwrap();
    let load = Load::begin(&client, 4, &Kind::ALL, Duration::from_secs(5));

    registry.deregister(&LEDGER, old.address()).await.unwrap();
    tokio::time::sleep(grace * 5).await;
    load.until_answers(&[old.behind()], 10).await;
    // Once it lists somebody who answers, it is believed.
    registry.register(&LEDGER, Instance::new(new.address())).await.unwrap();
    until_endpoints(&client, |endpoints| !endpoints.contains_key(&old.address())).await;
    load.until_answers(&[new.behind()], 10).await;
    let tally = load.end().await;
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
}

/// After an outage the registry's client alone may take a minute to come back.
const LONG: Duration = Duration::from_secs(150);
