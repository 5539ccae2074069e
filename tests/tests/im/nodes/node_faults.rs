//! Nodes that are killed, paused, drained and restarted.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tests::{
    im_nodes::{Nodes, with_each_directory},
    im_user::{User, UserOptions},
    im_workload::{ChatWorkload, until_offline},
    load::{number, seconds},
    nacos::NacosServer,
};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_killed_node_reconnect_without_message_loss() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let mut nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let workload = ChatWorkload::start(&nodes, 6).await;
        let observer = User::connect("observer", nodes.bases(), UserOptions::at(nodes.websocket(0))).await;
        let kills = number("MSNB_KILLS", 1);
        let (mut reconnected, mut offline) = (Vec::new(), Vec::new());
        for kill in 0..kills {
            let victim = 1 + kill as usize % 2;
            let (reconnected_after, offline_after) = kill_node(&mut nodes, victim, &workload, &observer, kill).await;
            reconnected.push(reconnected_after);
            offline.push(offline_after);
        }
        let summary = workload.end(&nodes, 1).await;
        println!(
            "{kills} kills, {directory}: clients were on other nodes after {reconnected:.1?}, lost users were offline \
             after {offline:.1?}; {summary}"
        );
    })
    .await;
}

/// Kills a node with guests, which reconnect, and ghosts, which do not.
///
/// Returns the time until all guests were on other nodes, and the time until the observer saw no ghost online.
async fn kill_node(
    nodes: &mut Nodes,
    victim: usize,
    workload: &ChatWorkload,
    observer: &User,
    kill: u64,
) -> (Duration, Duration) {
    let (mut guests, mut ghosts) = (Vec::new(), Vec::new());
    for number in 0..4 {
        for (kind, users) in [("guest", &mut guests), ("ghost", &mut ghosts)] {
            let name = format!("{kind}-{kill}-{number}");
            observer.send_until_stored(&name, "are you there?").await;
            users.push(User::connect(&name, nodes.bases(), UserOptions::at(nodes.websocket(victim))).await);
        }
    }
    let names = |users: &[User]| users.iter().map(|user| user.name().to_owned()).collect::<BTreeSet<_>>();
    let (guest_names, ghost_names) = (names(&guests), names(&ghosts));
    assert!(observer.online_contacts().await.is_superset(&(&guest_names | &ghost_names)));

    nodes.kill(victim).await;
    let killed = Instant::now();
    drop(ghosts);
    until_all_left(&guests, &nodes.websocket(victim)).await;
    until_all_left(workload.users(), &nodes.websocket(victim)).await;
    let reconnected_after = killed.elapsed();
    until_offline(observer, &ghost_names).await;
    let offline_after = killed.elapsed();
    nodes.until_ready().await;
    workload.until_stored(4).await;
    nodes.start_node(victim).await;
    nodes.until_ready().await;
    workload.until_stored(4).await;
    assert!(observer.online_contacts().await.is_disjoint(&ghost_names), "the ghosts stay offline");
    (reconnected_after, offline_after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_restarted_within_lease_has_no_earlier_sessions() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let mut nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let workload = ChatWorkload::start(&nodes, 6).await;
        let observer = User::connect("observer", nodes.bases(), UserOptions::at(nodes.websocket(0))).await;
        observer.send_until_stored("ghost", "are you there?").await;
        let ghost = User::connect("ghost", nodes.bases(), UserOptions::at(nodes.websocket(1))).await;
        nodes.kill(1).await;
        drop(ghost);
        let killed = Instant::now();
        nodes.start_node(1).await;
        until_offline(&observer, &["ghost".to_owned()].into()).await;
        let offline_after = killed.elapsed();
        nodes.until_ready().await;
        let ready_after = killed.elapsed();
        for _ in 1..number("MSNB_KILLS", 3) {
            workload.until_stored(2).await;
            nodes.kill(1).await;
            nodes.start_node(1).await;
            nodes.until_ready().await;
        }
        workload.until_stored(2).await;
        let summary = workload.end(&nodes, 1).await;
        println!(
            "killed and restarted at once, {directory}: a lost user was offline after {offline_after:.1?}, the cluster was \
             ready after {ready_after:.1?}; {summary}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_paused_beyond_lease_resumes_without_loss() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let nodes = directory.nodes(3, &nacos.url(), &[]).await;
        // All users but the last one leave an unresponsive node.
        let patient = UserOptions { read_timeout: Duration::from_secs(600), ..UserOptions::at(nodes.websocket(1)) };
        let options = (0..6).map(|number| UserOptions::at(nodes.websocket(number % 3))).chain([patient]).collect();
        let workload = ChatWorkload::start_with(options, nodes.bases()).await;
        let pause = seconds("MSNB_PAUSE_SECONDS", 12);

        nodes.pause(1);
        let paused = Instant::now();
        until_all_left(&workload.users()[..6], &nodes.websocket(1)).await;
        let reconnected_after = paused.elapsed();
        nodes.until_sees(0, &[0, 2]).await;
        let removed_after = paused.elapsed();
        // The node must stay paused for the whole time: the test checks how it resumes after a pause of this length.
        sleep(pause.saturating_sub(paused.elapsed())).await;
        nodes.resume(1);
        nodes.until_ready().await;
        workload.until_stored(4).await;
        let summary = workload.end(&nodes, 0).await;
        println!(
            "paused for {pause:?}, {directory}: clients were on other nodes after {reconnected_after:.1?}, the node left the \
             view after {removed_after:.1?}; {summary}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_loses_no_message() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let mut nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let workload = ChatWorkload::start(&nodes, 6).await;
        let mut drains = Vec::new();
        for number in 0..3 {
            let start = Instant::now();
            assert!(nodes.drain(number).await.success());
            drains.push(start.elapsed());
            nodes.start_node(number).await;
            nodes.until_ready().await;
            workload.until_stored(2).await;
        }
        let summary = workload.end(&nodes, 0).await;
        println!("rolling restart, {directory}: drains took {drains:.1?}; {summary}");
    })
    .await;
}

/// Waits until each of these users is connected to another node than this one.
async fn until_all_left(users: &[User], node: &str) {
    for user in users {
        user.until("connected to another node", |log| log.node.as_deref().is_some_and(|on| on != node)).await;
    }
}
