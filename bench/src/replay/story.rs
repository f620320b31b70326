//! A trace as the simulation plays it, and what a cache of the same capacity that
//! loses nothing makes of it.

use std::collections::HashMap;

use crate::availability::population::{Get, Lru, Script, Step};
use crate::trace::{Op, Request, Trace};

/// Requests that come so many hours after the last whole one still belong to it.
const SLACK_H: f64 = 0.01;
const HOUR_US: u64 = 3_600_000_000;

/// What is played.
pub(crate) struct Story {
    pub(crate) script: Script,
    /// The key of each object: under another size it is another object.
    pub(crate) keys: Vec<u32>,
    pub(crate) hours: usize,
}

impl Story {
    /// The whole trace, with what an LRU of `capacity_bytes` without losses hits. There
    /// another size is another version: a miss, and the old one goes.
    pub(crate) fn new(trace: &Trace, capacity_bytes: u64) -> Self {
        let hours = (trace.seconds() / 3600.0 - SLACK_H).ceil().max(1.0) as usize;
        let mut numbers: HashMap<(u32, u64), u32> = HashMap::new();
        let (mut keys, mut sizes) = (Vec::new(), Vec::new());
        for Request { key, bytes, .. } in &trace.requests {
            let next = keys.len() as u32;
            numbers.entry((*key, *bytes)).or_insert_with(|| {
                keys.push(*key);
                sizes.push(*bytes);
                next
            });
        }
        let mut lru = Lru::new(keys.len(), capacity_bytes);
        let mut current: Vec<Option<u32>> = vec![None; trace.keys.len()];
        let step = |r: &Request| {
            let object = numbers[&(r.key, r.bytes)];
            let before = current[r.key as usize].replace(object);
            let replaced = before.filter(|b| *b != object || r.op == Op::Set);
            replaced.into_iter().for_each(|b| lru.forget(b));
            let (is_there, mut evicted) = match r.bytes <= capacity_bytes {
                true => lru.get(object, r.bytes),
                false => (false, Vec::new()),
            };
            evicted.extend(replaced.filter(|b| *b != object));
            let is_hit = is_there && r.op == Op::Get;
            Step {
                at_us: ((r.at_s * 1e6) as u64).min(hours as u64 * HOUR_US - 1),
                object,
                is_hit,
                evicted,
                is_set: r.op == Op::Set,
            }
        };
        let steps = trace.requests.iter().map(step).collect();
        Self {
            script: Script {
                sizes,
                initial: Vec::new(),
                steps,
            },
            keys,
            hours,
        }
    }
}

/// GETs of a generator as a trace.
pub(crate) fn of_gets(gets: &[Get]) -> Trace {
    let objects = gets.iter().map(|g| g.object + 1).max().unwrap_or(0);
    let request = |g: &Get| Request {
        at_s: g.at_s,
        op: Op::Get,
        key: g.object,
        bytes: g.bytes,
    };
    Trace {
        requests: gets.iter().map(request).collect(),
        keys: (0..objects).map(|o| format!("o{o}")).collect(),
        skipped: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(requests: &[(f64, Op, u32, u64)]) -> Trace {
        let request = |(at_s, op, key, bytes): &(f64, Op, u32, u64)| Request {
            at_s: *at_s,
            op: *op,
            key: *key,
            bytes: *bytes,
        };
        Trace {
            requests: requests.iter().map(request).collect(),
            keys: ["a", "b", "c"].map(str::to_owned).to_vec(),
            skipped: 0,
        }
    }

    #[test]
    fn an_lru_without_losses_hits_what_fits_and_is_the_same_version() {
        let (get, set) = (Op::Get, Op::Set);
        let story = Story::new(
            &trace(&[
                (0.0, get, 0, 40),
                (1.0, set, 1, 40),
                (2.0, get, 0, 40),
                (3.0, get, 1, 40),
                // another version of the first, in whose place it comes
                (4.0, get, 0, 50),
                (5.0, get, 1, 40),
                // what fits nowhere pushes nothing out
                (6.0, get, 2, 101),
                (7.0, get, 0, 50),
                // the longest unused goes
                (8.0, get, 2, 60),
                (9.0, get, 1, 40),
                (10.0, set, 1, 40),
                (36_000.1, get, 1, 40),
            ]),
            100,
        );
        let hits: Vec<bool> = story.script.steps.iter().map(|s| s.is_hit).collect();
        let f = false;
        assert_eq!(
            hits,
            [f, f, true, true, f, true, f, true, f, f, f, true],
            "{hits:?}"
        );
        let evicted: Vec<&[u32]> = story.script.steps.iter().map(|s| &s.evicted[..]).collect();
        assert_eq!((evicted[4], evicted[8]), (&[0][..], &[1, 2, 3][..]));
        assert_eq!(story.hours, 10, "a tenth of a second is no hour");
        assert_eq!(story.script.steps[11].at_us, 36_000_000_000 - 1);
        assert_eq!(story.keys, [0, 1, 0, 2, 2]);
    }
}
