//! [`Cluster`]: providers and consumers on a simulated network.

use std::{
    collections::BTreeMap,
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use rpc_server::ServerBuilder;
use tokio::sync::Notify;
use turmoil::{Builder, Sim};

use crate::{
    fault::{Fault, random_faults},
    network::Listener,
    node::Node,
};

/// Providers and consumers on a simulated network.
///
/// Register providers and consumers, then faults, then [`run`](Self::run). All providers find each other, and are found,
/// by the names of their services.
pub struct Cluster {
    sim: Sim<'static>,
    rng: SmallRng,
    registry: String,
    providers: BTreeMap<String, Signals>,
    consumers: Vec<String>,
    faults: Vec<(Duration, Fault)>,
}

/// The signals that end a provider.
#[derive(Debug, Clone, Default)]
struct Signals {
    kill: Arc<Notify>,
    drain: Arc<Notify>,
}

impl Cluster {
    /// Creates a cluster without nodes. `seed` determines its random numbers, and so all of its events.
    ///
    /// Messages take 0 to 20 ms. A run ends with an error after an hour of simulated time.
    pub fn new(seed: u64) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut rng = SmallRng::seed_from_u64(seed);
        let sim = Builder::new()
            .rng_seed(rng.next_u64())
            .simulation_duration(MAX_DURATION)
            .tick_duration(TICK)
            .max_message_latency(LATENCY)
            .enable_random_order()
            .build();
        let registry = format!("simulation {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { sim, rng, registry, providers: BTreeMap::new(), consumers: Vec::new(), faults: Vec::new() }
    }

    /// Adds a provider. `server` builds its server at each start; state that outlives the process belongs outside of it.
    ///
    /// # Panics
    ///
    /// If a node has this name already.
    pub fn provider(&mut self, name: &str, server: impl Fn(Node) -> ServerBuilder + 'static) -> &mut Self {
        let address = SocketAddr::new(self.sim.lookup(name), PORT);
        let node = Node::new(&self.registry, &mut self.rng);
        let signals = self.providers.entry(name.to_owned()).or_default().clone();
        let server = Arc::new(server);
        self.sim.host(name, move || {
            let (server, node, signals) = (Arc::clone(&server), node.clone(), signals.clone());
            async move {
                let builder = server(node.clone()).registry(node.registry()).advertise(address);
                let running = builder.listen(Listener::bind(PORT).await?).await?;
                tokio::select! {
                    biased;
                    () = signals.kill.notified() => Ok(()),
                    ended = running.run_until(signals.drain.notified()) => Ok(ended?),
                }
            }
        });
        self
    }

    /// Adds a consumer. The run ends when all consumers have ended, with the first of their errors.
    ///
    /// # Panics
    ///
    /// If a node has this name already.
    pub fn consumer<F>(&mut self, name: &str, run: impl FnOnce(Node) -> F) -> &mut Self
    where
        F: Future<Output = Result<(), Box<dyn Error>>> + 'static,
    {
        self.sim.client(name, run(Node::new(&self.registry, &mut self.rng)));
        self.consumers.push(name.to_owned());
        self
    }

    /// Adds a fault at a time after the start.
    pub fn fault(&mut self, at: Duration, fault: Fault) -> &mut Self {
        self.faults.push((at, fault));
        self
    }

    /// Adds faults of each kind at random times, all of which are repaired by `until`. Add the nodes first.
    pub fn random_faults(&mut self, until: Duration) -> &mut Self {
        let providers: Vec<_> = self.providers.keys().cloned().collect();
        self.faults.extend(random_faults(&mut self.rng, &providers, &self.consumers, until));
        self
    }

    /// Runs until all consumers have ended. Run a cluster once.
    ///
    /// # Errors
    ///
    /// The error of a consumer or of a provider's start, or that the run takes more than an hour of simulated time.
    ///
    /// # Panics
    ///
    /// If a consumer panics, or a fault names an unknown node.
    pub fn run(&mut self) -> Result<(), Box<dyn Error>> {
        self.faults.sort_by_key(|(at, _)| *at);
        let mut faults = std::mem::take(&mut self.faults).into_iter().peekable();
        loop {
            let now = self.sim.elapsed();
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= now) {
                self.inject(fault);
            }
            if self.sim.step()? {
                return Ok(());
            }
        }
    }

    fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(name) => self.signals(&name).kill.notify_waiters(),
            Fault::Drain(name) => self.signals(&name).drain.notify_waiters(),
            Fault::Start(name) if self.sim.is_host_running(name.as_str()) => {}
            Fault::Start(name) => self.sim.bounce(name),
            Fault::Partition(one, other) => self.sim.partition(one, other),
            Fault::Hold(one, other) => self.sim.hold(one, other),
            Fault::Repair(one, other) => {
                self.sim.repair(one.as_str(), other.as_str());
                self.sim.release(one, other);
            }
        }
    }

    fn signals(&self, name: &str) -> &Signals {
        self.providers.get(name).unwrap_or_else(|| panic!("the cluster has no provider {name}"))
    }
}

/// The port of all providers.
const PORT: u16 = 7788;
/// The resolution of the simulated clock.
const TICK: Duration = Duration::from_millis(2);
/// The longest time that a message takes.
const LATENCY: Duration = Duration::from_millis(20);
/// The simulated time after which a run ends with an error.
const MAX_DURATION: Duration = Duration::from_secs(3600);
