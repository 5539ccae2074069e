//! Runs the simulation. docs/TESTING.md describes how to run more seeds and how to replay one.

use std::time::Instant;

use tests::simulation::{SeedSelection, run, run_all};

/// `MSNB_SEEDS=10000` sets the number of seeds; `MSNB_SEED=42` runs one seed and prints its events.
#[test]
fn simulation_seeds() {
    let started = Instant::now();
    let (failed, runs) = run_all(SeedSelection::from_environment(300));
    for report in &failed {
        println!("seed {}: {} of {} calls answered", report.seed, report.answered, report.calls);
        report.violations.iter().take(5).for_each(|violation| println!("  {violation}"));
        println!(
            "  replay: MSNB_SEED={} cargo test -p tests --test robustness simulation_seeds -- --nocapture",
            report.seed
        );
    }
    println!("{runs} seeds in {:.1?}", started.elapsed());
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

#[test]
fn seed_determines_all_events() {
    for seed in 1000..1010 {
        let (one, other) = (run(seed).events, run(seed).events);
        let difference = one.iter().zip(&other).find(|(one, other)| one != other);
        assert_eq!((difference, one.len()), (None, other.len()), "seed {seed}");
    }
}
