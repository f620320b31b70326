//! Seeds that have to keep every promise, and one history per seed.

use std::sync::atomic::{AtomicUsize, Ordering};

use scatterhoard_sim::world;

/// Enough for every kind of trouble many times over; `SCATTERHOARD_TEST_SEEDS` for more.
const SEEDS: u64 = 200;

/// Further ones that broke a promise once.
const MENDED: [u64; 5] = [252, 890, 40_521, 41_206, 41_449];

#[test]
fn no_seed_breaks_a_promise() {
    let seeds = std::env::var("SCATTERHOARD_TEST_SEEDS");
    let seeds = seeds.map_or(SEEDS, |n| n.parse().unwrap());
    let seeds: Vec<u64> = MENDED.into_iter().chain(0..seeds).collect();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().unwrap().get();
    let broken: Vec<String> = std::thread::scope(|scope| {
        let run = || {
            let mut broken = Vec::new();
            while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                let report = world::run(seed, false).unwrap();
                assert!(report.fingerprint.1 > 100, "seed {seed} did nothing");
                let lines = report.violations.into_iter();
                broken.extend(lines.map(|what| format!("seed {seed}: {what}")));
            }
            broken
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let joined = workers.into_iter().map(|w| w.join().unwrap());
        joined.flatten().collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_seed_gives_one_history() {
    let histories: Vec<(u64, u64)> = (0..4)
        .map(|seed| world::run_twice(seed).unwrap().fingerprint)
        .collect();
    let mut distinct = histories.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), histories.len(), "seeds differ");
}
