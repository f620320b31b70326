//! What came of a real replay.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;
use local_lambda::{Architecture, Prices};
use serde::Serialize;

use super::clients::Shared;
use super::judge::Counts;
use super::plan::Plan;
use crate::availability::bill::Bill;
use crate::chaos::platform::PlatformBill;
use crate::replay::Outcome;

/// Figures of a run; the simulation of the same pool beside them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RealOutcome {
    pub(crate) mode: &'static str,
    /// Why it ended early; then figures are of what was played.
    pub(crate) broken_off: Option<String>,
    pub(crate) pool: RealPool,
    pub(crate) day: String,
    pub(crate) seed: u64,
    pub(crate) requests: usize,
    pub(crate) hours: f64,
    pub(crate) skipped_lines: u64,
    pub(crate) elapsed_s: f64,
    pub(crate) hit_ratio: f64,
    pub(crate) lru_hit_ratio: f64,
    pub(crate) reset_share_of_hits: f64,
    pub(crate) counts: Counts,
    pub(crate) latency_ms: Latencies,
    /// Of the sizes here.
    pub(crate) read_mb: f64,
    pub(crate) stored_mb: f64,
    /// GETs of which the reply broke off: counted as RESETs.
    pub(crate) broken_replies: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) proxy: ProxyCounters,
    pub(crate) platform: Metered,
    pub(crate) simulated: Simulated,
    pub(crate) by_hour: Vec<Counts>,
}

/// Which pool, and what it stands for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RealPool {
    pub(crate) nodes: usize,
    pub(crate) memory_mb: usize,
    pub(crate) geometry: String,
    /// Of objects, in the trace's own sizes.
    pub(crate) stands_for_gb: f64,
    pub(crate) scale_bytes: f64,
    pub(crate) speed_up: f64,
    /// In seconds of the trace.
    pub(crate) backup_interval_s: f64,
}

/// From HDR histograms, in milliseconds of this machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latencies {
    /// GETs that hit, from the moment they were sent.
    pub(crate) get_hit: Percentiles,
    /// The same from the moment at which the trace wanted them.
    pub(crate) get_hit_since_due: Percentiles,
    pub(crate) set: Percentiles,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// The proxy's own counters.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct ProxyCounters {
    pub(crate) evicted_objects: u64,
    pub(crate) lost_objects: u64,
    pub(crate) instances_lost: u64,
    pub(crate) repaired_chunks: u64,
    pub(crate) backup_chunks: u64,
    /// Should be 0: these would be taken for RESETs.
    pub(crate) evictions_not_told: u64,
    pub(crate) cpu_s: f64,
}

/// What local-lambda charges for the processes that ran.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Metered {
    /// Instances that were taken away.
    pub(crate) reclaimed: u64,
    pub(crate) invocations: u64,
    pub(crate) cold_starts: u64,
    pub(crate) errors: u64,
    pub(crate) gb_s: f64,
    pub(crate) arm64_usd: f64,
    pub(crate) x86_64_usd: f64,
}

/// The same pool and trace in virtual time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Simulated {
    pub(crate) seeds: usize,
    pub(crate) hit_ratio: f64,
    pub(crate) reset_share_of_hits: f64,
    pub(crate) reclaimed: f64,
    pub(crate) evicted: f64,
    pub(crate) invocations: f64,
    pub(crate) gb_s: f64,
    pub(crate) arm64_usd: f64,
    pub(crate) x86_64_usd: f64,
}

pub(super) fn sum(hours: &[Counts]) -> Counts {
    let mut all = Counts::default();
    hours.iter().for_each(|h| all.add(h));
    all
}

fn usd(bill: Bill, arch: Architecture) -> f64 {
    bill.usd(&Prices::default(), arch)
}

impl RealOutcome {
    pub(super) fn new(plan: &Plan, shared: &Shared, simulated: &Outcome) -> Self {
        let tally = shared.tally();
        let counts = sum(&tally.hours);
        let pool = &plan.pool;
        Self {
            mode: "real",
            broken_off: None,
            pool: RealPool {
                nodes: pool.nodes,
                memory_mb: pool.node_memory_mb,
                geometry: pool.data_parity.to_string(),
                stands_for_gb: plan.simulated.capacity_bytes() as f64 / 1e9,
                scale_bytes: plan.scale,
                speed_up: plan.speed_up,
                backup_interval_s: plan.backup_interval_s(),
            },
            day: String::new(),
            seed: 0,
            requests: shared.done.load(Ordering::Relaxed),
            hours: shared.trace.seconds() / 3600.0,
            skipped_lines: shared.trace.skipped,
            elapsed_s: 0.0,
            hit_ratio: counts.hit_ratio(),
            lru_hit_ratio: counts.lru_hit_ratio(),
            reset_share_of_hits: counts.reset_share(),
            counts,
            latency_ms: Latencies {
                get_hit: Percentiles::of(&tally.hit_ns),
                get_hit_since_due: Percentiles::of(&tally.hit_due_ns),
                set: Percentiles::of(&tally.set_ns),
            },
            read_mb: tally.read_bytes as f64 / 1e6,
            stored_mb: tally.stored_bytes as f64 / 1e6,
            broken_replies: tally.broken,
            errors: tally.errors,
            proxy: ProxyCounters::default(),
            platform: Metered {
                reclaimed: shared.reclaimed.load(Ordering::Relaxed),
                ..Metered::default()
            },
            simulated: Simulated::of(simulated),
            by_hour: tally.hours,
        }
    }

    /// What was charged between the two.
    pub(super) fn take_bill(&mut self, before: PlatformBill, after: PlatformBill) {
        let bill = Bill {
            invocations: (after.requests - before.requests) as f64,
            gb_s: after.gb_s - before.gb_s,
        };
        self.platform = Metered {
            reclaimed: self.platform.reclaimed,
            invocations: after.requests - before.requests,
            cold_starts: after.cold_starts - before.cold_starts,
            errors: after.errors - before.errors,
            gb_s: bill.gb_s,
            arm64_usd: usd(bill, Architecture::Arm),
            x86_64_usd: usd(bill, Architecture::X86),
        };
    }
}

impl Percentiles {
    fn of(ns: &Histogram<u64>) -> Self {
        let at = |q: f64| ns.value_at_quantile(q) as f64 / 1e6;
        Self {
            count: ns.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ns.max() as f64 / 1e6,
        }
    }
}

impl Simulated {
    fn of(o: &Outcome) -> Self {
        let all = [o.bills.serve, o.bills.warm, o.bills.backup, o.bills.repair];
        let bill = Bill {
            invocations: all.iter().map(|b| b.invocations).sum(),
            gb_s: all.iter().map(|b| b.gb_s).sum(),
        };
        Self {
            seeds: o.seeds.len(),
            hit_ratio: o.hit_ratio,
            reset_share_of_hits: o.reset_share_of_hits,
            reclaimed: o.reclaims,
            evicted: o.tally.evicted,
            invocations: bill.invocations,
            gb_s: bill.gb_s,
            arm64_usd: usd(bill, Architecture::Arm),
            x86_64_usd: usd(bill, Architecture::X86),
        }
    }
}
