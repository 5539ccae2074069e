//! Nodes die, stand still, leave, and come back.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tests::{
    im_nodes::{Nodes, with_each_directory},
    im_talk::{ChatWorkload, until_offline},
    im_user::{User, UserOptions},
    load::{number, seconds},
    nacos::NacosServer,
};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_node_is_killed_its_clients_go_elsewhere_and_nothing_acknowledged_is_lost() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let mut nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let talk = ChatWorkload::start(&nodes, 6).await;
        let observer = User::connect("observer", nodes.bases(), UserOptions::at(nodes.websocket(0))).await;
        let kills = number("MSNB_KILLS", 1);
        let (mut back, mut gone) = (Vec::new(), Vec::new());
        for kill in 0..kills {
            let victim = 1 + kill as usize % 2;
            let (back_after, gone_after) = one_kill(&mut nodes, victim, &talk, &observer, kill).await;
            back.push(back_after);
            gone.push(gone_after);
        }
        let line = talk.end(&nodes, 1).await;
        println!(
            "{kills} kills, {directory}: clients were on other nodes after {back:.1?}, ghosts were gone after {gone:.1?}; {line}"
        );
    })
    .await;
}

/// Kills a node with clients that come back and with clients that die with it. Gives when all of the first were elsewhere, and when
/// nobody was told any more that the others were there.
async fn one_kill(
    nodes: &mut Nodes,
    victim: usize,
    talk: &ChatWorkload,
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
    let (there, gone) = (names(&guests), names(&ghosts));
    assert!(observer.online_contacts().await.is_superset(&(&there | &gone)));

    nodes.kill(victim).await;
    let killed = Instant::now();
    drop(ghosts);
    until_all_left(&guests, &nodes.websocket(victim)).await;
    until_all_left(talk.users(), &nodes.websocket(victim)).await;
    let back_after = killed.elapsed();
    until_offline(observer, &gone).await;
    let gone_after = killed.elapsed();
    nodes.until_ready().await;
    talk.until_stored(4).await;
    nodes.start_node(victim).await;
    nodes.until_ready().await;
    talk.until_stored(4).await;
    assert!(observer.online_contacts().await.is_disjoint(&gone), "they are not back with their node");
    (back_after, gone_after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_and_comes_back_inside_its_lease_has_no_sessions_of_its_last_life() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let mut nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let talk = ChatWorkload::start(&nodes, 6).await;
        let observer = User::connect("observer", nodes.bases(), UserOptions::at(nodes.websocket(0))).await;
        observer.send_until_stored("ghost", "are you there?").await;
        let ghost = User::connect("ghost", nodes.bases(), UserOptions::at(nodes.websocket(1))).await;
        nodes.kill(1).await;
        drop(ghost);
        let killed = Instant::now();
        nodes.start_node(1).await;
        until_offline(&observer, &["ghost".to_owned()].into()).await;
        let gone = killed.elapsed();
        nodes.until_ready().await;
        let whole = killed.elapsed();
        for _ in 1..number("MSNB_KILLS", 3) {
            talk.until_stored(2).await;
            nodes.kill(1).await;
            nodes.start_node(1).await;
            nodes.until_ready().await;
        }
        talk.until_stored(2).await;
        let line = talk.end(&nodes, 1).await;
        println!(
            "killed and started at once, {directory}: a ghost was gone after {gone:.1?}, the cluster was whole after {whole:.1?}; {line}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_for_longer_than_its_lease_does_no_harm_when_it_goes_on() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let nodes = directory.nodes(3, &nacos.url(), &[]).await;
        // Some leave a node that says nothing, one of them does not.
        let patient = UserOptions { silence: Duration::from_secs(600), ..UserOptions::at(nodes.websocket(1)) };
        let manners = (0..6).map(|number| UserOptions::at(nodes.websocket(number % 3))).chain([patient]).collect();
        let talk = ChatWorkload::start_with(manners, nodes.bases()).await;
        let pause = seconds("MSNB_PAUSE_SECONDS", 12);

        nodes.pause(1);
        let paused = Instant::now();
        until_all_left(&talk.users()[..6], &nodes.websocket(1)).await;
        let back = paused.elapsed();
        nodes.until_sees(0, &[0, 2]).await;
        let gone = paused.elapsed();
        // What is to be seen is what the node does after so long, so it has to be so long.
        sleep(pause.saturating_sub(paused.elapsed())).await;
        nodes.resume(1);
        nodes.until_ready().await;
        talk.until_stored(4).await;
        let line = talk.end(&nodes, 0).await;
        println!(
            "paused for {pause:?}, {directory}: clients were elsewhere after {back:.1?}, the node was out after {gone:.1?}; {line}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_with_clients_on_loses_nothing() {
    with_each_directory(async |directory| {
        let nacos = NacosServer::start().await;
        let mut nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let talk = ChatWorkload::start(&nodes, 6).await;
        let mut took = Vec::new();
        for number in 0..3 {
            let begun = Instant::now();
            assert!(nodes.drain(number).await.success());
            took.push(begun.elapsed());
            nodes.start_node(number).await;
            nodes.until_ready().await;
            talk.until_stored(2).await;
        }
        let line = talk.end(&nodes, 0).await;
        println!("restarted in turn, {directory}: nodes left in {took:.1?}; {line}");
    })
    .await;
}

/// Waits until each of these is on a node that is not this one.
async fn until_all_left(users: &[User], node: &str) {
    for user in users {
        user.until("connected elsewhere", |log| log.node.as_deref().is_some_and(|on| on != node)).await;
    }
}
