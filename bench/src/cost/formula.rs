//! The cost of an hour in closed form, for workloads that are described and for
//! break-even curves. `docs/cost.md` has the same formulas in words; on the registry
//! trace they are compared with the simulation.

use std::time::Duration;

use anyhow::Result;
use local_lambda::{Architecture, Prices};
use serde::Serialize;

use super::cut::{self, Cut};
use super::machine::{Burden, Processor};
use super::peers::Demand;
use crate::availability::bill::Bill;
use crate::availability::settings::{DIAL, LIST, Settings};
use crate::replay::{Bills, PoolArgs};

/// What is asked of the cache, by the hour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Workload {
    pub(crate) stored_gb: f64,
    pub(crate) object_mb: f64,
    pub(crate) gets_per_hour: f64,
    pub(crate) sets_per_hour: f64,
    /// The busiest hour's multiple of the mean, of all that passes the proxy.
    pub(crate) peak: f64,
    /// The same of what clients read and write alone.
    pub(crate) client_peak: f64,
}

impl Workload {
    pub(crate) fn demand(&self) -> Demand {
        Demand {
            capacity_gb: self.stored_gb,
            stored_gb: self.stored_gb,
            gets: self.gets_per_hour,
            sets: self.sets_per_hour,
            stores: self.sets_per_hour,
            read_gb: self.gets_per_hour * self.object_mb / 1e3,
            written_gb: self.sets_per_hour * self.object_mb / 1e3,
            peak: self.client_peak,
        }
    }

    /// Of the proxy's machine in its busiest hour.
    pub(crate) fn burden(&self, mean_mb_s: f64, processor: Processor) -> Burden {
        Burden {
            processor,
            mb_s: mean_mb_s * self.peak,
            requests_per_s: (self.gets_per_hour + self.sets_per_hour) / 3600.0 * self.peak,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.object_mb * 1e6).max(1.0) as u64
    }

    /// How many are stored.
    fn objects(&self) -> f64 {
        self.stored_gb * 1e9 / self.bytes() as f64
    }
}

/// A pool under a workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) workload: &'a Workload,
    /// Losses of one instance in an hour.
    pub(crate) loss_rate: f64,
}

/// An hour of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct HourOf {
    pub(crate) bills: Bills,
    /// Megabytes a second through the proxy in its busier direction.
    pub(crate) proxy_mb_s: f64,
}

/// Nodes of this memory that hold so many gigabytes, one placement at the least.
pub(crate) fn nodes_for(args: &PoolArgs, workload: &Workload, arch: Architecture) -> Result<u16> {
    let settings = args.settings(1, arch)?;
    let held = cut::of(&settings, workload).held_bytes;
    let wanted = (workload.objects() * held / args.node_budget_bytes() as f64).ceil();
    let wanted = wanted.max((settings.chunks() + 2) as f64);
    Ok(wanted.min(f64::from(u16::MAX)) as u16)
}

impl Model<'_> {
    /// Seconds of an instance for a chunk.
    fn copy_s(&self, bytes: f64) -> f64 {
        bytes / self.settings.function_bytes_per_s as f64
    }

    pub(crate) fn hour(&self) -> HourOf {
        let (s, w) = (self.settings, self.workload);
        let cut = cut::of(s, w);
        let node_bytes = w.objects() * cut.held_bytes / s.nodes as f64;
        let touches = w.sets_per_hour * cut.set_nodes;
        let serve = self.serve(&cut);
        let (warm, backup) = self.rounds(touches, cut.set_chunk_bytes, node_bytes);
        let (repair, repaired) = self.repairs(cut.data, cut.set_chunk_bytes, node_bytes);
        let written = touches * cut.set_chunk_bytes;
        let copied = self.copied(written, node_bytes);
        let object = w.bytes() as f64;
        let read = w.gets_per_hour * cut.get_nodes * cut.get_bytes;
        let into = read + w.sets_per_hour * object;
        let out = w.gets_per_hour * object + written;
        HourOf {
            bills: Bills {
                serve,
                warm,
                backup,
                repair,
            },
            proxy_mb_s: (into.max(out) + copied + repaired) / 1e6 / 3600.0,
        }
    }

    /// GETs and SETs wake nodes, each for its chunk, and for as long as a slow client takes;
    /// a node whose next request comes within the hold is awake still. The hold is the least
    /// or the longest, whichever costs less at this rate: what `linger` comes to with gaps as
    /// they are here.
    fn serve(&self, cut: &Cut) -> Bill {
        let (s, w) = (self.settings, self.workload);
        let (gets, sets) = (
            w.gets_per_hour * cut.get_nodes,
            w.sets_per_hour * cut.set_nodes,
        );
        let touches = gets + sets;
        if touches == 0.0 {
            return Bill::default();
        }
        let rate = touches / 3600.0 / s.nodes as f64;
        let object = w.bytes() as f64;
        let client_s = s.client_bytes_per_s.map_or(0.0, |rate| object / rate);
        let took = |bytes: f64| self.copy_s(bytes).max(client_s) + DIAL as f64 / 1e6;
        let busy = (gets * took(cut.get_bytes) + sets * took(cut.set_chunk_bytes)) / touches;
        let with = |hold: Duration| {
            let hold = hold.as_secs_f64();
            let falls_asleep = (-rate * hold).exp();
            let held = (1.0 - falls_asleep) / rate;
            // it cannot be awake for longer than there is time
            let awake = (busy + held).min(1.0 / rate);
            Bill {
                invocations: touches * falls_asleep,
                gb_s: touches * awake * s.memory_gb,
            }
        };
        let linger = s.linger();
        let (short, long) = (with(linger.least), with(linger.break_even));
        let prices = Prices::default();
        match short.usd(&prices, s.arch) <= long.usd(&prices, s.arch) {
            true => short,
            false => long,
        }
    }

    /// Pings where there are no standbys; otherwise rounds: two invocations each, and
    /// both instances for what is copied.
    fn rounds(&self, chunks: f64, chunk: f64, node_bytes: f64) -> (Bill, Bill) {
        let s = self.settings;
        let (nodes, memory) = (s.nodes as f64, s.memory_gb);
        let warm_s = s.life.warm_interval.as_secs_f64();
        if !s.backup.standby {
            let pings = nodes * 3600.0 / warm_s;
            let bill = Bill {
                invocations: pings,
                gb_s: pings * 1e-3 * memory,
            };
            return (bill, Bill::default());
        }
        // a round follows enough new bytes at once, otherwise the interval
        let interval_s = s.backup.interval.as_secs_f64();
        let full = (chunk / s.backup.after_bytes as f64).min(1.0);
        let by_writes = chunks * full / nodes / 3600.0;
        let by_losses = 2.0 * self.loss_rate / 3600.0;
        let early = by_writes + by_losses;
        let each = match early > 0.0 {
            true => early / (1.0 - (-early * interval_s).exp()),
            false => 1.0 / interval_s,
        };
        let rounds = each * 3600.0 * nodes;
        let held = s.linger().least.as_secs_f64();
        let main = (DIAL + s.warm_hello + LIST) as f64 / 1e6 + held;
        let second = (DIAL + LIST) as f64 / 1e6;
        let losses = 2.0 * nodes * self.loss_rate;
        let cold = losses * s.cold_hello.saturating_sub(DIAL) as f64 / 1e6 * 2.0;
        let copied = self.copy_s(self.copied(chunks * chunk, node_bytes)) * 2.0;
        let backup = Bill {
            invocations: 2.0 * rounds,
            gb_s: (rounds * (main + second) + copied + cold) * memory,
        };
        (Bill::default(), backup)
    }

    /// New chunks, and all of a node for each instance that was taken.
    fn copied(&self, new_bytes: f64, node_bytes: f64) -> f64 {
        match self.settings.backup.standby {
            true => new_bytes + 2.0 * self.settings.nodes as f64 * self.loss_rate * node_bytes,
            false => 0.0,
        }
    }

    /// Nodes that lose what nobody else has: both instances within one interval and
    /// the time of the copy, or the only one.
    fn repairs(&self, data: f64, chunk: f64, node_bytes: f64) -> (Bill, f64) {
        let s = self.settings;
        let nodes = s.nodes as f64;
        let losses = match s.backup.standby {
            true => {
                let open_s = s.backup.interval.as_secs_f64() / 2.0 + self.copy_s(node_bytes);
                let pairs = 2.0 * self.loss_rate * (self.loss_rate * open_s / 3600.0).min(1.0);
                nodes * (pairs * (1.0 - s.correlation) + s.correlation * self.loss_rate)
            }
            false => nodes * self.loss_rate,
        };
        let repairs = losses * node_bytes / chunk.max(1.0);
        let each = self.copy_s(chunk) + (DIAL + 10_000) as f64 / 1e6;
        let touched = repairs * (data + 1.0);
        let bill = Bill {
            invocations: touched,
            gb_s: touched * each * s.memory_gb,
        };
        (bill, repairs * chunk * data)
    }
}

/// What the bills cost on one architecture.
pub(crate) fn usd(bills: &Bills, prices: &Prices, arch: Architecture) -> [f64; 4] {
    [bills.serve, bills.warm, bills.backup, bills.repair].map(|b| b.usd(prices, arch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(nodes: usize) -> Settings {
        Settings::proxy_defaults(nodes, 1536)
    }

    fn workload() -> Workload {
        Workload {
            stored_gb: 40.0,
            object_mb: 50.0,
            gets_per_hour: 700.0,
            sets_per_hour: 0.0,
            peak: 2.0,
            client_peak: 2.0,
        }
    }

    fn hour(settings: &Settings, workload: &Workload, loss_rate: f64) -> HourOf {
        Model {
            settings,
            workload,
            loss_rate,
        }
        .hour()
    }

    #[test]
    fn an_idle_pool_costs_its_rounds() {
        let (s, mut w) = (settings(100), workload());
        w.gets_per_hour = 0.0;
        let bills = hour(&s, &w, 0.0).bills;
        assert_eq!(bills.serve, Bill::default());
        assert_eq!(bills.repair, Bill::default());
        // 80 rounds of each node, two invocations, 27 and 4 ms
        assert!((bills.backup.invocations - 16_000.0).abs() < 1e-6);
        let gb_s = 8_000.0 * 0.031 * 1.5;
        assert!(
            (bills.backup.gb_s - gb_s).abs() < 1e-6,
            "{:?}",
            bills.backup
        );
    }

    #[test]
    fn requests_that_follow_each_other_share_invocations() {
        let (s, mut w) = (settings(100), workload());
        let few = hour(&s, &w, 0.0).bills.serve;
        assert!((few.invocations / 7_000.0 - 1.0).abs() < 0.01);
        w.gets_per_hour *= 1e6;
        let many = hour(&s, &w, 0.0).bills.serve;
        assert!(many.invocations < 1.0, "{}", many.invocations);
        let all_awake = 100.0 * 3600.0 * 1.5;
        assert!((many.gb_s / all_awake - 1.0).abs() < 1e-9);
    }

    #[test]
    fn losses_cost_copies_and_pairs_cost_repairs() {
        let (s, w) = (settings(100), workload());
        let (calm, rough) = (hour(&s, &w, 0.0), hour(&s, &w, 1.0));
        let copied_s = 2.0 * 48e9 / 75e6 * 2.0;
        let more = rough.bills.backup.gb_s - calm.bills.backup.gb_s;
        assert!(
            more > copied_s * 1.5 && more < copied_s * 1.5 * 1.1,
            "{more}"
        );
        assert!(rough.bills.repair.gb_s > 0.0);
        assert!(rough.proxy_mb_s > calm.proxy_mb_s);
        let mut alone = s.clone();
        alone.set_interval(0);
        let alone = hour(&alone, &w, 1.0).bills;
        assert_eq!(alone.backup, Bill::default());
        assert!(alone.repair.gb_s > rough.bills.repair.gb_s);
    }

    #[test]
    fn slow_clients_keep_nodes_awake() {
        let (mut s, w) = (settings(100), workload());
        let quick = hour(&s, &w, 0.0).bills.serve;
        s.client_bytes_per_s = Some(50e6);
        let slow = hour(&s, &w, 0.0).bills.serve;
        assert_eq!(slow.invocations, quick.invocations);
        // a second for 50 MB, instead of a tenth of it at 75 MB/s
        let more = 7_000.0 * (1.0 - 5e6 / 75e6) * 1.5;
        let found = slow.gb_s - quick.gb_s;
        assert!((found / more - 1.0).abs() < 0.01, "{found} {more}");
    }
}
