//! Each list of nodes passes the tests of every engine.

use tests::{engines::zookeeper::ZooKeeperServer, im_contract::membership};

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
