//! Providers and consumers with each kind of Nacos server: restarts of the server, changes by an operator, a cluster.
//!
//! The official servers need Java 17 and Maven; without them their tests print SKIPPED. `MSNB_OUTAGE_SECONDS` adds to each
//! restart an outage: by default 0 s, in the full test 5 s and 90 s.

mod cluster;
mod operator;
mod restarts;

use std::{fmt::Write as _, net::SocketAddr, path::Path, time::Duration};

use futures_util::future::join_all;
use rpc_client::{Client, ClientConfig};
use tests::{
    ledger::{LEDGER, LedgerClient},
    load::{Kind, Load, until_ready},
    nacos::{ListedInstance, NacosServer},
    process::Provider,
    relay::free_address,
};

/// The number of concurrent callers.
const CALLERS: usize = 16;

/// The limit of every wait; far longer than any of them takes.
const LONG: Duration = Duration::from_secs(150);

/// Defines one test of a function for each of these server kinds.
macro_rules! on_servers {
    ($test:ident: $($name:ident $kind:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if tests::nacos::ServerKind::$kind.is_available() {
                $test(tests::nacos::ServerKind::$kind).await;
            }
        })*
    };
}
pub(crate) use on_servers;

/// Starts a provider of the ledger service.
async fn ledger(registry: &str, directory: &Path) -> Provider {
    Provider::start_ledger(env!("CARGO_BIN_EXE_tests-provider"), registry, free_address(), directory).await
}

async fn client(registry: &str) -> Client {
    let registry = rpc_registry::connect(registry).await.unwrap();
    let config = ClientConfig::default().with_cache_directory(None);
    Client::builder().registry(registry).config(config).build().unwrap()
}

/// Starts calls of the ledger service once every server lists these providers, and waits until each of them has answered.
async fn load(client: &Client, servers: &[&NacosServer], providers: &[SocketAddr]) -> Load {
    drop(LedgerClient::new(client.clone()).look_up(0).timeout(Duration::from_millis(1)).await);
    until_listed(servers, providers).await;
    until_ready(client, providers).await;
    let load = Load::begin(client, CALLERS, &Kind::ALL, Duration::from_secs(5));
    load.until_answers(providers, 1).await;
    load
}

/// Waits until each server lists each of these addresses once, and no others.
async fn until_listed(servers: &[&NacosServer], addresses: &[SocketAddr]) {
    let mut wanted = addresses.to_vec();
    wanted.sort();
    let same = |listed: &[ListedInstance]| listed.iter().map(ListedInstance::address).eq(wanted.iter().copied());
    let all = join_all(servers.iter().map(|server| server.wait_for(&LEDGER, same)));
    if tokio::time::timeout(LONG, all).await.is_ok() {
        return;
    }
    let mut lists = String::new();
    for server in servers {
        let listed: Vec<_> = server.instances(&LEDGER).await.iter().map(ListedInstance::address).collect();
        writeln!(lists, "{} lists {listed:?}", server.url()).unwrap();
    }
    panic!("expected {wanted:?} within {LONG:?}, but\n{lists}");
}

/// Ends the calls, and checks that none failed.
async fn end(load: Load) {
    let tally = load.end().await;
    eprintln!("{}", tally.line());
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
}
