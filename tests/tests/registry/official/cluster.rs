//! A cluster of three official servers: loss of a follower, then of the leader.

use std::time::Instant;

use tests::{
    nacos::{NacosCluster, ServerKind},
    process::Provider,
};

use super::{client, end, ledger, load, until_listed};

async fn killed_nodes_fail_no_call(kind: ServerKind) {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = NacosCluster::start(kind).await;
    let mut providers: Vec<Provider> = Vec::new();
    for _ in 0..3 {
        providers.push(ledger(&cluster.url(), directory.path()).await);
    }
    let mut addresses: Vec<_> = providers.iter().map(Provider::address).collect();
    let client = client(&cluster.url()).await;
    let load = load(&client, &cluster.alive(), &addresses).await;

    let leader = cluster.leader().await;
    for victim in [Some((leader + 1) % 3), None] {
        let victim = match victim {
            Some(follower) => follower,
            None => cluster.leader().await,
        };
        cluster.kill(victim);
        let killed = Instant::now();
        // The remaining nodes list a new provider and the earlier ones.
        let new = ledger(&cluster.url(), directory.path()).await;
        addresses.push(new.address());
        providers.push(new);
        until_listed(&cluster.alive(), &addresses).await;
        eprintln!("{kind:?}: all instances listed {:?} after node {victim} was killed", killed.elapsed());
        load.until_answers(&addresses, 100).await;
        cluster.restart(victim).await;
        until_listed(&cluster.alive(), &addresses).await;
        load.until_answers(&addresses, 100).await;
    }
    end(load).await;
}

/// One after the other: nodes that start slowly, beside those of another cluster, elect no leader in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_nodes_of_official_servers_fail_no_call() {
    for kind in [ServerKind::Official2, ServerKind::Official3] {
        if kind.is_available() {
            killed_nodes_fail_no_call(kind).await;
        }
    }
}
