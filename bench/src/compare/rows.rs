//! The rows that are measured beside redis-server, and the figures that each must reach.

use crate::goals::Goal;
use crate::pool::Ack;
use crate::workload::Op::{self, Get, Set};

pub(super) struct GoalRow {
    pub(super) op: Op,
    pub(super) size: &'static str,
    pub(super) clients: usize,
    pub(super) pipeline: usize,
    pub(super) hot_tier_mb: u32,
    /// When scatterhoard acknowledges small writes.
    pub(super) ack: Ack,
    pub(super) goals: &'static [Goal],
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

pub(super) const BASIC: &[GoalRow] = &[
    hot(Get, 1, 1, &[Goal::Ratio(0.5)]),
    hot(Set, 1, 1, &[]),
    behind(Set, 1, 1, &[Goal::Ratio(0.5)]),
    row(Get, "1m", 1, &[Goal::Ratio(0.4)]),
    row(Set, "1m", 1, &[]),
    row(Get, "10m", 1, &[Goal::Ratio(1.0)]),
    row(Set, "10m", 1, &[Goal::Ratio(0.7)]),
];

pub(super) const STREAMING: &[GoalRow] = &[
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
pub(super) const QUICK: &[GoalRow] = &[
    hot(Get, 1, 1, &[]),
    hot(Set, 4, 16, &[]),
    behind(Set, 4, 16, &[]),
    row(Get, "100k", 2, &[]),
    row(Set, "1m", 1, &[]),
    row(Get, "1m", 2, &[]),
    row(Get, "10m", 1, &[]),
];

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
}
