//! One cell of the table on one target: rounds of load, and passes over all keys.
//!
//! Bodies are compared byte for byte after an operation's clock has stopped. With one
//! client that lies outside of the measured time; with several, comparing shares the
//! machine with the servers (equally for all targets), which is what `ends` avoids.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use scatterhoard_judge::bodies::Bodies;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::keys::{self, Keys, Lengths, Verify};
use crate::load::Plan;
use crate::load::mix::Mix;
use crate::load::popularity::{Popularity, Story, Walk, Zipf};
use crate::load::schedule::Schedule;
use crate::load::sizes::Sizes;
use crate::load::traffic::OnMiss;
use crate::load::worker::{Pace, Worker};
use crate::measure::{Measured, Round, Tally};
use crate::procfs;
use crate::reply::MAX_BULK_BYTES;
use crate::size::Size;
use crate::target::Target;

/// Without `--keys`, a cell's keys hold about this much: more than the caches of a
/// processor, less than would strain a small machine that runs two servers.
const KEYS_BUDGET_BYTES: usize = 64_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    Get,
    Set,
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Get => "GET",
            Self::Set => "SET",
        })
    }
}

/// One line of the table, apart from the target.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) mix: Mix,
    pub(crate) sizes: Sizes,
    pub(crate) clients: usize,
    pub(crate) pipeline: usize,
}

impl Cell {
    pub(crate) fn new(op: Op, size: Size, clients: usize, pipeline: usize) -> Self {
        Self {
            mix: Mix::Only(op),
            sizes: Sizes::All(size),
            clients,
            pipeline,
        }
    }
}

/// How many keys of one size a cell has, unless it is said: one for each client at least, so
/// that no key needs to have two writers.
pub(crate) fn usual_keys(bytes: usize, clients: usize) -> usize {
    (KEYS_BUDGET_BYTES / bytes).clamp(4, 1_000).max(clients)
}

/// A cell on a target.
pub(crate) struct Run<'a> {
    pub(crate) target: &'a Target,
    cell: &'a Cell,
    plan: &'a Plan,
    pub(crate) keys: Arc<Keys>,
    zipf: Option<Arc<Zipf>>,
    story: Option<Arc<Story>>,
}

impl<'a> Run<'a> {
    /// With the same bodies and sizes for every target; [`bodies`] has them.
    pub(crate) fn new(
        target: &'a Target,
        cell: &'a Cell,
        plan: &'a Plan,
        lengths: &Lengths,
        bodies: &Arc<Bodies>,
    ) -> Self {
        let count = match lengths {
            Lengths::All(bytes) => plan.keys.map_or(usual_keys(*bytes, cell.clients), |keys| {
                keys.max(cell.clients)
            }),
            Lengths::Each(lens) => lens.len(),
        };
        let prefix = match &cell.sizes {
            Sizes::All(size) => size.to_string(),
            _ => "mix".to_owned(),
        };
        let traffic = &plan.traffic;
        Self {
            target,
            cell,
            plan,
            keys: Arc::new(Keys::new(
                &prefix,
                count,
                lengths.clone(),
                Arc::clone(bodies),
            )),
            zipf: match traffic.popularity {
                Popularity::Zipf(exponent) => Some(Arc::new(Zipf::new(count, exponent))),
                _ => None,
            },
            story: traffic.trace.clone().map(|t| Arc::new(Story::new(t))),
        }
    }

    /// One round: warm-up, then about `seconds` of load.
    pub(crate) async fn round(&self, round: usize) -> Result<Measured> {
        let (cell, seconds) = (self.cell, self.plan.seconds);
        let mut workers = Vec::with_capacity(cell.clients);
        for index in 0..cell.clients {
            workers.push(self.worker(index, round).await?);
        }
        let warm_up_s = self.plan.warm_up.unwrap_or((seconds * 0.2).min(0.3));
        let (workers, _) = run_all(workers, || self.pace(warm_up_s, !(round as u64))).await?;

        let cpu_before = self.cpu();
        let started = Instant::now();
        let (_, tallies) = run_all(workers, || self.pace(seconds, round as u64)).await?;
        let wall_s = started.elapsed().as_secs_f64();
        let cpu_after = self.cpu();

        let verify = self.plan.verify;
        if verify == Verify::Ends || (cell.mix.has(Op::Set) && verify == Verify::Full) {
            let may_miss = self.plan.traffic.on_miss != OnMiss::Fail;
            keys::verify_all(self.target, &self.keys, may_miss).await?;
        }
        self.merge(tallies, wall_s, &cpu_before, &cpu_after)
    }

    /// Each key once, shared among the clients, right after `before` was done. Contents are
    /// checked in full.
    pub(crate) async fn pass(&self, before: impl FnOnce() -> Result<()>) -> Result<Measured> {
        let clients = self.cell.clients;
        let mut workers = Vec::with_capacity(clients);
        for index in 0..clients {
            workers.push(self.worker(index, 0).await?);
        }
        let cpu_before = self.cpu();
        before()?;
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for (index, mut worker) in workers.into_iter().enumerate() {
            let own = (index..self.keys.names.len()).step_by(clients);
            tasks.spawn(async move { worker.pass(own).await });
        }
        let mut tallies = Vec::with_capacity(clients);
        while let Some(joined) = tasks.join_next().await {
            tallies.push(joined.context("a client task died")??);
        }
        let wall_s = started.elapsed().as_secs_f64();
        let cpu_after = self.cpu();
        if self.cell.mix.has(Op::Set) {
            keys::verify_all(self.target, &self.keys, false).await?;
        }
        self.merge(tallies, wall_s, &cpu_before, &cpu_after)
    }

    async fn worker(&self, index: usize, round: usize) -> Result<Worker> {
        let (cell, count) = (self.cell, self.keys.names.len());
        let walk = match (&self.plan.traffic.popularity, &self.zipf, &self.story) {
            (Popularity::Uniform, ..) => Walk::Uniform,
            (_, Some(zipf), _) => Walk::Zipf(Arc::clone(zipf)),
            (_, _, Some(story)) => Walk::Story(Arc::clone(story)),
            // readers share all keys, writers have their own
            _ if cell.mix.has(Op::Set) => Walk::Turn {
                stride: cell.clients,
                first: index,
                next: index,
            },
            _ => Walk::Turn {
                stride: 1,
                first: 0,
                next: index * count / cell.clients,
            },
        };
        // the same for every target
        let place = (round * cell.clients + index) as u64;
        let seed = self.plan.traffic.seed.wrapping_add(place);
        let rng = SmallRng::seed_from_u64(seed);
        Worker::open(self.target, cell, &self.keys, walk, rng, self.plan).await
    }

    fn pace(&self, seconds: f64, number: u64) -> Pace {
        let begin = Instant::now();
        let Some(open) = self.plan.traffic.open_loop() else {
            return Pace::Closed { begin, seconds };
        };
        let seed = self.plan.traffic.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Pace::Open {
            begin,
            schedule: Arc::new(Mutex::new(Schedule::new(open, seconds, seed))),
            // who is as far behind as this does not catch up
            give_up: begin + Duration::from_secs_f64(2.0 * seconds + 1.0),
        }
    }

    /// CPU seconds of each process tree named, and of all of them together.
    fn cpu(&self) -> (Vec<f64>, f64) {
        procfs::trees_cpu_seconds(&self.target.pids)
    }

    fn merge(
        &self,
        tallies: Vec<Tally>,
        wall_s: f64,
        before: &(Vec<f64>, f64),
        after: &(Vec<f64>, f64),
    ) -> Result<Measured> {
        let mut tally = Tally::new()?;
        for other in &tallies {
            tally.add(other)?;
        }
        // Several clients overlap, and one that waits for its time is not busy: then only
        // the wall clock knows.
        let is_busy = self.cell.clients == 1 && self.plan.traffic.open_loop().is_none();
        let elapsed_s = if is_busy {
            tally.busy.as_secs_f64()
        } else {
            wall_s
        };
        let spent = after.0.iter().zip(&before.0).map(|(a, b)| (a - b).max(0.0));
        let round = Round {
            ops: tally.gets + tally.sets,
            bytes: tally.bytes,
            elapsed_s,
            cpu_s: (!self.target.pids.is_empty()).then_some((after.1 - before.1).max(0.0)),
        };
        Ok(Measured {
            round,
            tally,
            cpu_by_pid_s: spent.collect(),
        })
    }
}

/// The lengths of a cell's keys, and contents for the longest of them.
pub(crate) fn bodies(cell: &Cell, plan: &Plan) -> Result<(Lengths, Arc<Bodies>)> {
    let lengths = match (&cell.sizes, &plan.traffic.trace) {
        (Sizes::Trace, None) => {
            anyhow::bail!("sizes from a trace need --popularity trace:FILE")
        }
        (Sizes::Trace, Some(trace)) => {
            let mut lens = vec![0; trace.keys.len()];
            for request in &trace.requests {
                let len = &mut lens[request.key as usize];
                if *len == 0 {
                    ensure!(
                        request.bytes <= MAX_BULK_BYTES as u64,
                        "key {:?} of the trace has {} bytes, {MAX_BULK_BYTES} are the most here",
                        trace.keys[request.key as usize],
                        request.bytes
                    );
                    *len = request.bytes.max(1) as u32;
                }
            }
            Lengths::Each(lens)
        }
        (sizes, trace) => match (sizes.only(), trace) {
            (Some(bytes), None) => Lengths::All(bytes),
            _ => {
                let count = match trace {
                    Some(trace) => trace.keys.len(),
                    None => plan.keys.unwrap_or(1_000).max(cell.clients),
                };
                let mut rng = SmallRng::seed_from_u64(plan.traffic.seed);
                let drawn = (0..count).map(|_| sizes.draw(&mut rng).min(u32::MAX as usize));
                Lengths::Each(drawn.map(|bytes| bytes as u32).collect())
            }
        },
    };
    let longest = match &lengths {
        Lengths::All(bytes) => *bytes,
        Lengths::Each(lens) => lens.iter().max().map_or(1, |len| *len as usize),
    };
    ensure!(
        longest <= MAX_BULK_BYTES,
        "values of {longest} bytes: {MAX_BULK_BYTES} are the most here"
    );
    Ok((lengths, Arc::new(Bodies::new(longest, plan.traffic.seed))))
}

/// Runs all workers at once and returns them for the next phase.
async fn run_all(
    workers: Vec<Worker>,
    pace: impl FnOnce() -> Pace,
) -> Result<(Vec<Worker>, Vec<Tally>)> {
    let mut tasks = JoinSet::new();
    let pace = pace();
    for mut worker in workers {
        let pace = pace.clone();
        tasks.spawn(async move { worker.run(&pace).await.map(|tally| (worker, tally)) });
    }
    let mut done = Vec::with_capacity(tasks.len());
    while let Some(joined) = tasks.join_next().await {
        done.push(joined.context("a client task died")??);
    }
    Ok(done.into_iter().unzip())
}
