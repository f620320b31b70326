//! Many runs of one setting, and what they say together.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use local_lambda::{Architecture, Prices};
use scatterhoard_proxy::pool::retire;
use serde::Serialize;

use super::bill::Hour;
use super::patterns::{Pattern, Reading};
use super::population::Script;
use super::settings::Settings;
use super::sim::{Run, play};
use crate::interrupt::Watch;
use crate::progress::Progress;

/// A setting under a pattern.
pub(crate) struct Case {
    pub(crate) day: String,
    /// None for patterns of our own.
    pub(crate) reading: Option<Reading>,
    pub(crate) pattern: Pattern,
    pub(crate) settings: Settings,
    /// Which of the scripts is played.
    pub(crate) script: usize,
}

/// What came of a case.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) day: String,
    pub(crate) reading: Option<Reading>,
    pub(crate) geometry: String,
    /// 0: no standby.
    pub(crate) backup_interval_s: u64,
    pub(crate) backup_after_mb: u64,
    pub(crate) warm_interval_s: u64,
    pub(crate) warm_interval_max_s: u64,
    pub(crate) retire_after: String,
    pub(crate) rounds_at_once: usize,
    pub(crate) backup_mb_s: u64,
    pub(crate) repair_mb_s: u64,
    pub(crate) node_mb: u64,
    pub(crate) correlation: f64,
    pub(crate) seeds: usize,
    /// Which they are.
    pub(crate) played_seeds: Vec<u64>,
    /// Share of objects available in the worst hour of the mean day.
    pub(crate) worst_hour_available: f64,
    pub(crate) worst_hour: usize,
    /// The same in the worst hour of all seeds.
    pub(crate) worst_seed_available: f64,
    /// Share of objects that the worst hour of the mean day lost.
    pub(crate) worst_hour_lost: f64,
    /// Instances replaced before they were taken, an hour.
    pub(crate) retired_per_hour: f64,
    /// Losses that left a function without an instance, an hour.
    pub(crate) pairs_per_hour: f64,
    pub(crate) hits_lost_share: f64,
    pub(crate) hits_lost: f64,
    /// Warm-up, backup and repair; mean over the day, the dearest hour of the mean day.
    pub(crate) usd_per_hour: f64,
    pub(crate) worst_hour_usd: f64,
    pub(crate) warm_usd_per_hour: f64,
    pub(crate) backup_usd_per_hour: f64,
    pub(crate) repair_usd_per_hour: f64,
    /// Seconds until a node that had lost chunks was whole again: median, 99th
    /// percentile, longest, and how many there were in a day.
    pub(crate) whole_after_s: Option<[f64; 3]>,
    pub(crate) hurt_nodes: f64,
    /// The mean over the seeds.
    pub(crate) hours: Vec<Hour>,
    /// The worst seed's availability in each hour.
    pub(crate) worst_seed_hours: Vec<f64>,
}

/// Plays every case with every seed, on so many threads. Told to stop, it ends what is under
/// way; outcomes are of what was played, with none of cases that were not.
pub(crate) fn run(
    cases: &[Case],
    scripts: &[Script],
    seeds: &[u64],
    threads: usize,
    prices: &Prices,
    watch: &Watch,
) -> Vec<Outcome> {
    let jobs = cases.len() * seeds.len();
    let progress = Progress::new(jobs, "runs");
    let (next, runs) = (
        AtomicUsize::new(0),
        Mutex::new(vec![Vec::new(); cases.len()]),
    );
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.max(1)) {
            scope.spawn(|| {
                while !watch.is_told() {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    let (case, seed) = (job / seeds.len(), job % seeds.len());
                    let Some(Case {
                        settings,
                        pattern,
                        script,
                        ..
                    }) = cases.get(case)
                    else {
                        return;
                    };
                    let run = play(settings, pattern, &scripts[*script], seeds[seed]);
                    progress.step();
                    if let Ok(mut runs) = runs.lock() {
                        runs[case].push((seed, run));
                    }
                }
            });
        }
    });
    progress.end();
    let runs = runs.into_inner().unwrap_or_default();
    let played = cases.iter().zip(runs).filter(|(_, runs)| !runs.is_empty());
    let summed = played.map(|(case, mut runs)| {
        // sums of fractions depend on their order
        runs.sort_by_key(|(seed, _)| *seed);
        let played = runs.iter().map(|(seed, _)| seeds[*seed]).collect();
        let runs: Vec<Run> = runs.into_iter().map(|(_, run)| run).collect();
        Outcome::of(case, played, &runs, prices)
    });
    summed.collect()
}

impl Outcome {
    fn of(case: &Case, seeds: Vec<u64>, runs: &[Run], prices: &Prices) -> Self {
        let settings = &case.settings;
        let mut hours = vec![Hour::default(); settings.hours];
        let mut worst_seed_hours = vec![1.0f64; settings.hours];
        for run in runs {
            for (i, hour) in run.hours.iter().enumerate() {
                hours[i].add(hour, 1.0 / runs.len() as f64);
                worst_seed_hours[i] = worst_seed_hours[i].min(hour.share());
            }
        }
        let mut day = Hour::default();
        hours
            .iter()
            .for_each(|h| day.add(h, 1.0 / settings.hours as f64));
        let worst = (0..hours.len()).min_by(|a, b| hours[*a].share().total_cmp(&hours[*b].share()));
        let worst = worst.unwrap_or(0);
        let most = |of: &dyn Fn(&Hour) -> f64| hours.iter().map(of).fold(0.0, f64::max);
        let mut whole: Vec<f64> = runs.iter().flat_map(|r| r.whole_after_s.clone()).collect();
        whole.sort_by(f64::total_cmp);
        Self {
            day: case.day.clone(),
            reading: case.reading,
            geometry: format!("{}+{}", settings.data, settings.parity),
            backup_interval_s: match settings.backup.standby {
                true => settings.backup.interval.as_secs(),
                false => 0,
            },
            backup_after_mb: settings.backup.after_bytes >> 20,
            warm_interval_s: settings.warmth.least.as_secs(),
            warm_interval_max_s: settings.warmth.most.as_secs(),
            retire_after: match settings.retire {
                retire::Settings::Never => "off".into(),
                retire::Settings::Typical => "auto".into(),
                retire::Settings::At(age) => format!("{} s", age.as_secs()),
            },
            rounds_at_once: settings.rounds_at_once,
            backup_mb_s: settings.backup_bytes_per_s / 1_000_000,
            repair_mb_s: settings.repair_bytes_per_s / 1_000_000,
            node_mb: settings.node_bytes / 1_000_000,
            correlation: settings.correlation,
            seeds: runs.len(),
            played_seeds: seeds,
            worst_hour_available: hours[worst].share(),
            worst_hour: worst,
            worst_seed_available: worst_seed_hours.iter().copied().fold(1.0, f64::min),
            worst_hour_lost: most(&|h| h.lost / h.objects.max(1.0)),
            retired_per_hour: day.retired,
            pairs_per_hour: day.pairs,
            hits_lost_share: day.hits_lost / day.hits.max(f64::MIN_POSITIVE),
            hits_lost: day.hits_lost * settings.hours as f64,
            usd_per_hour: day.usd(prices),
            worst_hour_usd: most(&|h| h.usd(prices)),
            warm_usd_per_hour: day.warm.usd(prices, Architecture::X86),
            backup_usd_per_hour: day.backup.usd(prices, Architecture::X86),
            repair_usd_per_hour: day.repair.usd(prices, Architecture::X86),
            whole_after_s: whole.last().map(|last| {
                let at = |share: f64| whole[((whole.len() - 1) as f64 * share) as usize];
                [at(0.5), at(0.99), *last]
            }),
            hurt_nodes: whole.len() as f64 / runs.len().max(1) as f64,
            hours,
            worst_seed_hours,
        }
    }

    /// Day and reading in a word.
    pub(crate) fn name(&self) -> String {
        match self.reading {
            Some(Reading::Timeline) => format!("{} timeline", self.day),
            Some(Reading::Minutes) => format!("{} minutes", self.day),
            None => self.day.clone(),
        }
    }
}
