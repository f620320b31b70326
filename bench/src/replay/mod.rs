//! `replay`: a whole trace on a pool of bounded capacity: through the real proxy, sped up
//! and at a smaller size, or in virtual time with the proxy's own policies: what is hit,
//! what is lost, what is invoked for it.

mod pool;
mod profile;
mod real;
mod runs;
mod story;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use local_lambda::Architecture;
use serde::Serialize;

pub(crate) use pool::PoolArgs;
pub(crate) use profile::Probed;
use real::{RealArgs, RealOutcome};
pub(crate) use runs::{Bills, Outcome, arch_name, play};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pool: PoolArgs,
    /// In virtual time, nodes and platform simulated.
    #[arg(long)]
    pure: bool,
    #[command(flatten)]
    real: RealArgs,
    /// Three hours of a generated trace on 40 nodes in virtual time, unless there is a trace;
    /// then, without --pure, a generated hour for real.
    #[arg(long)]
    quick: bool,
    /// Writes everything there; without a file, to the standard output instead of text.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

/// What is written as JSON: one of both, or both.
#[derive(Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    pure: Option<&'a Outcome>,
    /// Beside the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    real: Option<&'a RealOutcome>,
}

/// Plays the trace and tells what came of it.
pub(crate) fn run(mut args: Args) -> Result<()> {
    if args.quick {
        args.pool.make_quick();
        args.real.make_quick();
    }
    let pure = (args.pure || args.quick).then(|| args.play_pure());
    let pure = pure.transpose()?;
    let real = (!args.pure).then(|| args.play_real());
    let real = real.transpose()?;
    let json = match (&pure, &real) {
        (None, Some(real)) => serde_json::to_string_pretty(real)?,
        (pure, real) => serde_json::to_string_pretty(&Said {
            pure: pure.as_ref(),
            real: real.as_ref(),
        })?,
    };
    match &args.json {
        Some(path) if path.as_os_str() == "-" => println!("{json}"),
        path => {
            let said = pure.iter().map(text);
            let markdown = args.real.markdown();
            let said = said.chain(real.iter().map(|o| real::text(o, markdown)));
            print!("{}", said.collect::<Vec<String>>().join("\n"));
            if let Some(path) = path {
                std::fs::write(path, json)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
    }
    let Some(real) = real else {
        return Ok(());
    };
    if let Some(folder) = args.real.plot() {
        real::draw(&real, folder)?;
    }
    if let Some(why) = &real.broken_off {
        bail!("broken off: {why}");
    }
    ensure!(!args.quick || real.counts.hits > 0, "nothing was hit");
    Ok(())
}

impl Args {
    fn play_pure(&self) -> Result<Outcome> {
        let trace = self.pool.requests(self.quick)?;
        let (story, pattern) = (self.pool.story(&trace), self.pool.pattern()?);
        let settings = self.pool.settings(story.hours, Architecture::X86)?;
        let skipped = trace.skipped;
        Ok(play(&self.pool, &story, &pattern, &settings, skipped))
    }

    fn play_real(&self) -> Result<RealOutcome> {
        let (trace, pattern, day) = match self.quick {
            true => {
                let (trace, pattern) = real::quick();
                (trace, pattern, "a tenth every third minute".into())
            }
            false => (
                self.pool.requests(false)?,
                self.pool.pattern()?,
                self.pool.day_name(),
            ),
        };
        real::run(&self.real, &self.pool, trace, &pattern, day)
    }
}

/// A page of text.
pub(crate) fn text(o: &Outcome) -> String {
    let mut text = String::new();
    let percent = |share: f64| format!("{:.3} %", share * 100.0);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<34}{value}");
    };
    let (pool, tally) = (&o.pool, &o.tally);
    line(
        "pool",
        format!(
            "{} nodes of {} MiB, {}, {:.1} GB of objects at {} MB/s a function",
            pool.nodes, pool.memory_mb, pool.geometry, pool.capacity_gb, pool.function_mb_s
        ),
    );
    if let Some(profile) = &pool.profile {
        line("platform", profile.to_string());
    }
    line("reclaims", format!("{}: {:.0}", o.day, o.reclaims));
    line("", format!("both instances of a node {:.1} times", o.pairs));
    line("seeds", format!("{:?}", o.seeds));
    line(
        "trace",
        format!(
            "{} requests in {} h, {} lines skipped",
            o.requests, o.hours, o.skipped_lines
        ),
    );
    line("hit ratio", percent(o.hit_ratio));
    line(
        "  of an LRU without losses",
        format!("{} (same capacity)", percent(o.lru_hit_ratio)),
    );
    line(
        "RESETs, share of hits",
        format!(
            "{} ({:.1}; worst seed {})",
            percent(o.reset_share_of_hits),
            tally.resets,
            percent(o.worst_seed_reset_share_of_hits)
        ),
    );
    line(
        "available in the worst hour",
        percent(o.worst_hour_available),
    );
    line(
        "stored, evicted, too large",
        format!(
            "{:.0}, {:.0}, {:.0}",
            tally.stores, tally.evicted, tally.too_large
        ),
    );
    line(
        "GB read, stored, backups, repairs",
        format!(
            "{:.0}, {:.0}, {:.0}, {:.0}",
            tally.read_bytes / 1e9,
            tally.stored_bytes / 1e9,
            o.backup_gb,
            o.repair_gb
        ),
    );
    let [mean, hour, minute] = o.proxy_mb_s;
    line(
        "MB/s through the proxy",
        format!("{mean:.0}, busiest hour {hour:.0}, busiest minute {minute:.0}"),
    );
    let bills = &o.bills;
    for (name, bill) in [
        ("serve", bills.serve),
        ("warm", bills.warm),
        ("backup", bills.backup),
        ("repair", bills.repair),
    ] {
        line(
            name,
            format!("{:.0} invocations, {:.0} GB-s", bill.invocations, bill.gb_s),
        );
    }
    text
}

#[cfg(test)]
pub(crate) use profile::tests::profile as slow_profile;

#[cfg(test)]
mod tests;
