//! From samples to figures: histograms within rounds, medians over rounds.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::client::Timing;
use crate::workload::Op;

/// Longest latency that is told apart: an hour. Longer ones count as an hour.
const MAX_LATENCY_NS: u64 = 3_600_000_000_000;

/// What one client, or several, did and how long it took.
pub(crate) struct Tally {
    /// From when requests were sent, or due in an open loop.
    pub(crate) get_ns: Histogram<u64>,
    pub(crate) set_ns: Histogram<u64>,
    pub(crate) first_byte_ns: Histogram<u64>,
    /// How long after they were due requests of an open loop were sent.
    pub(crate) behind_ns: Histogram<u64>,
    pub(crate) gets: u64,
    pub(crate) sets: u64,
    /// GETs that found nothing, and SETs that followed them.
    pub(crate) misses: u64,
    pub(crate) fills: u64,
    /// Requests of an open loop that were given up; their latencies are the least that they
    /// would have had.
    pub(crate) unsent: u64,
    pub(crate) bytes: u64,
    pub(crate) busy: Duration,
}

impl Tally {
    pub(crate) fn new() -> Result<Self> {
        // They grow as they must: an empty one is small.
        let histogram = || Histogram::new(3).context("histogram bounds");
        Ok(Self {
            get_ns: histogram()?,
            set_ns: histogram()?,
            first_byte_ns: histogram()?,
            behind_ns: histogram()?,
            gets: 0,
            sets: 0,
            misses: 0,
            fills: 0,
            unsent: 0,
            bytes: 0,
            busy: Duration::ZERO,
        })
    }

    /// A batch that was due `behind` before it was sent.
    pub(crate) fn add_timing(
        &mut self,
        timing: Timing,
        behind: Duration,
        gets: u64,
        sets: u64,
    ) -> Result<()> {
        self.busy += timing.done;
        self.gets += gets;
        self.sets += sets;
        record(&mut self.get_ns, behind + timing.done, gets)?;
        record(&mut self.set_ns, behind + timing.done, sets)?;
        record(&mut self.first_byte_ns, behind + timing.first_byte, gets)
    }

    pub(crate) fn add_behind(&mut self, behind: Duration) -> Result<()> {
        record(&mut self.behind_ns, behind, 1)
    }

    pub(crate) fn add_unsent(&mut self, op: Op, waited: Duration) -> Result<()> {
        self.unsent += 1;
        match op {
            Op::Get => record(&mut self.get_ns, waited, 1),
            Op::Set => record(&mut self.set_ns, waited, 1),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        self.get_ns.add(&other.get_ns)?;
        self.set_ns.add(&other.set_ns)?;
        self.first_byte_ns.add(&other.first_byte_ns)?;
        self.behind_ns.add(&other.behind_ns)?;
        self.gets += other.gets;
        self.sets += other.sets;
        self.misses += other.misses;
        self.fills += other.fills;
        self.unsent += other.unsent;
        self.bytes += other.bytes;
        self.busy += other.busy;
        Ok(())
    }

    /// Of all requests.
    pub(crate) fn latency_ns(&self) -> Result<Histogram<u64>> {
        let mut all = self.get_ns.clone();
        all.add(&self.set_ns)?;
        Ok(all)
    }
}

fn record(histogram: &mut Histogram<u64>, time: Duration, count: u64) -> Result<()> {
    if count > 0 {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(MAX_LATENCY_NS);
        histogram.record_n(ns.clamp(1, MAX_LATENCY_NS), count)?;
    }
    Ok(())
}

/// What a round of all clients gave.
pub(crate) struct Measured {
    pub(crate) round: Round,
    pub(crate) tally: Tally,
    /// In the order of the target's pids.
    pub(crate) cpu_by_pid_s: Vec<f64>,
}

/// Latencies in nanoseconds with three significant digits.
pub(crate) fn latency_histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, MAX_LATENCY_NS, 3).context("histogram bounds")
}

/// What one target did in one round of one cell.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) ops: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed_s: f64,
    /// Of the target's process tree; none without a pid.
    pub(crate) cpu_s: Option<f64>,
}

impl Round {
    /// Nothing so far, and no time either.
    pub(crate) const NOTHING: Self = Self {
        ops: 0,
        bytes: 0,
        elapsed_s: 0.0,
        cpu_s: Some(0.0),
    };
}

impl std::ops::AddAssign for Round {
    fn add_assign(&mut self, more: Self) {
        self.ops += more.ops;
        self.bytes += more.bytes;
        self.elapsed_s += more.elapsed_s;
        self.cpu_s = self.cpu_s.zip(more.cpu_s).map(|(a, b)| a + b);
    }
}

/// All rounds of one target in one cell.
pub(crate) struct Samples {
    pub(crate) rounds: Vec<Round>,
    pub(crate) tally: Tally,
    pub(crate) cpu_by_pid_s: Vec<f64>,
}

/// The figures of one target in one cell.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) gb_per_s: f64,
    pub(crate) ops_per_s: f64,
    #[serde(flatten)]
    pub(crate) latency: Percentiles,
    pub(crate) first_byte_p50_us: f64,
    pub(crate) cpu_s_per_gb: Option<f64>,
}

/// Of a histogram, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) max_us: f64,
}

impl Percentiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let us = |q| histogram.value_at_quantile(q) as f64 / 1e3;
        Self {
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p99_9_us: us(0.999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

/// A histogram as a table, fine where it is rare: which share of values is at most how large.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Distribution {
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    #[serde(flatten)]
    pub(crate) percentiles: Percentiles,
    /// Share of the values, microseconds.
    pub(crate) shares: Vec<(f64, f64)>,
}

impl Distribution {
    /// For a drawing: one in so many takes longer than so many milliseconds.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let points = self.shares.iter().filter(|(share, _)| *share < 1.0);
        let points = points.map(|(share, us)| (1.0 / (1.0 - share), us / 1e3));
        points.collect()
    }

    /// None of an empty histogram.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let share = |step: hdrhistogram::iterators::IterationValue<u64>| {
            (
                step.quantile_iterated_to(),
                step.value_iterated_to() as f64 / 1e3,
            )
        };
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean_us: histogram.mean() / 1e3,
            percentiles: Percentiles::of(histogram),
            shares: histogram.iter_quantiles(2).map(share).collect(),
        })
    }
}

impl Samples {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            rounds: Vec::new(),
            tally: Tally::new()?,
            cpu_by_pid_s: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, measured: &Measured) -> Result<()> {
        self.rounds.push(measured.round);
        self.add_times(measured)
    }

    /// What a round brings apart from the [`Round`] itself.
    pub(crate) fn add_times(&mut self, measured: &Measured) -> Result<()> {
        self.tally.add(&measured.tally)?;
        self.cpu_by_pid_s.resize(measured.cpu_by_pid_s.len(), 0.0);
        for (sum, more) in self.cpu_by_pid_s.iter_mut().zip(&measured.cpu_by_pid_s) {
            *sum += more;
        }
        Ok(())
    }

    pub(crate) fn gb(&self) -> f64 {
        self.rounds
            .iter()
            .map(|round| round.bytes as f64 / 1e9)
            .sum()
    }

    pub(crate) fn summary(&self) -> Result<Summary> {
        let first_byte = self.tally.first_byte_ns.value_at_quantile(0.5);
        Ok(Summary {
            gb_per_s: median_rate(&self.rounds, |round| round.bytes as f64 / 1e9),
            ops_per_s: median_rate(&self.rounds, |round| round.ops as f64),
            latency: Percentiles::of(&self.tally.latency_ns()?),
            first_byte_p50_us: first_byte as f64 / 1e3,
            cpu_s_per_gb: cpu_s_per_gb(&self.rounds),
        })
    }
}

fn median_rate(rounds: &[Round], amount: impl Fn(&Round) -> f64) -> f64 {
    median(
        rounds
            .iter()
            .map(|round| amount(round) / round.elapsed_s.max(1e-9))
            .collect(),
    )
}

/// Over all rounds together: a tick of CPU time is too coarse for one short round.
fn cpu_s_per_gb(rounds: &[Round]) -> Option<f64> {
    let cpu_s = rounds
        .iter()
        .map(|round| round.cpu_s)
        .sum::<Option<f64>>()?;
    let gb = rounds
        .iter()
        .map(|round| round.bytes as f64 / 1e9)
        .sum::<f64>();
    (gb > 0.0).then(|| cpu_s / gb)
}

/// The middle value, or the mean of the middle two; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn one_bad_round_does_not_move_the_figure() -> Result<()> {
        let round = |elapsed_s| Round {
            ops: 10,
            bytes: 1_000_000_000,
            elapsed_s,
            cpu_s: Some(0.5),
        };
        let mut samples = Samples::new()?;
        samples.rounds = vec![round(1.0), round(9.0), round(1.0)];
        let summary = samples.summary()?;
        assert_eq!((summary.gb_per_s, summary.ops_per_s), (1.0, 10.0));
        assert_eq!(summary.cpu_s_per_gb, Some(0.5));
        Ok(())
    }

    #[test]
    fn rounds_add_up_and_unknown_cpu_stays_unknown() {
        let part = |cpu_s| Round {
            ops: 2,
            bytes: 20,
            elapsed_s: 0.5,
            cpu_s,
        };
        let mut sum = Round::NOTHING;
        sum += part(Some(0.25));
        sum += part(Some(0.25));
        assert_eq!((sum.ops, sum.bytes, sum.elapsed_s), (4, 40, 1.0));
        assert_eq!(sum.cpu_s, Some(0.5));
        sum += part(None);
        assert_eq!(sum.cpu_s, None);
    }

    #[test]
    fn cpu_is_unknown_if_one_round_lacks_it() {
        let round = |cpu_s| Round {
            ops: 1,
            bytes: 1,
            elapsed_s: 1.0,
            cpu_s,
        };
        assert_eq!(cpu_s_per_gb(&[round(Some(1.0)), round(None)]), None);
    }

    #[test]
    fn a_distribution_reaches_from_the_least_to_the_longest() -> Result<()> {
        let mut tally = Tally::new()?;
        for ms in 1..=1_000 {
            let timing = Timing {
                first_byte: Duration::from_millis(1),
                done: Duration::from_millis(ms),
            };
            tally.add_timing(timing, Duration::ZERO, 1, 0)?;
        }
        assert!(Distribution::of(&tally.set_ns).is_none());
        let table = Distribution::of(&tally.latency_ns()?).context("empty")?;
        assert_eq!((table.count, tally.gets, tally.sets), (1_000, 1_000, 0));
        assert!((table.percentiles.p90_us / 900e3 - 1.0).abs() < 0.002);
        assert!((table.percentiles.max_us / 1e6 - 1.0).abs() < 0.002);
        assert!(table.shares.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        assert!(table.shares.last().is_some_and(|last| last.0 == 1.0));
        Ok(())
    }

    #[test]
    fn what_was_due_earlier_took_longer_and_what_was_never_sent_counts() -> Result<()> {
        let mut tally = Tally::new()?;
        let ms = Duration::from_millis;
        let timing = Timing {
            first_byte: ms(1),
            done: ms(2),
        };
        tally.add_timing(timing, ms(100), 0, 1)?;
        tally.add_unsent(Op::Set, ms(500))?;
        assert_eq!((tally.sets, tally.unsent, tally.set_ns.len()), (1, 1, 2));
        let near = |ns: u64, ms: f64| (ns as f64 / 1e6 / ms - 1.0).abs() < 0.002;
        assert!(near(tally.set_ns.min(), 102.0) && near(tally.set_ns.max(), 500.0));
        Ok(())
    }
}
