//! How long an idle invocation is held open, by cost. Pure.
//!
//! Holding costs by the millisecond; letting go costs an invoke, and its wait,
//! when the next request comes. The *break-even* B is the time whose price is
//! that of an invoke, so all sums here are in milliseconds of holding, and an
//! invoke counts B. Who knew the gap g before the next request would pay
//! min(g, B): hold until it comes, or let go at once. Who knows nothing and
//! holds for B never pays more than twice that (ski rental: Karlin et al.,
//! "Competitive snoopy caching", Algorithmica 3, 1988).
//!
//! A node that was watched knows more: the hold is the one that would have cost
//! least over its gaps of late. What that must not break: **over any sequence
//! of gaps the cost is at most twice the optimum in hindsight plus one B.** A
//! tally of both gives what is left of that bound, the *credit*; a hold h can
//! lose at most B - h of it in one gap, so no hold below B - credit is chosen.
//! Long gaps, after which nothing was held in vain, earn credit.

use std::time::Duration;

use tokio::time::Instant;

/// Price of a GB-second on x86 in US dollars: first tier, us-east-1, from the
/// AWS Lambda pricing page and price-list API, read in October 2026.
pub const X86_USD_PER_GB_S: f64 = 1.666_67e-5;
/// The same on arm.
pub const ARM_USD_PER_GB_S: f64 = 1.333_34e-5;
/// Price of a request in US dollars, from the same source.
pub const USD_PER_REQUEST: f64 = 2.0e-7;
/// What sparing a request the wait for an invoke is worth unless set, in US
/// dollars. With the request price it buys about 200 ms of a node of 512 MB:
/// what served requests every 10 to 25 ms well (docs/performance.md). An
/// invoke takes about 13 ms (FAST 2020), so an hour of waiting is taken to
/// be worth 40 cents.
pub const USD_PER_WAIT: f64 = 1.5e-6;

/// Invocations are billed by whole milliseconds, one at least.
const BILLED: Duration = Duration::from_millis(1);
/// Gaps up to this long are within one burst, whatever `least` is.
const BURST: Duration = Duration::from_millis(1);
/// Holds to choose from: so many steps between the least and B.
const STEPS: usize = 24;
/// So many of the latest gaps decide.
const MEMORY: f64 = 32.0;
/// Weight, in gaps, of the guess that a gap may have any length, which every
/// step gets: gaps scatter beyond those seen.
const GUESS: f64 = 0.02;
/// Credit beyond so many B is forgotten. So for any stretch of the sequence,
/// too, the cost is at most twice its optimum plus this many B.
const MOST_CREDIT: f64 = 4.0;

/// What holding and invoking cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Memory of the function in GB.
    pub memory_gb: f64,
    /// Price of a GB-second in US dollars.
    pub usd_per_gb_s: f64,
    /// Price of a request in US dollars.
    pub usd_per_request: f64,
    /// What sparing a request the wait for an invoke is worth, in US dollars.
    pub usd_per_wait: f64,
}

impl Costs {
    /// The time of holding that costs as much as an invoke, in whole billed
    /// milliseconds, at least one and at most a day.
    pub fn break_even(&self) -> Duration {
        let usd_per_ms = self.memory_gb * self.usd_per_gb_s / 1e3;
        let ms = (self.usd_per_request + self.usd_per_wait) / usd_per_ms;
        // not a number if all is free: then as short as can be
        let ms = if ms.is_nan() { 1.0 } else { ms };
        Duration::from_millis(ms.round().clamp(1.0, 86_400_000.0) as u64)
    }
}

/// Bounds of the holding time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Held for so long in any case.
    pub least: Duration,
    /// The longest hold, and what an invoke counts.
    pub break_even: Duration,
}

/// The gaps between the requests to one node, and what its holds cost.
///
/// A request after a gap longer than the hold begins an invocation, and chooses
/// the hold for it: a running invocation keeps the one that it was given.
#[derive(Clone, Debug)]
pub struct Linger {
    least: Duration,
    least_ms: f64,
    break_even_ms: f64,
    last_request: Option<Instant>,
    hold_ms: f64,
    credit_ms: f64,
    gaps: Gaps,
}

impl Linger {
    /// Nothing is known yet.
    pub fn new(settings: Settings) -> Self {
        let least = billed(settings.least);
        let break_even = billed(settings.break_even).max(least);
        let break_even_ms = ms(break_even);
        Self {
            least,
            least_ms: ms(least),
            break_even_ms,
            last_request: None,
            // most nodes are asked rarely; the credit allows one mistake
            hold_ms: ms(least),
            credit_ms: break_even_ms,
            gaps: Gaps::default(),
        }
    }

    /// A request for the node.
    pub fn requested(&mut self, now: Instant) {
        let Some(last) = self.last_request.replace(now) else {
            return;
        };
        let gap = now.saturating_duration_since(last);
        let gap_ms = ms(gap);
        self.settle(gap_ms);
        // every hold outlasts the gaps of a burst: they tell nothing of the
        // gaps between bursts, and must not make those forgotten
        if gap > self.least.max(BURST) {
            let step = self.step_of(gap_ms);
            self.gaps.add(step, gap_ms);
        }
        if gap_ms > self.hold_ms {
            self.hold_ms = self.choose();
        }
    }

    /// When the node was asked last.
    pub fn last_request(&self) -> Option<Instant> {
        self.last_request
    }

    /// How long an invocation that begins now is held open after its last
    /// request, in whole milliseconds.
    pub fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms as u64)
    }

    /// Books a gap under the hold in force.
    fn settle(&mut self, gap_ms: f64) {
        let paid = cost(gap_ms, self.hold_ms, self.break_even_ms);
        let optimum = gap_ms.min(self.break_even_ms);
        let most = MOST_CREDIT * self.break_even_ms;
        self.credit_ms = (self.credit_ms + 2.0 * optimum - paid).min(most);
    }

    /// The hold with the least expected cost among those that the credit allows.
    fn choose(&self) -> f64 {
        let allowed = self.break_even_ms - self.credit_ms;
        let (mut best_ms, mut best_cost) = (self.break_even_ms, f64::INFINITY);
        // of the gaps that the hold outlasts: their length; of the others: how many
        let (mut held_ms, mut longer) = (0.0, self.gaps.count() + GUESS * (STEPS + 1) as f64);
        for step in 0..=STEPS {
            let hold_ms = self.hold_of(step);
            if step > 0 {
                held_ms += self.gaps.sum_ms[step] + GUESS * hold_ms;
                longer -= self.gaps.weight[step] + GUESS;
            }
            let expected = held_ms + longer * (hold_ms + self.break_even_ms);
            if hold_ms >= allowed && expected < best_cost {
                (best_ms, best_cost) = (hold_ms, expected);
            }
        }
        best_ms
    }

    /// The holds that are tried: from the least to B, spaced evenly by their
    /// logarithm, in whole milliseconds.
    fn hold_of(&self, step: usize) -> f64 {
        let ratio = self.break_even_ms / self.least_ms;
        let exact = self.least_ms * ratio.powf(step as f64 / STEPS as f64);
        // a step that is whole already must not go up for the sake of rounding
        (exact - 1e-6).ceil().min(self.break_even_ms)
    }

    /// The first step whose hold outlasts the gap, or one more than all.
    fn step_of(&self, gap_ms: f64) -> usize {
        (1..=STEPS)
            .find(|step| gap_ms <= self.hold_of(*step))
            .unwrap_or(STEPS + 1)
    }
}

/// What a gap costs under a hold, in milliseconds of holding.
fn cost(gap_ms: f64, hold_ms: f64, break_even_ms: f64) -> f64 {
    if gap_ms <= hold_ms {
        gap_ms
    } else {
        hold_ms + break_even_ms
    }
}

/// Whole milliseconds come out whole, unlike from seconds.
fn ms(d: Duration) -> f64 {
    d.as_nanos() as f64 / 1e6
}

/// As it is billed.
fn billed(d: Duration) -> Duration {
    Duration::from_millis(ms(d).ceil() as u64).max(BILLED)
}

/// How often gaps ended in each step, later ones weighing more.
#[derive(Clone, Debug, Default)]
struct Gaps {
    weight: [f64; STEPS + 2],
    sum_ms: [f64; STEPS + 2],
}

impl Gaps {
    fn add(&mut self, step: usize, gap_ms: f64) {
        for value in self.weight.iter_mut().chain(&mut self.sum_ms) {
            *value *= 1.0 - 1.0 / MEMORY;
        }
        self.weight[step] += 1.0;
        self.sum_ms[step] += gap_ms;
    }

    fn count(&self) -> f64 {
        self.weight.iter().sum()
    }
}

#[cfg(test)]
mod tests;
