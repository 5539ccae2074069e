//! What nodes rely on dies and comes back: the registry, and Redis.

use std::time::Instant;

use tests::{
    im_nodes::{Directory, with_each_directory},
    im_talk::{ChatWorkload, until_offline},
    im_user::{User, UserOptions},
    nacos::NacosServer,
    redis::RedisServer,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_registry_is_away_the_talk_goes_on_and_a_node_may_die() {
    with_each_directory(async |directory| {
        let mut nacos = NacosServer::start().await;
        let mut nodes = directory.nodes(3, &nacos.url(), &[]).await;
        let talk = ChatWorkload::start(&nodes, 6).await;
        let observer = User::connect("observer", nodes.bases(), UserOptions::at(nodes.websocket(0))).await;
        observer.send_until_stored("ghost", "are you there?").await;
        let ghost = User::connect("ghost", nodes.bases(), UserOptions::at(nodes.websocket(1))).await;
        nacos.kill();
        talk.until_stored(4).await;

        // Nobody says that it is gone, so it is believed to live until its lease is over.
        nodes.kill(1).await;
        drop(ghost);
        let killed = Instant::now();
        until_offline(&observer, &["ghost".to_owned()].into()).await;
        let gone = killed.elapsed();
        talk.until_stored(4).await;
        let said = killed.elapsed();

        nacos.restart().await;
        nodes.start_node(1).await;
        nodes.until_ready().await;
        talk.until_stored(4).await;
        let line = talk.end(&nodes, 1).await;
        println!(
            "registry away, a node killed, {directory}: a ghost was gone after {gone:.1?}, everybody had talked on after {said:.1?}; \
             {line}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_the_talk_goes_on_and_an_empty_one_is_filled_again() {
    let Some(redis) = RedisServer::start().await else { return };
    let nacos = NacosServer::start().await;
    let mut directory = Directory::Redis(redis);
    let nodes = directory.nodes(3, &nacos.url(), &[]).await;
    let talk = ChatWorkload::start(&nodes, 6).await;
    let Directory::Redis(redis) = &mut directory else { return };
    redis.kill();
    talk.until_stored(4).await;
    redis.restart().await;
    talk.until_stored(4).await;
    let line = talk.end(&nodes, 0).await;
    println!("Redis killed and restarted: {line}");
}
