//! `scatterhoard-sim`: runs seeds, tells which of them broke a promise.

use std::{
    ops::Range,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use parking_lot::Mutex;
use scatterhoard_sim::world::{self, Report};
use tracing_subscriber::filter::LevelFilter;

#[derive(Parser)]
#[command(
    version,
    about = "Scatterhoard on a simulated platform, in virtual time"
)]
struct Args {
    /// Seeds to run, the last one excluded: FROM..TO, or one seed
    #[arg(long, value_name = "FROM..TO", default_value = "0..200")]
    seeds: String,
    /// Runs at a time [default: one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Run every seed twice and compare the histories
    #[arg(long)]
    twice: bool,
    /// Print every event to stderr, and what the proxy logs
    #[arg(long)]
    trace: bool,
}

#[derive(Default)]
struct Total {
    runs: u64,
    failed: Vec<u64>,
    events: u64,
    lost: u64,
    lives: u64,
    virtual_time: Duration,
}

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]
fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn seeds(text: &str) -> anyhow::Result<Range<u64>> {
    let number = |text: &str| {
        text.trim()
            .parse()
            .with_context(|| format!("not a seed: {text}"))
    };
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => {
            let seed = number(text)?;
            Ok(seed..seed + 1)
        }
    }
}

#[allow(clippy::print_stdout, reason = "what it is asked to print")]
fn run(args: &Args) -> anyhow::Result<usize> {
    let seeds = seeds(&args.seeds)?;
    if args.trace {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::DEBUG)
            .with_ansi(false)
            .without_time()
            .with_writer(std::io::stderr)
            .init();
    }
    let threads = match args.threads {
        Some(threads) => threads.max(1),
        None => std::thread::available_parallelism()?.get(),
    };
    let (began, next, total) = (
        Instant::now(),
        AtomicU64::new(seeds.start),
        Mutex::new(Total::default()),
    );
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return Ok(());
                        }
                        let report = match args.twice {
                            true => world::run_twice(seed),
                            false => world::run(seed, args.trace),
                        };
                        total
                            .lock()
                            .add(seed, &report.with_context(|| format!("seed {seed}"))?);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a run panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let total = total.into_inner();
    println!(
        "{} seeds in {:.1?}: {:.1} h of virtual time, {} events, {} lives of proxies, {} values lost with their chunks; failed: {:?}",
        total.runs,
        began.elapsed(),
        total.virtual_time.as_secs_f64() / 3600.0,
        total.events,
        total.lives,
        total.lost,
        total.failed,
    );
    Ok(total.failed.len())
}

impl Total {
    #[allow(clippy::print_stdout, reason = "what it is asked to print")]
    fn add(&mut self, seed: u64, report: &Report) {
        self.runs += 1;
        self.events += report.fingerprint.1;
        self.lost += report.lost;
        self.lives += report.lives;
        self.virtual_time += report.took;
        if !report.violations.is_empty() {
            self.failed.push(seed);
            println!("seed {seed}: {}", report.violations.join("\n"));
        }
    }
}
