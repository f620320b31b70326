use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const B: f64 = 204.0;

fn settings() -> Settings {
    Settings {
        least: Duration::from_millis(10),
        break_even: Duration::from_millis(204),
    }
}

fn costs(memory_gb: f64, usd_per_gb_s: f64, usd_per_wait: f64) -> Costs {
    Costs {
        memory_gb,
        usd_per_gb_s,
        usd_per_request: USD_PER_REQUEST,
        usd_per_wait,
    }
}

/// What a sequence of gaps cost.
struct Run {
    linger: Linger,
    now: Instant,
    paid_ms: f64,
    optimum_ms: f64,
    invokes: usize,
}

impl Run {
    fn new(settings: Settings) -> Self {
        let (mut linger, now) = (Linger::new(settings), Instant::now());
        linger.requested(now);
        Self {
            linger,
            now,
            paid_ms: 0.0,
            optimum_ms: 0.0,
            invokes: 0,
        }
    }

    fn gap(&mut self, gap: Duration) {
        let (gap_ms, hold_ms) = (ms(gap), ms(self.linger.hold()));
        let break_even_ms = self.linger.break_even_ms;
        self.paid_ms += cost(gap_ms, hold_ms, break_even_ms);
        self.optimum_ms += gap_ms.min(break_even_ms);
        self.invokes += usize::from(gap_ms > hold_ms);
        self.now += gap;
        self.linger.requested(self.now);
    }

    fn of(gaps_ms: impl IntoIterator<Item = f64>) -> Self {
        let mut run = Self::new(settings());
        for gap in gaps_ms {
            run.gap(Duration::from_secs_f64(gap / 1e3));
        }
        run
    }

    fn ratio(&self) -> f64 {
        self.paid_ms / self.optimum_ms
    }
}

fn by_chance(mean_ms: f64, count: usize) -> impl Iterator<Item = f64> {
    let mut rng = StdRng::seed_from_u64(7);
    (0..count).map(move |_| -mean_ms * (1.0 - rng.random::<f64>()).ln())
}

#[test]
fn the_request_price_buys_a_few_milliseconds() {
    let ms = |c: Costs| c.break_even().as_millis();
    assert_eq!(ms(costs(1.5, X86_USD_PER_GB_S, 0.0)), 8);
    assert_eq!(ms(costs(1.5, ARM_USD_PER_GB_S, 0.0)), 10);
    assert_eq!(ms(costs(0.5, X86_USD_PER_GB_S, 0.0)), 24);
    // with the wait for an invoke at its default worth
    assert_eq!(ms(costs(0.5, X86_USD_PER_GB_S, USD_PER_WAIT)), 204);
    assert_eq!(ms(costs(1.5, X86_USD_PER_GB_S, USD_PER_WAIT)), 68);
    // billed by the millisecond, and what cannot be divided
    assert_eq!(ms(costs(10.0, X86_USD_PER_GB_S, 0.0)), 1);
    assert_eq!(ms(costs(1.0, 0.0, 0.0)), 86_400_000);
    assert_eq!(
        Costs {
            usd_per_request: 0.0,
            ..costs(0.0, 0.0, 0.0)
        }
        .break_even(),
        BILLED
    );
}

#[test]
fn without_knowledge_it_holds_for_the_least() {
    for gaps in [&[][..], &[0.1, 0.9, 5.0, 10.0]] {
        let hold = Run::of(gaps.iter().copied()).linger.hold();
        assert_eq!(hold, Duration::from_millis(10));
    }
}

#[test]
fn long_gaps_cost_little_more_than_the_optimum() {
    let run = Run::of(std::iter::repeat_n(60_000.0, 200));
    assert_eq!(run.linger.hold(), Duration::from_millis(10));
    // always holding to break-even pays 2.0
    assert!(run.ratio() < 1.06, "{}", run.ratio());
    assert!(Run::of(by_chance(5.0 * B, 3_000)).ratio() < 1.2);
}

#[test]
fn a_busy_node_is_held_and_not_invoked() {
    for mean_ms in [10.0, 15.0, 25.0] {
        let run = Run::of(by_chance(mean_ms, 5_000));
        // e^-8 of the gaps are longer at 25 ms: one or two
        assert!(run.invokes <= 5, "{mean_ms}: {}", run.invokes);
        assert!(run.ratio() < 1.02, "{mean_ms}: {}", run.ratio());
        assert!(run.linger.hold() >= Duration::from_millis(100));
    }
    assert_eq!(Run::of(std::iter::repeat_n(20.0, 3_000)).invokes, 1);
}

#[test]
fn the_hold_lasts_just_as_long_as_gaps_that_are_worth_it() {
    let round = || std::iter::repeat_n(20.0, 30).chain([60_000.0]);
    let run = Run::of((0..100).flat_map(|_| round()));
    assert!(run.invokes < 105, "{}", run.invokes);
    assert!(run.ratio() < 1.05, "{}", run.ratio());
    assert!(run.linger.hold() < Duration::from_millis(40));
}

#[test]
fn a_burst_says_nothing_of_the_gaps_between_bursts() {
    let round = || std::iter::repeat_n(0.2, 1_000).chain([60_000.0]);
    let run = Run::of((0..50).flat_map(|_| round()));
    assert_eq!(run.linger.hold(), Duration::from_millis(10));
    let run = Run::of((0..50).flat_map(|_| std::iter::repeat_n(0.2, 1_000).chain([20.0])));
    assert!(run.invokes == 1 && run.linger.hold() >= Duration::from_millis(100));
}

#[test]
fn it_learns_both_ways_within_a_few_gaps() {
    let rare = std::iter::repeat_n(60_000.0, 200);
    let busy = || std::iter::repeat_n(20.0, 1_000);
    let run = Run::of(rare.clone().chain(busy()));
    assert!(run.invokes <= 205, "{}", run.invokes);
    let run = Run::of(busy().chain(rare));
    assert!(run.ratio() < 1.1, "{}", run.ratio());
}

#[test]
fn it_comes_close_to_the_best_fixed_hold_that_hindsight_finds() {
    for mean_ms in [50.0, 100.0, B, 2.0 * B, 10.0 * B] {
        let gaps: Vec<f64> = by_chance(mean_ms, 4_000).collect();
        let fixed = |hold: f64| -> f64 { gaps.iter().map(|g| cost(*g, hold, B)).sum() };
        let best = (10..=204).map(|h| fixed(h.into())).fold(f64::MAX, f64::min);
        let paid = Run::of(gaps.iter().copied()).paid_ms;
        assert!(paid < 1.05 * best, "{mean_ms}: {}", paid / best);
    }
}

/// Asks again just after the node was let go, every time.
#[test]
fn an_adversary_gets_no_more_than_the_bound() {
    for after_us in [1, 500, 10_000] {
        let mut run = Run::new(settings());
        for _ in 0..2_000 {
            run.gap(run.linger.hold() + Duration::from_micros(after_us));
            assert!(run.paid_ms <= 2.0 * run.optimum_ms + B + 1e-6);
        }
    }
}

#[derive(Clone, Debug)]
enum Gap {
    Any(u64),
    Short(u64),
    /// Relative to the hold in force.
    Around(i64),
    Long,
}

fn gap() -> impl Strategy<Value = Gap> {
    prop_oneof![
        (0u64..100_000_000_000).prop_map(Gap::Any),
        (0u64..300_000).prop_map(Gap::Short),
        (-2_000i64..2_000).prop_map(Gap::Around),
        Just(Gap::Long),
    ]
}

fn bounds() -> impl Strategy<Value = Settings> {
    (0u64..50_000, 0u64..3_000_000).prop_map(|(least, break_even)| Settings {
        least: Duration::from_micros(least),
        break_even: Duration::from_micros(break_even),
    })
}

proptest! {
    #[test]
    fn never_more_than_twice_the_optimum_and_one_break_even(
        settings in bounds(),
        gaps in prop::collection::vec((gap(), 1usize..40), 1..40),
    ) {
        let mut run = Run::new(settings);
        let break_even_ms = run.linger.break_even_ms;
        let (mut worst_start, least) = (0.0f64, run.linger.least);
        for (gap, times) in gaps {
            for _ in 0..times {
                let hold = run.linger.hold();
                prop_assert!(hold >= least && ms(hold) <= break_even_ms);
                let hold_us = hold.as_micros() as u64;
                run.gap(Duration::from_micros(match gap {
                    Gap::Any(us) | Gap::Short(us) => us,
                    Gap::Around(us) => hold_us.saturating_add_signed(us),
                    Gap::Long => 60_000_000,
                }));
                let over = run.paid_ms - 2.0 * run.optimum_ms;
                prop_assert!(over <= break_even_ms + 1e-3);
                // and for every stretch of the sequence
                prop_assert!(over - worst_start <= MOST_CREDIT * break_even_ms + 1e-3);
                worst_start = worst_start.min(over);
            }
        }
    }
}
