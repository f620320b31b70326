use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// How often the pool looks who is due.
const TICK: Duration = Duration::from_secs(5);

/// Losses need not be found.
fn idleness_alone() -> Settings {
    Settings {
        unfound: f64::MAX,
        ..Settings::default()
    }
}

/// How a platform takes instances.
#[derive(Clone, Copy, Debug)]
struct Platform {
    /// Mean of memoryless lifetimes.
    lifetime: Option<Duration>,
    /// Idle instances go after about so long: 3 % more or less.
    idle: Option<Duration>,
    /// Idle instances go sooner or later: `(silence / this)^3` of them.
    rising: Option<Duration>,
}

const SAFE_HAVEN: Platform = Platform {
    lifetime: None,
    idle: None,
    rising: None,
};

const MEMORYLESS: Platform = Platform {
    lifetime: Some(Duration::from_secs(7_200)),
    ..SAFE_HAVEN
};

fn idle(minutes: u32) -> Platform {
    Platform {
        idle: Some(MINUTE * minutes),
        ..SAFE_HAVEN
    }
}

#[derive(Clone, Copy, Debug)]
struct Instance {
    birth: Instant,
    last: Instant,
    planned: Duration,
    dies: Option<Instant>,
}

/// A pool without traffic, or with some.
struct World {
    warmth: Warmth,
    platform: Platform,
    rng: StdRng,
    now: Instant,
    pool: Vec<Instance>,
    /// Requests per node and hour.
    traffic: f64,
    pings: usize,
    /// Deaths by being idle.
    idled: usize,
    /// How often the interval changed its direction, and the last one.
    turns: usize,
    rising: Option<bool>,
}

impl World {
    fn new(nodes: usize, platform: Platform, seed: u64) -> Self {
        let now = Instant::now() + HOUR * 24;
        let settings = idleness_alone();
        let mut world = Self {
            warmth: Warmth::new(settings),
            platform,
            rng: StdRng::seed_from_u64(seed),
            now,
            pool: Vec::new(),
            traffic: 0.0,
            pings: 0,
            idled: 0,
            turns: 0,
            rising: None,
        };
        for _ in 0..nodes {
            let mut instance = world.instance();
            // pings are spread in time
            instance.planned = MINUTE.mul_f64(world.rng.random());
            world.pool.push(instance);
        }
        world
    }

    fn instance(&mut self) -> Instance {
        let life = self
            .platform
            .lifetime
            .map(|mean| mean.mul_f64(-(1.0 - self.rng.random::<f64>()).ln()));
        Instance {
            birth: self.now,
            last: self.now,
            planned: MINUTE,
            dies: life.map(|life| self.now + life),
        }
    }

    fn contact(&mut self, node: usize) {
        let was = self.pool[node];
        let silence = self.now - was.last;
        let about = self.rng.random_range(0.97..1.03);
        let mut idled = self
            .platform
            .idle
            .is_some_and(|limit| silence > limit.mul_f64(about));
        if let Some(scale) = self.platform.rising {
            idled = self
                .rng
                .random_bool(relative(silence, scale).powi(3).min(1.0));
        }
        let survived = !idled && was.dies.is_none_or(|at| self.now < at);
        self.idled += usize::from(idled);
        let before = self.warmth.interval();
        self.warmth
            .contact(silence, Some(self.now - was.birth), survived, self.now);
        let after = self.warmth.interval();
        if after != before {
            let rising = after > before;
            self.turns += usize::from(self.rising.replace(rising).is_some_and(|was| was != rising));
        }
        if !survived {
            self.pool[node] = self.instance();
        }
        self.pool[node].last = self.now;
        self.pool[node].planned = self.warmth.plan(self.now);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let requested = self.traffic * relative(TICK, HOUR);
        while self.now < end {
            self.now += TICK;
            let longest = self.warmth.longest(self.now);
            for node in 0..self.pool.len() {
                let Instance { last, planned, .. } = self.pool[node];
                let is_due = self.now - last >= planned.min(longest);
                if is_due || (requested > 0.0 && self.rng.random_bool(requested)) {
                    self.pings += usize::from(is_due);
                    self.contact(node);
                }
            }
        }
    }

    /// The platform takes every instance at this moment.
    fn take_all(&mut self) {
        for instance in &mut self.pool {
            instance.dies = Some(self.now);
        }
    }

    fn minutes(&self) -> f64 {
        self.warmth.interval().as_secs_f64() / 60.0
    }
}

fn after(nodes: usize, platform: Platform, seed: u64, time: Duration) -> World {
    let mut world = World::new(nodes, platform, seed);
    world.run(time);
    world
}

#[test]
fn it_comes_to_rest_below_the_idle_time_out_with_a_margin() {
    for (nodes, seed) in [(14, 1), (14, 2), (60, 3)] {
        for lifetime in [None, MEMORYLESS.lifetime] {
            for (limit, hours) in [(6, 4), (27, 12)] {
                let platform = Platform {
                    lifetime,
                    ..idle(limit)
                };
                let world = after(nodes, platform, seed, HOUR * hours);
                let part = world.minutes() / f64::from(limit);
                assert!((0.5..0.8).contains(&part), "{platform:?}: {part}");
                assert_eq!(world.turns, 0);
                // scouts only
                assert!(world.idled < 15, "{platform:?}: {}", world.idled);
            }
        }
    }
}

#[test]
fn it_stays_there_at_the_price_of_a_few_scouts_a_day() {
    let mut world = after(60, idle(6), 4, HOUR * 6);
    let (idled, pings, interval) = (world.idled, world.pings, world.minutes());
    world.run(HOUR * 24);
    assert_eq!((world.minutes(), world.turns), (interval, 0));
    assert!(world.idled - idled <= 24, "{}", world.idled - idled);
    // controls and scouts add less than a fifth to the pings of 60 nodes
    let least = 60.0 * 24.0 * 60.0 / interval;
    assert!(((world.pings - pings) as f64) < 1.2 * least);
}

#[test]
fn what_no_ping_prevents_does_not_shorten_the_silence() {
    let mut ages = Vec::new();
    for seed in 1..6 {
        let world = after(60, MEMORYLESS, seed, HOUR * 24);
        assert!(world.minutes() > 17.0, "{}", world.minutes());
        assert!(world.turns <= 2);
        // 2 hours
        let hazard = world.warmth.hazard_per_s() * 7_200.0;
        assert!((0.6..1.6).contains(&hazard), "{hazard}");
        ages.push(world.warmth.typical_age().unwrap().as_secs_f64() / 60.0);
    }
    // a fifth has died after 26.8 minutes; the last hours of 60 nodes scatter
    let mean = ages.iter().sum::<f64>() / 5.0;
    assert!((22.0..33.0).contains(&mean), "{ages:?}");
    let world = after(14, SAFE_HAVEN, 1, HOUR * 12);
    assert_eq!(world.warmth.interval(), MINUTE * 30);
    assert_eq!(world.warmth.typical_age(), None);
    assert!(world.warmth.idle_loss(MINUTE * 30).unwrap() < 0.01);
}

#[test]
fn traffic_shows_the_hazard_and_does_not_hide_the_time_out() {
    let platform = Platform {
        idle: Some(MINUTE * 6),
        ..MEMORYLESS
    };
    let mut world = World::new(60, platform, 5);
    world.traffic = 6.0;
    world.run(HOUR * 8);
    let hazard = world.warmth.hazard_per_s() * 7_200.0;
    assert!((0.6..1.6).contains(&hazard), "{hazard}");
    assert!((2.0..4.5).contains(&world.minutes()), "{}", world.minutes());
}

#[test]
fn a_platform_that_changes_is_noticed_within_the_hour() {
    for (nodes, seed) in [(14, 1), (60, 2)] {
        let mut world = after(nodes, idle(27), seed, HOUR * 12);
        assert!(world.minutes() > 13.5);
        world.platform = idle(6);
        world.run(HOUR);
        assert!(world.minutes() < 5.0, "{}", world.minutes());
        let (idled, turns) = (world.idled, world.turns);
        world.run(HOUR * 10);
        assert!(world.minutes() > 3.0 && world.minutes() < 5.0);
        assert!(world.idled - idled < 12 && world.turns - turns <= 1);
        // and for the better within half a day
        world.platform = idle(27);
        world.run(HOUR * 12);
        assert!(world.minutes() > 13.5, "{}", world.minutes());
    }
}

#[test]
fn a_burst_that_takes_the_whole_pool_halves_it_once() {
    for (nodes, seed) in [(14, 1), (60, 2)] {
        let mut world = after(nodes, idle(27), seed, HOUR * 12);
        let before = world.minutes();
        world.take_all();
        world.run(MINUTE * 30);
        assert!(world.minutes() > before / 3.0, "{}", world.minutes());
        world.run(HOUR * 5);
        assert!(world.minutes() >= before && world.turns <= 2);
    }
}

#[test]
fn a_hazard_that_rises_with_silence_is_held_low() {
    let platform = Platform {
        rising: Some(MINUTE * 20),
        ..SAFE_HAVEN
    };
    let world = after(60, platform, 6, HOUR * 24);
    // 13 % of the silences of 10 minutes kill, 1.6 % of those of 5
    assert!(world.minutes() <= 10.0, "{}", world.minutes());
    assert!(world.idled * 15 < world.pings);
}

#[test]
fn the_costs_decide() {
    let settings = Settings {
        loss_usd: 0.0,
        ..idleness_alone()
    };
    assert_eq!(Warmth::new(settings).interval(), settings.most);
    let mut fixed = Warmth::new(Settings {
        most: MINUTE,
        ..idleness_alone()
    });
    let now = Instant::now();
    assert_eq!((fixed.interval(), fixed.plan(now)), (MINUTE, MINUTE));
    assert_eq!(fixed.longest(now), MINUTE);
}

proptest! {
    #[test]
    fn whatever_happens_it_stays_within_its_bounds(
        contacts in prop::collection::vec(
            (0u64..4_000_000, prop::option::of(0u64..500_000_000), any::<bool>(), 0u64..4_000_000),
            0..300,
        ),
    ) {
        let settings = idleness_alone();
        let (mut warmth, mut now) = (Warmth::new(settings), Instant::now());
        let bounds = settings.least..=settings.most;
        for (silence, age, survived, later) in contacts {
            now += Duration::from_millis(later);
            let age = age.map(Duration::from_millis);
            warmth.contact(Duration::from_millis(silence), age, survived, now);
            let (plan, longest) = (warmth.plan(now), warmth.longest(now));
            prop_assert!(bounds.contains(&warmth.interval()));
            prop_assert!(bounds.contains(&plan) && plan <= longest && bounds.contains(&longest));
            prop_assert!(warmth.hazard_per_s().is_finite() && warmth.hazard_per_s() > 0.0);
            let shares = warmth.by_silence.iter().filter_map(|tally| tally.excess(1e-4));
            prop_assert!(shares.into_iter().all(|share| (0.0..=1.0).contains(&share)));
            warmth.typical_age();
        }
    }
}

#[test]
fn losses_are_found_before_there_are_many() {
    let mut warmth = Warmth::new(Settings::default());
    let mut now = Instant::now();
    // one in an hour of their life: 2 % of them in 72 s
    for i in 0..20_000 {
        now += Duration::from_millis(300);
        warmth.contact(MINUTE, None, i % 60 != 0, now);
    }
    let longest = warmth.longest(now).as_secs();
    assert!((65..80).contains(&longest), "{longest}");
}
