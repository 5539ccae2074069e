//! [`run`]: executes the run of a seed and returns a [`Report`].

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::sync::Notify;
use turmoil::{Builder, Sim};

use super::{
    checks,
    client::SimClient,
    final_state::FinalState,
    history::{CallOutcome, History},
    network::Network,
    plan::{Incident, NODES, Plan},
    registry::FakeRegistry,
    server::{PORT, SimServer},
    services::SimService,
};

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// Seed of the run.
    pub seed: u64,
    /// Violated properties.
    pub violations: Vec<String>,
    /// All events, one per line.
    pub events: Vec<String>,
    /// Number of calls.
    pub calls: usize,
    /// Number of answered calls.
    pub answered: usize,
}

/// Executes the run of `seed` and checks its properties.
pub fn run(seed: u64) -> Report {
    let plan = Plan::new(seed);
    let history = Arc::new(History::default());
    let ended = Simulation::new(&plan, &history).run(&plan);
    let events = history.events();
    let violations = match ended {
        Ok(state) => checks::check(&events, &state),
        Err(error) => vec![format!("the run did not end: {error}")],
    };
    let answered =
        events.calls.iter().filter(|call| matches!(call.end, Some((_, CallOutcome::Answered { .. })))).count();
    Report { seed, violations, events: events.to_lines(), calls: events.calls.len(), answered }
}

/// A run in progress.
struct Simulation<'a> {
    sim: Sim<'a>,
    registry: Arc<FakeRegistry>,
    servers: Vec<Arc<SimServer>>,
}

impl Simulation<'_> {
    fn new(plan: &Plan, history: &Arc<History>) -> Self {
        let rng = &mut SmallRng::seed_from_u64(!plan.seed);
        let mut sim = Builder::new()
            .rng_seed(rng.next_u64())
            .simulation_duration(plan.settled + FINAL_CALLS_TIME)
            .tick_duration(TICK)
            .min_message_latency(plan.latency.start)
            .max_message_latency(plan.latency.end)
            .tcp_capacity(plan.capacity)
            .enable_random_order()
            .build();
        let ips: Vec<_> = (0..NODES).map(|number| sim.lookup(server_name(number))).collect();
        let wrong = ips.iter().flat_map(|ip| SimServer::impostors(*ip)).collect();
        let registry = FakeRegistry::new(Arc::clone(history), rng.next_u64(), plan.push_delay, wrong);
        let mut servers = Vec::new();
        for (number, ip) in ips.into_iter().enumerate() {
            let server = Arc::new(SimServer {
                address: SocketAddr::new(ip, PORT),
                // One server serves only one of the services.
                is_outdated: plan.outdated == Some(number),
                services: if number == 0 { vec![SimService::Ledger] } else { SimService::ALL.to_vec() },
                config: plan.server.clone(),
                tampering: plan.tampering,
                registry: Arc::clone(&registry),
                history: Arc::clone(history),
                drain_signal: Notify::new(),
                kill_signal: Notify::new(),
                shutdown_signal: Notify::new(),
                sockets: Arc::default(),
                rng: Mutex::new(SmallRng::from_rng(rng)),
            });
            servers.push(Arc::clone(&server));
            sim.host(server_name(number), move || Arc::clone(&server).run());
        }
        for number in 0..NODES {
            let client = SimClient {
                number,
                config: plan.client.clone().with_seed(Some(rng.next_u64())),
                workers: plan.workers,
                repaired: plan.repaired,
                settled: plan.settled,
                history: Arc::clone(history),
                seed: rng.next_u64(),
                all_have_streams: plan.outdated.is_none(),
            };
            let network = Network::new(number, Arc::clone(history), rng.next_u64(), plan.socket_faults);
            sim.client(client_name(number), client.run(registry.view(number), network));
        }
        Self { sim, registry, servers }
    }

    /// Runs the simulation until all clients have ended, and until the servers had time to close their connections.
    fn run(mut self, plan: &Plan) -> turmoil::Result<FinalState> {
        let mut incidents = plan.incidents.iter().peekable();
        // Servers that were bounced in a tick start after it.
        let mut bounced: Vec<usize> = Vec::new();
        // Servers whose sockets close in a tick, and whose runtimes shut down after it.
        let mut shut_down: Vec<usize> = Vec::new();
        let mut repaired = false;
        loop {
            let now = self.sim.elapsed();
            shut_down.drain(..).for_each(|number| self.sim.crash(server_name(number)));
            bounced.drain(..).for_each(|number| self.start(number));
            while let Some((_, incident)) = incidents.next_if(|(at, _)| *at <= now) {
                match incident {
                    Incident::Bounce(number) => bounced.push(*number),
                    Incident::ShutDown(number) => shut_down.push(*number),
                    _ => {}
                }
                tracing::info!(?now, ?incident);
                self.inject(now, *incident);
            }
            if now >= plan.repaired {
                if !std::mem::replace(&mut repaired, true) {
                    tracing::info!(?now, "repaired");
                    self.repair(now);
                }
                // A server may have drained until now.
                (0..NODES).filter(|number| plan.dead != Some(*number)).for_each(|number| self.start(number));
            }
            self.registry.tick(now);
            if self.sim.step()? {
                break;
            }
        }
        let listed = SimService::ALL.into_iter().map(|service| (service, self.registry.registered(service))).collect();
        let [dead, outdated] =
            [plan.dead, plan.outdated].map(|server| server.map(|number| self.servers[number].address));
        // The servers detect that their clients have closed.
        for _ in 0..SERVER_CLOSE_TIME.as_millis() / TICK.as_millis() {
            self.sim.step()?;
        }
        Ok(FinalState { listed, dead, outdated })
    }

    fn inject(&mut self, now: Duration, incident: Incident) {
        let sim = &mut self.sim;
        match incident {
            Incident::Partition(one, other) => sim.partition(client_name(one), server_name(other)),
            Incident::PartitionToServer(one, other) => sim.partition_oneway(client_name(one), server_name(other)),
            Incident::PartitionToClient(one, other) => sim.partition_oneway(server_name(other), client_name(one)),
            Incident::Hold(one, other) => sim.hold(client_name(one), server_name(other)),
            Incident::Release(one, other) => sim.release(client_name(one), server_name(other)),
            Incident::Crash(number) | Incident::Bounce(number) => self.servers[number].kill_signal.notify_waiters(),
            Incident::ShutDown(number) => self.servers[number].shutdown_signal.notify_waiters(),
            Incident::Drain(number) => {
                self.servers[number].history.record_drain(self.servers[number].address, now);
                self.servers[number].drain_signal.notify_waiters();
            }
            Incident::Start(number) => self.start(number),
            Incident::Delist(number) => {
                if !sim.is_host_running(server_name(number)) {
                    self.registry.delist(now, self.servers[number].address);
                }
            }
            Incident::Push(number, service, list) => self.registry.push(now, number, service, list),
        }
    }

    fn start(&mut self, number: usize) {
        if !self.sim.is_host_running(server_name(number)) {
            self.sim.bounce(server_name(number));
        }
    }

    fn repair(&mut self, now: Duration) {
        for number in 0..NODES {
            (0..NODES).for_each(|other| self.sim.release(client_name(number), server_name(other)));
        }
        self.registry.repair(now);
    }
}

fn server_name(number: usize) -> String {
    format!("server{number}")
}

fn client_name(number: usize) -> String {
    format!("client{number}")
}

/// Resolution of the simulated time.
const TICK: Duration = Duration::from_millis(2);
/// Maximum time for the calls after `Plan::settled` and for the close of the clients.
const FINAL_CALLS_TIME: Duration = Duration::from_secs(40);
/// Maximum time in which servers detect that their clients have closed.
const SERVER_CLOSE_TIME: Duration = Duration::from_millis(2500);
