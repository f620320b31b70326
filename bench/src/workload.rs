//! One cell of the table on one target for one round: connect, warm up, measure, check.
//!
//! Bodies are compared byte for byte after an operation's clock has stopped. With one
//! client that lies outside of the measured time; with several, comparing shares the
//! machine with the servers (equally for all targets), which is what `ends` avoids.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::client::{Connection, Timing};
use crate::keys::{Keys, Verify, check_stored, verify_all};
use crate::measure::{Round, latency_histogram};
use crate::procfs;
use crate::size::Size;
use crate::target::Target;

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
    pub(crate) op: Op,
    pub(crate) size: Size,
    pub(crate) clients: usize,
    pub(crate) pipeline: usize,
}

/// What a round of all clients gave.
pub(crate) struct Measured {
    pub(crate) round: Round,
    pub(crate) latency_ns: Histogram<u64>,
    pub(crate) first_byte_ns: Histogram<u64>,
}

/// Runs one round of `cell`: warm-up, then about `seconds` of closed-loop load.
pub(crate) async fn run_round(
    target: &Target,
    cell: &Cell,
    keys: &Arc<Keys>,
    seconds: f64,
    verify: Verify,
) -> Result<Measured> {
    let mut workers = Vec::with_capacity(cell.clients);
    for index in 0..cell.clients {
        workers.push(Worker::open(target, cell, index, keys, verify).await?);
    }
    let (workers, _) = run_all(workers, (seconds * 0.2).min(0.3)).await?;

    let cpu_before = target.pid.map(procfs::tree_cpu_seconds);
    let started = Instant::now();
    let (_, tallies) = run_all(workers, seconds).await?;
    let wall_s = started.elapsed().as_secs_f64();
    let cpu_s = cpu_since(target, cpu_before);

    if verify == Verify::Ends || (cell.op == Op::Set && verify == Verify::Full) {
        verify_all(target, keys).await?;
    }
    merge(cell, tallies, wall_s, cpu_s)
}

/// Each key once, with one client, right after `before` was done. Contents are checked in full.
pub(crate) async fn run_pass(
    target: &Target,
    cell: &Cell,
    keys: &Arc<Keys>,
    before: impl FnOnce() -> Result<()>,
) -> Result<Measured> {
    let mut worker = Worker::open(target, cell, 0, keys, Verify::Full).await?;
    let mut tally = Tally::new()?;
    let cpu_before = target.pid.map(procfs::tree_cpu_seconds);
    before()?;
    for _ in 0..keys.names.len() {
        tally.add(worker.step().await?, 1);
    }
    let cpu_s = cpu_since(target, cpu_before);
    if cell.op == Op::Set {
        verify_all(target, keys).await?;
    }
    let wall_s = tally.busy.as_secs_f64();
    merge(cell, vec![tally], wall_s, cpu_s)
}

fn cpu_since(target: &Target, before: Option<f64>) -> Option<f64> {
    let (pid, before) = target.pid.zip(before)?;
    Some(procfs::tree_cpu_seconds(pid) - before)
}

fn merge(cell: &Cell, tallies: Vec<Tally>, wall_s: f64, cpu_s: Option<f64>) -> Result<Measured> {
    let (mut latency_ns, mut first_byte_ns) = (latency_histogram()?, latency_histogram()?);
    let mut busy = Duration::ZERO;
    for tally in &tallies {
        latency_ns.add(&tally.latency_ns)?;
        first_byte_ns.add(&tally.first_byte_ns)?;
        busy += tally.busy;
    }
    let ops = latency_ns.len();
    // Several clients overlap: only the wall clock knows what they did together.
    let elapsed_s = if cell.clients == 1 {
        busy.as_secs_f64()
    } else {
        wall_s
    };
    let round = Round {
        ops,
        bytes: ops * cell.size.bytes as u64,
        elapsed_s,
        cpu_s,
    };
    Ok(Measured {
        round,
        latency_ns,
        first_byte_ns,
    })
}

/// Runs all workers at once and returns them for the next phase.
async fn run_all(workers: Vec<Worker>, seconds: f64) -> Result<(Vec<Worker>, Vec<Tally>)> {
    let mut tasks = JoinSet::new();
    for mut worker in workers {
        tasks.spawn(async move { worker.run(seconds).await.map(|tally| (worker, tally)) });
    }
    let mut done = Vec::with_capacity(tasks.len());
    while let Some(joined) = tasks.join_next().await {
        done.push(joined.context("a client task died")??);
    }
    Ok(done.into_iter().unzip())
}

struct Tally {
    latency_ns: Histogram<u64>,
    first_byte_ns: Histogram<u64>,
    busy: Duration,
}

impl Tally {
    fn new() -> Result<Self> {
        Ok(Self {
            latency_ns: latency_histogram()?,
            first_byte_ns: latency_histogram()?,
            busy: Duration::ZERO,
        })
    }

    fn add(&mut self, timing: Timing, ops: u64) {
        self.busy += timing.done;
        self.latency_ns
            .saturating_record_n(timing.done.as_nanos() as u64, ops);
        self.first_byte_ns
            .saturating_record_n(timing.first_byte.as_nanos() as u64, ops);
    }
}

/// One client: a connection and its walk through the keys.
struct Worker {
    connection: Connection,
    keys: Arc<Keys>,
    op: Op,
    pipeline: usize,
    verify: Verify,
    /// SETs walk over every `stride`th key, so that no key has two writers.
    stride: usize,
    first: usize,
    next: usize,
    batch: Vec<usize>,
}

impl Worker {
    async fn open(
        target: &Target,
        cell: &Cell,
        index: usize,
        keys: &Arc<Keys>,
        verify: Verify,
    ) -> Result<Self> {
        let (stride, first, next) = match cell.op {
            Op::Set => (cell.clients, index, index),
            Op::Get => (1, 0, index * keys.names.len() / cell.clients),
        };
        let body_len = if cell.op == Op::Get {
            cell.size.bytes
        } else {
            0
        };
        Ok(Self {
            connection: Connection::open(&target.address, cell.pipeline, body_len).await?,
            keys: Arc::clone(keys),
            op: cell.op,
            pipeline: cell.pipeline,
            verify,
            stride,
            first,
            next,
            batch: Vec::with_capacity(cell.pipeline),
        })
    }

    /// At least one batch, then more until `seconds` are over.
    async fn run(&mut self, seconds: f64) -> Result<Tally> {
        let mut tally = Tally::new()?;
        let started = Instant::now();
        loop {
            let timing = self.step().await?;
            tally.add(timing, self.pipeline as u64);
            if started.elapsed().as_secs_f64() >= seconds {
                return Ok(tally);
            }
        }
    }

    async fn step(&mut self) -> Result<Timing> {
        self.batch.clear();
        for _ in 0..self.pipeline {
            self.batch.push(self.next);
            let next = self.next + self.stride;
            self.next = if next < self.keys.names.len() {
                next
            } else {
                self.first
            };
        }
        match self.op {
            Op::Get => self.get().await,
            Op::Set => self.set().await,
        }
    }

    async fn get(&mut self) -> Result<Timing> {
        for &key in &self.batch {
            self.connection.push(&[b"GET", &self.keys.names[key]])?;
        }
        let timing = self.connection.exchange(self.batch.len()).await?;
        for (index, &key) in self.batch.iter().enumerate() {
            self.keys
                .check(key, self.connection.reply(index), self.verify)?;
        }
        Ok(timing)
    }

    async fn set(&mut self) -> Result<Timing> {
        let timing = if let [key] = self.batch[..] {
            self.connection
                .set(&self.keys.names[key], self.keys.next_body(key))
                .await?
        } else {
            for &key in &self.batch {
                let body = self.keys.next_body(key);
                self.connection
                    .push(&[b"SET", &self.keys.names[key], body])?;
            }
            self.connection.exchange(self.batch.len()).await?
        };
        for index in 0..self.batch.len() {
            check_stored(self.connection.reply(index))?;
        }
        Ok(timing)
    }
}
