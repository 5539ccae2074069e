//! Paused nodes, full disks, engines that restart with older data, and dead addresses.

use std::{fs::File, io::ErrorKind, process::Command, sync::Arc};

use rpc_core::{Instance, ServiceId};
use tests::{im_net::isolated, in_time};

use super::{LIMIT, WithEngines, embedded, finish, outlast_lease, workload};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_node_closes_its_replaced_sessions() {
    isolated("schedules::machines::paused_node_closes_its_replaced_sessions", LIMIT, async || {
        let fleet = embedded(3).await;
        let workload = workload(&fleet).await;
        fleet.pause(1);
        fleet.until_ready_among(&[0, 2]).await;
        outlast_lease().await;
        fleet.resume(1);
        finish("a node is paused for longer than its lease", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_storing_node_loses_nothing() {
    isolated("schedules::machines::paused_storing_node_loses_nothing", LIMIT, async || {
        let fleet = embedded(3).await;
        let workload = workload(&fleet).await;
        fleet.pause(0);
        fleet.until_health(1, false).await;
        fleet.until_health(2, false).await;
        fleet.resume(0);
        finish("the storing node is paused for longer than the leases", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_during_pauses_and_cuts_leave_one_session() {
    isolated("schedules::machines::logins_during_pauses_and_cuts_leave_one_session", LIMIT, async || {
        let Some(WithEngines { fleet, postgres: _postgres, redis: _redis }) = WithEngines::start(3).await else {
            return;
        };
        let workload = workload(&fleet).await;
        for round in 0..3 {
            let (paused, cut) = (round % 3, (round + 1) % 3);
            fleet.pause(paused);
            fleet.network.cut(cut, (round + 2) % 3);
            workload.until_acknowledged(10).await;
            fleet.resume(paused);
            fleet.network.heal();
            workload.until_acknowledged(10).await;
        }
        finish("logins race with pauses and cuts", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_rejects_messages_until_it_has_space() {
    isolated("schedules::machines::full_disk_rejects_messages_until_it_has_space", LIMIT, async || {
        let mut fleet = tests::im_net::Fleet::new(3);
        let disk = fleet.file("disk");
        std::fs::create_dir(&disk).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&disk).status();
        assert!(mount.unwrap().success());
        fleet.start_embedded_in(&disk.join("store")).await;
        let workload = workload(&fleet).await;
        let filler = disk.join("filler");
        let full = std::io::copy(&mut std::io::repeat(0), &mut File::create(&filler).unwrap());
        assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
        workload.until_unknown(8).await;
        std::fs::remove_file(&filler).unwrap();
        workload.until_acknowledged(40).await;
        finish("the disk of the storing node is full for a while", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarted_with_older_file_leaves_one_session() {
    isolated("schedules::machines::redis_restarted_with_older_file_leaves_one_session", LIMIT, async || {
        let Some(WithEngines { fleet, postgres: _postgres, mut redis }) = WithEngines::start(3).await else { return };
        let workload = workload(&fleet).await;
        redis.save().await;
        // The racing clients replace sessions that the file has.
        workload.until_acknowledged(60).await;
        redis.restart_from_file().await;
        workload.until_acknowledged(20).await;
        finish("Redis restarts from an older file", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_engines_lose_nothing() {
    isolated("schedules::machines::killed_engines_lose_nothing", LIMIT, async || {
        let Some(WithEngines { mut fleet, mut postgres, mut redis }) = WithEngines::start(3).await else { return };
        let workload = workload(&fleet).await;
        postgres.kill();
        workload.until_unknown(4).await;
        postgres.restart().await;
        workload.until_acknowledged(20).await;
        redis.restart().await;
        workload.until_acknowledged(20).await;
        fleet.restart(1).await;
        workload.until_acknowledged(20).await;
        finish("PostgreSQL, Redis and a node are killed", workload, &fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_addresses_stop_no_login() {
    isolated("schedules::machines::dead_addresses_stop_no_login", LIMIT, async || {
        let fleet = embedded(3).await;
        let registry: Arc<dyn rpc_registry::Backend> = rpc_registry::connect(&fleet.registry()).await.unwrap();
        let service = ServiceId::from_static("im.NodeForward", "2.0");
        // As many addresses at which nobody answers as nodes.
        for number in 0..3 {
            let dead = Instance::new((fleet.network.nobody(number), 9101).into())
                .with_metadata("im-node", format!("{number:016x}"))
                .with_metadata("im-websocket", "ws://nobody/ws");
            in_time(registry.register(&service, dead)).await.unwrap();
        }
        let workload = workload(&fleet).await;
        // The racing clients log in again and again.
        workload.until_sessions(30).await;
        workload.until_acknowledged(40).await;
        finish("the registry lists three dead addresses", workload, &fleet).await;
    })
    .await;
}
