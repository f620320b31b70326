//! `cost`: what a trace or a described workload costs here and elsewhere.
//!
//! A trace is played through the pool's own policies (`replay`); what is described is
//! put into formulas. `docs/cost.md` has the method, and where each figure is from.

mod breakeven;
mod formula;
mod machine;
mod peers;
mod prices;
mod report;
mod words;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use local_lambda::Architecture;
use serde::Serialize;

use crate::chart::Chart;
use crate::replay::{self, Outcome, PoolArgs};
use crate::trace::Op;
use breakeven::{Along, Curves, Market};
use formula::{Model, Workload};
use machine::{Burden, ProxyMachine};
use peers::{Demand, HOURS_OF_MONTH, Peer};
use prices::PriceFile;

/// Bytes of a part that is uploaded to the backing store.
const PART_BYTES: f64 = 8.0 * 1_048_576.0;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pool: PoolArgs,
    /// Instead of a trace: gigabytes stored.
    #[arg(long, conflicts_with = "trace", requires_all = ["object_mb", "gets_per_hour"])]
    stored_gb: Option<f64>,
    /// Megabytes of an object.
    #[arg(long)]
    object_mb: Option<f64>,
    #[arg(long)]
    gets_per_hour: Option<f64>,
    /// Objects stored an hour, those after misses included.
    #[arg(long, default_value = "0")]
    sets_per_hour: f64,
    /// The busiest hour's multiple of the mean rate.
    #[arg(long, default_value = "2")]
    peak: f64,
    /// Architecture of the functions, and of the proxy's machine unless that is named.
    #[arg(long, value_enum, default_value = "arm64")]
    arch: Arch,
    /// A dated price file; otherwise the one that comes along.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// The proxy's machine; otherwise the cheapest of the architecture that carries the
    /// busiest hour.
    #[arg(long, value_name = "TYPE")]
    proxy_machine: Option<String>,
    /// Share of all traffic that crosses availability zones, clients' and nodes'.
    #[arg(long, default_value = "0")]
    cross_zone_share: f64,
    /// All objects in S3 besides.
    #[arg(long)]
    backing_store: bool,
    /// Three hours of a generated trace on 40 nodes, unless there is a trace.
    #[arg(long)]
    quick: bool,
    /// Writes everything there; without a file, to the standard output instead of text.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Prints Markdown.
    #[arg(long)]
    markdown: bool,
    /// Draws break-even curves into this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Arch {
    Arm64,
    #[value(name = "x86_64")]
    X86,
}

impl From<Arch> for Architecture {
    fn from(arch: Arch) -> Self {
        match arch {
            Arch::Arm64 => Self::Arm,
            Arch::X86 => Self::X86,
        }
    }
}

/// Dollars by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ByPurpose {
    pub(crate) serve: f64,
    pub(crate) warm: f64,
    pub(crate) backup: f64,
    pub(crate) repair: f64,
    pub(crate) proxy: f64,
    pub(crate) cross_zone: f64,
    pub(crate) backing_store: f64,
}

impl ByPurpose {
    fn total(&self) -> f64 {
        let lambda = self.serve + self.warm + self.backup + self.repair;
        lambda + self.proxy + self.cross_zone + self.backing_store
    }
}

/// Ours on one architecture, for all of the time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ours {
    pub(crate) arch: &'static str,
    pub(crate) proxy_machine: ProxyMachine,
    pub(crate) total_usd: f64,
    pub(crate) usd_by_purpose: ByPurpose,
}

/// Everything that is said.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) pool: String,
    pub(crate) arch: &'static str,
    pub(crate) hours: f64,
    pub(crate) total_usd: f64,
    pub(crate) usd_per_hour: f64,
    pub(crate) usd_by_purpose: ByPurpose,
    pub(crate) proxy_machine: ProxyMachine,
    /// None for a workload that is described.
    pub(crate) hit_ratio: Option<f64>,
    pub(crate) lru_hit_ratio: Option<f64>,
    pub(crate) reset_share_of_hits: Option<f64>,
    pub(crate) workload: Workload,
    pub(crate) demand: Demand,
    pub(crate) peers: Vec<Peer>,
    /// Side by side, and with an arm64 machine for the proxy of x86_64 functions.
    pub(crate) architectures: Vec<Ours>,
    /// The formulas for the mean hour of the trace, to be compared with its simulation.
    pub(crate) formula_usd: f64,
    pub(crate) break_even: Vec<Curves>,
    pub(crate) recommendation: Vec<String>,
    pub(crate) prices: String,
    pub(crate) region: String,
    /// Prices, and what else was recalled and not checked.
    pub(crate) unchecked_prices: Vec<String>,
    pub(crate) replay: Option<Outcome>,
}

/// What goes on in the pool, whichever way it is known.
struct Use {
    bills: replay::Bills,
    hours: f64,
    /// Of the proxy's machine.
    burden: Burden,
    /// In and out of the proxy.
    proxy_gb: f64,
    workload: Workload,
    demand: Demand,
    outcome: Option<Outcome>,
}

/// Calculates and shows it.
pub(crate) fn run(mut args: Args) -> Result<()> {
    if args.quick {
        args.pool.make_quick();
    }
    let report = args.report()?;
    let json = serde_json::to_string_pretty(&report)?;
    match &args.json {
        Some(path) if path.as_os_str() == "-" => println!("{json}"),
        path => {
            print!("{}", report::text(&report, args.markdown));
            if let Some(path) = path {
                std::fs::write(path, json)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
    }
    if let Some(folder) = &args.plot {
        std::fs::create_dir_all(folder).with_context(|| format!("no {}", folder.display()))?;
        for curves in &report.break_even {
            let path = folder.join(format!("cost-{}.svg", curves.along.file()));
            std::fs::write(&path, draw(curves))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn draw(curves: &Curves) -> String {
    let line = |l: &breakeven::Line| (l.name.replace('_', " "), l.points.clone());
    let chart = Chart {
        title: "dollars an hour, pools and machines of the size that is needed",
        along: curves.along.name(),
        unit: "$",
        lines: curves.lines.iter().map(line).collect(),
    };
    chart.svg()
}

impl Args {
    fn check(&self) -> Result<()> {
        for (flag, value) in [
            ("--stored-gb", self.stored_gb),
            ("--object-mb", self.object_mb),
            ("--gets-per-hour", self.gets_per_hour),
        ] {
            if value.is_some_and(|v| !(v.is_finite() && v > 0.0)) {
                bail!("{flag} must be more than 0");
            }
        }
        if !(self.sets_per_hour.is_finite() && self.sets_per_hour >= 0.0) {
            bail!("--sets-per-hour must not be less than 0");
        }
        if !(self.peak.is_finite() && self.peak >= 1.0) {
            bail!("--peak must be 1 or more");
        }
        if !(0.0..=1.0).contains(&self.cross_zone_share) {
            bail!("--cross-zone-share is a share of 1");
        }
        Ok(())
    }

    fn report(&self) -> Result<Report> {
        self.check()?;
        let prices = PriceFile::read(self.prices.as_deref())?;
        let lambda = prices.lambda()?;
        let arch = Architecture::from(self.arch);
        let pattern = self.pool.pattern()?;
        let loss_rate = pattern.losses_per_instance_hour();
        let mut pool = self.pool.clone();
        let used = match self.described() {
            Some(workload) => self.formulas(&mut pool, workload, loss_rate, arch)?,
            None => self.simulation(&pattern, arch)?,
        };
        let ours = |arch, named: Option<&str>| self.ours(&used, &prices, &lambda, arch, named);
        let named = self.proxy_machine.as_deref();
        let mut architectures = vec![
            ours(Architecture::Arm, named)?,
            ours(Architecture::X86, named)?,
        ];
        if named.is_none() {
            let arm = architectures[0].proxy_machine.name.clone();
            architectures.push(ours(Architecture::X86, Some(&arm))?);
        }
        let own = ours(arch, named)?;
        let settings = pool.settings(1, arch)?;
        let hour = Model {
            settings: &settings,
            workload: &used.workload,
            loss_rate,
        }
        .hour();
        let formula: f64 = formula::usd(&hour.bills, &lambda, arch).iter().sum();
        let market = Market {
            args: &pool,
            prices: &prices,
            lambda: &lambda,
            arch,
            proxy: named,
            loss_rate,
        };
        let curves = Along::ALL.map(|along| market.curves(&used.workload, along));
        let break_even = curves.into_iter().collect::<Result<Vec<Curves>>>()?;
        let peers = peers::all(&used.demand, &prices)?;
        let (hours, outcome) = (used.hours, used.outcome);
        let recommendation = words::recommend(&own, hours, &used.demand, &peers, &break_even);
        let share = |of: fn(&Outcome) -> f64| outcome.as_ref().map(of);
        Ok(Report {
            pool: format!(
                "{} nodes of {} MiB, {}+{}, {:.1} GB of objects",
                pool.nodes,
                pool.memory_mb,
                pool.geometry.0,
                pool.geometry.1,
                pool.capacity_bytes() as f64 / 1e9
            ),
            arch: own.arch,
            hours,
            total_usd: own.total_usd,
            usd_per_hour: own.total_usd / hours,
            usd_by_purpose: own.usd_by_purpose,
            proxy_machine: own.proxy_machine,
            hit_ratio: share(|o| o.hit_ratio),
            lru_hit_ratio: share(|o| o.lru_hit_ratio),
            reset_share_of_hits: share(|o| o.reset_share_of_hits),
            workload: used.workload,
            demand: used.demand,
            peers,
            architectures,
            formula_usd: formula * hours,
            break_even,
            recommendation,
            prices: prices.name().to_owned(),
            region: prices.region().to_owned(),
            unchecked_prices: peers::RECALLED
                .map(str::to_owned)
                .into_iter()
                .chain(prices.unchecked())
                .collect(),
            replay: outcome,
        })
    }

    fn described(&self) -> Option<Workload> {
        Some(Workload {
            stored_gb: self.stored_gb?,
            object_mb: self.object_mb?,
            gets_per_hour: self.gets_per_hour?,
            sets_per_hour: self.sets_per_hour,
            peak: self.peak,
        })
    }

    /// An hour of what is described, on a pool into which it fits.
    fn formulas(
        &self,
        pool: &mut PoolArgs,
        workload: Workload,
        loss_rate: f64,
        arch: Architecture,
    ) -> Result<Use> {
        pool.nodes = formula::nodes_for(pool, workload.stored_gb);
        if pool.capacity_bytes() as f64 / 1e9 < workload.stored_gb {
            bail!("{} GB do not fit a pool", workload.stored_gb);
        }
        let settings = pool.settings(1, arch)?;
        let model = Model {
            settings: &settings,
            workload: &workload,
            loss_rate,
        };
        let hour = model.hour();
        Ok(Use {
            bills: hour.bills,
            hours: 1.0,
            burden: workload.burden(hour.proxy_mb_s),
            proxy_gb: hour.proxy_mb_s * 3.6 * 2.0,
            workload,
            demand: workload.demand(),
            outcome: None,
        })
    }

    /// The whole trace.
    fn simulation(
        &self,
        pattern: &crate::availability::patterns::Pattern,
        arch: Architecture,
    ) -> Result<Use> {
        let trace = self.pool.requests(self.quick)?;
        let story = self.pool.story(&trace);
        let settings = self.pool.settings(story.hours, arch)?;
        let outcome = replay::play(&self.pool, &story, pattern, &settings, trace.skipped);
        let (hours, tally) = (outcome.hours as f64, outcome.tally);
        let moved = tally.read_bytes + tally.stored_bytes;
        let [mean, busiest_hour, _] = outcome.proxy_mb_s;
        let peak = (busiest_hour / mean.max(f64::MIN_POSITIVE)).max(1.0);
        let stored_gb = tally.held_byte_hours / hours / 1e9;
        let workload = Workload {
            stored_gb,
            object_mb: moved / (tally.hits + tally.stores).max(1.0) / 1e6,
            gets_per_hour: tally.hits / hours,
            sets_per_hour: tally.stores / hours,
            peak,
        };
        let demand = Demand {
            capacity_gb: self.pool.capacity_bytes() as f64 / 1e9,
            stored_gb,
            gets: tally.gets / hours,
            // those after misses are only the cache's
            sets: trace.requests.iter().filter(|r| r.op == Op::Set).count() as f64 / hours,
            read_gb: tally.read_bytes / hours / 1e9,
            written_gb: tally.stored_bytes / hours / 1e9,
            peak,
        };
        Ok(Use {
            bills: outcome.bills,
            hours,
            burden: workload.burden(mean),
            proxy_gb: outcome.proxy_gb.iter().sum(),
            workload,
            demand,
            outcome: Some(outcome),
        })
    }

    fn ours(
        &self,
        used: &Use,
        prices: &PriceFile,
        lambda: &local_lambda::Prices,
        arch: Architecture,
        named: Option<&str>,
    ) -> Result<Ours> {
        let machine = machine::choose(named, arch, used.burden, prices)?;
        let [serve, warm, backup, repair] = formula::usd(&used.bills, lambda, arch);
        let usd_by_purpose = ByPurpose {
            serve,
            warm,
            backup,
            repair,
            proxy: machine.usd_per_hour * used.hours,
            // out of one zone and into another: both are charged
            cross_zone: match self.cross_zone_share > 0.0 {
                true => {
                    let each = prices.usd(&["cross_az_gb_each_way"])?;
                    used.proxy_gb * self.cross_zone_share * each * 2.0
                }
                false => 0.0,
            },
            backing_store: match self.backing_store {
                true => self.backing_usd(used, prices)?,
                false => 0.0,
            },
        };
        Ok(Ours {
            arch: replay::arch_name(arch),
            proxy_machine: machine,
            total_usd: usd_by_purpose.total(),
            usd_by_purpose,
        })
    }

    /// Each object is uploaded in parts, and kept for as long as it is indexed.
    fn backing_usd(&self, used: &Use, prices: &PriceFile) -> Result<f64> {
        let price = |what| prices.usd(&["s3", what]);
        let parts = (used.workload.object_mb * 1e6 / PART_BYTES).ceil();
        let puts = if parts > 1.0 { parts + 2.0 } else { 1.0 };
        let kept = used.demand.stored_gb * used.hours / HOURS_OF_MONTH * price("gb_month")?;
        let resets = used.outcome.as_ref().map_or(0.0, |o| o.tally.resets);
        let uploads = used.workload.sets_per_hour * used.hours * puts * price("put")?;
        Ok(kept + uploads + resets * price("get")?)
    }
}

#[cfg(test)]
mod tests;
