//! redis-server and scatterhoard side by side.

use std::time::Duration;

use anyhow::Result;

use super::Args;
use super::rows::{GoalRow, QUICK};
use crate::load::run_cell;
use crate::measure::median;
use crate::procfs;
use crate::report::Report;
use crate::server::{Server, start_redis, start_scatterhoard};
use crate::workload::Cell;

pub(super) async fn run(args: &Args, rows: &[GoalRow], report: &mut Report) -> Result<()> {
    let rows = if args.quick { QUICK } else { rows };
    let redis = start_redis("redis-server", &args.redis_server).await?;
    // Rows next to each other with the same settings share one scatterhoard.
    for group in rows.chunk_by(|a, b| (a.hot_tier_mb, a.ack) == (b.hot_tier_mb, b.ack)) {
        measure_group(args, &redis, group, report).await?;
    }
    redis.stop().await
}

async fn measure_group(
    args: &Args,
    redis: &Server,
    group: &[GoalRow],
    report: &mut Report,
) -> Result<()> {
    let (hot_tier_mb, ack) = (group[0].hot_tier_mb, group[0].ack);
    let server = start_scatterhoard(&args.program()?, &args.pool, hot_tier_mb, ack).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    report.footer.push(memory_line(
        &server,
        &format!("hot tier {hot_tier_mb} MB, ack {}, idle", ack.name()),
    ));
    let targets = [redis.target.clone(), server.target.clone()];
    for row in group {
        let cell = Cell::new(row.op, row.size.parse()?, row.clients, row.pipeline);
        let measured = run_cell(&targets, &cell, &args.plan(row.clients)).await;
        let mut rows = server.explain(measured)?;
        args.judge(rows.last_mut(), row.goals);
        report.rows.extend(rows);
    }
    report.footer.push(memory_line(
        &server,
        &format!(
            "hot tier {hot_tier_mb} MB, ack {}, after the load",
            ack.name()
        ),
    ));
    server.stop().await
}

/// Resident memory of the proxy and of its node processes.
fn memory_line(server: &Server, when: &str) -> String {
    let mib = |kib: f64| kib / 1024.0;
    let nodes = procfs::descendants_rss_kib(server.pid());
    let proxy = procfs::rss_kib(server.pid()).map_or(0.0, |kib| mib(kib as f64));
    let largest = mib(nodes.iter().copied().max().unwrap_or(0) as f64);
    let middle = mib(median(nodes.iter().map(|&kib| kib as f64).collect()));
    format!(
        "RSS ({when}): proxy {proxy:.1} MiB, {} node processes: median {middle:.1} MiB, \
         largest {largest:.1} MiB",
        nodes.len()
    )
}
