//! Providers and consumers with each kind of Nacos server: restarts of the server, an operator's changes, a cluster.
//!
//! The official servers need Java 17 and Maven; without them their tests print SKIPPED. `MSNB_OUTAGE_SECONDS=5` and `=90` make the outages
//! longer than a restart takes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod cluster;
mod operator;
mod restarts;

use std::{net::SocketAddr, path::Path, time::Duration};

use rpc_client::{Client, ClientConfig};
use tests::{
    ledger::{LEDGER, LedgerClient},
    load::{Kind, Load, until_ready},
    nacos::{Listed, NacosServer},
    process::Provider,
    relay::free_address,
};

/// How many call at once.
const CALLERS: usize = 16;

/// More than anything takes.
const LONG: Duration = Duration::from_secs(150);

/// Defines a test for each of these kinds of server from a function.
macro_rules! on_servers {
    ($test:ident: $($name:ident $kind:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if tests::nacos::Kind::$kind.is_available() {
                $test(tests::nacos::Kind::$kind).await;
            }
        })*
    };
}
use on_servers;

/// A provider of the ledger.
async fn ledger(registry: &str, directory: &Path) -> Provider {
    Provider::start_ledger(env!("CARGO_BIN_EXE_tests-provider"), registry, free_address(), directory).await
}

async fn client(registry: &str) -> Client {
    let registry = rpc_registry::connect(registry).await.unwrap();
    let config = ClientConfig::default().with_cache_directory(None);
    Client::builder().registry(registry).config(config).build().unwrap()
}

/// Begins calls of the ledger, and returns once each of these providers has answered.
async fn load(client: &Client, providers: &[SocketAddr]) -> Load {
    drop(LedgerClient::new(client.clone()).look_up(0).timeout(Duration::from_millis(1)).await);
    until_ready(client, providers).await;
    let load = Load::begin(client, CALLERS, &Kind::ALL, Duration::from_secs(5));
    load.until_answers(providers, 1).await;
    load
}

/// Waits until the server lists each of these addresses once, and no other.
async fn until_listed(server: &NacosServer, addresses: &[SocketAddr]) {
    let mut wanted = addresses.to_vec();
    wanted.sort();
    let same = |listed: &[Listed]| listed.iter().map(Listed::address).eq(wanted.iter().copied());
    let waited = tokio::time::timeout(LONG, server.wait_for(&LEDGER, same)).await;
    if waited.is_err() {
        panic!("{wanted:?} are wanted, and listed are {:?}", server.instances(&LEDGER).await);
    }
}

/// Ends the calls, none of which may have failed.
async fn end(load: Load) {
    let tally = load.end().await;
    eprintln!("{}", tally.line());
    for kind in Kind::ALL {
        tally.expect_none_failed(kind);
    }
}
