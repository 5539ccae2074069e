//! [`Plan`]: the events of a run, which the seed determines.

use std::{ops::Range, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use rpc_client::{Balance, ClientConfig};
use rpc_core::transport::TransportConfig;
use rpc_server::ServerConfig;

use super::{network::SocketFaults, registry::PushedList, services::SimService, tampering::Tampering};

/// The events of a run, which the seed determines.
pub(crate) struct Plan {
    /// Seed of the run.
    pub(crate) seed: u64,
    /// Configuration of the clients.
    pub(crate) client: ClientConfig,
    /// Configuration of the servers.
    pub(crate) server: ServerConfig,
    /// Range of message latencies.
    pub(crate) latency: Range<Duration>,
    /// Number of unread segments that a connection buffers.
    pub(crate) capacity: usize,
    /// Faults of the clients' sockets.
    pub(crate) socket_faults: SocketFaults,
    /// Faults of answers.
    pub(crate) tampering: Tampering,
    /// Maximum delay of the registry's correct lists.
    pub(crate) push_delay: Duration,
    /// Number of concurrent calls of a client.
    pub(crate) workers: usize,
    /// Faults and their times.
    pub(crate) incidents: Vec<(Duration, Incident)>,
    /// The server that crashes permanently and stays listed.
    pub(crate) dead: Option<usize>,
    /// The server that serves an incompatible contract of the first service.
    pub(crate) outdated: Option<usize>,
    /// Time of the repair.
    pub(crate) repaired: Duration,
    /// Time at which all effects of the faults must have ended.
    pub(crate) settled: Duration,
}

/// A fault of a server, of the path between a client (first number) and a server, or of a client's list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Incident {
    /// Drops all messages in both directions, including those under way.
    Partition(usize, usize),
    /// Drops all messages to the server.
    PartitionToServer(usize, usize),
    /// Drops all messages to the client.
    PartitionToClient(usize, usize),
    /// Holds all messages.
    Hold(usize, usize),
    /// Delivers the held messages and ends the fault of the path.
    Release(usize, usize),
    /// Kills the server.
    Crash(usize),
    /// Kills the server and starts it again.
    Bounce(usize),
    /// Shuts down the runtime of the server: all of its tasks end at once.
    ShutDown(usize),
    /// Drains the server.
    Drain(usize),
    /// Starts the server unless it is running.
    Start(usize),
    /// Removes a server that is not running from the registry.
    Delist(usize),
    /// Pushes a list to a client.
    Push(usize, SimService, PushedList),
}

/// Number of servers and number of clients.
pub(crate) const NODES: usize = 3;

impl Plan {
    /// Returns the plan for `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let long = rng.random_bool(0.05);
        let dead = long.then(|| rng.random_range(0..NODES));
        let repaired = ms(2500);
        let settled = repaired + if long { ms(33_000) } else { ms(3200) };
        let min = millis(rng, 0..6);
        Self {
            seed,
            client: client(rng),
            server: server(rng),
            latency: min..min + millis(rng, 1..40),
            capacity: rng.random_range(24..64),
            socket_faults: SocketFaults {
                piecemeal: share(rng, 0.4),
                stalls: share(rng, 0.15),
                stall: millis(rng, 10..600),
                connect_panics: share(rng, 0.1),
                slow_readers: share(rng, 0.4),
                read_pause: millis(rng, 5..60),
                until: repaired,
            },
            tampering: Tampering {
                connections: share(rng, 1.0),
                late: share(rng, 0.4),
                delay: millis(rng, 10..900),
                duplicate: share(rng, 0.4),
            },
            push_delay: millis(rng, 0..1200),
            workers: rng.random_range(1..6),
            incidents: incidents(rng, dead, repaired),
            dead,
            outdated: rng.random_bool(0.2).then(|| rng.random_range(0..NODES)),
            repaired,
            settled,
        }
    }
}

fn client(rng: &mut SmallRng) -> ClientConfig {
    let mut transport = TransportConfig::default();
    if rng.random_bool(0.3) {
        transport.outbox = rng.random_range(100..2000);
    }
    transport.write_stall = ms(1500);
    limit_streams(rng, &mut transport);
    // A latency-aware client may send no calls to a server behind a slow link, and the checks expect calls to each server.
    let balances = [Balance::PowerOfTwoChoices, Balance::PowerOfTwoChoices, Balance::RoundRobin, Balance::Random];
    ClientConfig::default()
        .with_seed(Some(rng.next_u64()))
        .with_cache_directory(None)
        .with_balance(balances[rng.random_range(0..balances.len())])
        .with_connect_timeout(millis(rng, 150..500))
        .with_ping_after(millis(rng, 150..400))
        .with_pong_timeout(millis(rng, 200..600))
        .with_delisted_grace(millis(rng, 50..1500))
        .with_max_in_flight(if rng.random_bool(0.3) { rng.random_range(1..6) } else { 1024 })
        .with_transport(transport)
}

fn server(rng: &mut SmallRng) -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport.write_stall = ms(1500);
    limit_streams(rng, &mut transport);
    let max_stream_memory = NODES * transport.stream_memory;
    ServerConfig::default()
        .with_max_stream_memory(max_stream_memory)
        .with_read_idle(millis(rng, 1200..1800))
        .with_max_in_flight(if rng.random_bool(0.3) { rng.random_range(1..6) } else { 1024 })
        .with_drain_notice(millis(rng, 0..300))
        .with_drain_timeout(millis(rng, 300..1200))
        .with_transport(transport)
}

/// Sets a random window of streams, and in some runs memory for one stream of a connection and a long item.
fn limit_streams(rng: &mut SmallRng, transport: &mut TransportConfig) {
    transport.stream_window = rng.random_range(64 << 10..256 << 10);
    if rng.random_bool(0.3) {
        transport.stream_memory = transport.stream_window as usize + (64 << 10);
    }
}

fn incidents(rng: &mut SmallRng, dead: Option<usize>, repaired: Duration) -> Vec<(Duration, Incident)> {
    let mut incidents = Vec::new();
    for _ in 0..rng.random_range(1..12) {
        let at = rng.random_range(ms(50)..repaired - ms(200));
        let until = at + millis(rng, 30..1200);
        let (client, server) = (rng.random_range(0..NODES), rng.random_range(0..NODES));
        let path = |first| [(at, first), (until, Incident::Release(client, server))];
        match rng.random_range(0..10) {
            0 => incidents.extend(path(Incident::Partition(client, server))),
            1 => incidents.extend(path(Incident::PartitionToServer(client, server))),
            2 => incidents.extend(path(Incident::PartitionToClient(client, server))),
            3 => incidents.extend(path(Incident::Hold(client, server))),
            kind @ (4 | 5) => {
                let noticed = at + millis(rng, 100..1500);
                let end = if kind == 4 { Incident::Crash(server) } else { Incident::ShutDown(server) };
                let crash = [end, Incident::Start(server), Incident::Delist(server)];
                incidents.extend([at, until, noticed].into_iter().zip(crash));
            }
            6 => incidents.push((at, Incident::Bounce(server))),
            7 => incidents.extend([(at, Incident::Drain(server)), (until + ms(300), Incident::Start(server))]),
            _ => incidents.extend(pushes(rng, client, at..until)),
        }
    }
    incidents.extend(dead.map(|server| (ms(1000), Incident::Crash(server))));
    incidents.retain(|(at, incident)| {
        let revives_dead_server =
            matches!(incident, Incident::Start(server) | Incident::Bounce(server) if dead == Some(*server));
        *at < repaired && !(revives_dead_server && *at >= ms(1000))
    });
    // A stable sort keeps the order of incidents at the same time.
    incidents.sort_by_key(|(at, _)| *at);
    incidents
}

/// Returns several incorrect pushes to a client and a final correct one.
fn pushes(rng: &mut SmallRng, client: usize, during: Range<Duration>) -> Vec<(Duration, Incident)> {
    let service = SimService::ALL[rng.random_range(0..2)];
    let kinds = [
        PushedList::Empty,
        PushedList::Extended,
        PushedList::Extended,
        PushedList::Partial,
        PushedList::Partial,
        PushedList::Modified,
        PushedList::Correct,
    ];
    let mut pushes: Vec<_> = (0..rng.random_range(1..6))
        .map(|_| {
            let list = kinds[rng.random_range(0..kinds.len())];
            (rng.random_range(during.clone()), Incident::Push(client, service, list))
        })
        .collect();
    pushes.push((during.end, Incident::Push(client, service, PushedList::Correct)));
    pushes
}

/// Returns 0 in half of the runs, and otherwise a share below `max`.
fn share(rng: &mut SmallRng, max: f64) -> f64 {
    if rng.random_bool(0.5) { 0.0 } else { rng.random_range(0.0..max) }
}

fn millis(rng: &mut SmallRng, range: Range<u64>) -> Duration {
    ms(rng.random_range(range))
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
