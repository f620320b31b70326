//! How long GETs of large objects take right after 30 % of the nodes were killed, beside the
//! same GETs in quiet.
//!
//! One client reads a few objects in turn, over and over: in quiet, and in the second right
//! after each burst. Before each burst all are written anew. What lost more than p of its
//! chunks is a miss; misses are counted, do not count as quick reads, and are written again,
//! outside of the clock.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::sleep;

use super::Args;
use super::client::Shared;
use super::report::Report;
use super::world::World;
use crate::client::Connection;
use crate::keys::check_stored;
use crate::measure::latency_histogram;
use crate::progress::Progress;
use crate::reply::Reply;
use scatterhoard_judge::bodies::Bodies;

const SIZE: usize = 10_000_000;
/// What is read right after a burst, and as long in quiet.
const WINDOW: Duration = Duration::from_secs(1);
const BURST: f64 = 0.3;
/// The proxy tries a platform that has failed again after 5 s at the latest.
const WORKS_WITHIN: Duration = Duration::from_secs(15);
/// At most so many times the quiet one.
const AIM: f64 = 5.0;

/// The figure.
#[derive(Debug, Serialize)]
pub(super) struct Burst {
    pub(super) nodes_killed: usize,
    pub(super) bursts: usize,
    pub(super) quiet_gets: u64,
    pub(super) burst_gets: u64,
    pub(super) burst_misses: u64,
    pub(super) errors: u64,
    pub(super) quiet_p50_ms: f64,
    pub(super) quiet_p99_ms: f64,
    pub(super) burst_p50_ms: f64,
    pub(super) burst_p99_ms: f64,
    pub(super) ratio: f64,
    pub(super) aim: f64,
}

struct Gets {
    connection: Connection,
    bodies: Bodies,
    keys: usize,
    generation: u32,
    misses: u64,
    errors: u64,
}

pub(super) async fn run(
    args: &Args,
    world: &mut World,
    shared: &Shared,
    report: &mut Report,
) -> Result<()> {
    let (keys, bursts) = if args.quick { (4, 1) } else { (12, 20) };
    let mut gets = Gets {
        connection: Connection::open(&shared.address, 1, SIZE).await?,
        bodies: Bodies::new(SIZE, args.seed),
        keys,
        generation: 0,
        misses: 0,
        errors: 0,
    };
    let (mut quiet, mut struck) = (latency_histogram()?, latency_histogram()?);
    let nodes_killed = (args.pool.nodes as f64 * BURST).round() as usize;
    let progress = Progress::new(bursts, "bursts");
    gets.wait_until_stored().await?;
    for burst in 1..=bursts {
        gets.populate().await?;
        let missed = gets.misses;
        gets.read_for(WINDOW, &mut quiet).await?;
        ensure!(gets.misses == missed, "a miss in quiet");
        gets.populate().await?;
        world.kill_now(nodes_killed, shared).await?;
        gets.read_for(WINDOW, &mut struck).await?;
        // after each: what ends early is told as far as it came
        report.burst = Some(gets.figure(nodes_killed, burst, &quiet, &struck));
        progress.step();
    }
    progress.end();
    gets.delete().await
}

fn is_unavailable(error: &anyhow::Error) -> bool {
    error.to_string().contains("UNAVAILABLE")
}

impl Gets {
    fn figure(
        &self,
        nodes_killed: usize,
        bursts: usize,
        quiet: &Histogram<u64>,
        struck: &Histogram<u64>,
    ) -> Burst {
        let ms = |histogram: &Histogram<u64>, q| histogram.value_at_quantile(q) as f64 / 1e6;
        Burst {
            nodes_killed,
            bursts,
            quiet_gets: quiet.len(),
            burst_gets: struck.len(),
            burst_misses: self.misses,
            errors: self.errors,
            quiet_p50_ms: ms(quiet, 0.5),
            quiet_p99_ms: ms(quiet, 0.99),
            burst_p50_ms: ms(struck, 0.5),
            burst_p99_ms: ms(struck, 0.99),
            ratio: ms(struck, 0.99) / ms(quiet, 0.99).max(1e-6),
            aim: AIM,
        }
    }

    fn name(key: usize) -> Vec<u8> {
        format!("burst:{key}").into_bytes()
    }

    /// The last fault may be over, and not yet found to be.
    async fn wait_until_stored(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.populate().await {
                Err(error) if is_unavailable(&error) && began.elapsed() < WORKS_WITHIN => {
                    sleep(Duration::from_millis(100)).await;
                }
                ended => return ended,
            }
        }
    }

    async fn populate(&mut self) -> Result<()> {
        self.generation += 1;
        for key in 0..self.keys {
            self.write(key).await?;
        }
        Ok(())
    }

    async fn write(&mut self, key: usize) -> Result<()> {
        let body = self.bodies.body(key, self.generation, SIZE);
        self.connection.set(&Self::name(key), body).await?;
        check_stored(self.connection.reply(0))
    }

    async fn delete(&mut self) -> Result<()> {
        for key in 0..self.keys {
            self.connection.push(&[b"DEL", &Self::name(key)])?;
            self.connection.exchange(1).await?;
        }
        Ok(())
    }

    async fn read_for(&mut self, lasts: Duration, latency_ns: &mut Histogram<u64>) -> Result<()> {
        let began = Instant::now();
        for turn in 0.. {
            if began.elapsed() >= lasts && turn >= self.keys {
                break;
            }
            let key = turn % self.keys;
            self.connection.push(&[b"GET", &Self::name(key)])?;
            let timing = self.connection.exchange(1).await?;
            match self.connection.reply(0) {
                Some(Reply::Bulk(read)) => {
                    let expected = self.bodies.body(key, self.generation, SIZE);
                    ensure!(read == expected, "WRONG BYTES came back of {SIZE}");
                    let took = timing.done.as_nanos().try_into().unwrap_or(u64::MAX);
                    latency_ns.saturating_record(took);
                }
                Some(Reply::Nil) => {
                    self.misses += 1;
                    self.write(key).await?;
                }
                _ => self.errors += 1,
            }
        }
        Ok(())
    }
}
