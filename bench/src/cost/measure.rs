//! What the model takes from measurement, measured on the spot: seconds of a core that the
//! proxy takes for a gigabyte and for a request, on a local pool with TLS on its links.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use scatterhoard_judge::bodies::Bodies;
use serde::Serialize;

use super::machine::{Known, Processor};
use crate::client::Connection;
use crate::keys::check_stored;
use crate::pool::{Ack, Pool};
use crate::procfs;
use crate::progress::Progress;
use crate::reply::Reply;
use crate::server::{self, Server};

const LARGE_BYTES: usize = 10_000_000;
const LARGE_KEYS: usize = 8;
const SMALL_BYTES: usize = 1_000;
const SMALL_KEYS: usize = 200;
/// Of each of three parts.
const LASTS: Duration = Duration::from_secs(4);
/// The least CPU time of which a hundredth of a second is not too much.
const LEAST_CPU_S: f64 = 0.2;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) processor: Processor,
    /// Of one client, objects of 10 MB: GETs and SETs.
    pub(crate) get_mb_s: f64,
    pub(crate) set_mb_s: f64,
    pub(crate) get_cpu_s_per_gb: f64,
    pub(crate) set_cpu_s_per_gb: f64,
    /// Processors of this machine.
    pub(crate) processors: usize,
    /// A program that was built for debugging takes several times as much.
    pub(crate) is_debug_build: bool,
}

impl Measured {
    pub(super) fn known(&self) -> Known {
        let debug = match self.is_debug_build {
            true => "; A DEBUG BUILD, several times slower than a release build",
            false => "",
        };
        let source = format!(
            "measured now on {} processors, TLS on links, 10 MB: GET {:.0} MB/s and {:.2} s/GB, SET {:.0} MB/s and {:.2} s/GB{debug}",
            self.processors,
            self.get_mb_s,
            self.get_cpu_s_per_gb,
            self.set_mb_s,
            self.set_cpu_s_per_gb
        );
        Known {
            figures: self.processor,
            measured: true,
            source,
        }
    }
}

/// Starts a pool on this machine and asks it.
pub(super) fn measure(program: Option<&Path>, seed: u64) -> Result<Measured> {
    let program = server::program(program, "scatterhoard")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let pool = Pool {
            nodes: 14,
            node_memory_mb: 512,
            data_parity: "10+2".parse()?,
            extra: vec![OsString::from("--link-tls=on")],
        };
        let server = server::start_scatterhoard(&program, &pool, 0, Ack::Quorum).await?;
        let done = ask(&server, seed).await;
        let measured = server.explain(done)?;
        server.stop().await?;
        Ok(measured)
    })
}

/// What one part took.
struct Part {
    operations: f64,
    cpu_s: f64,
    elapsed_s: f64,
}

struct Asker {
    connection: Connection,
    bodies: Bodies,
    pid: u32,
}

async fn ask(server: &Server, seed: u64) -> Result<Measured> {
    let mut asker = Asker {
        connection: Connection::open(&server.target.address, 1, LARGE_BYTES).await?,
        bodies: Bodies::new(LARGE_BYTES, seed),
        pid: server.pid(),
    };
    let progress = Progress::new(3, "parts");
    progress.at(|| "SETs of 10 MB".into());
    let set = asker.part(LARGE_KEYS, LARGE_BYTES, true).await?;
    progress.step();
    progress.at(|| "GETs of 10 MB".into());
    let get = asker.part(LARGE_KEYS, LARGE_BYTES, false).await?;
    progress.step();
    progress.at(|| "GETs of 1 KB".into());
    for key in 0..SMALL_KEYS {
        asker.set(key, SMALL_BYTES).await?;
    }
    let small = asker.part(SMALL_KEYS, SMALL_BYTES, false).await?;
    progress.end();
    let gb = |part: &Part| part.operations * LARGE_BYTES as f64 / 1e9;
    let (get_cpu_s_per_gb, set_cpu_s_per_gb) = (get.cpu_s / gb(&get), set.cpu_s / gb(&set));
    Ok(Measured {
        processor: Processor {
            cpu_s_per_gb: get_cpu_s_per_gb.max(set_cpu_s_per_gb),
            cpu_s_per_request: small.cpu_s / small.operations,
        },
        get_mb_s: gb(&get) * 1e3 / get.elapsed_s,
        set_mb_s: gb(&set) * 1e3 / set.elapsed_s,
        get_cpu_s_per_gb,
        set_cpu_s_per_gb,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        is_debug_build: cfg!(debug_assertions),
    })
}

impl Asker {
    fn name(key: usize, bytes: usize) -> Vec<u8> {
        format!("measure:{bytes}:{key}").into_bytes()
    }

    /// SETs or GETs, one after the other, until there is enough to tell.
    async fn part(&mut self, keys: usize, bytes: usize, is_set: bool) -> Result<Part> {
        let cpu_s = procfs::own_cpu_seconds(self.pid);
        let began = Instant::now();
        let mut operations = 0.0;
        for turn in 0.. {
            if began.elapsed() >= LASTS && turn >= keys {
                break;
            }
            match is_set {
                true => self.set(turn % keys, bytes).await?,
                false => self.get(turn % keys, bytes).await?,
            }
            operations += 1.0;
        }
        let part = Part {
            operations,
            cpu_s: procfs::own_cpu_seconds(self.pid) - cpu_s,
            elapsed_s: began.elapsed().as_secs_f64(),
        };
        ensure!(
            part.cpu_s >= LEAST_CPU_S,
            "{operations} operations took {:.2} s of CPU: too little to tell",
            part.cpu_s
        );
        Ok(part)
    }

    async fn set(&mut self, key: usize, bytes: usize) -> Result<()> {
        let body = self.bodies.body(key, 0, bytes);
        self.connection.set(&Self::name(key, bytes), body).await?;
        check_stored(self.connection.reply(0)).context("while measuring")
    }

    async fn get(&mut self, key: usize, bytes: usize) -> Result<()> {
        self.connection.push(&[b"GET", &Self::name(key, bytes)])?;
        self.connection.exchange(1).await?;
        match self.connection.reply(0) {
            Some(Reply::Bulk(read)) if read == self.bodies.body(key, 0, bytes) => Ok(()),
            Some(Reply::Bulk(_)) => bail!("WRONG BYTES came back"),
            other => bail!("GET while measuring: no value, but {other:?}"),
        }
    }
}
