//! `availability`: what reclaims do to a pool, and what keeping it costs.
//!
//! Days of a large pool are simulated event by event, in virtual time, with the
//! pool's own policies. `docs/availability.md` states the assumptions and shows
//! what came out.

pub(crate) mod bill;
pub(crate) mod index;
mod node;
mod objects;
pub(crate) mod patterns;
mod plot;
pub(crate) mod population;
mod reclaims;
mod repairs;
mod rounds;
pub(crate) mod settings;
pub(crate) mod sim;
mod study;
mod table;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use local_lambda::Prices;
use scatterhoard_proxy::config::Upkeep;
use scatterhoard_proxy::pool::retire;
use scatterhoard_proxy::store::ROUNDS_AT_ONCE;
use serde::Serialize;

use crate::interrupt::Watch;
use crate::results::{Output, Results};
use patterns::{Days, ONE_NODE, Pattern, Reading, TWO_HOURS};
use population::{Get, Script};
use settings::Settings;
use study::{Case, Outcome};

/// What the proxy does with functions on Lambda unless told otherwise.
const DEFAULTS: Upkeep = Upkeep::REMOTE;

/// Lists are separated by commas; every combination is played.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Reclaims of observed days, per minute (JSON).
    #[arg(long, value_name = "FILE")]
    reclaims: Option<PathBuf>,
    /// Days of that file, `two-hours`, `one-node`, or `all`.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    day: Vec<String>,
    /// How days are read.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "timeline,minutes"
    )]
    reading: Vec<Reading>,
    /// Runs of each combination.
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(99))]
    seeds: NonZeroUsize,
    /// Of the first run, and of GETs that are generated; the others count up from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// GETs to play, as `seconds,op,key,bytes` (CSV); otherwise generated ones.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Leaves out lines of the trace that do not parse, and counts them.
    #[arg(long)]
    skip_bad_lines: bool,
    #[arg(long, default_value = "400")]
    nodes: u16,
    #[arg(long, default_value = "1536")]
    memory_mb: u32,
    /// Data and parity chunks.
    #[arg(long, value_delimiter = ',', default_value = "10+2", value_parser = geometry)]
    geometry: Vec<(usize, usize)>,
    /// Megabytes of chunks on each node.
    #[arg(long, value_delimiter = ',', default_value = "125")]
    node_mb: Vec<u64>,
    /// Seconds between rounds of a node; 0: no standbys.
    #[arg(long, value_delimiter = ',', default_values_t = [DEFAULTS.backup_interval_s])]
    backup_interval_s: Vec<u64>,
    /// Megabytes stored on a node after which its next round is due.
    #[arg(long, value_delimiter = ',', default_values_t = [DEFAULTS.backup_after_mb])]
    backup_after_mb: Vec<u64>,
    /// Most seconds without an invoke of a node.
    #[arg(long, value_delimiter = ',', default_values_t = [DEFAULTS.warm_interval_s])]
    warm_interval_s: Vec<u64>,
    /// The same once instances have proved to live through it; 0: no more than that.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    warm_interval_max_s: Vec<u64>,
    /// Age at which instances are replaced: `off`, `auto` or seconds.
    #[arg(long, value_delimiter = ',', default_value = "off", value_parser = retire_after)]
    retire_after_s: Vec<retire::Settings>,
    /// Megabytes a second of all backups; 0: no limit.
    #[arg(long, value_delimiter = ',', default_values_t = [u64::from(DEFAULTS.backup_mb_s)])]
    backup_mb_s: Vec<u64>,
    /// Megabytes of objects a second of all repairs; 0: no limit.
    #[arg(long, value_delimiter = ',', default_values_t = [u64::from(DEFAULTS.repair_mb_s)])]
    repair_mb_s: Vec<u64>,
    #[arg(long, value_delimiter = ',', default_values_t = [ROUNDS_AT_ONCE])]
    rounds_at_once: Vec<usize>,
    /// Share of losses that take all instances of a function.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    correlation: Vec<f64>,
    /// Hours that are played.
    #[arg(long, default_value = "24")]
    hours: NonZeroUsize,
    /// Two hours with two seeds.
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Prints every hour of every combination, too.
    #[arg(long)]
    per_hour: bool,
    #[command(flatten)]
    output: Output,
    /// What the names of the drawings begin with.
    #[arg(long, default_value = "availability")]
    plot_name: String,
    /// A price list as local-lambda takes it.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

pub(crate) fn geometry(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('+');
    let parsed = parts.and_then(|(d, p)| d.parse().ok().zip(p.parse().ok()));
    match parsed {
        Some((d @ 1..=99, p @ 1..=99)) => Ok((d, p)),
        _ => Err("must be like 10+2".into()),
    }
}

fn retire_after(text: &str) -> Result<retire::Settings, String> {
    match (text, text.parse()) {
        ("off", _) => Ok(retire::Settings::Never),
        ("auto", _) => Ok(retire::Settings::Typical),
        (_, Ok(age @ 1..)) => Ok(retire::Settings::At(Duration::from_secs(age))),
        _ => Err("must be off, auto or seconds".into()),
    }
}

/// Plays all combinations and shows what came of them.
pub(crate) fn run(args: Args) -> Result<()> {
    let watch = Watch::new()?;
    let study = args.study(&watch)?;
    args.output.close(watch.end(), &study)
}

/// As JSON it is its outcomes.
#[derive(Serialize)]
#[serde(transparent)]
struct Study {
    outcomes: Vec<Outcome>,
    #[serde(skip)]
    prices: Prices,
    #[serde(skip)]
    per_hour: bool,
    #[serde(skip)]
    name: String,
}

impl Results for Study {
    fn text(&self, markdown: bool) -> String {
        table::all(&self.outcomes, &self.prices, self.per_hour, markdown)
    }

    fn drawings(&self) -> Vec<(String, String)> {
        plot::drawings(&self.outcomes, &self.prices, &self.name)
    }
}

impl Args {
    fn study(&self, watch: &Watch) -> Result<Study> {
        let prices = match &self.prices {
            Some(path) => Prices::from_file(path)?,
            None => Prices::default(),
        };
        let (cases, scripts) = self.cases()?;
        let threads = self.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            NonZeroUsize::get,
        );
        let seeds = self.all_seeds();
        let outcomes = study::run(&cases, &scripts, &seeds, threads, &prices, watch);
        Ok(Study {
            outcomes,
            prices,
            per_hour: self.per_hour,
            name: self.plot_name.clone(),
        })
    }

    fn all_seeds(&self) -> Vec<u64> {
        let count = if self.quick { 2 } else { self.seeds.get() };
        let seed = |i: usize| self.seed.wrapping_add(i as u64);
        (0..count).map(seed).collect()
    }

    fn hours(&self) -> usize {
        if self.quick { 2 } else { self.hours.get() }
    }

    /// GETs, and how many of their hours come before the day.
    fn gets(&self) -> Result<(Vec<Get>, f64)> {
        const BEFORE_H: f64 = 24.0;
        let gets = match &self.trace {
            Some(path) => {
                let (gets, skipped) = population::read_trace(path, self.skip_bad_lines)?;
                if self.skip_bad_lines {
                    eprintln!("{skipped} bad lines of the trace skipped");
                }
                gets
            }
            None => population::generate(BEFORE_H + self.hours() as f64, self.seed),
        };
        let end_h = gets.last().map_or(0.0, |g| g.at_s / 3600.0);
        if self.trace.is_some() && end_h < BEFORE_H + self.hours() as f64 {
            bail!(
                "the trace ends after {end_h:.1} h: a day to fill the pool and the day are needed"
            );
        }
        Ok((gets, BEFORE_H))
    }

    fn patterns(&self) -> Result<Vec<(String, Option<Reading>, Pattern)>> {
        let days = self.reclaims.as_deref().map(Days::read).transpose()?;
        let mut names = Vec::new();
        for name in &self.day {
            if name == "all" {
                let known = days.iter().flat_map(|d| d.days.keys().cloned());
                names.extend(known.chain([TWO_HOURS.into()]));
            } else {
                names.push(name.clone());
            }
        }
        let mut patterns = Vec::new();
        for name in names {
            let is_own = [TWO_HOURS, ONE_NODE].contains(&name.as_str());
            let readings = if is_own {
                &self.reading[..1]
            } else {
                &self.reading
            };
            for reading in readings {
                let pattern = Pattern::of(&name, *reading, days.as_ref())?;
                patterns.push((name.clone(), (!is_own).then_some(*reading), pattern));
            }
        }
        Ok(patterns)
    }

    fn cases(&self) -> Result<(Vec<Case>, Vec<Script>)> {
        let ((gets, before_h), patterns) = (self.gets()?, self.patterns()?);
        let (mut cases, mut scripts) = (Vec::new(), Vec::new());
        let mut capacities: Vec<u64> = Vec::new();
        for settings in self.settings()? {
            let capacity = settings.capacity_bytes();
            let known = capacities.iter().position(|c| *c == capacity);
            let script = known.unwrap_or(capacities.len());
            if known.is_none() {
                capacities.push(capacity);
                scripts.push(Script::new(&gets, capacity, before_h, self.hours() as f64));
            }
            for (day, reading, pattern) in &patterns {
                cases.push(Case {
                    day: day.clone(),
                    reading: *reading,
                    pattern: pattern.clone(),
                    settings: settings.clone(),
                    script,
                });
            }
        }
        Ok((cases, scripts))
    }

    fn settings(&self) -> Result<Vec<Settings>> {
        let mut all = vec![self.plain()];
        // one list after the other multiplies what there is
        vary(&mut all, &self.geometry, |s, (d, p)| {
            (s.data, s.parity) = (d, p)
        });
        vary(&mut all, &self.node_mb, |s, mb| {
            s.node_bytes = mb * 1_000_000
        });
        vary(&mut all, &self.backup_interval_s, |s, seconds| {
            s.set_interval(seconds);
        });
        vary(&mut all, &self.backup_after_mb, |s, mb| {
            s.backup.after_bytes = mb.max(1) << 20;
        });
        vary(&mut all, &self.warm_interval_s, |s, seconds| {
            s.set_warm_interval(seconds);
        });
        vary(&mut all, &self.warm_interval_max_s, |s, seconds| {
            s.warmth.most = Duration::from_secs(seconds).max(s.warmth.least);
        });
        vary(&mut all, &self.retire_after_s, |s, after| s.retire = after);
        vary(&mut all, &self.backup_mb_s, |s, mb| {
            s.backup_bytes_per_s = mb * 1_000_000
        });
        vary(&mut all, &self.repair_mb_s, |s, mb| {
            s.repair_bytes_per_s = mb * 1_000_000
        });
        vary(&mut all, &self.rounds_at_once, |s, count| {
            s.rounds_at_once = count.max(1)
        });
        vary(&mut all, &self.correlation, |s, share| {
            s.correlation = share
        });
        for settings in &all {
            if settings.chunks() > settings.nodes {
                bail!("{} nodes are too few for a geometry", settings.nodes);
            }
            if !(0.0..=1.0).contains(&settings.correlation) {
                bail!("a correlation is a share of 1");
            }
        }
        Ok(all)
    }

    /// The pool's defaults, but for what is varied.
    fn plain(&self) -> Settings {
        let mut settings = Settings::proxy_defaults(usize::from(self.nodes), self.memory_mb);
        settings.hours = self.hours();
        // of whatever memory: as the document says
        settings.function_bytes_per_s = settings::FUNCTION_BYTES_PER_S;
        settings
    }
}

fn vary<T: Copy>(all: &mut Vec<Settings>, values: &[T], set: impl Fn(&mut Settings, T)) {
    let varied = all.iter().flat_map(|settings| {
        values.iter().map(|value| {
            let mut settings = settings.clone();
            set(&mut settings, *value);
            settings
        })
    });
    *all = varied.collect();
}

#[cfg(test)]
mod tests;
