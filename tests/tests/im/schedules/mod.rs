//! Fault schedules that once lost messages or sessions: nodes in network namespaces whose links a test cuts, and a history
//! of what their clients observe, which is checked after each schedule.
//!
//! | topic | module |
//! |---|---|
//! | cut links between nodes | `links` |
//! | paused nodes, full disks, restarted engines, dead addresses | `machines` |
//! | random faults, several at a time | `combined` |

mod combined;
mod links;
mod machines;

use std::time::Duration;

use tests::{
    engines::postgres::PostgresServer,
    im_history::{Scale, Workload},
    im_net::{Fleet, Service},
    redis::RedisServer,
};
use tokio::time::sleep;

/// Nodes with PostgreSQL and Redis, each at an address of its own.
struct WithEngines {
    fleet: Fleet,
    postgres: PostgresServer,
    redis: RedisServer,
}

impl WithEngines {
    /// Starts `count` nodes; `None` if this machine lacks an engine.
    async fn start(count: usize) -> Option<Self> {
        let mut fleet = Fleet::new(count);
        let postgres = PostgresServer::start_with(&["listen_addresses=*"]).await?;
        let redis = RedisServer::start_open().await?;
        let address = |service| fleet.network.service(service);
        let store = postgres.url_at(address(Service::Store));
        let directory = redis.url_at(address(Service::Directory));
        let membership = postgres.url_at(address(Service::Membership));
        let arguments = [("--store", store), ("--directory", directory), ("--membership", membership)];
        fleet.start(|_| arguments.to_vec()).await;
        Some(Self { fleet, postgres, redis })
    }
}

/// Starts nodes of which node 0 has the store and the directory.
async fn embedded(count: usize) -> Fleet {
    let mut fleet = Fleet::new(count);
    fleet.start_embedded().await;
    fleet
}

/// Starts the clients of a schedule.
async fn workload(fleet: &Fleet) -> Workload {
    Workload::start(fleet.addresses(), SCALE).await
}

/// Ends a schedule after its faults, checks all guarantees, and prints a summary.
async fn finish(name: &str, workload: Workload, fleet: &Fleet) {
    fleet.network.heal();
    let report = workload.finish().await;
    println!("{name}: {report}");
    report.expect_no_violations();
    fleet.until_ready().await;
}

/// Lets a fault last for longer than a lease, which is what the schedule is about.
async fn outlast_lease() {
    sleep(LEASE + Duration::from_secs(2)).await;
}

/// The lease of a node.
const LEASE: Duration = Duration::from_secs(9);
const SCALE: Scale = Scale { talkers: 4, racers: 4, absent: 0 };
/// The limit of a schedule.
const LIMIT: Duration = Duration::from_secs(240);
