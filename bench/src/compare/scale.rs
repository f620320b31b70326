//! Pools of several sizes, beside the smallest of them; and what a large idle one costs.
//!
//! The pools run at the same time and take turns: whoever is not asked is frozen, apart
//! from a ping a minute for each node.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::Args;
use crate::goals::{Figure, Goal};
use crate::load::run_cell;
use crate::pool::{Ack, Pool};
use crate::procfs;
use crate::report::Report;
use crate::server::{Server, start_scatterhoard};
use crate::target::Target;
use crate::workload::{Cell, Op};

/// Enough for the keys of a cell on twelve nodes; so little that 400 would fit a machine
/// even if they were full.
const NODE_MEMORY_MB: usize = 128;
const ROWS: [(Op, &str); 4] = [
    (Op::Get, "10m"),
    (Op::Set, "10m"),
    (Op::Get, "1m"),
    (Op::Set, "1m"),
];
/// Of the largest pool, as a share of the smallest one's rate.
const GOAL: Goal = Goal::Ratio(0.9);
/// The idle proxy's, in percent of a core.
const IDLE_CPU_PERCENT: f64 = 1.0;

struct Sizes {
    nodes: &'static [usize],
    idle_nodes: usize,
    /// Pings are spread evenly over a minute, so a part of one stands for the whole.
    idle_time: Duration,
}

const FULL: Sizes = Sizes {
    nodes: &[12, 50, 200],
    idle_nodes: 400,
    idle_time: Duration::from_secs(20),
};
const QUICK: Sizes = Sizes {
    nodes: &[12, 16],
    idle_nodes: 16,
    idle_time: Duration::from_millis(500),
};

pub(super) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let sizes = if args.quick { QUICK } else { FULL };
    measure(args, sizes.nodes, report).await?;
    idle(args, &sizes, report).await
}

async fn measure(args: &Args, nodes: &[usize], report: &mut Report) -> Result<()> {
    let mut servers = Vec::with_capacity(nodes.len());
    for &nodes in nodes {
        servers.push(start(args, nodes).await?);
    }
    let targets: Vec<Target> = servers.iter().map(|server| server.target.clone()).collect();
    for (op, size) in ROWS {
        let cell = Cell::new(op, size.parse()?, 1, 1);
        let mut measured = run_cell(&targets, &cell, &args.plan(1)).await;
        for server in &servers {
            measured = server.explain(measured);
        }
        let mut rows = measured?;
        args.judge(rows.last_mut(), &[GOAL]);
        report.rows.extend(rows);
    }
    for server in servers {
        server.stop().await?;
    }
    Ok(())
}

async fn start(args: &Args, nodes: usize) -> Result<Server> {
    let pool = Pool {
        nodes,
        node_memory_mb: NODE_MEMORY_MB,
        ..args.pool.clone()
    };
    let mut server = start_scatterhoard(&args.program()?, &pool, 0, Ack::Quorum).await?;
    server.target.name = format!("scatterhoard, {nodes} nodes");
    Ok(server)
}

/// CPU time of a pool that nobody asks, once it has started.
async fn idle(args: &Args, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let nodes = sizes.idle_nodes;
    let server = start(args, nodes).await?;
    let running = server.node_processes().len();
    ensure!(running == nodes, "{running} of {nodes} nodes run");
    sleep(Duration::from_secs(1).min(sizes.idle_time)).await;
    let percent = |before: f64, after: f64| (after - before) / sizes.idle_time.as_secs_f64() * 1e2;
    let pid = server.pid();
    let (own, tree) = (procfs::own_cpu_seconds(pid), procfs::tree_cpu_seconds(pid));
    sleep(sizes.idle_time).await;
    let proxy = percent(own, procfs::own_cpu_seconds(pid));
    let all = percent(tree, procfs::tree_cpu_seconds(pid));
    let seconds = sizes.idle_time.as_secs_f64();
    let mut figure = |who: &str, value, most| {
        let name = format!("{nodes} idle nodes, {seconds} s: CPU of {who}");
        let figure = Figure::new(name, value, "% of a core", most);
        report.figures.push(figure);
    };
    figure("the proxy", proxy, args.at_most(IDLE_CPU_PERCENT));
    figure("the node processes", all - proxy, None);
    server.stop().await
}
