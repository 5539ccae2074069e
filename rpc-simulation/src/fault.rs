//! [`Fault`]: an event that a cluster has to survive; and plans of random faults.

use std::time::Duration;

use rand::{RngExt, rngs::SmallRng, seq::IndexedRandom};

/// An event that a cluster has to survive. Nodes are identified by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Ends a provider at once, without an answer to the calls that it handles. It stays registered.
    Kill(String),
    /// Ends a provider in order: it deregisters, finishes its calls, and closes.
    Drain(String),
    /// Starts a provider that was killed or drained. Without effect on one that runs.
    Start(String),
    /// Drops all data between two nodes, and refuses new connections.
    Partition(String, String),
    /// Holds all data between two nodes back until the next [`Repair`](Self::Repair).
    Hold(String, String),
    /// Ends a partition or a hold between two nodes.
    Repair(String, String),
}

/// Returns faults at random times until `until`, when all faults have been repaired.
pub(crate) fn random_faults(
    rng: &mut SmallRng,
    providers: &[String],
    consumers: &[String],
    until: Duration,
) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    let mut at = rng.random_range(Duration::ZERO..LONGEST_PAUSE);
    while let Some(end) = Some((at + rng.random_range(SHORTEST..LONGEST)).min(until)).filter(|end| *end > at) {
        let (Some(provider), Some(consumer)) = (providers.choose(rng), consumers.choose(rng)) else { break };
        let (provider, consumer) = (provider.clone(), consumer.clone());
        let (begin, repair) = match rng.random_range(0..4) {
            0 => (Fault::Kill(provider.clone()), Fault::Start(provider)),
            1 => (Fault::Drain(provider.clone()), Fault::Start(provider)),
            2 => (Fault::Partition(consumer.clone(), provider.clone()), Fault::Repair(consumer, provider)),
            _ => (Fault::Hold(consumer.clone(), provider.clone()), Fault::Repair(consumer, provider)),
        };
        faults.extend([(at, begin), (end, repair)]);
        at += rng.random_range(Duration::ZERO..LONGEST_PAUSE);
    }
    faults
}

/// The shortest random fault.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest random fault.
const LONGEST: Duration = Duration::from_secs(3);
/// The longest time between the begins of two random faults.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
