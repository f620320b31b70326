//! What requests to a bucket cost. Pure.

use std::sync::atomic::{AtomicU64, Ordering};

/// S3 Standard, us-east-1, per PUT, part or LIST: $0.005 per thousand (provider's
/// price list, 2026).
const USD_PER_WRITE: f64 = 0.005 / 1e3;
/// Per GET or HEAD: $0.0004 per thousand. What is deleted costs nothing.
const USD_PER_READ: f64 = 0.0004 / 1e3;
/// Names that one LIST brings.
pub(super) const NAMES_PER_LIST: u64 = 1000;

/// What a request is to the price list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Write,
    Read,
    Free,
}

/// Requests so far, attempts after the first not included.
#[derive(Debug, Default)]
pub(super) struct Bill {
    writes: AtomicU64,
    reads: AtomicU64,
}

impl Bill {
    pub(super) fn count(&self, class: Class) {
        let counter = match class {
            Class::Write => &self.writes,
            Class::Read => &self.reads,
            Class::Free => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// In US dollars.
    #[allow(clippy::cast_precision_loss, reason = "an amount of money")]
    pub(super) fn usd(&self) -> f64 {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        count(&self.writes) * USD_PER_WRITE + count(&self.reads) * USD_PER_READ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_costs_as_much_as_a_dozen_reads() {
        let bill = Bill::default();
        (0..1000).for_each(|_| bill.count(Class::Write));
        (0..12_500).for_each(|_| bill.count(Class::Read));
        bill.count(Class::Free);
        assert!((bill.usd() - 0.010).abs() < 1e-9);
    }
}
