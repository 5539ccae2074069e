//! Balancing of calls over providers: affinity keys, weights and lanes.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::{Balance, Client, ClientConfig};
use rpc_core::{Instance, Registry as _};
use rpc_registry::Memory;
use tests::{
    branch::{Branch, client_of},
    in_time,
    ledger::{LEDGER, LedgerClient},
    load::{until_endpoints, until_ready},
    relay::Mode,
};
use tokio::task::JoinSet;

/// Returns the provider that answers each of 300 keys.
async fn owners(ledger: &LedgerClient<Client>) -> BTreeMap<u64, SocketAddr> {
    let mut owners = BTreeMap::new();
    for key in 0..300 {
        let receipt = in_time(ledger.look_up(key).affinity(("user", key))).await.unwrap();
        owners.insert(key, receipt.address.unwrap());
    }
    owners
}

#[tokio::test]
async fn affinity_key_keeps_its_provider_while_it_is_alive() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Branch::open(directory.path(), Duration::ZERO);
    let branches = [open().await, open().await, open().await];
    let all: Vec<_> = branches.iter().collect();
    let (client, other_client) =
        (client_of(&all, ClientConfig::default()).await, client_of(&all, ClientConfig::default()).await);
    let ledger = LedgerClient::new(client.clone());
    let before = owners(&ledger).await;
    assert_eq!(owners(&ledger).await, before);
    assert_eq!(owners(&LedgerClient::new(other_client)).await, before, "clients agree on the providers");
    for branch in &branches {
        let share = before.values().filter(|owner| **owner == branch.behind()).count();
        assert!((40..160).contains(&share), "{share} of 300 keys");
    }

    let lost = &branches[0];
    lost.relay.set(Mode::Refuse).await;
    lost.relay.until(|count| count.open == 0).await;
    until_endpoints(&client, |endpoints| !endpoints[&lost.address()].to_string().contains("ready")).await;
    for (key, owner) in owners(&ledger).await {
        assert!(
            owner == before[&key] || before[&key] == lost.behind(),
            "key {key} moved although its provider answers"
        );
    }
    lost.relay.set(Mode::Pass).await;
    until_ready(&client, &[lost.address()]).await;
    assert_eq!(owners(&ledger).await, before, "the keys return to their providers");
}

/// Makes `calls` calls, `concurrency` at a time, and returns how many each of two providers with `weights` answers.
async fn shares(balance: Balance, weights: [f64; 2], calls: u64, concurrency: usize) -> [u64; 2] {
    let directory = tempfile::tempdir().unwrap();
    let open = || Branch::open(directory.path(), Duration::from_millis(4));
    let branches = [open().await, open().await];
    let registry = Arc::new(Memory::named(&format!("{balance:?} {weights:?} {concurrency}")));
    for (branch, weight) in branches.iter().zip(weights) {
        registry.register(&LEDGER, Instance::new(branch.address()).with_weight(weight)).await.unwrap();
    }
    let config = ClientConfig::default().with_balance(balance).with_cache_directory(None);
    let client = Client::builder().registry(registry).config(config).build().unwrap();
    let ledger = LedgerClient::new(client.clone());
    ledger.look_up(0).wait_for_ready(true).await.unwrap();
    until_ready(&client, &branches.each_ref().map(Branch::address)).await;
    let mut callers = JoinSet::new();
    for _ in 0..concurrency {
        let (ledger, calls) = (ledger.clone(), calls / concurrency as u64);
        callers.spawn(async move {
            let mut answers = Vec::new();
            for nonce in 0..calls {
                answers.push(ledger.look_up(nonce).await.unwrap().address.unwrap());
            }
            answers
        });
    }
    let answers = in_time(callers.join_all()).await.concat();
    branches.each_ref().map(|branch| answers.iter().filter(|answer| **answer == branch.behind()).count() as u64)
}

#[tokio::test]
async fn weights_determine_shares_of_calls() {
    for balance in [Balance::Random, Balance::PowerOfTwoChoices, Balance::LatencyAware] {
        for concurrency in [1, 16] {
            let [light, heavy] = shares(balance, [1.0, 3.0], 480, concurrency).await;
            eprintln!("{balance:?}, {concurrency} concurrent calls: {light} and {heavy} of 480");
            assert!(
                (60..=180).contains(&light),
                "{balance:?}, {concurrency} concurrent calls: {light} and {heavy} of 480"
            );
        }
    }
    let [light, heavy] = shares(Balance::RoundRobin, [1.0, 3.0], 100, 1).await;
    assert_eq!(light, heavy, "round robin ignores weights");
}

#[tokio::test]
async fn zero_weight_provider_receives_no_calls() {
    for balance in [Balance::Random, Balance::RoundRobin, Balance::PowerOfTwoChoices, Balance::LatencyAware] {
        assert_eq!(shares(balance, [0.0, 1.0], 60, 4).await, [0, 60], "{balance:?}");
    }
}

/// The only provider with a weight refuses connects.
#[tokio::test]
async fn ready_provider_of_weight_zero_delays_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let branch = Branch::open(directory.path(), Duration::ZERO).await;
    let registry = Arc::new(Memory::named("weight 0"));
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    registry.register(&LEDGER, Instance::new(branch.address()).with_weight(0.0)).await.unwrap();
    registry.register(&LEDGER, Instance::new(dead)).await.unwrap();
    let config = ClientConfig::default().with_cache_directory(None);
    let client = Client::builder().registry(Arc::clone(&registry) as _).config(config).build().unwrap();
    let ledger = LedgerClient::new(client.clone());
    drop(ledger.look_up(0).timeout(Duration::from_millis(1)).await);
    until_ready(&client, &[branch.address()]).await;
    let message = format!("{}: weight 0 in the registry", branch.address());
    for call in [ledger.look_up(1), ledger.look_up(1).affinity(1)] {
        let (outcome, explanation) = in_time(call.timeout(Duration::from_secs(600)).explain()).await;
        let error = outcome.unwrap_err();
        assert!(error.message().contains(&message), "{error}");
        assert!(explanation.to_string().contains("weight 0 in the registry"), "{explanation}");
    }
    let error = in_time(client.warm_up::<LedgerClient<_>>()).await.unwrap_err();
    assert!(error.message().contains(&message), "{error}");

    // Once all providers have weight 0, they count as equal.
    registry.deregister(&LEDGER, dead).await.unwrap();
    in_time(ledger.look_up(2).wait_for_ready(true).timeout(Duration::from_secs(50))).await.unwrap();
}

#[tokio::test]
async fn two_lanes_open_two_connections() {
    let directory = tempfile::tempdir().unwrap();
    let branch = Branch::open(directory.path(), Duration::from_millis(20)).await;
    let client = client_of(&[&branch], ClientConfig::default().with_lanes(2)).await;
    branch.relay.until(|count| count.open == 2).await;
    let ledger = LedgerClient::new(client.clone());
    let mut calls = JoinSet::new();
    for nonce in 0..64 {
        calls.spawn(ledger.look_up(nonce));
    }
    for outcome in in_time(calls.join_all()).await {
        outcome.unwrap();
    }
    assert_eq!((branch.relay.count().accepted, branch.relay.count().open), (2, 2));

    // The client restores both broken connections.
    branch.relay.cut();
    branch.relay.until(|count| count.accepted == 4 && count.open == 2).await;
    ledger.look_up(64).wait_for_ready(true).await.unwrap();
    client.close().await;
    branch.relay.until(|count| count.open == 0).await;
}
