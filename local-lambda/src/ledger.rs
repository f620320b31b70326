//! The bill: what the invocations so far would have cost. Pure; counts are
//! kept in whole megabyte-milliseconds, so nothing is lost by rounding.

use crate::prices::{Architecture, Prices};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one function, or all of them, has used since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// Invocations that reached an instance; each is charged.
    pub requests: u64,
    /// How many of them started a new instance.
    pub cold_starts: u64,
    /// How many of them ended in a function error.
    pub errors: u64,
    /// Invocations refused with 429; not charged.
    pub throttles: u64,
    /// Billed milliseconds, each invocation rounded up to a whole one.
    pub billed_ms: u64,
    /// GB-seconds (1 GB = 1,024 MB of configured memory).
    pub gb_s: f64,
    /// US dollars: GB-seconds and requests.
    pub usd: f64,
}

/// The bill of every function and their sum.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The sum of `functions`.
    pub total: Bill,
    /// By function name, removed functions included.
    pub functions: BTreeMap<String, Bill>,
}

/// One finished invocation, as it is charged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charge {
    pub(crate) arch: Architecture,
    pub(crate) memory_mb: u32,
    /// Time from the process's start to its first `/next`; `Some` on a cold start.
    pub(crate) init: Option<Duration>,
    /// Time from handing over the event until the runtime was done with it.
    pub(crate) run: Duration,
    pub(crate) failed: bool,
}

/// Milliseconds charged: initialisation included, rounded up to one
/// (billing granularity of 1 ms since December 2020).
pub(crate) fn billed_ms(init: Option<Duration>, run: Duration) -> u64 {
    let nanos = (init.unwrap_or_default() + run).as_nanos();
    u64::try_from(nanos.div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

#[derive(Clone, Debug, Default)]
struct Account {
    bill: Bill,
    x86_mb_ms: u128,
    arm_mb_ms: u128,
}

/// The running sums behind a [`Ledger`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    accounts: BTreeMap<String, Account>,
}

impl Books {
    pub(crate) fn charge(&mut self, function: &str, charge: Charge) {
        let ms = billed_ms(charge.init, charge.run);
        let account = self.account(function);
        account.bill.requests += 1;
        account.bill.cold_starts += u64::from(charge.init.is_some());
        account.bill.errors += u64::from(charge.failed);
        account.bill.billed_ms += ms;
        let mb_ms = u128::from(ms) * u128::from(charge.memory_mb);
        match charge.arch {
            Architecture::X86 => account.x86_mb_ms += mb_ms,
            Architecture::Arm => account.arm_mb_ms += mb_ms,
        }
    }

    pub(crate) fn throttled(&mut self, function: &str) {
        self.account(function).bill.throttles += 1;
    }

    fn account(&mut self, function: &str) -> &mut Account {
        self.accounts.entry(function.to_owned()).or_default()
    }

    /// The bill at `prices`. Tiers apply to the account's sum, as on a real
    /// bill; each function carries its share of it.
    pub(crate) fn ledger(&self, prices: &Prices) -> Ledger {
        let gb_s = |mb_ms: u128| mb_ms as f64 / 1024.0 / 1000.0;
        let rate = |arch, mb_ms: u128| {
            let sum = gb_s(mb_ms);
            if sum > 0.0 {
                prices.compute_usd(arch, sum) / sum
            } else {
                0.0
            }
        };
        let x86 = rate(
            Architecture::X86,
            self.accounts.values().map(|a| a.x86_mb_ms).sum(),
        );
        let arm = rate(
            Architecture::Arm,
            self.accounts.values().map(|a| a.arm_mb_ms).sum(),
        );
        let mut ledger = Ledger::default();
        for (name, account) in &self.accounts {
            let mut bill = account.bill.clone();
            bill.gb_s = gb_s(account.x86_mb_ms + account.arm_mb_ms);
            bill.usd = gb_s(account.x86_mb_ms) * x86
                + gb_s(account.arm_mb_ms) * arm
                + prices.requests_usd(bill.requests);
            add(&mut ledger.total, &bill);
            ledger.functions.insert(name.clone(), bill);
        }
        ledger
    }
}

fn add(sum: &mut Bill, bill: &Bill) {
    sum.requests += bill.requests;
    sum.cold_starts += bill.cold_starts;
    sum.errors += bill.errors;
    sum.throttles += bill.throttles;
    sum.billed_ms += bill.billed_ms;
    sum.gb_s += bill.gb_s;
    sum.usd += bill.usd;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn rounds_up_to_a_millisecond_and_adds_the_initialisation() {
        assert_eq!(billed_ms(None, Duration::ZERO), 1);
        assert_eq!(billed_ms(None, Duration::from_nanos(1)), 1);
        assert_eq!(billed_ms(None, ms(7)), 7);
        assert_eq!(billed_ms(None, ms(7) + Duration::from_nanos(1)), 8);
        assert_eq!(
            billed_ms(
                Some(Duration::from_micros(16_400)),
                Duration::from_micros(700)
            ),
            18
        );
    }

    #[test]
    fn sums_by_function_and_in_total() {
        let mut books = Books::default();
        let charge = Charge {
            arch: Architecture::X86,
            memory_mb: 1536,
            init: None,
            run: ms(1000),
            failed: false,
        };
        books.charge("a", charge);
        books.charge(
            "a",
            Charge {
                init: Some(ms(500)),
                failed: true,
                ..charge
            },
        );
        books.charge(
            "b",
            Charge {
                memory_mb: 512,
                arch: Architecture::Arm,
                ..charge
            },
        );
        books.throttled("b");
        let ledger = books.ledger(&Prices::default());
        let a = &ledger.functions["a"];
        assert_eq!(
            (a.requests, a.cold_starts, a.errors, a.billed_ms),
            (2, 1, 1, 2500)
        );
        assert!((a.gb_s - 3.75).abs() < 1e-12);
        assert!((a.usd - (3.75 * 1.66667e-5 + 4e-7)).abs() < 1e-15);
        let b = &ledger.functions["b"];
        assert!((b.usd - (0.5 * 1.33334e-5 + 2e-7)).abs() < 1e-15);
        assert_eq!((ledger.total.requests, ledger.total.throttles), (3, 1));
        assert!((ledger.total.usd - a.usd - b.usd).abs() < 1e-15);
    }
}
