//! The rows that `compare` measures, and the figures that each must reach.

use serde::Serialize;

use crate::measure::Summary;
use crate::workload::Op::{self, Get, Set};

/// A figure to reach, next to redis-server in the same run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At least this share of redis-server's rate.
    Ratio(f64),
    /// At most this median time to the first byte, in milliseconds.
    FirstByteMs(f64),
    /// At most this much CPU time of all server processes, in seconds per GB.
    CpuPerGb(f64),
}

/// Who acknowledges a small write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    Quorum,
    Proxy,
}

impl Ack {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Proxy => "proxy",
        }
    }
}

pub(crate) struct GoalRow {
    pub(crate) op: Op,
    pub(crate) size: &'static str,
    pub(crate) clients: usize,
    pub(crate) pipeline: usize,
    pub(crate) hot_tier_mb: u32,
    /// When scatterhoard acknowledges small writes.
    pub(crate) ack: Ack,
    pub(crate) goals: &'static [Goal],
}

/// Which rows to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Table {
    /// One client, 1 KB to 10 MB.
    Basic,
    /// Large objects, several clients, first bytes and CPU time.
    Streaming,
}

const fn row(op: Op, size: &'static str, clients: usize, goals: &'static [Goal]) -> GoalRow {
    GoalRow {
        op,
        size,
        clients,
        pipeline: 1,
        hot_tier_mb: 0,
        ack: Ack::Quorum,
        goals,
    }
}

/// A row that the hot tier serves.
const fn hot(op: Op, clients: usize, pipeline: usize, goals: &'static [Goal]) -> GoalRow {
    GoalRow {
        op,
        size: "1k",
        clients,
        pipeline,
        hot_tier_mb: 64,
        ack: Ack::Quorum,
        goals,
    }
}

/// Such a row with writes acknowledged from the proxy's memory.
const fn behind(op: Op, clients: usize, pipeline: usize, goals: &'static [Goal]) -> GoalRow {
    GoalRow {
        ack: Ack::Proxy,
        ..hot(op, clients, pipeline, goals)
    }
}

const BASIC: &[GoalRow] = &[
    hot(Get, 1, 1, &[Goal::Ratio(0.5)]),
    hot(Set, 1, 1, &[]),
    behind(Set, 1, 1, &[Goal::Ratio(0.5)]),
    row(Get, "1m", 1, &[Goal::Ratio(0.4)]),
    row(Set, "1m", 1, &[]),
    row(Get, "10m", 1, &[Goal::Ratio(1.0)]),
    row(Set, "10m", 1, &[Goal::Ratio(0.7)]),
];

const STREAMING: &[GoalRow] = &[
    hot(Get, 50, 1, &[Goal::Ratio(1.0)]),
    hot(Set, 50, 1, &[]),
    hot(Get, 50, 16, &[Goal::Ratio(1.0)]),
    hot(Set, 50, 16, &[]),
    behind(Set, 50, 1, &[Goal::Ratio(0.9)]),
    behind(Set, 50, 16, &[Goal::Ratio(0.9)]),
    row(Get, "1m", 1, &[Goal::Ratio(0.6)]),
    row(Set, "1m", 1, &[Goal::Ratio(0.38)]),
    row(Get, "10m", 1, &[Goal::Ratio(2.0), Goal::CpuPerGb(0.65)]),
    row(Set, "10m", 1, &[Goal::Ratio(1.25), Goal::CpuPerGb(0.80)]),
    row(Get, "10m", 8, &[Goal::Ratio(2.0)]),
    row(Set, "10m", 8, &[Goal::Ratio(1.2)]),
    row(Get, "100m", 1, &[Goal::Ratio(1.7), Goal::FirstByteMs(3.0)]),
    row(Set, "100m", 1, &[Goal::Ratio(1.2)]),
];

/// For a test run: does every kind of row come back right? Speed is no matter.
pub(crate) const QUICK: &[GoalRow] = &[
    hot(Get, 1, 1, &[]),
    hot(Set, 4, 16, &[]),
    behind(Set, 4, 16, &[]),
    row(Get, "100k", 2, &[]),
    row(Set, "1m", 1, &[]),
    row(Get, "1m", 2, &[]),
    row(Get, "10m", 1, &[]),
];

impl Table {
    pub(crate) fn rows(self) -> &'static [GoalRow] {
        match self {
            Self::Basic => BASIC,
            Self::Streaming => STREAMING,
        }
    }
}

/// A goal and whether the measured figures reach it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) goal: Goal,
    pub(crate) met: bool,
}

impl Goal {
    pub(crate) fn judge(self, summary: &Summary, ratio: f64) -> Verdict {
        let met = match self {
            Self::Ratio(least) => ratio >= least,
            Self::FirstByteMs(most) => summary.first_byte_p50_us / 1e3 <= most,
            // Unknown is not met.
            Self::CpuPerGb(most) => summary.cpu_s_per_gb.is_some_and(|cpu| cpu <= most),
        };
        Verdict { goal: self, met }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.goal {
            Goal::Ratio(least) => write!(f, ">= {least:.2}x")?,
            Goal::FirstByteMs(most) => write!(f, "first byte <= {most} ms")?,
            Goal::CpuPerGb(most) => write!(f, "CPU <= {most:.2} s/GB")?,
        }
        f.write_str(if self.met { " met" } else { " MISSED" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::Size;

    #[test]
    fn every_size_in_the_tables_is_one() {
        for row in BASIC.iter().chain(STREAMING).chain(QUICK) {
            assert!(row.size.parse::<Size>().is_ok(), "{}", row.size);
        }
    }

    #[test]
    fn goals_are_judged_by_their_own_figure() {
        let summary = Summary {
            gb_per_s: 1.0,
            ops_per_s: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
            first_byte_p50_us: 2_000.0,
            cpu_s_per_gb: None,
        };
        assert!(Goal::Ratio(0.5).judge(&summary, 0.5).met);
        assert!(!Goal::Ratio(0.5).judge(&summary, 0.49).met);
        assert!(Goal::FirstByteMs(3.0).judge(&summary, 0.0).met);
        assert!(!Goal::CpuPerGb(9.9).judge(&summary, 9.9).met);
    }
}
