//! Each list of nodes passes the tests of every engine.

use tests::{
    engines::{mariadb::MariaDbServer, postgres::PostgresServer, zookeeper::ZooKeeperServer},
    im_contract::membership,
    nacos::NacosServer,
};

#[tokio::test]
async fn local_registry_lists_running_nodes() {
    let directory = tempfile::tempdir().unwrap();
    membership::registry_lists_running_nodes(&format!("local:{}", directory.path().display())).await;
}

#[tokio::test]
async fn nacos_registry_lists_running_nodes() {
    let server = NacosServer::start().await;
    membership::registry_lists_running_nodes(&server.url()).await;
}

#[tokio::test]
async fn zookeeper_nodes_see_each_other() {
    membership::nodes_see_each_other::<ZooKeeperServer>().await;
}

#[tokio::test]
async fn zookeeper_second_join_is_rejected() {
    membership::second_join_is_rejected::<ZooKeeperServer>().await;
}

#[tokio::test]
async fn zookeeper_leaving_node_is_removed() {
    membership::leaving_node_is_removed::<ZooKeeperServer>().await;
}

#[tokio::test]
async fn zookeeper_restarted_engine_keeps_the_members() {
    membership::restarted_engine_keeps_the_members::<ZooKeeperServer>().await;
}

#[tokio::test]
async fn zookeeper_erased_engine_gets_the_same_ids_again() {
    membership::erased_engine_gets_the_same_ids_again::<ZooKeeperServer>().await;
}

#[tokio::test]
async fn zookeeper_unreachable_engine_rejects_join() {
    membership::unreachable_engine_rejects_join::<ZooKeeperServer>().await;
}

#[tokio::test]
async fn postgres_nodes_see_each_other() {
    membership::nodes_see_each_other::<PostgresServer>().await;
}

#[tokio::test]
async fn postgres_second_join_is_rejected() {
    membership::second_join_is_rejected::<PostgresServer>().await;
}

#[tokio::test]
async fn postgres_leaving_node_is_removed() {
    membership::leaving_node_is_removed::<PostgresServer>().await;
}

#[tokio::test]
async fn postgres_restarted_engine_keeps_the_members() {
    membership::restarted_engine_keeps_the_members::<PostgresServer>().await;
}

#[tokio::test]
async fn postgres_erased_engine_gets_the_same_ids_again() {
    membership::erased_engine_gets_the_same_ids_again::<PostgresServer>().await;
}

#[tokio::test]
async fn postgres_unreachable_engine_rejects_join() {
    membership::unreachable_engine_rejects_join::<PostgresServer>().await;
}

#[tokio::test]
async fn mariadb_nodes_see_each_other() {
    membership::nodes_see_each_other::<MariaDbServer>().await;
}

#[tokio::test]
async fn mariadb_second_join_is_rejected() {
    membership::second_join_is_rejected::<MariaDbServer>().await;
}

#[tokio::test]
async fn mariadb_leaving_node_is_removed() {
    membership::leaving_node_is_removed::<MariaDbServer>().await;
}

#[tokio::test]
async fn mariadb_restarted_engine_keeps_the_members() {
    membership::restarted_engine_keeps_the_members::<MariaDbServer>().await;
}

#[tokio::test]
async fn mariadb_erased_engine_gets_the_same_ids_again() {
    membership::erased_engine_gets_the_same_ids_again::<MariaDbServer>().await;
}

#[tokio::test]
async fn mariadb_unreachable_engine_rejects_join() {
    membership::unreachable_engine_rejects_join::<MariaDbServer>().await;
}
