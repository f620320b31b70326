//! `replay`: a whole trace on a pool of bounded capacity, in virtual time, with the
//! proxy's own policies: what is hit, what is lost, what is invoked for it.

mod pool;
mod runs;
mod story;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use local_lambda::Architecture;

pub(crate) use pool::PoolArgs;
pub(crate) use runs::{Bills, Outcome, arch_name, play};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pool: PoolArgs,
    /// In virtual time, nodes and platform simulated: the only mode so far.
    #[arg(long, required_unless_present = "quick")]
    pure: bool,
    /// Three hours of a generated trace on 40 nodes, unless there is a trace.
    #[arg(long)]
    quick: bool,
    /// Writes everything there; without a file, to the standard output instead of text.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

/// Plays the trace and tells what came of it.
pub(crate) fn run(mut args: Args) -> Result<()> {
    if args.quick {
        args.pool.make_quick();
    }
    let trace = args.pool.requests(args.quick)?;
    let (story, pattern) = (args.pool.story(&trace), args.pool.pattern()?);
    let settings = args.pool.settings(story.hours, Architecture::X86)?;
    let outcome = play(&args.pool, &story, &pattern, &settings, trace.skipped);
    let json = serde_json::to_string_pretty(&outcome)?;
    match &args.json {
        Some(path) if path.as_os_str() == "-" => println!("{json}"),
        path => {
            print!("{}", text(&outcome));
            if let Some(path) = path {
                std::fs::write(path, json)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
    }
    Ok(())
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
mod tests;
