//! What a seed decides before anything runs.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use scatterhoard_proxy::{
    config::{Config, ConfigError, Options},
    journal::Fsync,
    pool::retire,
    store::Ack,
};

use crate::{
    network::Weather,
    next_release,
    platform::{self, Routing},
};

/// The set-up of one run.
#[derive(Debug)]
pub struct Scenario {
    /// The proxy's settings.
    pub config: Config,
    /// The platform's.
    pub platform: platform::Settings,
    /// Whether proxies leave a journal behind.
    pub has_journal: bool,
    /// Clients at once.
    pub clients: usize,
    /// Keys in all.
    pub keys: usize,
    /// Longest pause of a client between two operations.
    pub think: Duration,
    /// Longest value in bytes.
    pub largest: usize,
    /// What goes wrong.
    pub trouble: Trouble,
}

/// What goes wrong, per second or as shares of the seconds.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// Chance of an idle instance to be taken in a second.
    pub reclaim: f64,
    /// The same of a busy one.
    pub crash: f64,
    /// Chance of a second in which a third of all instances is taken.
    pub burst: f64,
    /// Chance of a second in which all instances of up to p functions are taken.
    pub functions: f64,
    /// Chance of a second in which a connection or an instance is harmed.
    pub strike: f64,
    /// Chance of a second in which the invoke API begins to fail.
    pub invokes: f64,
    /// Chance of a second in which the proxy dies.
    pub death: f64,
    /// Chance of a second in which the journal's disk fills up.
    pub full_disk: f64,
    /// Chance of a second in which nodes are added or drained, or a drain is cancelled.
    pub elastic: f64,
}

impl Scenario {
    /// The set-up of this seed.
    pub fn new(seed: u64) -> Result<Self, ConfigError> {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x5ca7_7e12);
        let (d, p) = *[(2, 1), (3, 2), (4, 2), (5, 3)]
            .choose(&mut rng)
            .unwrap_or(&(2, 1));
        let options = Options {
            nodes: Some(d + p + rng.random_range(0..4)),
            data_parity: Some(format!("{d}+{p}")),
            ..Options::default()
        };
        let mut config = Config::from_options(options)?;
        // small, but as many chunks, stripes and windows as large ones
        config.geometry.cell_bytes = 512 << rng.random_range(0..3);
        config.geometry.bytes_per_chunk = 1024;
        config.geometry.whole_up_to_bytes = *[0, 700, 3_000].choose(&mut rng).unwrap_or(&700);
        config.hot_bytes = *[0, 0, 20_000].choose(&mut rng).unwrap_or(&0);
        config.hot_value_bytes = 2_000;
        config.pack_up_to_bytes = *[0, 1_000].choose(&mut rng).unwrap_or(&0);
        config.ack = if rng.random_bool(0.3) {
            Ack::Proxy
        } else {
            Ack::Quorum
        };
        config.appendfsync = if rng.random_bool(0.3) {
            Fsync::Always
        } else {
            Fsync::Everysec
        };
        config.patience = Duration::from_millis(rng.random_range(1_000..5_000));
        config.backup.standby = rng.random_bool(0.8);
        config.backup.interval = Duration::from_secs(rng.random_range(5..60));
        config.backup.after_bytes = rng.random_range(4_000..200_000);
        // over instances of both releases, as in the middle of an update
        config.speaks = next_release();
        config.retire = match rng.random_range(0..10) {
            0 => retire::Settings::Typical,
            1..4 => retire::Settings::At(Duration::from_secs(rng.random_range(20..150))),
            _ => retire::Settings::Never,
        };
        let has_journal = rng.random_bool(0.7);
        let calm = rng.random_bool(0.1);
        let mut chance = |share: f64, most: f64| match !calm && rng.random_bool(share) {
            true => most * rng.random_range(0.1..1.0),
            false => 0.0,
        };
        let mut trouble = Trouble {
            reclaim: chance(0.8, 0.01),
            crash: chance(0.3, 0.005),
            burst: chance(0.3, 0.01),
            functions: chance(0.3, 0.02),
            strike: chance(0.6, 0.3),
            invokes: chance(0.4, 0.05),
            death: chance(0.5, 0.03),
            full_disk: if has_journal { chance(0.2, 0.02) } else { 0.0 },
            elastic: 0.0,
        };
        let loss = chance(0.4, 0.05);
        let millis = |ms| Duration::from_millis(ms);
        let platform = platform::Settings {
            memory_mb: 64,
            routing: *[
                Routing::LatestFirst,
                Routing::LatestFirst,
                Routing::OldestFirst,
                Routing::Random,
            ]
            .choose(&mut rng)
            .unwrap_or(&Routing::LatestFirst),
            restless: if rng.random_bool(0.3) { 0.03 } else { 0.0 },
            latency: millis(rng.random_range(2..20)),
            cold_start: millis(rng.random_range(50..600)),
            timeout: Duration::from_secs(rng.random_range(20..120)),
            idle_timeout: Duration::from_secs(rng.random_range(100..900)),
            concurrency: rng.random_range(2..6),
            weather: Weather {
                latency: millis(rng.random_range(0..4)),
                jitter: millis(rng.random_range(1..10)),
                loss,
            },
        };
        let clients = rng.random_range(1..5);
        let keys = rng.random_range(8..40);
        let think = millis(rng.random_range(50..2_000));
        let largest = rng.random_range(2_000..60_000);
        // without standbys what is lost may take long to be known as lost
        if !calm && config.backup.standby && rng.random_bool(0.5) {
            trouble.elastic = 0.1 * rng.random_range(0.1..1.0);
        }
        Ok(Self {
            config,
            platform,
            has_journal,
            clients,
            keys,
            think,
            largest,
            trouble,
        })
    }
}
