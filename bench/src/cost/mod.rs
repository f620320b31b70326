//! `cost`: what a trace or a described workload costs here and elsewhere.
//!
//! A trace is played through the pool's own policies (`replay`); what is described is
//! put into formulas. `docs/cost.md` has the method, and where each figure is from.

mod args;
mod breakeven;
mod cut;
mod formula;
mod machine;
mod measure;
mod module;
mod ours;
mod peers;
mod prices;
mod report;
mod running;
mod words;

use anyhow::{Result, bail};
use local_lambda::Architecture;
use serde::Serialize;

use crate::chart::Chart;
use crate::replay::{self, Outcome, PoolArgs, Probed};
use crate::results::Results;
use crate::trace::{Op, Trace};
pub(crate) use args::Args;
use breakeven::{Along, Curves, Market};
use formula::{Model, Workload};
use machine::{Burden, Known, Processor, ProxyMachine};
use measure::Measured;
use ours::{ByPurpose, Ours};
use peers::{Demand, Peer};
use prices::{PriceFile, Source};

/// Everything that is said.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) pool: String,
    pub(crate) arch: &'static str,
    pub(crate) hours: f64,
    pub(crate) total_usd: f64,
    pub(crate) usd_per_hour: f64,
    pub(crate) usd_by_purpose: ByPurpose,
    /// Of the total: serving, warm-up, backups, repairs, the proxy's machine, traffic between
    /// zones, the backing store.
    pub(crate) core_usd: f64,
    /// Of the runs, of a generated trace and of contents; the others count up from it.
    pub(crate) seed: u64,
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
    /// Section by section.
    pub(crate) price_sources: Vec<Source>,
    /// Prices that the file lacks: the shipped file's.
    pub(crate) borrowed_prices: Vec<String>,
    /// Prices, and what else was recalled and not checked.
    pub(crate) unchecked_prices: Vec<String>,
    /// What the proxy's machine is chosen by.
    pub(crate) processor: Known,
    /// On the spot, if that was asked for.
    pub(crate) measured: Option<Measured>,
    /// What was measured of the platform, if a file of that was named.
    pub(crate) profile: Option<Probed>,
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
    let ended = report.replay.as_ref().map_or(Ok(()), Outcome::end);
    args.output.close(ended, &report)
}

impl Results for Report {
    fn text(&self, markdown: bool) -> String {
        report::text(self, markdown)
    }

    fn drawings(&self) -> Vec<(String, String)> {
        let curves = self.break_even.iter();
        let file = |c: &Curves| format!("cost-{}.svg", c.along.file());
        curves.map(|c| (file(c), draw(c))).collect()
    }
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
    fn report(&self) -> Result<Report> {
        self.check()?;
        let prices = PriceFile::read(self.prices.as_deref())?;
        let lambda = prices.lambda()?;
        let arch = Architecture::from(self.arch);
        let pattern = self.pool.pattern()?;
        let measure = || measure::measure(self.scatterhoard.as_deref(), self.pool.seed);
        let measured = self.measure.then(measure).transpose()?;
        let known = measured
            .as_ref()
            .map_or_else(Known::documented, Measured::known);
        let processor = known.figures;
        let loss_rate = pattern.losses_per_instance_hour();
        let mut pool = self.pool.clone();
        let used = match self.described() {
            Some(workload) => self.formulas(&mut pool, workload, loss_rate, arch, processor)?,
            None => self.simulation(&pattern, arch, processor)?,
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
            running: self.running,
            backing_store: self.backing_store,
            processor,
        };
        let curves = Along::ALL.map(|along| market.curves(&used.workload, along));
        let break_even = curves.into_iter().collect::<Result<Vec<Curves>>>()?;
        let peers = peers::all(&used.demand, &prices, self.running.root_volume_gb)?;
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
            core_usd: own.core_usd,
            seed: self.pool.seed,
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
            price_sources: prices.sources(),
            borrowed_prices: prices.borrowed(),
            unchecked_prices: peers::RECALLED
                .map(str::to_owned)
                .into_iter()
                .chain(prices.unchecked())
                .collect(),
            processor: known,
            measured,
            profile: self.pool.profile.clone(),
            replay: outcome,
        })
    }

    /// An hour of what is described, on a pool into which it fits.
    fn formulas(
        &self,
        pool: &mut PoolArgs,
        workload: Workload,
        loss_rate: f64,
        arch: Architecture,
        processor: Processor,
    ) -> Result<Use> {
        pool.nodes = formula::nodes_for(pool, &workload, arch)?;
        if pool.nodes == u16::MAX {
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
            burden: workload.burden(hour.proxy_mb_s, processor),
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
        processor: Processor,
    ) -> Result<Use> {
        let trace = self.pool.requests(self.quick)?;
        let story = self.pool.story(&trace);
        let settings = self.pool.settings(story.hours, arch)?;
        let outcome = replay::play(&self.pool, &story, pattern, &settings, trace.skipped)?;
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
            client_peak: busiest_hour_of(&trace, self.pool.max_object_mb << 20),
        };
        let demand = Demand {
            capacity_gb: self.pool.capacity_bytes() as f64 / 1e9,
            stored_gb,
            gets: tally.gets / hours,
            // those after misses are only the cache's
            sets: trace.requests.iter().filter(|r| r.op == Op::Set).count() as f64 / hours,
            stores: tally.stores / hours,
            read_gb: tally.read_bytes / hours / 1e9,
            written_gb: tally.stored_bytes / hours / 1e9,
            peak: workload.client_peak,
        };
        Ok(Use {
            bills: outcome.bills,
            hours,
            burden: workload.burden(mean, processor),
            proxy_gb: outcome.proxy_gb.iter().sum(),
            workload,
            demand,
            outcome: Some(outcome),
        })
    }
}

/// The busiest hour's multiple of the mean, of the bytes that are asked for and may be
/// stored.
fn busiest_hour_of(trace: &Trace, largest_bytes: u64) -> f64 {
    let mut hours: Vec<f64> = Vec::new();
    for request in &trace.requests {
        let hour = (request.at_s / 3600.0) as usize;
        if hours.len() <= hour {
            hours.resize(hour + 1, 0.0);
        }
        if request.bytes <= largest_bytes {
            hours[hour] += request.bytes as f64;
        }
    }
    let mean = hours.iter().sum::<f64>() / hours.len().max(1) as f64;
    let busiest = hours.iter().copied().fold(0.0, f64::max);
    if mean > 0.0 { busiest / mean } else { 1.0 }
}

#[cfg(test)]
mod tests;
