//! [`run`]: one run, from a seed to a [`Report`].

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
    contract::Which,
    customer::Customer,
    history::{Ending, History},
    network::Network,
    plan::{Incident, NODES, Plan},
    registry::FakeRegistry,
    shop::{PORT, Shop},
};

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// Whose run it was.
    pub seed: u64,
    /// What should have held and did not.
    pub violations: Vec<String>,
    /// All that happened, an event a line.
    pub story: Vec<String>,
    /// How many calls were made.
    pub calls: usize,
    /// How many of them were answered.
    pub answered: usize,
}

/// Runs what `seed` says, and checks it.
pub fn run(seed: u64) -> Report {
    let plan = Plan::new(seed);
    let history = Arc::new(History::default());
    let played = Stage::set(&plan, &history).play(&plan);
    let events = history.events();
    let violations = match played {
        Ok(truth) => checks::check(&events, &truth),
        Err(error) => vec![format!("the run did not end: {error}")],
    };
    let answered = events.calls.iter().filter(|call| matches!(call.end, Some((_, Ending::Answered { .. })))).count();
    Report { seed, violations, story: events.story(), calls: events.calls.len(), answered }
}

/// How things are at the end.
pub(crate) struct Truth {
    /// Whom the registry lists, by service.
    pub(crate) listed: Vec<(Which, Vec<SocketAddr>)>,
    /// Who is listed perhaps, and does not live.
    pub(crate) dead: Option<SocketAddr>,
}

struct Stage<'a> {
    sim: Sim<'a>,
    registry: Arc<FakeRegistry>,
    shops: Vec<Arc<Shop>>,
}

impl Stage<'_> {
    fn set(plan: &Plan, history: &Arc<History>) -> Self {
        let chance = &mut SmallRng::seed_from_u64(!plan.seed);
        let mut sim = Builder::new()
            .rng_seed(chance.next_u64())
            .simulation_duration(plan.settled + AFTERMATH)
            .tick_duration(TICK)
            .min_message_latency(plan.latency.start)
            .max_message_latency(plan.latency.end)
            .tcp_capacity(plan.capacity)
            .enable_random_order()
            .build();
        let ips: Vec<_> = (0..NODES).map(|number| sim.lookup(server(number))).collect();
        let wrong = ips.iter().flat_map(|ip| Shop::impostors(*ip)).collect();
        let registry = FakeRegistry::new(Arc::clone(history), chance.next_u64(), plan.lateness, wrong);
        let mut shops = Vec::new();
        for (number, ip) in ips.into_iter().enumerate() {
            let shop = Arc::new(Shop {
                address: SocketAddr::new(ip, PORT),
                // Not everyone serves everything.
                services: if number == 0 { vec![Which::Ledger] } else { Which::ALL.to_vec() },
                config: plan.server.clone(),
                tampering: plan.tampering,
                registry: Arc::clone(&registry),
                history: Arc::clone(history),
                closing: Notify::new(),
                killing: Notify::new(),
                chance: Mutex::new(SmallRng::from_rng(chance)),
            });
            shops.push(Arc::clone(&shop));
            sim.host(server(number), move || Arc::clone(&shop).open());
        }
        for number in 0..NODES {
            let customer = Customer {
                number,
                config: plan.client.clone().with_seed(Some(chance.next_u64())),
                workers: plan.workers,
                healed: plan.healed,
                settled: plan.settled,
                history: Arc::clone(history),
                seed: chance.next_u64(),
            };
            let network = Network::new(number, Arc::clone(history), chance.next_u64(), plan.clumsiness);
            sim.client(client(number), customer.shop(registry.view(number), network));
        }
        Self { sim, registry, shops }
    }

    /// Plays to the end.
    fn play(mut self, plan: &Plan) -> turmoil::Result<Truth> {
        let mut incidents = plan.incidents.iter().peekable();
        // Who is killed in a tick is started after it.
        let mut bounced: Vec<usize> = Vec::new();
        let mut healed = false;
        loop {
            let now = self.sim.elapsed();
            bounced.drain(..).for_each(|number| self.start(number));
            while let Some((_, incident)) = incidents.next_if(|(at, _)| *at <= now) {
                bounced.extend(if let Incident::Bounce(number) = incident { Some(*number) } else { None });
                tracing::info!(?now, ?incident);
                self.strike(now, *incident);
            }
            if now >= plan.healed {
                if !std::mem::replace(&mut healed, true) {
                    tracing::info!(?now, "healed");
                    self.heal(now);
                }
                // Some were still about to leave.
                (0..NODES).filter(|number| plan.dead != Some(*number)).for_each(|number| self.start(number));
            }
            self.registry.tick(now);
            if self.sim.step()? {
                break;
            }
        }
        let listed = Which::ALL.into_iter().map(|which| (which, self.registry.truth(which))).collect();
        let dead = plan.dead.map(|number| self.shops[number].address);
        // Servers learn that their clients are gone.
        for _ in 0..PARTING.as_millis() / TICK.as_millis() {
            self.sim.step()?;
        }
        Ok(Truth { listed, dead })
    }

    fn strike(&mut self, now: Duration, incident: Incident) {
        let sim = &mut self.sim;
        match incident {
            Incident::Partition(one, other) => sim.partition(client(one), server(other)),
            Incident::Deafen(one, other) => sim.partition_oneway(client(one), server(other)),
            Incident::Mute(one, other) => sim.partition_oneway(server(other), client(one)),
            Incident::Hold(one, other) => sim.hold(client(one), server(other)),
            Incident::Release(one, other) => sim.release(client(one), server(other)),
            Incident::Crash(number) | Incident::Bounce(number) => self.shops[number].killing.notify_waiters(),
            Incident::Drain(number) => self.shops[number].closing.notify_waiters(),
            Incident::Start(number) => self.start(number),
            Incident::Forget(number) => {
                if !sim.is_host_running(server(number)) {
                    self.registry.forget(now, self.shops[number].address);
                }
            }
            Incident::Say(number, which, lie) => self.registry.say(now, number, which, lie),
        }
    }

    fn start(&mut self, number: usize) {
        if !self.sim.is_host_running(server(number)) {
            self.sim.bounce(server(number));
        }
    }

    fn heal(&mut self, now: Duration) {
        for number in 0..NODES {
            (0..NODES).for_each(|other| self.sim.release(client(number), server(other)));
        }
        self.registry.heal(now);
    }
}

fn server(number: usize) -> String {
    format!("server{number}")
}

fn client(number: usize) -> String {
    format!("client{number}")
}

/// The simulation's resolution.
const TICK: Duration = Duration::from_millis(2);
/// How long the calls after the settling may take, and the close.
const AFTERMATH: Duration = Duration::from_secs(40);
/// How long servers may take to learn that their clients are gone.
const PARTING: Duration = Duration::from_millis(2500);
