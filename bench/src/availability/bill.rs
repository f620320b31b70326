//! What an hour of the pool costs and moves.

use local_lambda::{Architecture, Prices};
use serde::Serialize;

/// What an invocation was for. Serving is counted, but is no cost of keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Serve,
    Warm,
    Backup,
    Repair,
}

/// Invocations of one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Bill {
    pub(crate) invocations: f64,
    pub(crate) gb_s: f64,
}

impl Bill {
    /// One more invocation, of so many microseconds: billed by the millisecond.
    pub(crate) fn add(&mut self, us: u64, memory_gb: f64) {
        self.invocations += 1.0;
        self.gb_s += us.div_ceil(1000).max(1) as f64 / 1e3 * memory_gb;
    }

    /// An invocation lasts so much longer.
    pub(crate) fn extend(&mut self, us: u64, memory_gb: f64) {
        self.gb_s += us.div_ceil(1000) as f64 / 1e3 * memory_gb;
    }

    pub(crate) fn usd(&self, prices: &Prices, arch: Architecture) -> f64 {
        prices.compute_usd(arch, self.gb_s) + self.invocations * prices.request
    }
}

/// What a bounded pool came to in a whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Tally {
    pub(crate) gets: f64,
    pub(crate) hits: f64,
    /// GETs of what was cached once, and lost.
    pub(crate) resets: f64,
    /// GETs that a cache of the same capacity without losses hits.
    pub(crate) lru_hits: f64,
    /// Objects stored: after misses, resets, and by SET.
    pub(crate) stores: f64,
    pub(crate) evicted: f64,
    /// Requests for objects that are too large to be stored.
    pub(crate) too_large: f64,
    /// Stores that found no room.
    pub(crate) refused: f64,
    pub(crate) read_bytes: f64,
    pub(crate) stored_bytes: f64,
    /// Bytes of objects in the pool at the end of each hour, summed.
    pub(crate) held_byte_hours: f64,
    pub(crate) held_bytes_at_end: f64,
}

impl Tally {
    /// Of what should have been hit, what had been lost.
    pub(crate) fn reset_share(&self) -> f64 {
        self.resets / (self.hits + self.resets).max(1.0)
    }

    /// Adds `other` so many times.
    pub(crate) fn add(&mut self, other: &Self, times: f64) {
        let plus = |a: &mut f64, b: f64| *a += b * times;
        plus(&mut self.gets, other.gets);
        plus(&mut self.hits, other.hits);
        plus(&mut self.resets, other.resets);
        plus(&mut self.lru_hits, other.lru_hits);
        plus(&mut self.stores, other.stores);
        plus(&mut self.evicted, other.evicted);
        plus(&mut self.too_large, other.too_large);
        plus(&mut self.refused, other.refused);
        plus(&mut self.read_bytes, other.read_bytes);
        plus(&mut self.stored_bytes, other.stored_bytes);
        plus(&mut self.held_byte_hours, other.held_byte_hours);
        plus(&mut self.held_bytes_at_end, other.held_bytes_at_end);
    }
}

/// One hour of one run, or the mean of several runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Hour {
    /// Sum over its minutes of the share of objects that could be read at every
    /// moment of the minute.
    pub(crate) available: f64,
    pub(crate) minutes: f64,
    /// Objects lost in it.
    pub(crate) lost: f64,
    /// Objects at its end.
    pub(crate) objects: f64,
    pub(crate) gets: f64,
    /// GETs that a pool without losses would have hit, and how many missed.
    pub(crate) hits: f64,
    pub(crate) hits_lost: f64,
    /// Instances taken, and nodes of which both were.
    pub(crate) reclaims: f64,
    pub(crate) pairs: f64,
    /// Instances that were replaced before they were taken.
    pub(crate) retired: f64,
    /// Chunks made anew.
    pub(crate) repairs: f64,
    pub(crate) backup_bytes: f64,
    pub(crate) repair_bytes: f64,
    pub(crate) serve: Bill,
    pub(crate) warm: Bill,
    pub(crate) backup: Bill,
    pub(crate) repair: Bill,
}

impl Hour {
    pub(crate) fn bill(&mut self, purpose: Purpose) -> &mut Bill {
        match purpose {
            Purpose::Serve => &mut self.serve,
            Purpose::Warm => &mut self.warm,
            Purpose::Backup => &mut self.backup,
            Purpose::Repair => &mut self.repair,
        }
    }

    /// Share of objects that could be read, mean over its minutes.
    pub(crate) fn share(&self) -> f64 {
        if self.minutes > 0.0 {
            self.available / self.minutes
        } else {
            1.0
        }
    }

    /// Warm-up, backup and repair, without serving and proxy.
    pub(crate) fn usd(&self, prices: &Prices) -> f64 {
        [self.warm, self.backup, self.repair]
            .iter()
            .map(|b| b.usd(prices, Architecture::X86))
            .sum()
    }

    /// The same in GB-seconds and invocations.
    pub(crate) fn keeping(&self) -> Bill {
        let all = [self.warm, self.backup, self.repair];
        Bill {
            invocations: all.iter().map(|b| b.invocations).sum(),
            gb_s: all.iter().map(|b| b.gb_s).sum(),
        }
    }

    /// Adds `other` so many times.
    pub(crate) fn add(&mut self, other: &Hour, times: f64) {
        let plus = |a: &mut f64, b: f64| *a += b * times;
        let bill = |a: &mut Bill, b: &Bill| {
            a.invocations += b.invocations * times;
            a.gb_s += b.gb_s * times;
        };
        plus(&mut self.available, other.available);
        plus(&mut self.minutes, other.minutes);
        plus(&mut self.lost, other.lost);
        plus(&mut self.objects, other.objects);
        plus(&mut self.gets, other.gets);
        plus(&mut self.hits, other.hits);
        plus(&mut self.hits_lost, other.hits_lost);
        plus(&mut self.reclaims, other.reclaims);
        plus(&mut self.pairs, other.pairs);
        plus(&mut self.retired, other.retired);
        plus(&mut self.repairs, other.repairs);
        plus(&mut self.backup_bytes, other.backup_bytes);
        plus(&mut self.repair_bytes, other.repair_bytes);
        bill(&mut self.serve, &other.serve);
        bill(&mut self.warm, &other.warm);
        bill(&mut self.backup, &other.backup);
        bill(&mut self.repair, &other.repair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_begun_and_serving_is_no_keeping() {
        let (mut hour, prices) = (Hour::default(), Prices::default());
        hour.bill(Purpose::Warm).add(200, 1.5);
        hour.bill(Purpose::Repair).add(1_001, 1.5);
        hour.bill(Purpose::Serve).add(9_000_000, 1.5);
        let keeping = hour.keeping();
        assert_eq!(keeping.invocations, 2.0);
        assert!((keeping.gb_s - 0.0045).abs() < 1e-12);
        let usd = 2.0 * prices.request + prices.compute_usd(Architecture::X86, 0.0045);
        assert!((hour.usd(&prices) - usd).abs() < 1e-15);
        let mut mean = Hour::default();
        mean.add(&hour, 0.5);
        mean.add(&hour, 0.5);
        assert!((mean.usd(&prices) - usd).abs() < 1e-15);
    }
}
