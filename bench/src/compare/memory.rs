//! How large does the proxy grow while many clients stream large objects?
//!
//! The figure is the kernel's own peak of the proxy's resident memory (`VmHWM`): sampling
//! could miss it. GETs and SETs have a server each, so that neither shows the other's peak.
//! The clients compare bodies as they come and keep none, and share a few keys, so that the
//! machine has room: all SETs of a key write the same contents. What they wrote is read back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Args;
use crate::client::Connection;
use crate::goals::Figure;
use crate::keys::{self, Keys, Lengths, check_stored};
use crate::pool::{Ack, Pool};
use crate::procfs;
use crate::progress::Progress;
use crate::report::Report;
use crate::server::{Server, start_scatterhoard};
use crate::size::Size;
use crate::workload::Op;
use scatterhoard_judge::bodies::Bodies;

const GOAL_MB: f64 = 512.0;
const KEYS: usize = 4;
/// A client's buffer; bodies pass through.
const WINDOW_LEN: usize = 256 << 10;
/// Nodes need room for the keys and for one object more of each client that writes.
const NODE_MEMORY_MB: usize = 1024;
const LIMIT: Duration = Duration::from_secs(600);

pub(super) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let (size, clients) = if args.quick { ("1m", 4) } else { ("100m", 64) };
    let pool = Pool {
        node_memory_mb: args.pool.node_memory_mb.max(NODE_MEMORY_MB),
        ..args.pool.clone()
    };
    for op in [Op::Get, Op::Set] {
        let load = Load {
            op,
            size: size.parse()?,
            clients,
            seed: args.seed,
        };
        let server = start_scatterhoard(&args.program()?, &pool, 0, Ack::Quorum).await?;
        let streamed = timeout(LIMIT, stream(&server, &load, args.plan(clients).seconds))
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("no end within {LIMIT:?}")));
        let gb_per_s = server.explain(streamed)?;
        let peak_kib = procfs::peak_rss_kib(server.pid()).context("no VmHWM in /proc")?;
        let name = |what| format!("{op} {size}, {clients} clients: {what}");
        let peak_mb = peak_kib as f64 * 1024.0 / 1e6;
        report.figures.extend([
            Figure::new(
                name("peak RSS of the proxy"),
                peak_mb,
                "MB",
                args.at_most(GOAL_MB),
            ),
            Figure::new(name("rate"), gb_per_s, "GB/s", None),
        ]);
        server.stop().await?;
    }
    Ok(())
}

/// All clients at once, each one object after the other until `seconds` are over; GB/s.
async fn stream(server: &Server, load: &Load, seconds: f64) -> Result<f64> {
    let bytes = load.size.bytes;
    let bodies = Arc::new(Bodies::new(bytes, load.seed));
    let lengths = Lengths::All(bytes);
    let keys = Arc::new(Keys::new(&load.size.to_string(), KEYS, lengths, bodies));
    keys::populate(&server.target, &keys).await?;
    let mut clients = JoinSet::new();
    let started = Instant::now();
    for index in 0..load.clients {
        let connection = Connection::open(&server.target.address, 1, WINDOW_LEN).await?;
        let client = Client {
            connection,
            keys: Arc::clone(&keys),
            op: load.op,
        };
        clients.spawn(client.run(index, started, seconds));
    }
    let progress = Progress::new(load.clients, "clients");
    progress.at(|| format!("{} {}", load.op, load.size));
    let mut ops = 0;
    while let Some(joined) = clients.join_next().await {
        ops += joined.context("a client task died")??;
        progress.step();
    }
    progress.end();
    let gb = ops as f64 * bytes as f64 / 1e9;
    let gb_per_s = gb / started.elapsed().as_secs_f64();
    keys::verify_all(&server.target, &keys, false).await?;
    Ok(gb_per_s)
}

struct Load {
    op: Op,
    size: Size,
    clients: usize,
    seed: u64,
}

struct Client {
    connection: Connection,
    keys: Arc<Keys>,
    op: Op,
}

impl Client {
    /// How many operations it did: one at least.
    async fn run(mut self, index: usize, started: Instant, seconds: f64) -> Result<u64> {
        let mut ops = 0;
        while ops == 0 || started.elapsed().as_secs_f64() < seconds {
            let key = (index + ops as usize) % self.keys.names.len();
            match self.op {
                Op::Get => self.get(key).await?,
                Op::Set => self.set(key).await?,
            }
            ops += 1;
        }
        Ok(ops)
    }

    async fn get(&mut self, key: usize) -> Result<()> {
        let (name, body) = (&self.keys.names[key], self.keys.body(key));
        let header = format!("${}\r\n", body.len());
        self.connection.push(&[b"GET", name])?;
        self.connection
            .exchange_for([header.as_bytes(), body, b"\r\n"])
            .await
            .with_context(|| format!("GET {}", String::from_utf8_lossy(name)))
    }

    async fn set(&mut self, key: usize) -> Result<()> {
        let (name, body) = (&self.keys.names[key], self.keys.body(key));
        self.connection.set(name, body).await?;
        check_stored(self.connection.reply(0))
    }
}
