use std::collections::{HashMap, HashSet};

use proptest::{collection::vec, prelude::*};
use rand::{SeedableRng, rngs::SmallRng};

use super::*;

fn pool(free: &[(u64, bool)]) -> Vec<Candidate> {
    let node = |(i, &(free_bytes, reachable)): (usize, &(u64, bool))| Candidate {
        node: NodeId(i as u16),
        free_bytes,
        reachable,
        birth_unix_ms: 0,
    };
    free.iter().enumerate().map(node).collect()
}

proptest! {
    #[test]
    fn nodes_are_distinct_reachable_and_have_room(
        free in vec((0u64..100, any::<bool>()), 0..30), want in 1usize..14, bytes in 1u64..100,
        seed: u64
    ) {
        let pool = pool(&free);
        let need = want.div_ceil(2);
        let mut rng = SmallRng::seed_from_u64(seed);
        let reachable = free.iter().filter(|(_, r)| *r).count();
        let fitting = free.iter().filter(|(f, r)| *r && *f >= bytes).count();
        match place(&pool, want, need, bytes, &mut rng) {
            Ok(chosen) => {
                prop_assert_eq!(chosen.len(), want.min(reachable));
                let distinct: HashSet<_> = chosen.iter().collect();
                prop_assert_eq!(distinct.len(), chosen.len());
                for node in chosen {
                    let c = pool[usize::from(node.0)];
                    prop_assert!(c.reachable && c.free_bytes >= bytes);
                }
            }
            Err(PlacementError::TooFewNodes { .. }) => prop_assert!(reachable < need),
            Err(PlacementError::NoRoom { .. }) => {
                prop_assert!(fitting < want.min(reachable));
                prop_assert!(!shortfall(&pool, want, bytes).is_empty());
            }
        }
    }
}

/// Free bytes of 40 nodes of these ages after 800 placements of 12 chunks.
fn loaded(ages: impl Fn(usize) -> u64, sizes: &[u64]) -> (u64, u64) {
    let mut pool = pool(&[(10_000, true); 40]);
    for (i, candidate) in pool.iter_mut().enumerate() {
        candidate.birth_unix_ms = OF_AN_AGE_MS * ages(i);
    }
    let mut rng = SmallRng::seed_from_u64(1);
    for size in sizes.iter().cycle().take(800) {
        for node in place(&pool, 12, 11, *size, &mut rng).unwrap() {
            pool[usize::from(node.0)].free_bytes -= size;
        }
    }
    let free: Vec<u64> = pool.iter().map(|c| c.free_bytes).collect();
    (*free.iter().min().unwrap(), *free.iter().max().unwrap())
}

#[test]
fn load_spreads_evenly() {
    for (what, (low, high)) in [
        ("unknown", loaded(|_| 0, &[10])),
        ("one age", loaded(|_| 1, &[10])),
        ("an age each", loaded(|i| i as u64, &[10])),
        ("halves", loaded(|i| 1 + i as u64 % 2, &[10])),
        ("one that differs", loaded(|i| 1 + u64::from(i == 7), &[10])),
        (
            "a few that differ",
            loaded(|i| if i < 35 { 1 } else { i as u64 }, &[10]),
        ),
        (
            "sizes",
            loaded(|i| if i < 35 { 1 } else { i as u64 }, &[1, 25, 4]),
        ),
    ] {
        println!("{what}: {low} to {high}");
        assert!(high - low < 300, "{what}: {low} to {high}");
    }
}

/// How many nodes of each age a placement has.
fn taken(pool: &[Candidate], chosen: &[NodeId]) -> HashMap<usize, usize> {
    let mut taken = HashMap::new();
    for node in chosen {
        let age = age(&pool[usize::from(node.0)]).unwrap();
        *taken.entry(age).or_default() += 1;
    }
    taken
}

proptest! {
    /// With the same room everywhere no age has more than its share.
    #[test]
    fn ages_are_spread_when_there_is_a_choice(
        ages in vec(1u64..20, 1..60), want in 1usize..14, seed: u64
    ) {
        let mut pool = pool(&vec![(1_000, true); ages.len()]);
        for (candidate, age) in pool.iter_mut().zip(&ages) {
            candidate.birth_unix_ms = age * OF_AN_AGE_MS + seed % OF_AN_AGE_MS;
        }
        let want = want.min(ages.len());
        let mut rng = SmallRng::seed_from_u64(seed);
        let chosen = place(&pool, want, want, 10, &mut rng).unwrap();
        let of_age = |number: usize| pool.iter().filter(|c| age(c) == Some(number)).count();
        for (number, count) in taken(&pool, &chosen) {
            let share = (want * of_age(number)).div_ceil(pool.len());
            prop_assert!(count <= share, "{} of age {}, {}", count, number, share);
        }
    }

    /// Whatever the ages, nobody is taken who has clearly less room than all others.
    #[test]
    fn room_comes_before_age(
        ages in vec(0u64..5, 20..60), want in 1usize..14, seed: u64
    ) {
        let mut pool = pool(&vec![(100_000, true); ages.len()]);
        for (candidate, age) in pool.iter_mut().zip(&ages) {
            candidate.birth_unix_ms = age * OF_AN_AGE_MS;
        }
        // alone of its age, and so always welcome
        pool[3].birth_unix_ms = 9 * OF_AN_AGE_MS;
        pool[3].free_bytes = 50_000;
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut with_it, times) = (0, 200);
        for _ in 0..times {
            let chosen = place(&pool, want, want, 10, &mut rng).unwrap();
            with_it += usize::from(chosen.contains(&NodeId(3)));
        }
        // drawn twice in a row by chance
        prop_assert!(with_it < times / 4, "{} of {}", with_it, times);
    }
}

/// 400 nodes of ten ages. Drawn without a look at ages, 12 of them have 3 of an age at
/// the median, and up to 7.
#[test]
fn a_large_pool_has_few_of_an_age() {
    let mut pool = pool(&[(1_000_000, true); 400]);
    for (i, candidate) in pool.iter_mut().enumerate() {
        candidate.birth_unix_ms = OF_AN_AGE_MS * (1 + i as u64 % 10);
    }
    let mut rng = SmallRng::seed_from_u64(3);
    for _ in 0..5_000 {
        let chosen = place(&pool, 12, 11, 10, &mut rng).unwrap();
        let most = taken(&pool, &chosen).into_values().max().unwrap();
        assert!(most <= 2, "{most}");
        for node in chosen {
            pool[usize::from(node.0)].free_bytes -= 10;
        }
    }
}
