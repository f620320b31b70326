//! The order of work: for every cell, rounds; in every round, each target in turn.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::timeout;

use crate::keys::{self, Keys, Verify};
use crate::measure::Samples;
use crate::report::{Report, Row};
use crate::size::Size;
use crate::target::{self, Target, TargetPid};
use crate::workload::{self, Cell, Op};
use scatterhoard_judge::bodies::Bodies;

/// Without `--keys`, a cell's keys hold about this much: more than the caches of a
/// processor, less than would strain a small machine that runs two servers.
const KEYS_BUDGET_BYTES: usize = 64_000_000;
pub(crate) const BODY_SEED: u64 = 0x5ca7_7e20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A server to load; repeat for several. Ratios are to the first one.
    #[arg(long = "target", value_name = "NAME=HOST:PORT", required = true)]
    targets: Vec<Target>,
    /// Root of a target's process tree, for its CPU time.
    #[arg(long = "pid", value_name = "NAME=PID")]
    pids: Vec<TargetPid>,
    /// Object sizes: 1k is 1000 bytes, 1kb is 1024.
    #[arg(long, value_delimiter = ',', default_value = "1k,100k,1m,10m")]
    sizes: Vec<Size>,
    #[arg(long, value_delimiter = ',', default_value = "set,get")]
    ops: Vec<Op>,
    /// Connections that work at the same time.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Commands sent before the replies are read (meant for small objects).
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    #[command(flatten)]
    pub(crate) plan: Plan,
    #[command(flatten)]
    output: Output,
}

/// How long and how carefully to measure.
#[derive(Clone, clap::Args)]
pub(crate) struct Plan {
    /// Rounds per cell; figures are medians over them.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Measured seconds per cell, round and target.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Distinct keys per cell [default: about 64 MB of them, between 4 and 1000].
    #[arg(long)]
    pub(crate) keys: Option<usize>,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// What to compare of the bodies that come back.
    #[arg(long, value_enum, default_value = "full")]
    pub(crate) verify: Verify,
}

#[derive(Clone, clap::Args)]
pub(crate) struct Output {
    /// Also write all figures to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Print the table as Markdown.
    #[arg(long)]
    pub(crate) markdown: bool,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    ensure!(
        args.clients > 0 && args.pipeline > 0,
        "--clients and --pipeline start at 1"
    );
    ensure!(args.plan.rounds > 0, "--rounds starts at 1");
    let mut targets = args.targets;
    target::assign_pids(&mut targets, &args.pids)?;
    let mut report = Report::default();
    for size in &args.sizes {
        for &op in &args.ops {
            let cell = Cell {
                op,
                size: size.clone(),
                clients: args.clients,
                pipeline: args.pipeline,
            };
            report
                .rows
                .extend(run_cell(&targets, &cell, &args.plan).await?);
        }
    }
    report.publish(&args.output)
}

/// Measures one cell on all targets; the first target's row comes first.
pub(crate) async fn run_cell(targets: &[Target], cell: &Cell, plan: &Plan) -> Result<Vec<Row>> {
    let bodies = Arc::new(Bodies::new(cell.size.bytes, BODY_SEED));
    let count = plan
        .keys
        .unwrap_or_else(|| (KEYS_BUDGET_BYTES / cell.size.bytes).clamp(4, 1_000));
    let mut runs = Vec::with_capacity(targets.len());
    for target in targets {
        let keys = Arc::new(Keys::new(cell, count, Arc::clone(&bodies)));
        keys::populate(target, &keys)
            .await
            .with_context(|| place(target, cell))?;
        runs.push((target, keys, Samples::new()?));
    }
    for _ in 0..plan.rounds {
        for (target, keys, samples) in &mut runs {
            let round = workload::run_round(target, cell, keys, plan.seconds, plan.verify);
            let measured = within(plan.seconds, round)
                .await
                .with_context(|| place(target, cell))?;
            samples.rounds.push(measured.round);
            samples.add_times(&measured.latency_ns, &measured.first_byte_ns)?;
        }
    }
    let first_rate = runs[0].2.summary().ops_per_s;
    let mut rows = Vec::with_capacity(runs.len());
    for (target, keys, samples) in runs {
        keys::clean(target, &keys)
            .await
            .with_context(|| place(target, cell))?;
        rows.push(Row::new(cell, target, samples, first_rate));
    }
    Ok(rows)
}

/// A server that hangs in a round of `seconds` must end the run and not hang it.
pub(crate) async fn within<T>(seconds: f64, round: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = Duration::from_secs_f64(seconds * 3.0 + 60.0);
    timeout(limit, round)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no progress within {limit:?}")))
}

fn place(target: &Target, cell: &Cell) -> String {
    format!(
        "{} ({}), {} {}",
        target.name, target.address, cell.op, cell.size
    )
}
