//! The simulation detects each of the fifteen bugs that can be planted.

use std::time::Instant;

use rpc_client::{Bug, plant};
use tests::simulation::{SeedSelection, run_all};

#[test]
fn simulation_detects_every_planted_bug() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let started = Instant::now();
        plant(Some(bug));
        let (failed, runs) = run_all(SeedSelection::UntilFailure(SEEDS));
        plant(None);
        match failed.first() {
            Some(report) => {
                let violation: String = report.violations[0].chars().take(110).collect();
                println!("{bug:?}: seed {}, {runs} runs, {:.1?}: {violation}", report.seed, started.elapsed());
            }
            None => {
                println!("{bug:?}: missed in {runs} runs, {:.1?}", started.elapsed());
                missed.push(bug);
            }
        }
    }
    assert!(missed.is_empty(), "the simulation missed {missed:?}");
}

/// The number of seeds that CI runs; it suffices for every bug.
const SEEDS: u64 = 300;
