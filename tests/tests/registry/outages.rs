//! Outages of the registry, with processes and a real Nacos server.
//!
//! `MSNB_OUTAGE_SECONDS` sets the length of the longer outage: by default 6 s, in the full test 20 s and 90 s.

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
    nacos::{self, ListedInstance, NacosServer},
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

/// Waits until `wanted` accepts the client's explanation of the ledger service.
async fn until_explained(client: &Client, wanted: impl Fn(&rpc_core::Explanation) -> bool) {
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
    waited.await.unwrap_or_else(|_| panic!("timeout with {}", client.explain(&LEDGER)));
}

/// Kills the registry under load: no call fails, and the client discovers a provider that starts afterwards.
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
    // The time until the registry lists the provider depends on the registry.
    let listed = |listed: &[ListedInstance]| listed.iter().any(|instance| instance.address() == new.address());
    tokio::time::timeout(LONG, nacos.wait_for(&LEDGER, listed)).await.unwrap();
    let listed_after = back.elapsed();
    load.until_answers(&[new.address()], 1).await;
    let found_after = back.elapsed();
    let all = [old[0], old[1], new.address()].into_iter().collect::<std::collections::BTreeSet<SocketAddr>>();
    let complete = |list: &[ListedInstance]| list.iter().map(ListedInstance::address).eq(all.iter().copied());
    tokio::time::timeout(LONG, nacos.wait_for(&LEDGER, complete)).await.unwrap();
    let complete_after = back.elapsed();
    // All providers answer, now and later.
    load.until_answers(&[old[0], old[1], new.address()], 100).await;
    let tally = load.end().await;
    eprintln!(
        "outage of {length:?}: a new provider was listed {listed_after:?} after it and answered {found_after:?} after it, and \
         the list was complete {complete_after:?} after it: {}",
        tally.line()
    );
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_outage_fails_no_call() {
    outage(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_outage_fails_no_call() {
    outage(seconds("MSNB_OUTAGE_SECONDS", 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provider_loss_during_outage_fails_no_idempotent_call() {
    let directory = tempfile::tempdir().unwrap();
    let mut nacos = NacosServer::start().await;
    let (mut drained, mut killed) =
        (provider(&nacos, directory.path()).await, provider(&nacos, directory.path()).await);
    let remaining = provider(&nacos, directory.path()).await;
    let all = [drained.address(), killed.address(), remaining.address()];
    let client = client(&nacos, None).await;
    drop(LedgerClient::new(client.clone()).look_up(0).timeout(Duration::from_millis(1)).await);
    until_ready(&client, &all).await;
    let load = Load::begin(&client, 32, &Kind::ALL, Duration::from_secs(5));
    load.until_answers(&all, 1).await;

    nacos.kill();
    drained.terminate();
    let terminated = Instant::now();
    let (status, _) = drained.wait().await;
    assert!(status.success());
    let left_after = terminated.elapsed();
    for kind in Kind::ALL {
        load.tally().expect_none_failed(kind);
    }
    killed.kill();
    killed.wait().await;
    load.until_answers(&all[2..], 100).await;
    nacos.restart().await;
    // The client discovers a new provider, even if the registry does not list the others.
    let new = provider(&nacos, directory.path()).await;
    load.until_answers(&[remaining.address(), new.address()], 100).await;
    let tally = load.end().await;
    eprintln!("the drained provider ended {left_after:?} after SIGTERM: {}", tally.line());
    tally.expect_none_failed(Kind::Idempotent);
    // The drain waits for the registry at most for the limit of one request to it.
    assert!(left_after < Duration::from_secs(20), "{left_after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_started_during_outage_reports_stale_cached_list() {
    let directory = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut nacos = NacosServer::start().await;
    let provider = provider(&nacos, directory.path()).await;
    let first = client(&nacos, Some(cache.path())).await;
    LedgerClient::new(first.clone()).look_up(1).wait_for_ready(true).timeout(LONG).await.unwrap();
    assert!(!first.explain(&LEDGER).stale);
    let cached = async {
        while std::fs::read_dir(cache.path()).unwrap().next().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tests::in_time(cached).await;
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
    until_explained(&second, |explanation| !explanation.stale).await;
    load.until_answers(&[provider.address()], 100).await;
    let tally = load.end().await;
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_started_during_outage_without_cache_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let mut nacos = NacosServer::stopped(nacos::ServerKind::RNacos);
    let client = client(&nacos, None).await;
    let ledger = LedgerClient::new(client.clone());
    for wait_for_ready in [false, true] {
        let begun = Instant::now();
        let error = ledger.look_up(1).timeout(Duration::from_secs(2)).wait_for_ready(wait_for_ready).await.unwrap_err();
        assert_eq!((error.code(), error.phase()), (Code::Unavailable, Some(Phase::Resolve)), "{error:?}");
        assert!(error.message().contains(&nacos.url()) && error.message().contains("test.Ledger:1.0"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
    // A provider that starts during the outage serves callers that specify its address.
    let provider = provider(&nacos, directory.path()).await;
    let receipt = ledger.look_up(2).address(provider.address()).await.unwrap();
    assert_eq!(receipt.address, Some(provider.address()));

    nacos.restart().await;
    let back = Instant::now();
    let receipt = ledger.look_up(3).wait_for_ready(true).timeout(LONG).await.unwrap();
    assert_eq!(receipt.address, Some(provider.address()));
    eprintln!("the provider answered {:?} after the registry was ready", back.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_list_removes_no_answering_provider() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Branch::open(directory.path(), Duration::from_millis(2));
    let (old, new) = (open().await, open().await);
    let registry = Arc::new(Memory::named("an empty list"));
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
    // The client uses the registry's list once a listed provider answers.
    registry.register(&LEDGER, Instance::new(new.address())).await.unwrap();
    until_endpoints(&client, |endpoints| !endpoints.contains_key(&old.address())).await;
    load.until_answers(&[new.behind()], 10).await;
    let tally = load.end().await;
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
}

/// After an outage, nacos-sdk alone needs up to a minute to reconnect.
const LONG: Duration = Duration::from_secs(150);
