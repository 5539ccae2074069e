//! Subsets of many providers: even over numbered clients, and without incompatible contracts.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::{Balance, Client, ClientConfig};
use rpc_core::{Discovery as _, ServiceClient};
use rpc_registry::Memory;
use rpc_server::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::{
    evolution::{one, two},
    in_time,
    serving::Serving,
};
use tokio::task::JoinSet;

use crate::region::{Provider, RegionClient, RegionServer, without_zone};

/// Starts providers and numbered clients. In each of these, some callers make calls one after another, in total as many as
/// `callers` times `calls`. Returns the calls of each provider.
async fn spread(
    providers: usize,
    clients: u32,
    [callers, calls]: [usize; 2],
    balance: Balance,
) -> BTreeMap<SocketAddr, u64> {
    let registry = Arc::new(Memory::named(&format!("spread over {providers}")));
    let mut serving = Vec::new();
    for number in 0..providers {
        let provider = Provider { name: number.to_string(), delay: Duration::ZERO, inner: None };
        let server = Server::builder().service(RegionServer::new(provider)).registry(Arc::clone(&registry) as _);
        serving.push(Serving::start(server).await);
    }
    // The servers register in the background; while the list grows, a client has more connections.
    let mut listed = registry.watch(<RegionClient<Client> as ServiceClient>::service_id());
    in_time(listed.wait_for(|list| list.as_ref().is_some_and(|list| list.len() == providers))).await.unwrap();
    let mut running = JoinSet::new();
    for number in 0..clients {
        let config = without_zone().with_cache_directory(None).with_client_number(Some(number)).with_balance(balance);
        // On a busy machine, no client must replace a provider that connects or answers late.
        let config = config.with_timeout(Duration::from_secs(50)).with_connect_timeout(Duration::from_secs(50));
        let client = Client::builder().registry(Arc::clone(&registry) as _).config(config).build().unwrap();
        in_time(client.warm_up::<RegionClient<_>>()).await.unwrap();
        running.spawn(async move {
            let mut calling = JoinSet::new();
            for _ in 0..callers {
                let client = client.clone();
                calling.spawn(async move {
                    let region = RegionClient::new(client.clone());
                    for _ in 0..calls {
                        if let Err(error) = region.name().timeout(Duration::from_secs(50)).await {
                            panic!("{error}: {}", client.explain(RegionClient::<Client>::service_id()));
                        }
                    }
                });
            }
            calling.join_all().await;
            let counts = client.provider_counts();
            assert_eq!(counts.len(), 20, "the connections of a client");
            counts
        });
    }
    let mut answered = BTreeMap::new();
    for provider in running.join_all().await.into_iter().flatten() {
        *answered.entry(provider.address).or_default() += provider.answered;
    }
    answered
}

#[tokio::test]
async fn numbered_clients_spread_calls_evenly() {
    let answered = in_time(spread(120, 6, [1, 60], Balance::RoundRobin)).await;
    assert_eq!(answered.len(), 120);
    assert!(answered.values().all(|calls| *calls == 3), "{answered:?}");
}

/// Returns whether this process may open the descriptors of a thousand servers and their connections.
fn raise_limit_of_descriptors() -> bool {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let is_enough = maximum.is_none_or(|maximum| maximum >= 6000);
    if !is_enough || setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        eprintln!("SKIPPED: the limit of file descriptors is {maximum:?}, the test needs 6000");
        return false;
    }
    true
}

/// The subsets alone make the calls even: each provider has one client, whose calls take turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_spread_calls_over_1000_providers() {
    if !raise_limit_of_descriptors() {
        return;
    }
    let answered = spread(1000, 50, [1, 100], Balance::RoundRobin).await;
    let (least, most) = (answered.values().min(), answered.values().max());
    assert_eq!((answered.len(), least, most), (1000, Some(&5), Some(&5)));
}

/// As above, with the default policy, whose draws are random: their deviations fall with the number of calls.
///
/// Takes minutes: `cargo test -p tests --test calls default_policy_spreads -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "makes two million calls to a thousand providers"]
async fn default_policy_spreads_calls_over_1000_providers() {
    if !raise_limit_of_descriptors() {
        return;
    }
    let answered = spread(1000, 50, [20, 2000], Balance::default()).await;
    let (least, most) = (answered.values().min().unwrap(), answered.values().max().unwrap());
    eprintln!("{} providers, {least} to {most} calls", answered.len());
    assert!(answered.len() == 1000 && *least >= 1800 && *most <= 2200);
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
