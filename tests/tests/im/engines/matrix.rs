//! Clusters of three processes with combinations of engines: any two engines of different kinds occur together.

use tests::{
    engines::{
        mariadb::MariaDbServer, nats::NatsServer, postgres::PostgresServer, rabbitmq::RabbitMqServer,
        zookeeper::ZooKeeperServer,
    },
    im_history::{Scale, Workload},
    im_nodes::Nodes,
    redis::RedisServer,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn matrix_with_storing_node() {
    check("file", &[]).await;
    let (redis, rabbitmq) = (RedisServer::start().await, RabbitMqServer::start().await);
    if let (Some(redis), Some(rabbitmq), Some(zookeeper)) = (redis, rabbitmq, ZooKeeperServer::start().await) {
        let engines = [
            ("--directory", redis.url()),
            ("--membership", format!("{}/matrix", zookeeper.url())),
            ("--backplane", rabbitmq.url()),
        ];
        check("file, Redis, ZooKeeper, RabbitMQ", &engines).await;
    }
    if let (Some(postgres), Some(nats)) = (PostgresServer::start().await, NatsServer::start().await) {
        let engines = [("--directory", postgres.url()), ("--membership", postgres.url()), ("--backplane", nats.url())];
        check("file, directory and list of nodes in PostgreSQL, NATS", &engines).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn matrix_with_postgres() {
    let Some(postgres) = PostgresServer::start().await else { return };
    let store = ("--store", postgres.url());
    if let (Some(nats), Some(zookeeper)) = (NatsServer::start().await, ZooKeeperServer::start().await) {
        let engines =
            [store.clone(), ("--membership", format!("{}/matrix", zookeeper.url())), ("--backplane", nats.url())];
        check("PostgreSQL, ZooKeeper, NATS", &engines).await;
    }
    if let Some(redis) = RedisServer::start().await {
        let engines = [store.clone(), ("--directory", redis.url()), ("--membership", postgres.url())];
        check("PostgreSQL, Redis, list of nodes in PostgreSQL", &engines).await;
    }
    if let (Some(mariadb), Some(rabbitmq)) = (MariaDbServer::start().await, RabbitMqServer::start().await) {
        let engines = [store, ("--directory", mariadb.url()), ("--backplane", rabbitmq.url())];
        check("PostgreSQL, directory in MariaDB, RabbitMQ", &engines).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn matrix_with_mariadb() {
    let Some(mariadb) = MariaDbServer::start().await else { return };
    let store = ("--store", mariadb.url());
    if let Some(rabbitmq) = RabbitMqServer::start().await {
        let engines = [store.clone(), ("--membership", mariadb.url()), ("--backplane", rabbitmq.url())];
        check("MariaDB, list of nodes in MariaDB, RabbitMQ", &engines).await;
    }
    if let (Some(redis), Some(nats)) = (RedisServer::start().await, NatsServer::start().await) {
        let engines = [store.clone(), ("--directory", redis.url()), ("--backplane", nats.url())];
        check("MariaDB, Redis, NATS", &engines).await;
    }
    if let (Some(postgres), Some(zookeeper)) = (PostgresServer::start().await, ZooKeeperServer::start().await) {
        let membership = format!("{}/matrix", zookeeper.url());
        let engines = [store, ("--directory", postgres.url()), ("--membership", membership)];
        check("MariaDB, directory in PostgreSQL, ZooKeeper", &engines).await;
    }
}

/// Checks all guarantees of a cluster of which a node is killed and restarted.
async fn check(name: &str, engines: &[(&str, String)]) {
    let registry = tempfile::tempdir().unwrap();
    let registry = format!("local:{}", registry.path().display());
    let arguments: Vec<_> = engines.iter().flat_map(|(argument, url)| [*argument, url]).collect();
    let mut nodes = Nodes::start(3, &registry, &arguments).await;
    let workload = Workload::start(nodes.addresses(), SCALE).await;
    workload.until_acknowledged(10).await;
    nodes.kill(2).await;
    workload.until_acknowledged(10).await;
    nodes.start_node(2).await;
    nodes.until_ready().await;
    workload.until_acknowledged(10).await;
    let report = workload.finish().await;
    println!("{name}: {report}");
    report.expect_no_violations();
}

/// The group is so large that its messages go to all nodes, through the message queue if there is one.
const SCALE: Scale = Scale { talkers: 4, racers: 2, absent: 110 };
