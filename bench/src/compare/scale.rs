//! Pools of several sizes, beside the smallest of them; and what a large idle one costs.
//!
//! The pools run at the same time and take turns: whoever is not asked is frozen, apart
//! from a ping a minute for each node.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::{sleep, timeout};

use super::Args;
use crate::chaos::platform::Platform;
use crate::goals::{Figure, Goal};
use crate::load::{Plan, run_cell};
use crate::pool::{Ack, Pool};
use crate::procfs;
use crate::progress::Progress;
use crate::report::Report;
use crate::server::{self, Proxy, Server, start_scatterhoard};
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
/// Before what is measured. A pool that was not asked for a while dials anew, node by node,
/// and its memory is new until about as much was written as it holds: with 200 nodes that
/// takes a few hundred requests, not a few dozen.
const WARM_UP_S: f64 = 2.0;
/// Of the largest pool, as a share of the smallest one's rate.
const GOAL: Goal = Goal::Ratio(0.9);
/// The idle proxy's, in percent of a core.
const IDLE_CPU_PERCENT: f64 = 1.0;
const START_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

struct Sizes {
    nodes: &'static [usize],
    idle_nodes: usize,
    /// From then on nothing is started any more: each node's standby comes with its first
    /// round, within 45 s.
    settled_after: Duration,
    /// Two rounds of each node.
    idle_time: Duration,
}

const FULL: Sizes = Sizes {
    nodes: &[12, 50, 200],
    idle_nodes: 400,
    settled_after: Duration::from_secs(60),
    idle_time: Duration::from_secs(90),
};
const QUICK: Sizes = Sizes {
    nodes: &[12, 16],
    idle_nodes: 16,
    settled_after: Duration::from_millis(500),
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
        let plan = Plan {
            warm_up: (!args.quick).then_some(WARM_UP_S),
            ..args.plan(1)
        };
        let mut measured = run_cell(&targets, &cell, &plan).await;
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

fn pool(args: &Args, nodes: usize) -> Pool {
    Pool {
        nodes,
        node_memory_mb: NODE_MEMORY_MB,
        ..args.pool.clone()
    }
}

async fn start(args: &Args, nodes: usize) -> Result<Server> {
    let pool = pool(args, nodes);
    let mut server = start_scatterhoard(&args.program()?, &pool, 0, Ack::Quorum).await?;
    server.target.name = format!("scatterhoard, {nodes} nodes");
    Ok(server)
}

/// CPU time of a pool that nobody asks, once all of it has started. The platform is a process
/// of its own, as it is elsewhere: what it takes to carry out invokes is not the proxy's.
async fn idle(args: &Args, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let pool = pool(args, sizes.idle_nodes);
    let program = args.program()?;
    let lambda = server::program(args.local_lambda.as_deref(), "local-lambda")?;
    let platform = Platform::start(&lambda, &program, &pool)?;
    let mut proxy = Proxy::new(&pool, 0, Ack::Quorum)?;
    let endpoint = ["--lambda-endpoint".into(), platform.url().into()];
    proxy.arguments.extend(endpoint);
    let server = proxy.start(&program).await?;
    let bar = Progress::new(
        (sizes.settled_after + sizes.idle_time).as_secs() as usize,
        "s",
    );
    let watched = watch(&server, &platform, sizes, &bar).await;
    bar.end();
    let used = server.explain(watched)?;
    let figure = |(who, percent, most): (&str, f64, Option<f64>)| {
        let (nodes, seconds) = (sizes.idle_nodes, sizes.idle_time.as_secs_f64());
        let name = format!("{nodes} idle nodes, {seconds} s: CPU of {who}");
        Figure::new(name, percent, "% of a core", most)
    };
    let most = args.at_most(IDLE_CPU_PERCENT);
    let figures = [
        ("the proxy's process", used.proxy, most),
        ("the platform's process (local-lambda)", used.platform, None),
        ("all node processes", used.nodes, None),
    ];
    report.figures.extend(figures.map(figure));
    server.stop().await
}

/// In percent of a core.
struct Used {
    proxy: f64,
    platform: f64,
    nodes: f64,
}

async fn watch(
    server: &Server,
    platform: &Platform,
    sizes: &Sizes,
    bar: &Progress,
) -> Result<Used> {
    bar.at(|| "until all nodes run".into());
    timeout(START_LIMIT, all_run(platform, sizes.idle_nodes))
        .await
        .with_context(|| format!("{} nodes do not start", sizes.idle_nodes))??;
    bar.at(|| "until they have settled".into());
    bar.wait(sizes.settled_after).await;
    bar.at(|| "idle".into());
    let proxy = server.pid();
    let platform = platform.pid().context("no process of the platform")?;
    let seconds = || {
        let own = [proxy, platform].map(procfs::own_cpu_seconds);
        [own[0], own[1], procfs::tree_cpu_seconds(platform) - own[1]]
    };
    let (before, began) = (seconds(), Instant::now());
    bar.wait(sizes.idle_time).await;
    let (after, lasted) = (seconds(), began.elapsed().as_secs_f64());
    let percent = |who: usize| (after[who] - before[who]) / lasted * 1e2;
    Ok(Used {
        proxy: percent(0),
        platform: percent(1),
        nodes: percent(2),
    })
}

async fn all_run(platform: &Platform, nodes: usize) -> Result<()> {
    loop {
        let all = platform.instances().await?;
        let functions: HashSet<&str> = all.iter().map(|i| i.function.as_str()).collect();
        if functions.len() >= nodes {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
}
