//! Links of nodes: how long until they are open, what a cell takes, what they carry.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use scatterhoard_node::random;
use scatterhoard_wire::{
    Cell, ChunkDescriptor, ChunkId, Epoch, Geometry, Layout, WriteId, limits::MAX_WINDOW_CELLS,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{ProbeError, Subject, Times};
use crate::{
    assembly,
    config::Config,
    pool::{
        Links, Pool,
        lifecycle::Phase,
        link::{Answer, Asker, Pace},
        link_tls,
        node::Node,
        platform::Platform,
        requests::CellSource,
    },
    profile::Spread,
};

/// What is sent and fetched at a time; every node has room for it.
const BULK_BYTES: u64 = 8 << 20;
const BULK_CELL_BYTES: u32 = 256 << 10;
const BULK_TURNS: usize = 4;
/// What small answers are measured by.
const SMALL_BYTES: u64 = 4 << 10;
const SMALL_TURNS: usize = 50;
const WAKES: usize = 5;
/// A link is held open for so long when nothing is asked.
const HOLD: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(15);
const END: Duration = Duration::from_secs(3);

/// What links do.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) wake_ms: Option<Spread>,
    pub(super) get_ms: Option<Spread>,
    pub(super) put_mb_s: Option<Spread>,
    pub(super) get_mb_s: Option<Spread>,
}

#[derive(Default)]
struct Figures {
    wake_ms: Vec<f64>,
    get_ms: Vec<f64>,
    put_mb_s: Vec<f64>,
    get_mb_s: Vec<f64>,
}

/// Opens links, and uses them one after the other. On each function a second instance is
/// invoked beside, which mostly has to be started.
pub(super) async fn measure(
    config: &Config,
    platform: &Platform,
    functions: &[String],
    epoch: Epoch,
    times: &mut Times,
) -> Result<Measured, ProbeError> {
    let address = config.link_listen;
    let listen = |error| ProbeError::Listen { address, error };
    let listener = scatterhoard_node::socket::listen(address)
        .await
        .map_err(listen)?;
    let advertised = match config.link_advertise {
        Some(address) => address,
        None => listener.local_addr().map_err(listen)?,
    };
    let tls = config.link_tls.then(link_tls::new_certificate).transpose();
    let pool = assembly::pool(
        &quiet(config, functions),
        platform.clone(),
        advertised,
        tls.map_err(listen)?,
        None,
    )?;
    pool.reign(epoch);
    pool.start(Links::Tcp(listener));
    let mut figures = Figures::default();
    let mut result = Ok(());
    for (i, node) in pool.nodes().enumerate() {
        let subject = Subject::new(platform, &node.function, i);
        let measured = one(&pool, node, epoch, &subject, &mut figures, times).await;
        result = measured.map_err(|why| ProbeError::Link {
            function: node.function.clone(),
            why,
        });
        if result.is_err() {
            break;
        }
    }
    pool.shutdown(END).await;
    result?;
    Ok(Measured {
        wake_ms: Spread::of(figures.wake_ms),
        get_ms: Spread::of(figures.get_ms),
        put_mb_s: Spread::of(figures.put_mb_s),
        get_mb_s: Spread::of(figures.get_mb_s),
    })
}

/// A pool of these functions that does nothing unless asked.
fn quiet(config: &Config, functions: &[String]) -> Config {
    let mut config = config.clone();
    config.nodes = u16::try_from(functions.len()).unwrap_or(u16::MAX);
    config.warmth.least = Duration::from_secs(86_400);
    config.warmth.most = config.warmth.least;
    config.backup.standby = false;
    config.linger.least = HOLD;
    config.linger.break_even = HOLD;
    config
}

async fn one(
    pool: &Arc<Pool>,
    node: &Arc<Node>,
    epoch: Epoch,
    subject: &Subject<'_>,
    figures: &mut Figures,
    times: &mut Times,
) -> Result<(), String> {
    for _ in 0..WAKES {
        let begin = Instant::now();
        let link = pool.link(node, begin + PATIENCE).await;
        link.map_err(|e| e.to_string())?;
        figures.wake_ms.push(ms(begin));
        while node.view().phase != Phase::Asleep {
            if begin.elapsed() > PATIENCE {
                return Err("the node does not return".into());
            }
            tokio::time::sleep(HOLD / 10).await;
        }
    }
    let link = pool.link(node, Instant::now() + PATIENCE).await;
    link.map_err(|e| e.to_string())?;
    // beside the one that serves
    if let Ok(ping) = subject.ping().await {
        times.known.insert(ping.report.instance);
        if ping.is_cold {
            times.cold_ms.push(ping.took.as_secs_f64() * 1e3);
        }
    }
    let small = chunk(epoch, SMALL_BYTES, SMALL_BYTES as u32).ok_or("no layout")?;
    put(pool, node, &small).await?;
    for _ in 0..SMALL_TURNS {
        let begin = Instant::now();
        get(pool, node, &small).await?;
        figures.get_ms.push(ms(begin));
    }
    forget(pool, node, &small).await?;
    for _ in 0..BULK_TURNS {
        let bulk = chunk(epoch, BULK_BYTES, BULK_CELL_BYTES).ok_or("no layout")?;
        let rate =
            |begin: Instant| BULK_BYTES as f64 / 1e6 / begin.elapsed().as_secs_f64().max(1e-9);
        let begin = Instant::now();
        put(pool, node, &bulk).await?;
        figures.put_mb_s.push(rate(begin));
        let begin = Instant::now();
        get(pool, node, &bulk).await?;
        figures.get_mb_s.push(rate(begin));
        forget(pool, node, &bulk).await?;
    }
    Ok(())
}

fn ms(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e3).max(1e-6)
}

/// A chunk that is a whole object, under a write id that no proxy uses.
fn chunk(epoch: Epoch, size_bytes: u64, cell_bytes: u32) -> Option<ChunkDescriptor> {
    let geometry = Geometry::new(1, 0).ok()?;
    let counter = u64::MAX - u64::from(random::random::<u32>());
    Some(ChunkDescriptor {
        id: ChunkId {
            write_id: WriteId { epoch, counter },
            index: 0,
        },
        layout: Layout::new(geometry, size_bytes, cell_bytes).ok()?,
    })
}

struct Same<'a>(&'a ChunkDescriptor);

impl CellSource for Same<'_> {
    async fn cell(&self, stripe: u32) -> Option<Cell> {
        let payload = Bytes::from(vec![0x5a; self.0.layout.cell_len(stripe)]);
        Some(self.0.cell(stripe, payload))
    }

    fn is_ready(&self, _stripe: u32) -> bool {
        true
    }

    fn stored(&self, _below: u32) {}
}

async fn put(pool: &Arc<Pool>, node: &Arc<Node>, chunk: &ChunkDescriptor) -> Result<(), String> {
    let cells = Same(chunk);
    let put = pool.put_chunk(node, chunk, &cells, PATIENCE, Pace::AtOnce);
    put.await.map_err(|e| e.to_string())
}

/// All cells, a window after the other, two of them under way.
async fn get(pool: &Arc<Pool>, node: &Arc<Node>, chunk: &ChunkDescriptor) -> Result<(), String> {
    let total = chunk.layout.stripes();
    let deadline = Instant::now() + PATIENCE;
    let (sender, mut answers) = mpsc::channel(total as usize + 2);
    let mut calls = Vec::new();
    let mut first = 0;
    while first < total {
        let end = total.min(first + MAX_WINDOW_CELLS);
        let asker = Asker {
            tag: first,
            cells: end - first,
            announce: false,
            answers: &sender,
        };
        let call = pool.get_cells(node, chunk.id, first..end, asker, deadline);
        calls.push(call.await.map_err(|e| e.to_string())?);
        first = end;
    }
    for _ in 0..total {
        match timeout_at(deadline, answers.recv()).await {
            Ok(Some((_, Answer::Cell { .. }))) => {}
            Ok(answer) => return Err(format!("not a cell: {:?}", answer.map(|a| a.1))),
            Err(_) => return Err("no cell in time".into()),
        }
    }
    drop(calls);
    Ok(())
}

async fn forget(pool: &Arc<Pool>, node: &Arc<Node>, chunk: &ChunkDescriptor) -> Result<(), String> {
    node.discard(chunk.id.write_id);
    pool.purge(node, PATIENCE).await.map_err(|e| e.to_string())
}
