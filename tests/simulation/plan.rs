//! [`Plan`]: what a seed says will happen.

use std::{ops::Range, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use rpc_client::{Balance, ClientConfig};
use rpc_core::transport::TransportConfig;
use rpc_server::ServerConfig;

use super::{contract::Which, meddler::Tampering, network::Clumsiness, registry::Lie};

/// What a seed says will happen.
pub(crate) struct Plan {
    /// Where all of it comes from.
    pub(crate) seed: u64,
    /// The numbers of the clients.
    pub(crate) client: ClientConfig,
    /// The numbers of the servers.
    pub(crate) server: ServerConfig,
    /// How long a message takes.
    pub(crate) latency: Range<Duration>,
    /// How many segments a connection holds that were not read.
    pub(crate) capacity: usize,
    /// How badly sockets take what is written.
    pub(crate) clumsiness: Clumsiness,
    /// What meddlers do to answers.
    pub(crate) tampering: Tampering,
    /// How long the registry's truth takes at most.
    pub(crate) lateness: Duration,
    /// How many calls a client makes at once.
    pub(crate) workers: usize,
    /// What goes wrong, and when.
    pub(crate) incidents: Vec<(Duration, Incident)>,
    /// The server that goes for good, and stays listed.
    pub(crate) dead: Option<usize>,
    /// When nothing goes wrong any more.
    pub(crate) healed: Duration,
    /// When its traces must be gone.
    pub(crate) settled: Duration,
}

/// Something that happens to a server, to the path between a client and a server, or to what a client is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Incident {
    /// Nothing gets through; what is under way is lost.
    Partition(usize, usize),
    /// Nothing gets through to the server.
    Deafen(usize, usize),
    /// Nothing gets through to the client.
    Mute(usize, usize),
    /// What is sent waits.
    Hold(usize, usize),
    /// What waits goes on, and all gets through again.
    Release(usize, usize),
    /// The server is killed.
    Crash(usize),
    /// The server is killed and started.
    Bounce(usize),
    /// The server is asked to leave.
    Drain(usize),
    /// The server is started if it does not run.
    Start(usize),
    /// The registry notices that the server does not run.
    Forget(usize),
    /// The registry tells a client something.
    Say(usize, Which, Lie),
}

/// Servers, and as many clients.
pub(crate) const NODES: usize = 3;

impl Plan {
    /// What `seed` says.
    pub(crate) fn new(seed: u64) -> Self {
        let chance = &mut SmallRng::seed_from_u64(seed);
        let long = chance.random_bool(0.05);
        let dead = long.then(|| chance.random_range(0..NODES));
        let healed = ms(2500);
        let settled = healed + if long { ms(33_000) } else { ms(3200) };
        let min = millis(chance, 0..6);
        Self {
            seed,
            client: client(chance),
            server: server(chance),
            latency: min..min + millis(chance, 1..40),
            capacity: chance.random_range(24..64),
            clumsiness: Clumsiness {
                piecemeal: share(chance, 0.4),
                stalls: share(chance, 0.15),
                stall: millis(chance, 10..600),
                until: healed,
            },
            tampering: Tampering {
                connections: share(chance, 1.0),
                late: share(chance, 0.4),
                delay: millis(chance, 10..900),
                twice: share(chance, 0.4),
            },
            lateness: millis(chance, 0..1200),
            workers: chance.random_range(1..6),
            incidents: incidents(chance, dead, healed),
            dead,
            healed,
            settled,
        }
    }
}

fn client(chance: &mut SmallRng) -> ClientConfig {
    let mut transport = TransportConfig::default();
    if chance.random_bool(0.3) {
        transport.outbox = chance.random_range(100..2000);
    }
    transport.write_stall = ms(1500);
    let balances = [Balance::PowerOfTwoChoices, Balance::PowerOfTwoChoices, Balance::RoundRobin, Balance::Random];
    ClientConfig::default()
        .with_seed(Some(chance.next_u64()))
        .with_cache_directory(None)
        .with_balance(balances[chance.random_range(0..balances.len())])
        .with_connect_timeout(millis(chance, 150..500))
        .with_ping_after(millis(chance, 150..400))
        .with_pong_timeout(millis(chance, 200..600))
        .with_delisted_grace(millis(chance, 50..1500))
        .with_max_in_flight(if chance.random_bool(0.3) { chance.random_range(1..6) } else { 1024 })
        .with_transport(transport)
}

fn server(chance: &mut SmallRng) -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport.write_stall = ms(1500);
    ServerConfig::default()
        .with_read_idle(millis(chance, 1200..1800))
        .with_max_in_flight(if chance.random_bool(0.3) { chance.random_range(1..6) } else { 1024 })
        .with_drain_notice(millis(chance, 0..300))
        .with_drain_timeout(millis(chance, 300..1200))
        .with_transport(transport)
}

fn incidents(chance: &mut SmallRng, dead: Option<usize>, healed: Duration) -> Vec<(Duration, Incident)> {
    let mut incidents = Vec::new();
    for _ in 0..chance.random_range(1..12) {
        let at = chance.random_range(ms(50)..healed - ms(200));
        let until = at + millis(chance, 30..1200);
        let (client, server) = (chance.random_range(0..NODES), chance.random_range(0..NODES));
        let path = |first| [(at, first), (until, Incident::Release(client, server))];
        match chance.random_range(0..9) {
            0 => incidents.extend(path(Incident::Partition(client, server))),
            1 => incidents.extend(path(Incident::Deafen(client, server))),
            2 => incidents.extend(path(Incident::Mute(client, server))),
            3 => incidents.extend(path(Incident::Hold(client, server))),
            4 => {
                let noticed = at + millis(chance, 100..1500);
                let crash = [Incident::Crash(server), Incident::Start(server), Incident::Forget(server)];
                incidents.extend([at, until, noticed].into_iter().zip(crash));
            }
            5 => incidents.push((at, Incident::Bounce(server))),
            6 => incidents.extend([(at, Incident::Drain(server)), (until + ms(300), Incident::Start(server))]),
            _ => incidents.extend(lies(chance, client, at..until)),
        }
    }
    incidents.extend(dead.map(|server| (ms(1000), Incident::Crash(server))));
    incidents.retain(|(at, incident)| {
        let ghost = matches!(incident, Incident::Start(server) | Incident::Bounce(server) if dead == Some(*server));
        *at < healed && !(ghost && *at >= ms(1000))
    });
    // Stable: what is said to happen at the same time happens as it was said.
    incidents.sort_by_key(|(at, _)| *at);
    incidents
}

/// The registry tells a client something else several times, and then the truth.
fn lies(chance: &mut SmallRng, client: usize, during: Range<Duration>) -> Vec<(Duration, Incident)> {
    let which = Which::ALL[chance.random_range(0..2)];
    let kinds = [Lie::Empty, Lie::Wrong, Lie::Wrong, Lie::Partial, Lie::Partial, Lie::Anew, Lie::Truth];
    let mut said: Vec<_> = (0..chance.random_range(1..6))
        .map(|_| {
            let lie = kinds[chance.random_range(0..kinds.len())];
            (chance.random_range(during.clone()), Incident::Say(client, which, lie))
        })
        .collect();
    said.push((during.end, Incident::Say(client, which, Lie::Truth)));
    said
}

/// In half of the runs nothing of it, in the others up to `most`.
fn share(chance: &mut SmallRng, most: f64) -> f64 {
    if chance.random_bool(0.5) { 0.0 } else { chance.random_range(0.0..most) }
}

fn millis(chance: &mut SmallRng, range: Range<u64>) -> Duration {
    ms(chance.random_range(range))
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
