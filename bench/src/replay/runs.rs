//! Many runs of one trace, and their mean.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, bail, ensure};
use local_lambda::Architecture;
use serde::Serialize;

use super::pool::PoolArgs;
use super::profile::Probed;
use super::story::Story;
use crate::availability::bill::{Bill, Hour, Tally};
use crate::availability::index::Keys;
use crate::availability::patterns::Pattern;
use crate::availability::settings::Settings;
use crate::availability::sim::{Run, replay};
use crate::interrupt::Watch;
use crate::progress::Progress;
use crate::results;

/// Invocations and GB-seconds of the whole trace, by what they were for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Bills {
    pub(crate) serve: Bill,
    pub(crate) warm: Bill,
    pub(crate) backup: Bill,
    pub(crate) repair: Bill,
}

impl Bills {
    pub(crate) fn invocations(&self) -> f64 {
        let all = [self.serve, self.warm, self.backup, self.repair];
        all.iter().map(|b| b.invocations).sum()
    }
}

/// Which pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Pool {
    pub(crate) nodes: u16,
    pub(crate) memory_mb: u32,
    pub(crate) geometry: String,
    /// Of objects.
    pub(crate) capacity_gb: f64,
    pub(crate) arch: &'static str,
    pub(crate) standby: bool,
    pub(crate) backup_interval_s: u64,
    pub(crate) backup_after_mb: u64,
    pub(crate) function_mb_s: f64,
    pub(crate) max_object_mb: u64,
    pub(crate) correlation: f64,
    /// What was measured of the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<Probed>,
}

/// What came of a trace: means over the seeds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) pool: Pool,
    pub(crate) day: String,
    pub(crate) seeds: Vec<u64>,
    pub(crate) hours: usize,
    pub(crate) requests: usize,
    pub(crate) skipped_lines: u64,
    pub(crate) hit_ratio: f64,
    /// Of an LRU of the same capacity that loses nothing.
    pub(crate) lru_hit_ratio: f64,
    pub(crate) reset_share_of_hits: f64,
    pub(crate) worst_seed_reset_share_of_hits: f64,
    /// Share of objects that could be read at every moment, mean of the seeds.
    pub(crate) worst_hour_available: f64,
    pub(crate) reclaims: f64,
    /// Losses that left a function without an instance.
    pub(crate) pairs: f64,
    pub(crate) bills: Bills,
    pub(crate) backup_gb: f64,
    pub(crate) repair_gb: f64,
    pub(crate) tally: Tally,
    /// Megabytes a second through the proxy, in the direction that has more: mean, the
    /// busiest hour, the busiest minute of any seed.
    pub(crate) proxy_mb_s: [f64; 3],
    /// Gigabytes into the proxy and out of it.
    pub(crate) proxy_gb: [f64; 2],
    pub(crate) by_hour: Vec<Hour>,
    /// Why not every seed was played; none if all were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_early: Option<String>,
}

/// Plays a story with every seed, on so many threads. Told to stop, it ends what is under way:
/// the outcome is of the seeds that were played, and there is none without any.
pub(crate) fn play(
    args: &PoolArgs,
    story: &Story,
    pattern: &Pattern,
    settings: &Settings,
    skipped_lines: u64,
) -> Result<Outcome> {
    let seeds = args.all_seeds();
    let watch = Watch::new()?;
    let keys = Keys {
        of: &story.keys,
        node_budget_bytes: args.node_budget_bytes(),
        max_object_bytes: args.max_object_mb.saturating_mul(1 << 20),
    };
    let (next, runs) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let progress = Progress::new(seeds.len(), "runs");
    thread::scope(|scope| {
        for _ in 0..args.threads().clamp(1, seeds.len()) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if watch.is_told() {
                        return;
                    }
                    let run = replay(settings, pattern, &story.script, keys, *seed);
                    if let Ok(mut runs) = runs.lock() {
                        runs.push((*seed, run));
                        progress.step();
                    }
                }
            });
        }
    });
    progress.end();
    let mut runs = runs.into_inner().unwrap_or_default();
    // sums of fractions depend on their order
    runs.sort_by_key(|(seed, _)| *seed);
    let played: Vec<u64> = runs.iter().map(|(seed, _)| *seed).collect();
    ensure!(!played.is_empty(), "interrupted before the first run ended");
    let runs: Vec<Run> = runs.into_iter().map(|(_, run)| run).collect();
    let mut outcome = mean(args, settings, &runs);
    outcome.ended_early = results::why(&watch.end()).filter(|_| played.len() < seeds.len());
    outcome.seeds = played;
    outcome.requests = story.script.steps.len();
    outcome.skipped_lines = skipped_lines;
    Ok(outcome)
}

fn mean(args: &PoolArgs, settings: &Settings, runs: &[Run]) -> Outcome {
    let share = 1.0 / runs.len().max(1) as f64;
    let (mut tally, mut by_hour) = (Tally::default(), vec![Hour::default(); settings.hours]);
    let (mut worst_resets, mut busiest_minute, mut busiest_hour) = (0.0, 0.0f64, 0.0f64);
    let mut proxy_gb = [0.0; 2];
    for run in runs {
        tally.add(&run.tally, share);
        worst_resets = f64::max(worst_resets, run.tally.reset_share());
        for (sum, hour) in by_hour.iter_mut().zip(&run.hours) {
            sum.add(hour, share);
        }
        for [into, out] in &run.traffic {
            busiest_minute = busiest_minute.max(into.max(*out) / 60.0);
            proxy_gb[0] += into / 1e9 * share;
            proxy_gb[1] += out / 1e9 * share;
        }
        for hour in run.traffic.chunks(60) {
            let sum = |way: usize| hour.iter().map(|m| m[way]).sum::<f64>();
            busiest_hour = busiest_hour.max(sum(0).max(sum(1)) / 3600.0);
        }
    }
    let mut all = Hour::default();
    by_hour.iter().for_each(|h| all.add(h, 1.0));
    let seconds = settings.hours as f64 * 3600.0;
    Outcome {
        pool: Pool::of(args, settings),
        day: args.day_name(),
        seeds: args.all_seeds(),
        hours: settings.hours,
        requests: 0,
        skipped_lines: 0,
        hit_ratio: tally.hits / tally.gets.max(1.0),
        lru_hit_ratio: tally.lru_hits / tally.gets.max(1.0),
        reset_share_of_hits: tally.reset_share(),
        worst_seed_reset_share_of_hits: worst_resets,
        worst_hour_available: by_hour.iter().map(Hour::share).fold(1.0, f64::min),
        reclaims: all.reclaims,
        pairs: all.pairs,
        bills: Bills {
            serve: all.serve,
            warm: all.warm,
            backup: all.backup,
            repair: all.repair,
        },
        backup_gb: all.backup_bytes / 1e9,
        repair_gb: all.repair_bytes / 1e9,
        tally,
        proxy_mb_s: [
            proxy_gb[0].max(proxy_gb[1]) * 1e3 / seconds,
            busiest_hour / 1e6,
            busiest_minute / 1e6,
        ],
        proxy_gb,
        by_hour,
        ended_early: None,
    }
}

impl Outcome {
    /// An error if not all was played.
    pub(crate) fn end(&self) -> Result<()> {
        match &self.ended_early {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }
}

impl Pool {
    fn of(args: &PoolArgs, settings: &Settings) -> Self {
        Self {
            nodes: args.nodes,
            memory_mb: args.memory_mb,
            geometry: format!("{}+{}", settings.data, settings.parity),
            capacity_gb: args.capacity_bytes() as f64 / 1e9,
            arch: arch_name(settings.arch),
            standby: settings.backup.standby,
            backup_interval_s: settings.backup.interval.as_secs(),
            backup_after_mb: settings.backup.after_bytes >> 20,
            function_mb_s: settings.function_bytes_per_s as f64 / 1e6,
            max_object_mb: args.max_object_mb,
            correlation: args.correlation,
            profile: args.profile.clone(),
        }
    }
}

/// As AWS names it.
pub(crate) fn arch_name(arch: Architecture) -> &'static str {
    match arch {
        Architecture::X86 => "x86_64",
        Architecture::Arm => "arm64",
    }
}
