//! A pool that has just lost nodes, beside the same pool in good health.
//!
//! What the figure says: how fast are GETs and SETs in the moment after K nodes were killed,
//! as a share of the healthy rate of the same server in the same run? A *burst* is one
//! operation on each key. Before every burst all keys are written anew, outside of the
//! clock, so that it begins with all chunks of every object in place; before a degraded one,
//! K random node processes are then killed, and its clock starts. The pool starts them again
//! when they are asked next, empty; an object has lost as many of its d + p chunks as were
//! there. So the first operations wait for that start, every read that lacks a data chunk is
//! decoded from parity, and the repairs that the reads set off compete with those that
//! follow. (That reads met the loss is checked, and told as a figure.) A round is as many
//! bursts as its measured time takes; healthy and degraded rounds take turns.
//!
//! A SET meets the loss only while the killed nodes start again: the p99 of its row tells
//! about that moment, its rate about the whole burst. What degraded SETs wrote is read back
//! and compared.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::Args;
use crate::goals::{Figure, Goal};
use crate::keys::{self, Keys};
use crate::load::{self, BODY_SEED, Plan};
use crate::measure::{Round, Samples};
use crate::pool::Ack;
use crate::report::{Report, Row};
use crate::server::{Server, start_scatterhoard};
use crate::workload::{Cell, Op, run_pass};
use scatterhoard_judge::bodies::Bodies;

const SIZE: &str = "10m";
/// Degraded rates as shares of the healthy ones.
const ROWS: [(Op, Goal); 2] = [(Op::Get, Goal::Ratio(0.8)), (Op::Set, Goal::Ratio(0.7))];
/// Keys, and so operations per burst. Few, because they share one loss; enough to meet
/// nodes that are back, and not only nodes that are starting.
const KEYS: usize = 16;
const KEYS_QUICK: usize = 4;
const KILL_SEED: u64 = 0x0dd5_0ff5;
/// Stripes that the proxy decoded because a data chunk was not there, for reads or for the
/// repairs that they set off.
const DECODED: &str = "scatterhoard_degraded_stripes_total";

pub(super) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let parity = args.pool.data_parity.parity;
    let kill = args.degraded.unwrap_or(parity);
    ensure!(
        (1..=parity).contains(&kill),
        "--degraded {kill}: {} survives the loss of 1 to {parity} nodes",
        args.pool.data_parity
    );
    let server = start_scatterhoard(&args.program()?, &args.pool, 0, Ack::Quorum).await?;
    for (op, goal) in ROWS {
        let cell = Cell {
            op,
            size: SIZE.parse()?,
            clients: 1,
            pipeline: 1,
        };
        let mut pair = Pair::new(&server, cell, args, kill)?;
        let measured = pair.measure(&args.plan(1)).await;
        server.explain(measured)?;
        let mut rows = pair.rows(report);
        args.judge(rows.last_mut(), &[goal]);
        report.rows.extend(rows);
    }
    server.stop().await
}

/// One cell, healthy and degraded.
struct Pair<'a> {
    server: &'a Server,
    cell: Cell,
    keys: Arc<Keys>,
    kill: usize,
    rng: SmallRng,
    healthy: Samples,
    degraded: Samples,
    decoded_stripes: u64,
}

impl<'a> Pair<'a> {
    fn new(server: &'a Server, cell: Cell, args: &Args, kill: usize) -> Result<Self> {
        let count = if args.quick { KEYS_QUICK } else { KEYS };
        let bodies = Arc::new(Bodies::new(cell.size.bytes, BODY_SEED));
        Ok(Self {
            server,
            keys: Arc::new(Keys::new(&cell, count, bodies)),
            cell,
            kill,
            rng: SmallRng::seed_from_u64(KILL_SEED),
            healthy: Samples::new()?,
            degraded: Samples::new()?,
            decoded_stripes: 0,
        })
    }

    async fn measure(&mut self, plan: &Plan) -> Result<()> {
        for _ in 0..plan.rounds {
            self.round(plan, 0).await?;
            let before = self.server.counter(DECODED).await?;
            self.round(plan, self.kill).await?;
            self.decoded_stripes += self.server.counter(DECODED).await? - before;
        }
        ensure!(
            self.cell.op == Op::Set || self.decoded_stripes > 0,
            "no read met the loss: {DECODED} stayed as it was"
        );
        keys::clean(&self.server.target, &self.keys).await
    }

    /// Bursts until the measured time is over, each right after `kill` nodes were killed.
    async fn round(&mut self, plan: &Plan, kill: usize) -> Result<()> {
        let mut round = Round::NOTHING;
        while round.ops == 0 || round.elapsed_s < plan.seconds {
            let strike = || self.server.kill_nodes(kill, &mut self.rng);
            let burst = async {
                keys::populate(&self.server.target, &self.keys).await?;
                run_pass(&self.server.target, &self.cell, &self.keys, strike).await
            };
            let measured = load::within(plan.seconds, burst).await?;
            self.samples(kill)
                .add_times(&measured.latency_ns, &measured.first_byte_ns)?;
            round += measured.round;
        }
        self.samples(kill).rounds.push(round);
        Ok(())
    }

    fn samples(&mut self, kill: usize) -> &mut Samples {
        if kill == 0 {
            &mut self.healthy
        } else {
            &mut self.degraded
        }
    }

    /// Healthy, then degraded; and a word on how much the reads met of the loss.
    fn rows(self, report: &mut Report) -> [Row; 2] {
        let mut target = self.server.target.clone();
        let degraded_gets: u64 = self.degraded.rounds.iter().map(|round| round.ops).sum();
        if self.cell.op == Op::Get {
            report.figures.push(Figure::new(
                format!(
                    "GET {SIZE}, {} nodes killed: decoded, also for repairs",
                    self.kill
                ),
                self.decoded_stripes as f64 / degraded_gets as f64,
                "stripes per GET",
                None,
            ));
        }
        let rate = self.healthy.summary().ops_per_s;
        let healthy = Row::new(&self.cell, &target, self.healthy, rate);
        target.name = format!("{}, {} nodes killed", target.name, self.kill);
        let degraded = Row::new(&self.cell, &target, self.degraded, rate);
        [healthy, degraded]
    }
}
