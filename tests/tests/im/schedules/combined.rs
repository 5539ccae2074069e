//! Random faults, several at a time, with PostgreSQL and Redis and with the storing node.
//!
//! `MSNB_IM_FAULT_SECONDS` sets the duration of each test, `MSNB_SEED` the random numbers.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tests::{
    engines::postgres::PostgresServer,
    im_net::{Fleet, Service, isolated},
    load::{number, seconds},
    redis::RedisServer,
};
use tokio::time::{Instant, sleep};

use super::{WithEngines, embedded, workload};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn combined_faults_with_engines_lose_nothing() {
    isolated("schedules::combined::combined_faults_with_engines_lose_nothing", limit(), async || {
        let Some(WithEngines { fleet, postgres, redis }) = WithEngines::start(4).await else { return };
        Faults { fleet, engines: Some((postgres, redis)), random: random() }.run("PostgreSQL and Redis").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn combined_faults_with_storing_node_lose_nothing() {
    isolated("schedules::combined::combined_faults_with_storing_node_lose_nothing", limit(), async || {
        Faults { fleet: embedded(4).await, engines: None, random: random() }.run("storing node").await;
    })
    .await;
}

/// Injects random faults.
struct Faults {
    fleet: Fleet,
    engines: Option<(PostgresServer, RedisServer)>,
    random: SmallRng,
}

/// The repair that ends a fault, in the order of the repairs: a node starts only if it reaches its engines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Repair {
    /// The end of all cuts.
    Links,
    /// A restart of PostgreSQL.
    StartPostgres,
    /// A restart of Redis, with the data of its last file or without data.
    StartRedis { from_file: bool },
    /// SIGCONT.
    Resume(usize),
    /// A restart.
    Start(usize),
}

impl Faults {
    /// Injects faults for the time of the test. Each minute, new users begin, and the guarantees are checked.
    async fn run(mut self, name: &str) {
        let (started, duration) = (Instant::now(), seconds(DURATION, 12));
        let (mut count, mut acknowledged, mut sessions, mut checks) = (0, 0, 0, 0);
        let mut slowest = Duration::ZERO;
        loop {
            let workload = workload(&self.fleet).await;
            let began = Instant::now();
            while began.elapsed() < CHECK_INTERVAL.min(duration) {
                count += self.round().await;
            }
            let report = workload.finish().await;
            report.expect_no_violations();
            checks += 1;
            (acknowledged, sessions) = (acknowledged + report.acknowledged, sessions + report.sessions);
            slowest = slowest.max(report.healed_after);
            eprintln!("{name}, {:.0?}: {count} faults; {report}", started.elapsed());
            if started.elapsed() >= duration {
                break;
            }
        }
        println!(
            "{name}, {:.0?}: {count} faults, {acknowledged} acknowledged messages, {sessions} sessions, {checks} checks \
             without a violation, complete at most {slowest:.1?} after the faults",
            started.elapsed()
        );
    }

    /// Injects up to three faults at different times, and repairs all; returns their number.
    async fn round(&mut self) -> usize {
        let mut repairs = Vec::new();
        let faults = self.random.random_range(1..=3);
        for _ in 0..faults {
            let repair = self.inject(&repairs).await;
            repairs.extend(repair);
            self.pause(1500).await;
        }
        // Every second round outlasts the leases.
        let length = if self.random.random_bool(0.5) { 12_000 } else { 4000 };
        self.pause(length).await;
        repairs.sort();
        for repair in repairs {
            match repair {
                Repair::Links => self.fleet.network.heal(),
                Repair::Resume(node) => self.fleet.resume(node),
                Repair::Start(node) => self.fleet.start_node(node).await,
                Repair::StartPostgres => self.engines.as_mut().expect("it was killed").0.restart().await,
                Repair::StartRedis { from_file: true } => {
                    self.engines.as_mut().expect("it was killed").1.restart_from_file().await;
                }
                Repair::StartRedis { from_file: false } => {
                    self.engines.as_mut().expect("it was killed").1.restart().await;
                }
            }
            self.pause(300).await;
        }
        self.pause(3000).await;
        faults
    }

    /// Injects a fault, unless it needs something that another fault has stopped.
    async fn inject(&mut self, active: &[Repair]) -> Option<Repair> {
        let nodes = self.fleet.len();
        let node = self.random.random_range(0..nodes);
        let other = (node + self.random.random_range(1..nodes)) % nodes;
        let is_stopped = |repair: &Repair| matches!(repair, Repair::Resume(of) | Repair::Start(of) if *of == node);
        let network = &self.fleet.network;
        match self.random.random_range(0..11) {
            0 | 1 if !active.iter().any(is_stopped) => {
                self.fleet.pause(node);
                Some(Repair::Resume(node))
            }
            2 | 3 if !active.iter().any(is_stopped) => {
                self.fleet.kill(node).await;
                Some(Repair::Start(node))
            }
            4 => {
                network.cut(node, other);
                Some(Repair::Links)
            }
            5 => {
                network.cut_one_way(node, other);
                Some(Repair::Links)
            }
            6 => {
                network.close_port(node, Fleet::RPC_PORT);
                Some(Repair::Links)
            }
            7 => {
                network.unplug(node);
                Some(Repair::Links)
            }
            8 if self.engines.is_some() => {
                let services = [Service::Store, Service::Directory, Service::Membership];
                let service = services[self.random.random_range(0..services.len())];
                self.fleet.network.cut_service(node, service);
                Some(Repair::Links)
            }
            9 if !active.iter().any(|repair| matches!(repair, Repair::StartPostgres)) => {
                let (postgres, _) = self.engines.as_mut()?;
                postgres.kill();
                Some(Repair::StartPostgres)
            }
            10 if !active.iter().any(|repair| matches!(repair, Repair::StartRedis { .. })) => {
                let (_, redis) = self.engines.as_mut()?;
                redis.save().await;
                // Sessions change between the file and the end of the process.
                sleep(Duration::from_millis(self.random.random_range(0..2000))).await;
                redis.kill();
                Some(Repair::StartRedis { from_file: self.random.random_bool(0.5) })
            }
            _ => None,
        }
    }

    async fn pause(&mut self, max_millis: u64) {
        sleep(Duration::from_millis(self.random.random_range(0..max_millis))).await;
    }
}

fn random() -> SmallRng {
    let seed = number("MSNB_SEED", u64::from(rand::random::<u32>()));
    eprintln!("MSNB_SEED={seed}");
    SmallRng::seed_from_u64(seed)
}

fn limit() -> Duration {
    seconds(DURATION, 12) + Duration::from_secs(300)
}

const DURATION: &str = "MSNB_IM_FAULT_SECONDS";
/// The interval at which the guarantees are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
