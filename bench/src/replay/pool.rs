//! The pool that is asked about: flags that `replay` and `cost` have in common.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use local_lambda::Architecture;

use super::profile::Probed;
use super::story::{self, Story};
use crate::availability::patterns::{Days, ONE_NODE, Pattern, Reading, TWO_HOURS};
use crate::availability::population;
use crate::availability::settings::Settings;
use crate::trace::Trace;

/// What is played, and on which pool.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct PoolArgs {
    /// Requests to play, as `seconds,op,key,bytes` (CSV, plain or gzip).
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Leaves out lines of the trace that do not parse, and counts them.
    #[arg(long)]
    pub(crate) skip_bad_lines: bool,
    /// Reclaims of observed days, per minute (JSON).
    #[arg(long, value_name = "FILE")]
    pub(crate) reclaims: Option<PathBuf>,
    /// A day of that file, which repeats, `two-hours` or `one-node`; `probed`: as long as
    /// instances live by --profile.
    #[arg(long, default_value = TWO_HOURS)]
    pub(crate) day: String,
    /// How the day is read.
    #[arg(long, value_enum, default_value = "minutes")]
    pub(crate) reading: Reading,
    /// Runs; figures are their means.
    #[arg(long, default_value = "5")]
    pub(crate) seeds: NonZeroUsize,
    /// Of the first run, and of a trace that is generated; the others count up from it.
    /// Played for real: of contents and reclaims.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[arg(long, default_value_t = NODES)]
    pub(crate) nodes: u16,
    /// Memory of a function in MiB, as it is billed.
    #[arg(long, default_value_t = MEMORY_MB)]
    pub(crate) memory_mb: u32,
    /// Data and parity chunks.
    #[arg(long, default_value = "10+2", value_parser = crate::availability::geometry)]
    pub(crate) geometry: (usize, usize),
    /// Larger objects are not stored: `proto_max_bulk_mb` of the proxy.
    #[arg(long, default_value = "512")]
    pub(crate) max_object_mb: u64,
    /// Seconds between rounds of a node; 0: no standbys.
    #[arg(long)]
    pub(crate) backup_interval_s: Option<u64>,
    /// Share of losses that take both instances of a function.
    #[arg(long, default_value = "0")]
    pub(crate) correlation: f64,
    /// Megabytes a second of one function; otherwise by its memory.
    #[arg(long)]
    pub(crate) function_mb_s: Option<u64>,
    /// Megabytes a second that the proxy's machine moves at most; otherwise as many as
    /// the functions can.
    #[arg(long)]
    pub(crate) proxy_mb_s: Option<u64>,
    /// Megabytes a second that a client reads or sends; nodes are billed meanwhile.
    /// Otherwise as fast as it comes.
    #[arg(long)]
    pub(crate) client_mb_s: Option<f64>,
    /// Of a platform, as `scatterhoard probe` writes it: what it measured takes the place of
    /// what is assumed.
    #[arg(long, value_name = "FILE", value_parser = Probed::read)]
    pub(crate) profile: Option<Probed>,
    #[arg(long)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Nodes take so many times as much as functions of that memory do: a small pool that
    /// stands for a large one.
    #[arg(skip)]
    pub(crate) budget_times: Option<f64>,
}

/// Reclaims by the lifetime in a profile.
const PROBED: &str = "probed";
/// The pool unless told otherwise: 100 GB of objects, about as much as the registry trace
/// can use (docs/cost.md).
pub(crate) const NODES: u16 = 400;
pub(crate) const MEMORY_MB: u32 = 320;
/// Beyond these a number is a slip of the pen.
const MAX_SEEDS: usize = 10_000;
const MAX_OBJECT_MB: u64 = 1 << 20;
const MAX_MB_S: u64 = 100_000;
const DAY_S: u64 = 86_400;
/// What the proxy ends a client for that is slower: `client_min_kb_s`.
const MIN_CLIENT_MB_S: f64 = 0.065_536;

impl PoolArgs {
    /// Fewer hours, nodes and seeds, of a generated trace: seconds instead of minutes.
    pub(crate) fn make_quick(&mut self) {
        self.nodes = self.nodes.min(40);
        self.memory_mb = self.memory_mb.min(MEMORY_MB);
        self.seeds = NonZeroUsize::MIN.saturating_add(1);
    }

    /// The trace, or the generator's.
    pub(crate) fn requests(&self, is_quick: bool) -> Result<Trace> {
        match &self.trace {
            Some(path) => Trace::read(path, self.skip_bad_lines),
            None if is_quick => Ok(story::of_gets(&population::generate(3.0, self.seed))),
            None => bail!("--trace FILE is needed (or --quick, for a generated one)"),
        }
    }

    /// Seeds of the runs.
    pub(crate) fn all_seeds(&self) -> Vec<u64> {
        let seed = |i: usize| self.seed.wrapping_add(i as u64);
        (0..self.seeds.get()).map(seed).collect()
    }

    pub(crate) fn threads(&self) -> usize {
        let machine = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.map_or_else(machine, NonZeroUsize::get)
    }

    pub(crate) fn pattern(&self) -> Result<Pattern> {
        if self.day == PROBED {
            let Some(profile) = &self.profile else {
                bail!("--profile FILE is needed for --day {PROBED}")
            };
            return profile.pattern();
        }
        let days = self.reclaims.as_deref().map(Days::read).transpose()?;
        Pattern::of(&self.day, self.reading, days.as_ref())
    }

    /// The day and how it is read, in words.
    pub(crate) fn day_name(&self) -> String {
        let is_own = [TWO_HOURS, ONE_NODE, PROBED].contains(&self.day.as_str());
        match (is_own, self.reading) {
            (true, _) => self.day.clone(),
            (_, Reading::Minutes) => format!("{} minutes", self.day),
            (_, Reading::Timeline) => format!("{} timeline", self.day),
        }
    }

    /// What a node takes.
    pub(crate) fn node_budget_bytes(&self) -> u64 {
        let bytes = scatterhoard_node::budget_bytes(u64::from(self.memory_mb));
        let times = |t: f64| (bytes as f64 * t) as u64;
        self.budget_times.map_or(bytes, times)
    }

    /// Bytes of objects that fit.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        let (d, p) = self.geometry;
        let all = u128::from(self.node_budget_bytes()) * u128::from(self.nodes);
        (all * d as u128 / (d + p) as u128) as u64
    }

    pub(crate) fn story(&self, trace: &Trace) -> Story {
        Story::new(trace, self.capacity_bytes())
    }

    /// Numbers that no pool has.
    pub(crate) fn check(&self) -> Result<()> {
        let (data, parity) = self.geometry;
        ensure!(
            data + parity <= usize::from(self.nodes),
            "{} nodes are too few for {data}+{parity}",
            self.nodes
        );
        ensure!(
            (128..=10_240).contains(&self.memory_mb),
            "--memory-mb must be 128 to 10240, as on Lambda"
        );
        ensure!(
            self.seeds.get() <= MAX_SEEDS,
            "--seeds must be 1 to {MAX_SEEDS}"
        );
        ensure!(
            (0.0..=1.0).contains(&self.correlation),
            "a correlation is a share of 1"
        );
        ensure!(
            (1..=MAX_OBJECT_MB).contains(&self.max_object_mb),
            "--max-object-mb must be 1 to {MAX_OBJECT_MB}"
        );
        ensure!(
            self.backup_interval_s.is_none_or(|s| s <= DAY_S),
            "--backup-interval-s must be 0 to {DAY_S}"
        );
        let whole = [
            ("--function-mb-s", self.function_mb_s),
            ("--proxy-mb-s", self.proxy_mb_s),
        ];
        for (flag, rate) in whole {
            ensure!(
                rate.is_none_or(|r| (1..=MAX_MB_S).contains(&r)),
                "{flag} must be 1 to {MAX_MB_S}"
            );
        }
        let slow = self.client_mb_s;
        ensure!(
            slow.is_none_or(|r| (MIN_CLIENT_MB_S..=MAX_MB_S as f64).contains(&r)),
            "--client-mb-s must be {MIN_CLIENT_MB_S} to {MAX_MB_S}"
        );
        Ok(())
    }

    pub(crate) fn settings(&self, hours: usize, arch: Architecture) -> Result<Settings> {
        self.check()?;
        let (data, parity) = self.geometry;
        let mut settings = Settings::proxy_defaults(usize::from(self.nodes), self.memory_mb);
        (settings.data, settings.parity) = (data, parity);
        (settings.hours, settings.arch) = (hours, arch);
        settings.correlation = self.correlation;
        if let Some(profile) = &self.profile {
            let is_rate_wanted = self.function_mb_s.is_none();
            profile.apply(&mut settings, self.memory_mb, is_rate_wanted)?;
        }
        if let Some(seconds) = self.backup_interval_s {
            settings.set_interval(seconds);
        }
        if let Some(mb_s) = self.function_mb_s {
            settings.function_bytes_per_s = mb_s * 1_000_000;
        }
        if let Some(mb_s) = self.proxy_mb_s {
            let rate = mb_s * 1_000_000;
            settings.proxy_bytes_per_s = Some(rate);
            settings.backup_bytes_per_s = settings.backup_bytes_per_s.min(rate);
            settings.repair_bytes_per_s = settings.repair_bytes_per_s.min(rate);
        }
        if let Some(times) = self.budget_times {
            // bytes that are so many times as many take as long
            let rate = settings.function_bytes_per_s as f64 * times;
            settings.function_bytes_per_s = (rate as u64).max(1);
        }
        settings.client_bytes_per_s = self.client_mb_s.map(|mb_s| mb_s * 1e6);
        Ok(settings)
    }
}
