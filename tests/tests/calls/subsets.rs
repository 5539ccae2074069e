//! Subsets of many providers: even over numbered clients, and without incompatible contracts.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::{Balance, Client, ClientConfig};
use rpc_registry::Memory;
use rpc_server::Server;
use tests::{
    evolution::{one, two},
    in_time,
    serving::Serving,
};
use tokio::task::JoinSet;

use crate::region::{Provider, RegionClient, RegionServer, without_zone};

/// Starts providers and numbered clients, each of which makes `calls` calls. Returns the calls of each provider.
async fn spread(providers: usize, clients: u32, calls: usize, balance: Balance) -> BTreeMap<SocketAddr, u64> {
    let registry = Arc::new(Memory::named(&format!("spread over {providers}")));
    let mut serving = Vec::new();
    for number in 0..providers {
        let provider = Provider { name: number.to_string(), delay: Duration::ZERO, inner: None };
        let server = Server::builder().service(RegionServer::new(provider)).registry(Arc::clone(&registry) as _);
        serving.push(Serving::start(server).await);
    }
    let mut callers = JoinSet::new();
    for number in 0..clients {
        let config = without_zone().with_cache_directory(None).with_client_number(Some(number)).with_balance(balance);
        let client = Client::builder().registry(Arc::clone(&registry) as _).config(config).build().unwrap();
        callers.spawn(async move {
            client.warm_up::<RegionClient<_>>().await.unwrap();
            let region = RegionClient::new(client.clone());
            for _ in 0..calls {
                region.name().timeout(Duration::from_secs(50)).await.unwrap();
            }
            let counts = client.provider_counts();
            assert_eq!(counts.len(), 20, "the connections of a client");
            counts
        });
    }
    let mut answered = BTreeMap::new();
    for provider in callers.join_all().await.into_iter().flatten() {
        *answered.entry(provider.address).or_default() += provider.answered;
    }
    answered
}

#[tokio::test]
async fn numbered_clients_spread_calls_evenly() {
    let answered = in_time(spread(120, 6, 60, Balance::RoundRobin)).await;
    assert_eq!(answered.len(), 120);
    assert!(answered.values().all(|calls| *calls == 3), "{answered:?}");
}

/// Takes a minute: `cargo test -p tests --test calls fifty_clients -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "makes a million calls to a thousand providers"]
async fn fifty_clients_spread_calls_over_1000_providers() {
    let answered = spread(1000, 50, 24_000, Balance::PowerOfTwoChoices).await;
    let (least, most) = (answered.values().min().unwrap(), answered.values().max().unwrap());
    eprintln!("{} providers, {least} to {most} calls", answered.len());
    assert!(answered.len() == 1000 && *least >= 1080 && *most <= 1320);
}

/// A client of the second version finds the few providers of that version among many of the first one.
#[tokio::test]
async fn incompatible_members_of_a_subset_are_replaced() {
    let registry = Arc::new(Memory::named("incompatible subset"));
    let mut serving = Vec::new();
    for number in 0..105 {
        let builder = match number % 15 {
            0 => Server::builder().service(two::EvolvingServer::new(two::Service)),
            _ => Server::builder().service(one::EvolvingServer::new(one::Service)),
        };
        serving.push(Serving::start(builder.registry(Arc::clone(&registry) as _)).await);
    }
    let mut replaced = 0;
    for seed in 0..3 {
        let config = ClientConfig::default().with_cache_directory(None).with_subset(Some(3)).with_seed(Some(seed));
        let client = Client::builder().registry(Arc::clone(&registry) as _).config(config).build().unwrap();
        let evolving = two::EvolvingClient::new(client.clone());
        for _ in 0..10 {
            in_time(evolving.changed_result().timeout(Duration::from_secs(50))).await.unwrap();
        }
        replaced += client.counts().connects - 3;
    }
    assert!(replaced > 0, "each client found a provider of its version at once");
}
