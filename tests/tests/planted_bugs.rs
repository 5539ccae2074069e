//! Whether the simulation finds what it is there to find: ten mistakes, each of which a client is told to make.

use std::time::Instant;

use rpc_client::{Bug, plant};
use tests::simulation::{Asked, run_all};

#[test]
fn the_simulation_finds_every_planted_bug() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let begun = Instant::now();
        plant(Some(bug));
        let (failed, runs) = run_all(Asked::UntilOneFails(ENOUGH));
        plant(None);
        match failed.first() {
            Some(report) => {
                let violation: String = report.violations[0].chars().take(110).collect();
                println!("{bug:?}: seed {}, {runs} runs, {:.1?}: {violation}", report.seed, begun.elapsed());
            }
            None => {
                println!("{bug:?}: missed in {runs} runs, {:.1?}", begun.elapsed());
                missed.push(bug);
            }
        }
    }
    assert!(missed.is_empty(), "missed {missed:?}");
}

/// What CI runs finds all of them.
const ENOUGH: u64 = 300;
