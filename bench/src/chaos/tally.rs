//! What was counted, by what was going on at the time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::chart::Line;
use crate::measure::{Distribution, latency_histogram};

/// Examples of what must not be are kept, up to so many.
const EXAMPLES: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Op {
    Get,
    Set,
    Del,
}

/// What went on in one kind of phase: quiet, or under one fault.
pub(super) struct Phase {
    pub(super) strikes: u64,
    pub(super) lasted: Duration,
    pub(super) hits: u64,
    pub(super) absent: u64,
    /// Misses that the faults explain.
    pub(super) lost: u64,
    /// Misses that they do not.
    pub(super) unexplained: u64,
    pub(super) wrong: u64,
    pub(super) stale: u64,
    /// By the first word of the error.
    pub(super) errors: BTreeMap<String, u64>,
    /// Of operations that were answered, errors included.
    latency_ns: BTreeMap<Op, Histogram<u64>>,
}

/// How a read was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Hit,
    Absent,
    Lost,
    Unexplained,
    Wrong,
    Stale,
}

/// All phases by name.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) phases: BTreeMap<String, Phase>,
    /// What must not be, in words.
    pub(super) examples: Vec<String>,
    /// From the order to ready, of each proxy that was started again.
    pub(super) restarts: Vec<Duration>,
}

/// Counts of one phase, or of all, as they are written to a file.
#[derive(Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) strikes: u64,
    pub(super) seconds: f64,
    pub(super) ops: u64,
    pub(super) hits: u64,
    pub(super) absent: u64,
    pub(super) misses_explained: u64,
    pub(super) misses_unexplained: u64,
    pub(super) wrong_bytes: u64,
    pub(super) stale_values: u64,
    pub(super) errors: BTreeMap<String, u64>,
    /// Of those that were answered: p50, p99 and the longest: what hangs hides others, and shows in no quantile.
    pub(super) latency_ms: BTreeMap<Op, [f64; 3]>,
}

impl Phase {
    fn new() -> Result<Self> {
        let mut latency_ns = BTreeMap::new();
        for op in [Op::Get, Op::Set, Op::Del] {
            latency_ns.insert(op, latency_histogram()?);
        }
        Ok(Self {
            strikes: 0,
            lasted: Duration::ZERO,
            hits: 0,
            absent: 0,
            lost: 0,
            unexplained: 0,
            wrong: 0,
            stale: 0,
            errors: BTreeMap::new(),
            latency_ns,
        })
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.strikes += other.strikes;
        self.lasted += other.lasted;
        self.hits += other.hits;
        self.absent += other.absent;
        self.lost += other.lost;
        self.unexplained += other.unexplained;
        self.wrong += other.wrong;
        self.stale += other.stale;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        for (op, histogram) in &mut self.latency_ns {
            histogram.add(&other.latency_ns[op])?;
        }
        Ok(())
    }

    pub(super) fn counts(&self) -> Counts {
        let quantiles = |histogram: &Histogram<u64>| {
            [0.5, 0.99, 1.0].map(|q| histogram.value_at_quantile(q) as f64 / 1e6)
        };
        Counts {
            strikes: self.strikes,
            seconds: self.lasted.as_secs_f64(),
            ops: self.latency_ns.values().map(Histogram::len).sum(),
            hits: self.hits,
            absent: self.absent,
            misses_explained: self.lost,
            misses_unexplained: self.unexplained,
            wrong_bytes: self.wrong,
            stale_values: self.stale,
            errors: self.errors.clone(),
            latency_ms: self
                .latency_ns
                .iter()
                .filter(|(_, histogram)| !histogram.is_empty())
                .map(|(op, histogram)| (*op, quantiles(histogram)))
                .collect(),
        }
    }
}

impl Tally {
    pub(super) fn phase(&mut self, name: &str) -> Result<&mut Phase> {
        if !self.phases.contains_key(name) {
            self.phases.insert(name.to_owned(), Phase::new()?);
        }
        self.phases
            .get_mut(name)
            .ok_or_else(|| anyhow::anyhow!("no phase {name}"))
    }

    /// For a drawing: latencies of an operation in each phase.
    pub(super) fn curves(&self, op: Op) -> Vec<Line> {
        let curve = |(name, phase): (&String, &Phase)| {
            let distribution = Distribution::of(phase.latency_ns.get(&op)?)?;
            Some((name.clone(), distribution.curve()))
        };
        self.phases.iter().filter_map(curve).collect()
    }

    pub(super) fn answered(&mut self, phase: &str, op: Op, took: Duration) -> Result<()> {
        let took = took.as_nanos().try_into().unwrap_or(u64::MAX);
        if let Some(histogram) = self.phase(phase)?.latency_ns.get_mut(&op) {
            histogram.saturating_record(took);
        }
        Ok(())
    }

    pub(super) fn failed(&mut self, phase: &str, op: Op, kind: &str) -> Result<()> {
        let kind = format!("{op:?} {kind}").to_uppercase();
        *self.phase(phase)?.errors.entry(kind).or_default() += 1;
        Ok(())
    }

    /// Counts a read; `what` tells about one that must not be.
    pub(super) fn found(
        &mut self,
        name: &str,
        found: Found,
        what: impl FnOnce() -> String,
    ) -> Result<()> {
        let phase = self.phase(name)?;
        let count = match found {
            Found::Hit => &mut phase.hits,
            Found::Absent => &mut phase.absent,
            Found::Lost => &mut phase.lost,
            Found::Unexplained => &mut phase.unexplained,
            Found::Wrong => &mut phase.wrong,
            Found::Stale => &mut phase.stale,
        };
        *count += 1;
        let is_bad = matches!(found, Found::Unexplained | Found::Wrong | Found::Stale);
        if is_bad && self.examples.len() < EXAMPLES {
            self.examples.push(format!("{name}: {found:?}: {}", what()));
        }
        Ok(())
    }

    pub(super) fn total(&self) -> Result<Phase> {
        let mut total = Phase::new()?;
        for phase in self.phases.values() {
            total.add(phase)?;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_with_answers_has_a_curve() {
        let mut tally = Tally::default();
        for ms in 1..=100 {
            let took = Duration::from_millis(ms);
            tally.answered("quiet", Op::Get, took).unwrap();
        }
        let took = Duration::from_secs(1);
        tally.answered("kill", Op::Set, took).unwrap();
        let curves = tally.curves(Op::Get);
        assert_eq!(curves.len(), 1);
        let (name, points) = &curves[0];
        assert_eq!(name, "quiet");
        // one in two takes longer than 50 ms
        let (_, ms) = points.iter().find(|(one_in, _)| *one_in == 2.0).unwrap();
        assert!((49.0..51.0).contains(ms), "{ms}");
        assert_eq!(tally.curves(Op::Set)[0].0, "kill");
    }
}
