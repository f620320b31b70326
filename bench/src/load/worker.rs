//! One client: a connection, its way through the keys, and what it measured.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::rngs::SmallRng;

use super::Plan;
use super::mix::Mix;
use super::popularity::Walk;
use super::schedule::Schedule;
use super::traffic::OnMiss;
use crate::client::{Connection, Timing};
use crate::keys::{self, Keys, Lengths, Verify, check_stored};
use crate::measure::Tally;
use crate::shape::alarm::Alarm;
use crate::target::Target;
use crate::workload::{Cell, Op};

/// When requests are sent.
#[derive(Clone)]
pub(crate) enum Pace {
    /// Whenever the one before is answered.
    Closed { begin: Instant, seconds: f64 },
    /// When they are due; whoever of the clients is free takes the next.
    Open {
        begin: Instant,
        schedule: Arc<Mutex<Schedule>>,
        /// What has not been sent by then is not sent any more, but counted.
        give_up: Instant,
    },
}

/// One request of a batch.
struct Item {
    key: usize,
    op: Op,
    /// Of a GET: the oldest that it may find. Of a SET: its own.
    version: u32,
}

pub(crate) struct Worker {
    connection: Connection,
    keys: Arc<Keys>,
    mix: Mix,
    walk: Walk,
    rng: SmallRng,
    pipeline: usize,
    verify: Verify,
    on_miss: OnMiss,
    batch: Vec<Item>,
    /// Keys that were missed and are to be stored.
    to_fill: Vec<usize>,
}

impl Worker {
    pub(crate) async fn open(
        target: &Target,
        cell: &Cell,
        keys: &Arc<Keys>,
        walk: Walk,
        rng: SmallRng,
        plan: &Plan,
    ) -> Result<Self> {
        let body_len = match keys.lengths() {
            _ if !cell.mix.has(Op::Get) => 0,
            Lengths::All(len) => *len,
            // room for the longest, once: the others of a batch make it grow if they must
            Lengths::Each(_) => keys.longest() / cell.pipeline,
        };
        Ok(Self {
            connection: Connection::to(target, cell.pipeline, body_len).await?,
            keys: Arc::clone(keys),
            mix: cell.mix,
            walk,
            rng,
            pipeline: cell.pipeline,
            verify: plan.verify,
            on_miss: plan.traffic.on_miss,
            batch: Vec::with_capacity(cell.pipeline),
            to_fill: Vec::new(),
        })
    }

    /// Sends at this pace until its end.
    pub(crate) async fn run(&mut self, pace: &Pace) -> Result<Tally> {
        let mut tally = Tally::new()?;
        match pace {
            Pace::Closed { begin, seconds } => {
                self.run_closed(*begin, *seconds, &mut tally).await?
            }
            Pace::Open {
                begin,
                schedule,
                give_up,
            } => {
                self.run_open(*begin, schedule, *give_up, &mut tally)
                    .await?;
            }
        }
        Ok(tally)
    }

    /// At least one batch, then more until `seconds` are over.
    async fn run_closed(&mut self, begin: Instant, seconds: f64, tally: &mut Tally) -> Result<()> {
        loop {
            self.choose();
            self.step(Duration::ZERO, tally).await?;
            if begin.elapsed().as_secs_f64() >= seconds {
                return Ok(());
            }
        }
    }

    /// Latencies count from when a request was due, not from when it could be sent.
    async fn run_open(
        &mut self,
        begin: Instant,
        schedule: &Mutex<Schedule>,
        give_up: Instant,
        tally: &mut Tally,
    ) -> Result<()> {
        let alarm = Alarm::new(begin.into())?;
        let take = || {
            schedule
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next()
        };
        while let Some(at) = take() {
            let due = begin + at;
            let now = Instant::now();
            if now >= give_up {
                // it waited at least until now
                let op = self.mix.pick(&mut self.rng);
                tally.add_unsent(op, now.saturating_duration_since(due))?;
                continue;
            }
            if due > now {
                alarm.ring_exactly(due.into()).await?;
            }
            self.choose();
            let behind = Instant::now().saturating_duration_since(due);
            tally.add_behind(behind)?;
            self.step(behind, tally).await?;
        }
        Ok(())
    }

    /// These keys, one by one.
    pub(crate) async fn pass(&mut self, keys: impl Iterator<Item = usize>) -> Result<Tally> {
        let mut tally = Tally::new()?;
        for key in keys {
            self.batch.clear();
            let op = self.mix.pick(&mut self.rng);
            self.push(key, op);
            self.step(Duration::ZERO, &mut tally).await?;
        }
        Ok(tally)
    }

    /// Fills the batch.
    fn choose(&mut self) {
        self.batch.clear();
        for _ in 0..self.pipeline {
            let (key, told) = self.walk.next(self.keys.names.len(), &mut self.rng);
            let op = match (self.mix, told) {
                (Mix::Trace, Some(op)) => op,
                (mix, _) => mix.pick(&mut self.rng),
            };
            self.push(key, op);
        }
    }

    fn push(&mut self, key: usize, op: Op) {
        let version = match op {
            Op::Get => self.keys.oldest(key),
            Op::Set => self.keys.next_body(key).0,
        };
        self.batch.push(Item { key, op, version });
    }

    /// Sends the batch, whose requests were due `behind` ago, and judges what comes back.
    async fn step(&mut self, behind: Duration, tally: &mut Tally) -> Result<()> {
        let timing = self.exchange().await?;
        let (mut gets, mut sets) = (0, 0);
        for (index, item) in self.batch.iter().enumerate() {
            let reply = self.connection.reply(index);
            match item.op {
                Op::Set => {
                    check_stored(reply)?;
                    self.keys.written(item.key, item.version);
                    sets += 1;
                    tally.bytes += self.keys.len(item.key) as u64;
                }
                Op::Get => {
                    gets += 1;
                    let is_hit = self
                        .keys
                        .check(item.key, item.version, reply, self.verify)?;
                    if is_hit {
                        tally.bytes += self.keys.len(item.key) as u64;
                        continue;
                    }
                    tally.misses += 1;
                    match self.on_miss {
                        OnMiss::Fail => bail!(keys::missing(&self.keys, item.key)),
                        OnMiss::Count => {}
                        OnMiss::Fill => self.to_fill.push(item.key),
                    }
                }
            }
        }
        tally.add_timing(timing, behind, gets, sets)?;
        self.fill(tally).await
    }

    async fn exchange(&mut self) -> Result<Timing> {
        if let [
            Item {
                key,
                op: Op::Set,
                version,
            },
        ] = self.batch[..]
        {
            let body = self.keys.body_of(key, version);
            return self.connection.set(&self.keys.names[key], body).await;
        }
        for item in &self.batch {
            let name = &self.keys.names[item.key];
            match item.op {
                Op::Get => self.connection.push_get(name)?,
                Op::Set => {
                    let body = self.keys.body_of(item.key, item.version);
                    self.connection.push_set(name, body)?;
                }
            }
        }
        self.connection.exchange(self.batch.len()).await
    }

    /// Stores what was missed: SETs of their own, which nobody was waiting for.
    async fn fill(&mut self, tally: &mut Tally) -> Result<()> {
        while let Some(key) = self.to_fill.pop() {
            let (version, body) = self.keys.next_body(key);
            let timing = self.connection.set(&self.keys.names[key], body).await?;
            check_stored(self.connection.reply(0))?;
            self.keys.written(key, version);
            tally.bytes += body.len() as u64;
            tally.fills += 1;
            tally.add_timing(timing, Duration::ZERO, 0, 1)?;
        }
        Ok(())
    }
}
