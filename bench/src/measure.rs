//! From samples to figures: histograms within rounds, medians over rounds.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart: an hour. Longer ones count as an hour.
const MAX_LATENCY_NS: u64 = 3_600_000_000_000;

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
    pub(crate) latency_ns: Histogram<u64>,
    pub(crate) first_byte_ns: Histogram<u64>,
}

/// The figures of one target in one cell.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) gb_per_s: f64,
    pub(crate) ops_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) first_byte_p50_us: f64,
    pub(crate) cpu_s_per_gb: Option<f64>,
}

impl Samples {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            rounds: Vec::new(),
            latency_ns: latency_histogram()?,
            first_byte_ns: latency_histogram()?,
        })
    }

    /// What a round brings apart from the [`Round`] itself.
    pub(crate) fn add_times(
        &mut self,
        latency_ns: &Histogram<u64>,
        first_byte_ns: &Histogram<u64>,
    ) -> Result<()> {
        self.latency_ns.add(latency_ns)?;
        self.first_byte_ns.add(first_byte_ns)?;
        Ok(())
    }

    pub(crate) fn summary(&self) -> Summary {
        let us = |histogram: &Histogram<u64>, q| histogram.value_at_quantile(q) as f64 / 1e3;
        Summary {
            gb_per_s: median_rate(&self.rounds, |round| round.bytes as f64 / 1e9),
            ops_per_s: median_rate(&self.rounds, |round| round.ops as f64),
            p50_us: us(&self.latency_ns, 0.5),
            p99_us: us(&self.latency_ns, 0.99),
            first_byte_p50_us: us(&self.first_byte_ns, 0.5),
            cpu_s_per_gb: cpu_s_per_gb(&self.rounds),
        }
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
        let summary = samples.summary();
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
}
