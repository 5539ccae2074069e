//! The simulation; see docs/TESTING.md for how to run more seeds, and how to replay one.

use std::time::Instant;

use tests::simulation::{Asked, run, run_all};

/// `MSNB_SEEDS=10000` runs as many, `MSNB_SEED=42` runs one and tells what happens in it.
#[test]
fn simulation_seeds() {
    let begun = Instant::now();
    let (failed, runs) = run_all(Asked::from_environment(300));
    for report in &failed {
        println!("seed {}: {} of {} calls answered", report.seed, report.answered, report.calls);
        report.violations.iter().take(5).for_each(|violation| println!("  {violation}"));
        println!(
            "  replay: MSNB_SEED={} cargo test -p tests --test robustness simulation_seeds -- --nocapture",
            report.seed
        );
    }
    println!("{runs} seeds in {:.1?}", begun.elapsed());
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

#[test]
fn a_seed_tells_all_that_happens() {
    for seed in 1000..1010 {
        let (one, other) = (run(seed).story, run(seed).story);
        let difference = one.iter().zip(&other).find(|(one, other)| one != other);
        assert_eq!((difference, one.len()), (None, other.len()), "seed {seed}");
    }
}
