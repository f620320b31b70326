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

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::Args;
use crate::goals::{Figure, Goal};
use crate::keys;
use crate::load::{self, Plan};
use crate::measure::{Round, Samples};
use crate::pool::Ack;
use crate::progress::Progress;
use crate::report::{Report, Row};
use crate::server::{Server, start_scatterhoard};
use crate::target::Target;
use crate::workload::{self, Cell, Op, Run};

const SIZE: &str = "10m";
/// Degraded rates as shares of the healthy ones.
const ROWS: [(Op, Goal); 2] = [(Op::Get, Goal::Ratio(0.8)), (Op::Set, Goal::Ratio(0.7))];
/// Keys, and so operations per burst. Few, because they share one loss; enough to meet
/// nodes that are back, and not only nodes that are starting.
const KEYS: usize = 16;
const KEYS_QUICK: usize = 4;
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
    let plan = Plan {
        keys: Some(if args.quick { KEYS_QUICK } else { KEYS }),
        ..args.plan(1)
    };
    for (op, goal) in ROWS {
        let cell = Cell::new(op, SIZE.parse()?, 1, 1);
        let mut pair = Pair::new(&server, &cell, &plan)?;
        let measured = pair.measure(kill).await;
        server.explain(measured)?;
        let mut rows = pair.rows(kill, report)?;
        args.judge(rows.last_mut(), &[goal]);
        report.rows.extend(rows);
    }
    server.stop().await
}

/// Bursts of one cell: each key once.
pub(super) struct Bursts<'a> {
    server: &'a Server,
    plan: &'a Plan,
    pub(super) run: Run<'a>,
    rng: SmallRng,
}

impl<'a> Bursts<'a> {
    /// `target` is the server's, perhaps by another name.
    pub(super) fn new(
        server: &'a Server,
        target: &'a Target,
        cell: &'a Cell,
        plan: &'a Plan,
    ) -> Result<Self> {
        let (lengths, bodies) = workload::bodies(cell, plan)?;
        Ok(Self {
            server,
            plan,
            run: Run::new(target, cell, plan, &lengths, &bodies),
            rng: SmallRng::seed_from_u64(plan.traffic.seed),
        })
    }

    /// Bursts until the measured time is over, each right after `kill` nodes were killed.
    pub(super) async fn round(&mut self, kill: usize, samples: &mut Samples) -> Result<()> {
        let mut round = Round::NOTHING;
        while round.ops == 0 || round.elapsed_s < self.plan.seconds {
            let strike = || self.server.kill_nodes(kill, &mut self.rng);
            let burst = async {
                keys::populate(self.run.target, &self.run.keys).await?;
                self.run.pass(strike).await
            };
            let measured = load::within(self.plan.seconds, burst).await?;
            samples.add_times(&measured)?;
            round += measured.round;
        }
        samples.rounds.push(round);
        Ok(())
    }
}

/// One cell, healthy and degraded.
struct Pair<'a> {
    cell: &'a Cell,
    plan: &'a Plan,
    server: &'a Server,
    bursts: Bursts<'a>,
    healthy: Samples,
    degraded: Samples,
    decoded_stripes: u64,
}

impl<'a> Pair<'a> {
    fn new(server: &'a Server, cell: &'a Cell, plan: &'a Plan) -> Result<Self> {
        Ok(Self {
            cell,
            plan,
            server,
            bursts: Bursts::new(server, &server.target, cell, plan)?,
            healthy: Samples::new()?,
            degraded: Samples::new()?,
            decoded_stripes: 0,
        })
    }

    async fn measure(&mut self, kill: usize) -> Result<()> {
        let progress = Progress::new(2 * self.plan.rounds, "rounds");
        let place = |how: &str| format!("{} {}, {how}", self.cell.mix, self.cell.sizes);
        for _ in 0..self.plan.rounds {
            progress.at(|| place("healthy"));
            self.bursts.round(0, &mut self.healthy).await?;
            progress.step();
            progress.at(|| place("degraded"));
            let before = self.server.counter(DECODED).await?;
            self.bursts.round(kill, &mut self.degraded).await?;
            self.decoded_stripes += self.server.counter(DECODED).await? - before;
            progress.step();
        }
        progress.end();
        ensure!(
            !self.cell.mix.has(Op::Get) || self.decoded_stripes > 0,
            "no read met the loss: {DECODED} stayed as it was"
        );
        keys::clean(&self.server.target, &self.bursts.run.keys).await
    }

    /// Healthy, then degraded; and a word on how much the reads met of the loss.
    fn rows(self, kill: usize, report: &mut Report) -> Result<[Row; 2]> {
        let mut target = self.server.target.clone();
        let degraded_gets = self.degraded.tally.gets;
        if self.cell.mix.has(Op::Get) {
            report.figures.push(Figure::new(
                format!("GET {SIZE}, {kill} nodes killed: decoded, also for repairs"),
                self.decoded_stripes as f64 / degraded_gets as f64,
                "stripes per GET",
                None,
            ));
        }
        let rate = self.healthy.summary()?.ops_per_s;
        let healthy = Row::new(self.cell, &target, self.healthy, rate, None)?;
        target.name = format!("{}, {kill} nodes killed", target.name);
        let degraded = Row::new(self.cell, &target, self.degraded, rate, None)?;
        Ok([healthy, degraded])
    }
}
