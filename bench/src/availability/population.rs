//! What is stored and read during the day: the GETs of a trace, or of a
//! generator with the quantiles of the container registry's, played through an
//! LRU of the pool's size. What that LRU holds is what a pool without losses
//! would hold: the objects whose availability is asked for.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::trace::{Op, Request, Trace};

/// One GET: an object is known by its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Get {
    pub(crate) at_s: f64,
    pub(crate) object: u32,
    pub(crate) bytes: u64,
}

/// Objects above this only, as in the trace.
const LEAST_BYTES: f64 = 10e6;
/// Size quantiles of the registry trace in bytes, see shared data: p50, p90, p99, max.
const QUANTILES: [(f64, f64); 5] = [
    (0.0, LEAST_BYTES),
    (0.5, 51e6),
    (0.9, 95e6),
    (0.99, 397e6),
    (1.0, 8.5e9),
];
/// GETs an hour, how many of them are the first of their object, and the share
/// of objects that is read once.
const GETS_PER_HOUR: f64 = 749.0;
const FIRST_SHARE: f64 = 12_541.0 / 37_474.0;
const READ_ONCE: f64 = 0.77;
/// Gaps until an object is read again are log-normal: median 73 s, and 91 %
/// within the hour.
const GAP_MEDIAN_S: f64 = 73.0;
const GAP_SIGMA: f64 = 2.91;

/// The GETs of a trace; a key that shows another size is another object from then on.
pub(crate) fn read_trace(path: &Path, skip_bad_lines: bool) -> Result<(Vec<Get>, u64)> {
    let trace = Trace::read(path, skip_bad_lines)?;
    let mut known: HashMap<(u32, u64), u32> = HashMap::new();
    let gets = trace.requests.iter().filter(|r| r.op == Op::Get);
    let get = |r: &Request| {
        let next = known.len() as u32;
        Get {
            at_s: r.at_s,
            object: *known.entry((r.key, r.bytes)).or_insert(next),
            bytes: r.bytes,
        }
    };
    Ok((gets.map(get).collect(), trace.skipped))
}

/// GETs of so many hours that look like the registry's.
pub(crate) fn generate(hours: f64, seed: u64) -> Vec<Get> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let firsts_per_s = GETS_PER_HOUR * FIRST_SHARE / 3600.0;
    let again = (1.0 / FIRST_SHARE - 1.0) / (1.0 - READ_ONCE);
    let (mut at_s, mut object, mut gets) = (0.0, 0, Vec::new());
    loop {
        at_s += -(1.0 - rng.random::<f64>()).ln() / firsts_per_s;
        if at_s >= hours * 3600.0 {
            break;
        }
        let bytes = size_at(rng.random());
        let mut read_s = at_s;
        gets.push(Get {
            at_s,
            object,
            bytes,
        });
        if rng.random::<f64>() >= READ_ONCE {
            // at least one more, geometric with that mean
            loop {
                read_s += GAP_MEDIAN_S * (GAP_SIGMA * normal(&mut rng)).exp();
                if read_s >= hours * 3600.0 {
                    break;
                }
                gets.push(Get {
                    at_s: read_s,
                    object,
                    bytes,
                });
                if rng.random::<f64>() < 1.0 / again {
                    break;
                }
            }
        }
        object += 1;
    }
    gets.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    gets
}

/// Between quantiles the logarithm grows evenly; in the last hundredth with the
/// square, which gives the trace's mean.
fn size_at(share: f64) -> u64 {
    for pair in QUANTILES.windows(2) {
        let ((from, low), (to, high)) = (pair[0], pair[1]);
        if share <= to {
            let part = (share - from) / (to - from);
            let part = if to == 1.0 { part * part } else { part };
            return (low * (high / low).powf(part)) as u64;
        }
    }
    LEAST_BYTES as u64
}

fn normal(rng: &mut impl Rng) -> f64 {
    let (a, b): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// A step of the day.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) at_us: u64,
    pub(crate) object: u32,
    /// The LRU holds it; otherwise it is stored now.
    pub(crate) is_hit: bool,
    /// What had to go for it.
    pub(crate) evicted: Vec<u32>,
    /// It is written without being asked for.
    pub(crate) is_set: bool,
}

/// The day, and what is stored when it begins.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Bytes of every object that occurs.
    pub(crate) sizes: Vec<u64>,
    /// Longest unused first.
    pub(crate) initial: Vec<u32>,
    pub(crate) steps: Vec<Step>,
}

impl Script {
    /// The hours of `gets` after `before_h` are the day; those before fill the LRU of
    /// `capacity_bytes`.
    pub(crate) fn new(gets: &[Get], capacity_bytes: u64, before_h: f64, hours: f64) -> Self {
        let (begin_s, end_s) = (before_h * 3600.0, (before_h + hours) * 3600.0);
        let count = gets.iter().map(|g| g.object as usize + 1).max();
        let mut sizes = vec![0; count.unwrap_or(0)];
        let mut lru = Lru::new(sizes.len(), capacity_bytes);
        let (mut initial, mut steps) = (None, Vec::new());
        for get in gets.iter().take_while(|g| g.at_s < end_s) {
            sizes[get.object as usize] = get.bytes;
            if get.at_s >= begin_s {
                initial.get_or_insert_with(|| lru.order());
            }
            if get.bytes > capacity_bytes / 4 {
                continue;
            }
            let (is_hit, evicted) = lru.get(get.object, get.bytes);
            if get.at_s >= begin_s {
                steps.push(Step {
                    at_us: ((get.at_s - begin_s) * 1e6) as u64,
                    object: get.object,
                    is_hit,
                    evicted,
                    is_set: false,
                });
            }
        }
        Self {
            sizes,
            initial: initial.unwrap_or_else(|| lru.order()),
            steps,
        }
    }
}

/// A cache without losses that evicts the longest unused.
pub(crate) struct Lru {
    turns: BTreeMap<u64, u32>,
    turn_of: Vec<Option<(u64, u64)>>,
    next: u64,
    free_bytes: u64,
}

impl Lru {
    pub(crate) fn new(objects: usize, capacity_bytes: u64) -> Self {
        Self {
            turns: BTreeMap::new(),
            turn_of: vec![None; objects],
            next: 0,
            free_bytes: capacity_bytes,
        }
    }

    fn order(&self) -> Vec<u32> {
        self.turns.values().copied().collect()
    }

    /// Uses an object, and stores it if it is not there: whether it was, and what had to
    /// go.
    pub(crate) fn get(&mut self, object: u32, bytes: u64) -> (bool, Vec<u32>) {
        let mut evicted = Vec::new();
        let before = self.turn_of[object as usize].take();
        if let Some((turn, _)) = before {
            self.turns.remove(&turn);
        } else {
            while self.free_bytes < bytes {
                let Some((_, victim)) = self.turns.pop_first() else {
                    break;
                };
                let bytes = self.turn_of[victim as usize].take().map_or(0, |(_, b)| b);
                self.free_bytes += bytes;
                evicted.push(victim);
            }
            self.free_bytes = self.free_bytes.saturating_sub(bytes);
        }
        self.next += 1;
        self.turns.insert(self.next, object);
        self.turn_of[object as usize] = Some((self.next, bytes));
        (before.is_some(), evicted)
    }

    /// Removes an object.
    pub(crate) fn forget(&mut self, object: u32) {
        if let Some((turn, bytes)) = self.turn_of[object as usize].take() {
            self.turns.remove(&turn);
            self.free_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_has_the_registrys_quantiles_and_rate() {
        let gets = generate(400.0, 7);
        let per_hour = gets.len() as f64 / 400.0;
        assert!((650.0..800.0).contains(&per_hour), "{per_hour}");
        let mut sizes: HashMap<u32, u64> = HashMap::new();
        let mut reads: HashMap<u32, u32> = HashMap::new();
        for get in &gets {
            sizes.insert(get.object, get.bytes);
            *reads.entry(get.object).or_default() += 1;
        }
        let once = reads.values().filter(|r| **r == 1).count() as f64 / reads.len() as f64;
        assert!((0.74..0.82).contains(&once), "{once}");
        let mut sizes: Vec<u64> = sizes.into_values().collect();
        sizes.sort_unstable();
        let at = |share: f64| sizes[(sizes.len() as f64 * share) as usize] as f64 / 1e6;
        assert!((48.0..54.0).contains(&at(0.5)), "{}", at(0.5));
        assert!((91.0..99.0).contains(&at(0.9)), "{}", at(0.9));
        let mean = sizes.iter().sum::<u64>() as f64 / sizes.len() as f64 / 1e6;
        // 948 GB in 12,541 objects
        assert!((70.0..82.0).contains(&mean), "{mean}");
        assert_eq!(gets, generate(400.0, 7), "one seed, one day");
    }

    #[test]
    fn the_day_begins_with_what_the_lru_holds() {
        let get = |at_s: f64, object: u32| Get {
            at_s,
            object,
            bytes: 25,
        };
        let gets = [
            get(0.0, 0),
            get(1.0, 1),
            get(2.0, 2),
            get(3.0, 3),
            get(3600.0, 1),
            get(3601.5, 4),
            get(3602.0, 0),
        ];
        let script = Script::new(&gets, 100, 1.0, 1.0);
        assert_eq!(script.initial, [0, 1, 2, 3]);
        let steps: Vec<_> = script
            .steps
            .iter()
            .map(|s| (s.is_hit, &s.evicted[..]))
            .collect();
        assert_eq!(steps, [(true, &[][..]), (false, &[0]), (false, &[2])]);
        assert_eq!(script.steps[1].at_us, 1_500_000);
    }
}
