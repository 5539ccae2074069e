//! Cut links: between nodes, in one direction or both, and to the engines.

use tests::im_net::{Fleet, Service, isolated};

use super::{LIMIT, WithEngines, embedded, finish, outlast_lease, workload};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partition_keeps_one_history() {
    isolated("schedules::links::partition_keeps_one_history", LIMIT, async || {
        let Some(WithEngines { fleet, postgres: _postgres, redis: _redis }) = WithEngines::start(3).await else {
            return;
        };
        let workload = workload(&fleet).await;
        fleet.network.partition(&[0, 1], &[2]);
        for node in [0, 1] {
            fleet.network.cut_service(node, Service::Membership);
        }
        fleet.until_ready_among(&[0, 1]).await;
        fleet.until_ready_among(&[2]).await;
        workload.until_acknowledged(40).await;
        finish("{n1, n2} cut from {n3, list of nodes}; all reach the store and the directory", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_cut_from_storing_node_closes_its_sessions() {
    isolated("schedules::links::node_cut_from_storing_node_closes_its_sessions", LIMIT, async || {
        let fleet = embedded(3).await;
        let workload = workload(&fleet).await;
        fleet.network.partition(&[0, 1], &[2]);
        fleet.until_health(2, false).await;
        workload.until_acknowledged(40).await;
        finish("{storing node, n2} cut from n3", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_rpc_port_leaves_no_session_deaf() {
    isolated("schedules::links::closed_rpc_port_leaves_no_session_deaf", LIMIT, async || {
        let fleet = embedded(3).await;
        let workload = workload(&fleet).await;
        fleet.network.close_port(1, Fleet::RPC_PORT);
        fleet.until_ready_among(&[0, 2]).await;
        workload.until_acknowledged(40).await;
        // The sessions of node 1 miss nothing: they are told before the port opens again.
        workload.until_delivered().await;
        finish("inbound packets to the port of a node are dropped", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_without_link_keep_one_session() {
    isolated("schedules::links::two_nodes_without_link_keep_one_session", LIMIT, async || {
        let Some(WithEngines { fleet, postgres: _postgres, redis: _redis }) = WithEngines::start(3).await else {
            return;
        };
        let workload = workload(&fleet).await;
        fleet.network.cut(0, 1);
        fleet.until_sees(0, &[0, 2]).await;
        fleet.until_sees(1, &[1, 2]).await;
        workload.until_acknowledged(40).await;
        finish("n1 and n2 do not reach each other, n3 reaches both", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_cut_between_nodes_loses_nothing() {
    isolated("schedules::links::one_way_cut_between_nodes_loses_nothing", LIMIT, async || {
        let fleet = embedded(3).await;
        let workload = workload(&fleet).await;
        fleet.network.cut_one_way(1, 2);
        outlast_lease().await;
        fleet.network.heal();
        fleet.network.cut_one_way(2, 1);
        outlast_lease().await;
        finish("one direction of a link is cut, then the other", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_cut_off_among_five_loses_nothing() {
    isolated("schedules::links::node_cut_off_among_five_loses_nothing", LIMIT, async || {
        let Some(WithEngines { fleet, postgres: _postgres, redis: _redis }) = WithEngines::start(5).await else {
            return;
        };
        let workload = workload(&fleet).await;
        for other in 0..4 {
            fleet.network.cut(4, other);
        }
        for service in [Service::Store, Service::Directory] {
            fleet.network.cut_service(4, service);
        }
        fleet.until_health(4, false).await;
        fleet.until_ready_among(&[0, 1, 2, 3]).await;
        workload.until_acknowledged(40).await;
        finish("one of five nodes is cut off from the others and the engines", workload, &fleet).await;
    })
    .await;
}
