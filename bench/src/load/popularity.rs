//! Which key is next: in turn, evenly at random, a few of them often (zipf), or as a trace has it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::trace::{self, Trace};
use crate::workload::Op;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Popularity {
    /// Each client walks over all of them; writers each over their own.
    #[default]
    Turn,
    Uniform,
    /// The key of rank r is asked for as often as r to the power of minus this.
    Zipf(f64),
    /// The keys of a trace in its order, from the start again at its end.
    Trace(PathBuf),
}

impl FromStr for Popularity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted =
            || format!("popularity {text:?}: want turn, uniform, zipf:EXPONENT or trace:FILE");
        match text.split_once(':') {
            None if text == "turn" => Ok(Self::Turn),
            None if text == "uniform" => Ok(Self::Uniform),
            Some(("zipf", exponent)) => {
                let exponent: f64 = exponent.parse().with_context(wanted)?;
                ensure!(
                    exponent.is_finite() && (0.0..=10.0).contains(&exponent),
                    "popularity {text:?}: the exponent is not between 0 and 10"
                );
                Ok(Self::Zipf(exponent))
            }
            Some(("trace", path)) if !path.is_empty() => Ok(Self::Trace(path.into())),
            _ => anyhow::bail!(wanted()),
        }
    }
}

impl fmt::Display for Popularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn => f.write_str("turn"),
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            Self::Trace(path) => write!(f, "trace:{}", path.display()),
        }
    }
}

/// Ranks by their cumulated shares.
#[derive(Debug)]
pub(crate) struct Zipf {
    until: Vec<f64>,
}

impl Zipf {
    /// Of `count` keys, one at least; the first is the most popular.
    pub(crate) fn new(count: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let add = |rank: usize| {
            sum += (rank as f64).powf(-exponent);
            sum
        };
        let mut until: Vec<f64> = (1..=count.max(1)).map(add).collect();
        until.iter_mut().for_each(|until| *until /= sum);
        Self { until }
    }

    pub(crate) fn draw(&self, rng: &mut SmallRng) -> usize {
        let drawn: f64 = rng.random();
        let place = self.until.partition_point(|until| *until <= drawn);
        place.min(self.until.len() - 1)
    }
}

/// The requests of a trace, for all clients of one target.
#[derive(Debug)]
pub(crate) struct Story {
    trace: Arc<Trace>,
    next: AtomicUsize,
}

impl Story {
    pub(crate) fn new(trace: Arc<Trace>) -> Self {
        Self {
            trace,
            next: AtomicUsize::new(0),
        }
    }

    fn next(&self) -> (usize, Op) {
        let requests = &self.trace.requests;
        let request = requests[self.next.fetch_add(1, Ordering::Relaxed) % requests.len()];
        let op = match request.op {
            trace::Op::Get => Op::Get,
            trace::Op::Set => Op::Set,
        };
        (request.key as usize, op)
    }
}

/// One client's way through the keys.
#[derive(Clone, Debug)]
pub(crate) enum Walk {
    /// Every `stride`th key, from `first` again at the end.
    Turn {
        stride: usize,
        first: usize,
        next: usize,
    },
    Uniform,
    Zipf(Arc<Zipf>),
    Story(Arc<Story>),
}

impl Walk {
    /// The next of `count` keys, and what is to be done with it if the trace says that.
    pub(crate) fn next(&mut self, count: usize, rng: &mut SmallRng) -> (usize, Option<Op>) {
        match self {
            Self::Turn {
                stride,
                first,
                next,
            } => {
                let key = *next;
                *next += *stride;
                if *next >= count {
                    *next = *first;
                }
                (key, None)
            }
            Self::Uniform => (rng.random_range(0..count), None),
            Self::Zipf(zipf) => (zipf.draw(rng), None),
            Self::Story(story) => {
                let (key, op) = story.next();
                (key, Some(op))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn counts(walk: &mut Walk, keys: usize, draws: usize) -> Vec<usize> {
        let mut rng = SmallRng::seed_from_u64(17);
        let mut counts = vec![0; keys];
        for _ in 0..draws {
            counts[walk.next(keys, &mut rng).0] += 1;
        }
        counts
    }

    #[test]
    fn zipf_gives_each_rank_its_share() {
        for exponent in [0.0, 0.7, 1.0, 1.3] {
            let (keys, draws) = (1_000, 400_000);
            let sum: f64 = (1..=keys).map(|r| (r as f64).powf(-exponent)).sum();
            let found = counts(
                &mut Walk::Zipf(Arc::new(Zipf::new(keys, exponent))),
                keys,
                draws,
            );
            for rank in [1, 2, 10, 100] {
                let expected = draws as f64 * (rank as f64).powf(-exponent) / sum;
                let difference = (found[rank - 1] as f64 - expected).abs();
                // six standard deviations of a count
                assert!(
                    difference < 6.0 * expected.sqrt(),
                    "{exponent}, rank {rank}"
                );
            }
        }
    }

    #[test]
    fn uniform_leaves_nobody_out() {
        let found = counts(&mut Walk::Uniform, 100, 100_000);
        // ten standard deviations
        assert!(found.iter().all(|n| n.abs_diff(1_000) < 316), "{found:?}");
    }

    #[test]
    fn turns_are_even_and_writers_have_keys_of_their_own() {
        let mut walk = Walk::Turn {
            stride: 3,
            first: 1,
            next: 1,
        };
        assert_eq!(counts(&mut walk, 9, 9), [0, 3, 0, 0, 3, 0, 0, 3, 0]);
    }

    #[test]
    fn a_trace_is_told_from_its_start_again() {
        let request = |key, op| trace::Request {
            at_s: 0.0,
            op,
            key,
            bytes: 1,
        };
        let trace = Trace {
            requests: vec![request(4, trace::Op::Get), request(2, trace::Op::Set)],
            ..Trace::default()
        };
        let mut walk = Walk::Story(Arc::new(Story::new(Arc::new(trace))));
        let mut other = walk.clone();
        let mut rng = SmallRng::seed_from_u64(0);
        let told = [&mut walk, &mut other].map(|walk| walk.next(5, &mut rng));
        assert_eq!(told, [(4, Some(Op::Get)), (2, Some(Op::Set))]);
        assert_eq!(walk.next(5, &mut rng).0, 4);
    }

    #[test]
    fn they_are_written_as_they_are_read_and_nonsense_is_refused() -> Result<()> {
        for text in ["turn", "uniform", "zipf:0.99", "trace:a/b.csv.gz"] {
            assert_eq!(text.parse::<Popularity>()?.to_string(), text);
        }
        for text in [
            "", "zipf", "zipf:", "zipf:x", "zipf:-1", "zipf:NaN", "trace:", "hot",
        ] {
            assert!(text.parse::<Popularity>().is_err(), "{text:?}");
        }
        Ok(())
    }
}
