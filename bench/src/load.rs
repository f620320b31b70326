//! The order of work: for every cell, rounds; in every round, each target in turn.

pub(crate) mod mix;
pub(crate) mod popularity;
pub(crate) mod schedule;
pub(crate) mod sizes;
pub(crate) mod traffic;
pub(crate) mod worker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::client::Connection;
use crate::interrupt::Signals;
use crate::keys::{self, Verify};
use crate::measure::Samples;
use crate::progress::Progress;
use crate::report::{Report, Row};
use crate::results::Output;
use crate::size::Size;
use crate::target::{self, Protocol, Target, TargetPid};
use crate::workload::{self, Cell, Op, Run};
use mix::Mix;
use sizes::Sizes;
use traffic::Traffic;

/// For a server to say that it is one.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// Keys, clients and requests that are sent at once: more is a typing error.
const MAX_KEYS: usize = 10_000_000;
const MAX_CLIENTS: usize = 10_000;
const MAX_PIPELINE: usize = 10_000;
const MAX_SECONDS: f64 = 1e6;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A server to load; repeat for several. Ratios are to the first one. RESP is spoken;
    /// NAME=redis://USER:PASSWORD@HOST:PORT says who asks (USER may be empty), and with
    /// NAME=memcached://HOST:PORT it is memcached's text protocol.
    #[arg(long = "target", value_name = "NAME=HOST:PORT", required = true)]
    targets: Vec<Target>,
    /// Root of a process tree of a target, for its CPU time; repeat for several.
    #[arg(long = "pid", value_name = "NAME=PID")]
    pids: Vec<TargetPid>,
    /// Object sizes, a row each: 1k is 1000 bytes, 1kb is 1024.
    #[arg(long, value_delimiter = ',', default_value = "1k,100k,1m,10m")]
    sizes: Vec<Size>,
    /// Objects of several sizes in one row: 1k=70,1m=30 (weights), or
    /// lognormal:median=100k,sigma=1.5,min=1k,max=10m, or loguniform:min=1k,max=1m, or trace.
    #[arg(long, value_name = "SPEC", conflicts_with = "sizes")]
    size_mix: Option<Sizes>,
    /// Operations, a row each.
    #[arg(long, value_delimiter = ',', default_value = "set,get")]
    ops: Vec<Op>,
    /// Several operations in one row: get=90,set=10, or trace.
    #[arg(long, value_name = "SHARES", conflicts_with = "ops")]
    mix: Option<Mix>,
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
    /// Seconds of load before those that are measured, in each round [default: a fifth of
    /// them, 0.3 at most].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) warm_up: Option<f64>,
    /// Distinct keys per cell [default: about 64 MB of them, between 4 and 1000].
    #[arg(long)]
    pub(crate) keys: Option<usize>,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// What to compare of the bodies that come back.
    #[arg(long, value_enum, default_value = "full")]
    pub(crate) verify: Verify,
    #[command(flatten)]
    pub(crate) traffic: Traffic,
    #[arg(skip)]
    pub(crate) progress: Progress,
    /// Rounds end early when told.
    #[arg(skip)]
    pub(crate) stop: Arc<Notify>,
}

/// Measures; what was measured until an error is published, too.
pub(crate) async fn run(mut args: Args) -> Result<()> {
    args.prepare()?;
    let mut report = Report::new(args.plan.traffic.seed);
    let skipped = args.plan.traffic.skipped_lines();
    let words = skipped.map(|lines| format!("{lines} bad lines of the trace skipped"));
    report.footer.extend(words);
    let ended = until_stopped(&args.plan.stop, measure(&args, &mut report.rows)).await;
    args.plan.progress.end();
    report.draw_latencies();
    report.close(ended, &args.output)
}

/// Asks the work to stop at the first signal, and drops it at the second.
async fn until_stopped(stop: &Notify, work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut signals = Signals::new()?;
    let mut work = std::pin::pin!(work);
    let mut is_asked = false;
    loop {
        tokio::select! {
            biased;
            word = signals.next() => {
                ensure!(!is_asked, word);
                is_asked = true;
                stop.notify_one();
            }
            ended = &mut work => return ended,
        }
    }
}

async fn measure(args: &Args, rows: &mut Vec<Row>) -> Result<()> {
    for target in &args.targets {
        greet(target).await?;
    }
    for cell in args.cells() {
        measure_cell(&args.targets, &cell, &args.plan, rows).await?;
    }
    Ok(())
}

/// Whether there is a server that speaks what it should.
pub(crate) async fn greet(target: &Target) -> Result<()> {
    let wanted = match target.protocol {
        Protocol::Resp => "a server that speaks RESP (Redis's protocol)",
        Protocol::Memcached => "memcached",
    };
    let greeting = async { Connection::to(target, 1, 0).await?.greet().await };
    let greeted = timeout(GREETING_LIMIT, greeting)
        .await
        .unwrap_or_else(|_| bail!("no answer to the first request within {GREETING_LIMIT:?}"));
    greeted.with_context(|| {
        let (name, address) = (&target.name, &target.address);
        format!("target {name} ({address}): expected {wanted}")
    })
}

impl Args {
    /// Refuses what makes no sense, before anything is asked of a server.
    fn prepare(&mut self) -> Result<()> {
        let plan = &mut self.plan;
        let within = |name: &str, value: usize, most: usize| {
            ensure!(
                (1..=most).contains(&value),
                "{name} {value}: want 1 to {most}"
            );
            Ok(())
        };
        within("--clients", self.clients, MAX_CLIENTS)?;
        within("--pipeline", self.pipeline, MAX_PIPELINE)?;
        within("--rounds", plan.rounds, usize::MAX)?;
        within("--keys", plan.keys.unwrap_or(1), MAX_KEYS)?;
        ensure!(
            plan.seconds > 0.0 && plan.seconds <= MAX_SECONDS,
            "--seconds {}: want more than 0, and {MAX_SECONDS} at most",
            plan.seconds
        );
        let warm_up = plan.warm_up.unwrap_or_default();
        ensure!(
            (0.0..=MAX_SECONDS).contains(&warm_up),
            "--warm-up {warm_up}: want 0 to {MAX_SECONDS}"
        );
        plan.traffic.prepare()?;
        ensure!(
            plan.traffic.open_loop().is_none() || self.pipeline == 1,
            "--rate sends each request when it is due: --pipeline stays 1"
        );
        let needs_trace = [
            ("--size-mix trace", self.size_mix == Some(Sizes::Trace)),
            ("--mix trace", self.mix == Some(Mix::Trace)),
        ];
        for (option, is_used) in needs_trace {
            ensure!(
                !is_used || plan.traffic.trace.is_some(),
                "{option} needs --popularity trace:FILE"
            );
        }
        ensure!(
            plan.keys.is_none() || plan.traffic.trace.is_none(),
            "--keys: a trace has its own keys"
        );
        for (place, target) in self.targets.iter().enumerate() {
            ensure!(
                self.targets[..place]
                    .iter()
                    .all(|other| other.name != target.name),
                "two targets are called {}",
                target.name
            );
        }
        target::assign_pids(&mut self.targets, &self.pids)?;
        let rounds = self.cells().len() * self.targets.len() * self.plan.rounds;
        self.plan.progress = Progress::new(rounds, "rounds");
        Ok(())
    }

    /// What is measured, in this order.
    fn cells(&self) -> Vec<Cell> {
        let sizes = match &self.size_mix {
            Some(mix) => vec![mix.clone()],
            None => self.sizes.iter().cloned().map(Sizes::All).collect(),
        };
        let mixes = match self.mix {
            Some(mix) => vec![mix],
            None => self.ops.iter().copied().map(Mix::Only).collect(),
        };
        let cell = |sizes: &Sizes, mix: Mix| Cell {
            mix,
            sizes: sizes.clone(),
            clients: self.clients,
            pipeline: self.pipeline,
        };
        let of_size = |sizes| mixes.iter().map(move |&mix| cell(sizes, mix));
        sizes.iter().flat_map(of_size).collect()
    }
}

/// Measures one cell on all targets, with a bar of its own; the first target's row comes
/// first.
pub(crate) async fn run_cell(targets: &[Target], cell: &Cell, plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(targets.len());
    let progress = Progress::new(plan.rounds * targets.len(), "rounds");
    let plan = Plan {
        progress: progress.clone(),
        ..plan.clone()
    };
    let measured = measure_cell(targets, cell, &plan, &mut rows).await;
    progress.end();
    measured?;
    Ok(rows)
}

/// The same; what could be measured before an error is among `rows`, too.
pub(crate) async fn measure_cell(
    targets: &[Target],
    cell: &Cell,
    plan: &Plan,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let (lengths, bodies) = workload::bodies(cell, plan)?;
    let mut runs = Vec::with_capacity(targets.len());
    for target in targets {
        let run = Run::new(target, cell, plan, &lengths, &bodies);
        runs.push((run, Samples::new()?));
    }
    let ended = run_rounds(cell, plan, &mut runs).await;
    let cleaned = clean(cell, &runs, ended.is_ok()).await;
    let open = plan.traffic.open_loop();
    let first_rate = match runs.first() {
        Some((_, samples)) => samples.summary()?.ops_per_s,
        None => 0.0,
    };
    for (run, samples) in runs {
        if !samples.rounds.is_empty() {
            rows.push(Row::new(cell, run.target, samples, first_rate, open)?);
        }
    }
    ended.and(cleaned)
}

/// Makes room for the next cell; after an error, as far as that can be done soon.
async fn clean(cell: &Cell, runs: &[(Run<'_>, Samples)], is_good: bool) -> Result<()> {
    for (run, _) in runs {
        let cleaning = keys::clean(run.target, &run.keys);
        if is_good {
            cleaning.await.with_context(|| place(run.target, cell))?;
        } else {
            let _ = timeout(GREETING_LIMIT, cleaning).await;
        }
    }
    Ok(())
}

async fn run_rounds(cell: &Cell, plan: &Plan, runs: &mut [(Run<'_>, Samples)]) -> Result<()> {
    for (run, _) in &mut *runs {
        if !plan.traffic.no_prefill {
            plan.progress
                .at(|| format!("{}, storing", place(run.target, cell)));
            keys::populate(run.target, &run.keys)
                .await
                .with_context(|| place(run.target, cell))?;
        }
    }
    for round in 0..plan.rounds {
        for (run, samples) in &mut *runs {
            plan.progress.at(|| place(run.target, cell));
            let measured = tokio::select! {
                biased;
                () = plan.stop.notified() => bail!("interrupted"),
                measured = within(plan.seconds, run.round(round)) => measured,
            };
            let measured = measured.with_context(|| place(run.target, cell))?;
            samples.add(&measured)?;
            plan.progress.step();
        }
    }
    Ok(())
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
        target.name, target.address, cell.mix, cell.sizes
    )
}
