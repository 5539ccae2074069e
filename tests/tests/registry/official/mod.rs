//! Providers and consumers with each kind of Nacos server: restarts of the server, changes by an operator, a cluster.
//!
//! The official servers need Java 17 and Maven; without them their tests print SKIPPED. `MSNB_OUTAGE_SECONDS` adds to each
//! restart an outage: by default 0 s, in the full test 5 s and 90 s.

mod cluster;
mod operator;
mod restarts;

use std::{net::SocketAddr, path::Path, time::Duration};

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
use on_servers;

/// Starts a provider of the ledger service.
async fn ledger(registry: &str, directory: &Path) -> Provider {
    Provider::start_ledger(env!("CARGO_BIN_EXE_tests-provider"), registry, free_address(), directory).await
}

async fn client(registry: &str) -> Client {
    let registry = rpc_registry::connect(registry).await.unwrap();
    let config = ClientConfig::default().with_cache_directory(None);
    Client::builder().registry(registry).config(config).build().unwrap()
}

/// Starts calls of the ledger service, and waits until each of these providers has answered.
async fn load(client: &Client, providers: &[SocketAddr]) -> Load {
    drop(LedgerClient::new(client.clone()).look_up(0).timeout(Duration::from_millis(1)).await);
    until_ready(client, providers).await;
    let load = Load::begin(client, CALLERS, &Kind::ALL, Duration::from_secs(5));
    load.until_answers(providers, 1).await;
    load
}

/// Waits until the server lists each of these addresses once, and no others.
async fn until_listed(server: &NacosServer, addresses: &[SocketAddr]) {
    let mut wanted = addresses.to_vec();
    wanted.sort();
    let same = |listed: &[ListedInstance]| listed.iter().map(ListedInstance::address).eq(wanted.iter().copied());
    let waited = tokio::time::timeout(LONG, server.wait_for(&LEDGER, same)).await;
    if waited.is_err() {
        panic!("the server lists {:?}, expected {wanted:?}", server.instances(&LEDGER).await);
    }
}

/// Ends the calls, and checks that none failed.
async fn end(load: Load) {
    let tally = load.end().await;
    eprintln!("{}", tally.line());
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
}
