//! redis-server and scatterhoard side by side: started, measured in turn, judged, ended.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::goals::{GoalRow, QUICK, Table};
use crate::keys::Verify;
use crate::load::{Output, Plan, run_cell};
use crate::measure::median;
use crate::procfs;
use crate::report::Report;
use crate::server::{Pool, Server, start_redis, start_scatterhoard};
use crate::workload::Cell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The scatterhoard program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    scatterhoard: Option<PathBuf>,
    /// The redis-server program.
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    redis_server: PathBuf,
    /// Which rows to measure.
    #[arg(long, value_enum, default_value = "basic")]
    table: Table,
    /// A few seconds of every kind of row: checks contents, judges no speed.
    #[arg(long)]
    quick: bool,
    /// Rounds per cell; figures are medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds per cell, round and target.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    #[command(flatten)]
    pool: Pool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Dropping the comparison kills its servers: none outlives this program.
    tokio::select! {
        done = compare(&args) => done,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}

async fn compare(args: &Args) -> Result<()> {
    let rows = if args.quick { QUICK } else { args.table.rows() };
    let redis = start_redis(&args.redis_server).await?;
    let mut report = Report::default();
    // Rows next to each other with the same settings share one scatterhoard.
    for group in rows.chunk_by(|a, b| (a.hot_tier_mb, a.ack) == (b.hot_tier_mb, b.ack)) {
        measure_group(args, &redis, group, &mut report).await?;
    }
    redis.stop().await?;
    report.publish(&args.output)
}

async fn measure_group(
    args: &Args,
    redis: &Server,
    group: &[GoalRow],
    report: &mut Report,
) -> Result<()> {
    let (hot_tier_mb, ack) = (group[0].hot_tier_mb, group[0].ack);
    let program = scatterhoard_program(args)?;
    let server = start_scatterhoard(&program, &args.pool, hot_tier_mb, ack).await?;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    report.footer.push(memory_line(
        &server,
        &format!("hot tier {hot_tier_mb} MB, ack {}, idle", ack.name()),
    ));
    let targets = [redis.target.clone(), server.target.clone()];
    for row in group {
        let cell = Cell {
            op: row.op,
            size: row.size.parse()?,
            clients: row.clients,
            pipeline: row.pipeline,
        };
        let mut rows = run_cell(&targets, &cell, &plan(args, row))
            .await
            .with_context(|| format!("scatterhoard's log ends:\n{}", server.log_tail()))?;
        if let Some(ours) = rows.last_mut().filter(|_| !args.quick) {
            ours.goals = row
                .goals
                .iter()
                .map(|goal| goal.judge(&ours.summary, ours.ratio))
                .collect();
        }
        report.rows.extend(rows);
    }
    report.footer.push(memory_line(
        &server,
        &format!(
            "hot tier {hot_tier_mb} MB, ack {}, after the load",
            ack.name()
        ),
    ));
    server.stop().await
}

fn plan(args: &Args, row: &GoalRow) -> Plan {
    let (rounds, seconds) = if args.quick {
        (1, 0.2)
    } else {
        (args.rounds, args.seconds)
    };
    // Several clients would compare bodies on the servers' time: check ends there, and
    // every key in full after each round.
    let verify = if row.clients == 1 || args.quick {
        Verify::Full
    } else {
        Verify::Ends
    };
    Plan {
        rounds,
        seconds,
        keys: None,
        threads: args.threads,
        verify,
    }
}

fn scatterhoard_program(args: &Args) -> Result<PathBuf> {
    if let Some(path) = &args.scatterhoard {
        // The server runs in a folder of its own: a relative path would miss.
        return path
            .canonicalize()
            .with_context(|| format!("--scatterhoard {}", path.display()));
    }
    let own = std::env::current_exe()?;
    Ok(own.with_file_name("scatterhoard"))
}

/// Resident memory of the proxy and of its node processes.
fn memory_line(server: &Server, when: &str) -> String {
    let mib = |kib: f64| kib / 1024.0;
    let Some(pid) = server.target.pid else {
        return String::new();
    };
    let nodes = procfs::descendants_rss_kib(pid);
    let proxy = procfs::rss_kib(pid).map_or(0.0, |kib| mib(kib as f64));
    let largest = mib(nodes.iter().copied().max().unwrap_or(0) as f64);
    let middle = mib(median(nodes.iter().map(|&kib| kib as f64).collect()));
    format!(
        "RSS ({when}): proxy {proxy:.1} MiB, {} node processes: median {middle:.1} MiB, \
         largest {largest:.1} MiB",
        nodes.len()
    )
}
