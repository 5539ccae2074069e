//! Outages of the services that nodes use: the registry and Redis.

use std::time::Instant;

use tests::{
    im_nodes::{Directory, with_each_directory},
    im_user::{User, UserOptions},
    im_workload::{ChatWorkload, until_offline},
    nacos::NacosServer,
    redis::RedisServer,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registry_outage_with_node_kill_stops_no_chat() {
    with_each_directory(async |directory| {
        let mut nacos = NacosServer::start().await;
        let mut nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let workload = ChatWorkload::start(&nodes, 6).await;
        let observer = User::connect("observer", nodes.bases(), UserOptions::at(nodes.websocket(0))).await;
        observer.send_until_stored("ghost", "are you there?").await;
        let ghost = User::connect("ghost", nodes.bases(), UserOptions::at(nodes.websocket(1))).await;
        nacos.kill();
        workload.until_stored(4).await;

        // No registry reports the loss, so the other nodes consider the node alive until its lease expires.
        nodes.kill(1).await;
        drop(ghost);
        let killed = Instant::now();
        until_offline(&observer, &["ghost".to_owned()].into()).await;
        let offline_after = killed.elapsed();
        workload.until_stored(4).await;
        let stored_after = killed.elapsed();

        nacos.restart().await;
        nodes.start_node(1).await;
        nodes.until_ready().await;
        workload.until_stored(4).await;
        let summary = workload.end(&nodes, 1).await;
        println!(
            "node killed during a registry outage, {directory}: its user was offline after {offline_after:.1?}, all other \
             users had further messages stored after {stored_after:.1?}; {summary}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_redis_is_filled_while_chats_continue() {
    let Some(redis) = RedisServer::start().await else { return };
    let nacos = NacosServer::start().await;
    let mut directory = Directory::Redis(redis);
    let nodes = directory.nodes(3, &nacos.url(), &[]).await;
    let workload = ChatWorkload::start(&nodes, 6).await;
    let Directory::Redis(redis) = &mut directory else { return };
    redis.kill();
    // Ends long before the leases of the nodes.
    workload.until_stored(1).await;
    redis.restart().await;
    workload.until_stored(4).await;
    let summary = workload.end(&nodes, 0).await;
    println!("Redis killed and restarted: {summary}");
}
