//! The same matrix for every server: sizes, clients, GET and SET, side by side.
//!
//! scatterhoard runs twice: with its hot tier, and without, when every value comes from the
//! pool. Each is measured in good health (rounds of a closed loop, all servers in turn), and
//! right after p nodes were killed (bursts, see [`super::degraded`]). Ratios are to
//! redis-server's rate in the same cell. A cell whose values would not fit is done with fewer
//! clients or left out, and a word says so.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::Args;
use super::degraded::Bursts;
use super::fit::{Fit, fit};
use super::side_by_side;
use crate::keys;
use crate::load::{Plan, greet, measure_cell};
use crate::measure::Samples;
use crate::pool::{Ack, Pool};
use crate::progress::Progress;
use crate::report::{Report, Row};
use crate::server::{self, Server, start_memcached, start_redis, start_scatterhoard};
use crate::size::Size;
use crate::target::{Protocol, Target};
use crate::workload::{Cell, Op, usual_keys};

const SIZES: [&str; 7] = ["100", "1k", "10k", "100k", "1m", "10m", "100m"];
const CLIENTS: [usize; 3] = [1, 8, 50];
const SIZES_QUICK: [&str; 2] = ["1k", "1m"];
const CLIENTS_QUICK: [usize; 1] = [4];
const KEYS_QUICK: usize = 16;
const SECONDS_QUICK: f64 = 0.1;
/// What scatterhoard's hot tier keeps, unless it is told otherwise.
const HOT_VALUE_BYTES: usize = 64 << 10;
/// Room for all hot keys of a cell.
const HOT_TIER_MB: u32 = 256;
/// Most clients of a cell.
const MAX_CLIENTS: usize = 10_000;
/// Acknowledged by the one server that has it, from its memory.
const FROM_MEMORY: &str = "memory";

/// What of the matrix, and beside whom.
#[derive(Clone, clap::Args)]
pub(super) struct Scope {
    /// For --table matrix: object sizes [default: 100,1k,10k,100k,1m,10m,100m].
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<Size>,
    /// For --table matrix: clients [default: 1,8,50].
    #[arg(long, value_delimiter = ',')]
    clients: Vec<usize>,
    /// For --table matrix: when scatterhoard acknowledges small writes.
    #[arg(long, value_enum, default_value = "quorum")]
    ack: Ack,
    /// For --table matrix: the most megabytes of values that a cell keeps in each server, and
    /// its clients in their buffers; larger ones get fewer clients.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    cell_mb: u64,
    /// For --table matrix: memcached's item size limit is what the sizes need, but at most this.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    memcached_item_mb: u64,
    /// The valkey-server program [default: the one in the search path, if there is one].
    #[arg(long, value_name = "PATH")]
    valkey_server: Option<PathBuf>,
    /// The memcached program [default: the one in the search path, if there is one].
    #[arg(long, value_name = "PATH")]
    memcached: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let cells = cells(args, &mut report.footer)?;
    ensure!(!cells.is_empty(), "nothing of the matrix is left");
    let servers = Servers::start(args, &cells, &mut report.footer).await?;
    let before = report.rows.len();
    let measured = servers.measure(args, &cells, report).await;
    let grids = side_by_side::grids(&report.rows[before..]);
    report.grids.extend(grids);
    report.footer.push(format!(
        "matrix: SET is acknowledged by scatterhoard (ack={}) when {}; by the others when it \
         is in their own memory. {} nodes down: killed right before each key is used once, \
         cold starts and repairs included.",
        args.matrix.ack.name(),
        match args.matrix.ack {
            Ack::Quorum => "the nodes of its write quorum have it",
            Ack::Proxy => "a small value is in the proxy's memory, a large one on its quorum",
        },
        args.pool.data_parity.parity,
    ));
    measured?;
    servers.stop().await
}

/// What can be measured, in order; words about what cannot.
fn cells(args: &Args, words: &mut Vec<String>) -> Result<Vec<(Size, Cell)>> {
    let scope = &args.matrix;
    let or = |given: &[Size], all: &[&str]| -> Result<Vec<Size>> {
        match given {
            [] => all.iter().map(|size| size.parse()).collect(),
            given => Ok(given.to_vec()),
        }
    };
    let sizes = or(&scope.sizes, if args.quick { &SIZES_QUICK } else { &SIZES })?;
    let mut clients = match &scope.clients[..] {
        [] if args.quick => CLIENTS_QUICK.to_vec(),
        [] => CLIENTS.to_vec(),
        given => given.to_vec(),
    };
    clients.sort_unstable();
    clients.dedup();
    ensure!(
        clients.iter().all(|n| (1..=MAX_CLIENTS).contains(n)),
        "--clients {clients:?}: want 1 to {MAX_CLIENTS}"
    );
    let mut cells = Vec::new();
    for size in &sizes {
        for (place, &asked) in clients.iter().enumerate() {
            let fewer = place.checked_sub(1).map_or(0, |before| clients[before]);
            let what = format!("matrix: {size} with {}", clients_in_words(asked));
            let count = match fit(size.bytes, asked, fewer, scope.cell_mb * 1_000_000) {
                Fit::AsAsked => asked,
                Fit::Fewer(count) => {
                    words.push(format!(
                        "{what} would take {:.1} GB of values, more than --cell-mb {}: done with {}",
                        (size.bytes * asked) as f64 / 1e9,
                        scope.cell_mb,
                        clients_in_words(count)
                    ));
                    count
                }
                Fit::Not => {
                    words.push(format!(
                        "{what} would take {:.1} GB of values, more than --cell-mb {}: LEFT OUT",
                        (size.bytes * asked) as f64 / 1e9,
                        scope.cell_mb
                    ));
                    continue;
                }
            };
            let keys = usual_keys(size.bytes, count);
            if !args.pool.has_room_for(keys, size.bytes) {
                words.push(format!(
                    "{what}: {keys} keys, each with its old value while it is rewritten, do not \
                     fit {} nodes of {} MB ({}): LEFT OUT",
                    args.pool.nodes, args.pool.node_memory_mb, args.pool.data_parity
                ));
                continue;
            }
            for op in [Op::Get, Op::Set] {
                cells.push((size.clone(), Cell::new(op, size.clone(), count, 1)));
            }
        }
    }
    if sizes.iter().any(|size| size.bytes > HOT_VALUE_BYTES) {
        words.push(format!(
            "matrix: the hot tier keeps values up to {} KiB; longer ones come from the pool \
             only, and have no row of it",
            HOT_VALUE_BYTES >> 10
        ));
    }
    Ok(cells)
}

fn clients_in_words(count: usize) -> String {
    format!("{count} client{}", if count == 1 { "" } else { "s" })
}

/// All that run, redis-server first.
struct Servers {
    others: Vec<Server>,
    hot: Server,
    pool: Server,
    /// memcached's.
    item_bytes: usize,
}

impl Servers {
    async fn start(args: &Args, cells: &[(Size, Cell)], words: &mut Vec<String>) -> Result<Self> {
        let scope = &args.matrix;
        let longest = cells.iter().map(|(size, _)| size.bytes).max().unwrap_or(1);
        // its key and header, too; in whole MiB, as memcached wants it
        let item_mib = (longest + 1_024).div_ceil(1 << 20);
        let item_bytes = item_mib.min(scope.memcached_item_mb as usize) << 20;
        let mut others = vec![start_redis("redis-server", &args.redis_server).await?];
        if let Some(path) = installed(scope.valkey_server.as_deref(), "valkey-server", words)? {
            others.push(start_redis("valkey-server", &path).await?);
        }
        if let Some(path) = installed(scope.memcached.as_deref(), "memcached", words)? {
            let memory_mb = 2 * (scope.cell_mb as usize).max(item_bytes >> 20) + 256;
            others.push(start_memcached(&path, item_bytes, memory_mb).await?);
        }
        for server in &mut others {
            server.target.ack = Some(FROM_MEMORY);
        }
        Ok(Self {
            others,
            hot: start(args, &args.pool, HOT_TIER_MB, "scatterhoard hot").await?,
            pool: start(args, &args.pool, 0, "scatterhoard pool").await?,
            item_bytes,
        })
    }

    async fn measure(
        &self,
        args: &Args,
        cells: &[(Size, Cell)],
        report: &mut Report,
    ) -> Result<()> {
        let rounds = args.plan(1).rounds;
        let length = cells.len() * rounds * (self.others.len() + 4);
        let progress = Progress::new(length, "rounds");
        let (mut told, mut failed) = (Vec::new(), 0);
        for (size, cell) in cells {
            let mut plan = args.plan(cell.clients);
            plan.progress = progress.clone();
            if args.quick {
                plan.keys = Some(KEYS_QUICK);
                plan.seconds = SECONDS_QUICK;
            }
            let (targets, own) = (self.targets(size), self.own(size));
            let too_long = self.others.len() + own.len() - targets.len();
            progress.skip(rounds * (too_long + 2 * (2 - own.len())));
            if too_long > 0 && !told.contains(&size.bytes) {
                told.push(size.bytes);
                report.footer.push(format!(
                    "matrix: {size} is beyond memcached's item size limit of {} bytes: SKIPPED \
                     there",
                    self.item_bytes
                ));
            }
            let measured = measure(args, &targets, &own, cell, &plan, &mut report.rows).await;
            if let Err(error) = measured {
                failed += 1;
                report.footer.push(format!(
                    "matrix: {} {size} with {} FAILED: {error:#}",
                    cell.mix,
                    clients_in_words(cell.clients)
                ));
                // the others can be measured if all still answer
                for server in self.all() {
                    server.explain(greet(&server.target).await)?;
                }
            }
        }
        progress.end();
        ensure!(failed == 0, "{failed} of {} cells failed", cells.len());
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Server> {
        self.others.iter().chain([&self.hot, &self.pool])
    }

    /// All who can keep values of this size, redis-server first.
    fn targets(&self, size: &Size) -> Vec<Target> {
        // header and key of an item take less
        let fits = |server: &&Server| {
            let is_resp = server.target.protocol == Protocol::Resp;
            is_resp || size.bytes + 1_024 <= self.item_bytes
        };
        let others = self.others.iter().filter(fits);
        let all = others.chain(self.own(size));
        all.map(|server| server.target.clone()).collect()
    }

    /// Of scatterhoard, who has something of its own to show.
    fn own(&self, size: &Size) -> Vec<&Server> {
        match size.bytes <= HOT_VALUE_BYTES {
            true => vec![&self.hot, &self.pool],
            false => vec![&self.pool],
        }
    }

    async fn stop(self) -> Result<()> {
        for server in self.others {
            server.stop().await?;
        }
        self.hot.stop().await?;
        self.pool.stop().await
    }
}

/// One cell: all in good health, then scatterhoard without p nodes.
async fn measure(
    args: &Args,
    targets: &[Target],
    own: &[&Server],
    cell: &Cell,
    plan: &Plan,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let first = rows.len();
    measure_cell(targets, cell, plan, rows).await?;
    let first_rate = rows.get(first).map_or(0.0, |row| row.summary.ops_per_s);
    for server in own {
        rows.push(down(args, server, cell, plan, first_rate).await?);
    }
    Ok(())
}

async fn start(args: &Args, pool: &Pool, hot_tier_mb: u32, name: &str) -> Result<Server> {
    let ack = args.matrix.ack;
    let mut server = start_scatterhoard(&args.program()?, pool, hot_tier_mb, ack).await?;
    name.clone_into(&mut server.target.name);
    server.target.ack = Some(ack.name());
    Ok(server)
}

/// A program that may be missing, unless it was named.
fn installed(
    named: Option<&std::path::Path>,
    name: &str,
    words: &mut Vec<String>,
) -> Result<Option<PathBuf>> {
    if let Some(path) = named {
        let found = server::find(path).with_context(|| format!("{} is not there", path.display()));
        return found.map(Some);
    }
    let found = server::find(name.as_ref());
    if found.is_none() {
        words.push(format!(
            "matrix: {name} is not installed (or name it with --{name} PATH): LEFT OUT"
        ));
    }
    Ok(found)
}

/// Bursts of a server whose p nodes were just killed.
async fn down(
    args: &Args,
    server: &Server,
    cell: &Cell,
    plan: &Plan,
    first_rate: f64,
) -> Result<Row> {
    let kill = args.pool.data_parity.parity;
    let mut target: Target = server.target.clone();
    target.name = format!("{}, {kill} down", target.name);
    let mut bursts = Bursts::new(server, &target, cell, plan)?;
    let mut samples = Samples::new()?;
    let place = || format!("{}, {} {}", target.name, cell.mix, cell.sizes);
    let mut ended = Ok(());
    for _ in 0..plan.rounds {
        plan.progress.at(place);
        ended = bursts.round(kill, &mut samples).await.with_context(place);
        if ended.is_err() {
            break;
        }
        plan.progress.step();
    }
    let cleaned = keys::clean(&target, &bursts.run.keys).await;
    ended.and(cleaned)?;
    Row::new(cell, &target, samples, first_rate, None)
}
