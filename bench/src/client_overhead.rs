//! What the Rust client costs: GET and SET through it beside a raw socket loop at the
//! same server, in turn within each round; and how much memory a program takes that
//! streams a large value in and out, which is a process of its own: this program anew.
//!
//! The raw loop reads into one buffer that was touched before, and allocates nothing;
//! the client returns each value in memory of its own.

mod report;
mod streaming;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use scatterhoard_client::embedded::{Embedded, NodeProgram, Nodes, Settings};
use scatterhoard_client::{Client, Command, Options};
use scatterhoard_judge::bodies::Bodies;
use tokio::time::timeout_at;

use crate::client::Connection;
use crate::interrupt;
use crate::keys::check_stored;
use crate::pool::{Ack, Pool};
use crate::progress::Progress;
use crate::reply::Reply;
use crate::report::Report;
use crate::results::Output;
use crate::server::{self, Server};
use crate::size::Size;
use crate::target::Target;
use crate::workload::Op;
use report::Told;

/// Each of the values is kept here, too.
const MAX_BYTES: usize = 512 << 20;
const MAX_SECONDS: f64 = 1e6;
const MOST_RSS_MB: f64 = 16.0;
/// Keys in turn, so that no server answers from the cache of a processor.
const KEYS: usize = 6;
const LIMIT: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A server that runs, instead of those that are started here; repeat for several.
    #[arg(long = "target", value_name = "NAME=HOST:PORT")]
    targets: Vec<Target>,
    /// The scatterhoard program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    scatterhoard: Option<PathBuf>,
    /// The redis-server program.
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    redis_server: PathBuf,
    /// Size of the values that are read and written whole.
    #[arg(long, default_value = "10m")]
    size: Size,
    /// Size of the value that is streamed.
    #[arg(long, default_value = "1g")]
    stream_size: Size,
    /// Rounds; figures are medians over them.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Measured seconds of each way in each round.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Most seconds of everything; what is under way then is cut off, and named.
    #[arg(long, default_value_t = 300.0)]
    limit_s: f64,
    /// Of contents.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A few seconds: checks contents, judges nothing.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    pool: Pool,
    #[command(flatten)]
    output: Output,
    /// Only stream to and from this server, and print figures: what this program starts
    /// itself for.
    #[arg(long, value_name = "HOST:PORT", hide = true)]
    only_stream: Option<String>,
}

pub(crate) fn run(mut args: Args) -> Result<()> {
    if let Some(address) = &args.only_stream {
        return streaming::only(address, args.stream_size.bytes as u64);
    }
    if args.quick {
        (args.rounds, args.seconds) = (1, 0.1);
        args.stream_size = "64m".parse()?;
    }
    for (flag, seconds) in [("--seconds", args.seconds), ("--limit-s", args.limit_s)] {
        ensure!(
            seconds > 0.0 && seconds <= MAX_SECONDS,
            "{flag} must be more than 0, and {MAX_SECONDS} at most"
        );
    }
    let runtime = crate::client_runtime(args.threads)?;
    // the proxy within the program has threads of its own, as it would have elsewhere
    let inside = crate::client_runtime(2)?;
    let mut report = Report::new(args.seed);
    let compared = compare(&args, &inside, &mut report);
    let done = runtime.block_on(interrupt::unless_told(compared));
    inside.shutdown_timeout(Duration::from_secs(1));
    report.close(done, &args.output)
}

/// What was under way when the time was over. No server is to blame.
#[derive(Debug)]
struct CutOff {
    what: String,
    seconds: f64,
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: cut off after --limit-s {}", self.what, self.seconds)
    }
}

impl std::error::Error for CutOff {}

/// Until when all of it must be done.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    seconds: f64,
}

impl Deadline {
    /// Lets it be done until then.
    async fn before<T>(
        self,
        what: impl Fn() -> String,
        done: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match timeout_at(self.at.into(), done).await {
            Ok(done) => done.with_context(what),
            Err(_) => bail!(CutOff {
                what: what(),
                seconds: self.seconds,
            }),
        }
    }
}

async fn compare(args: &Args, inside: &tokio::runtime::Runtime, report: &mut Report) -> Result<()> {
    let deadline = Deadline {
        at: Instant::now() + Duration::from_secs_f64(args.limit_s),
        seconds: args.limit_s,
    };
    let mut servers = Vec::new();
    let mut embedded = None;
    for (count, size) in [(KEYS, &args.size), (1, &args.stream_size)] {
        let is_ours = args.targets.is_empty();
        ensure!(
            !is_ours || args.pool.has_room_for(count, size.bytes),
            "{count} x {size} does not fit {}",
            args.pool
        );
    }
    if args.targets.is_empty() {
        let program = server::program(args.scatterhoard.as_deref(), "scatterhoard")?;
        servers.push(server::start_redis("redis-server", &args.redis_server).await?);
        let mut pool = args.pool.clone();
        let most_mb = args.stream_size.bytes.max(args.size.bytes) / 1_000_000 + 1;
        pool.extra
            .push(format!("--proto-max-bulk-mb={most_mb}").into());
        servers.push(server::start_scatterhoard(&program, &pool, 0, Ack::Quorum).await?);
        let settings = settings(args, NodeProgram::at(program))?;
        embedded = Some(inside.spawn(Embedded::start(settings)).await??);
    }
    let targets: Vec<Target> = match servers.is_empty() {
        true => args.targets.clone(),
        false => servers.iter().map(|s| s.target.clone()).collect(),
    };
    let measured = measure(args, &targets, embedded.as_ref(), deadline, report).await;
    measured.map_err(|error| explained(error, &servers))?;
    if let Some(embedded) = embedded {
        embedded.shutdown().await?;
    }
    let progress = Progress::new(targets.len(), "streams");
    for target in &targets {
        let what = || format!("{}: streaming {}", target.name, args.stream_size);
        progress.at(what);
        let streamed = async {
            allow(target, args.stream_size.bytes).await?;
            streaming::measure(target, args).await
        };
        let figures = deadline.before(what, streamed).await;
        let figures = figures.map_err(|error| explained(error, &servers))?;
        report.figures.extend(figures);
        progress.step();
    }
    progress.end();
    for server in servers {
        server.stop().await?;
    }
    Ok(())
}

fn explained(error: anyhow::Error, servers: &[Server]) -> anyhow::Error {
    if error.is::<CutOff>() {
        return error;
    }
    let explain = |error, server: &Server| match server.explain::<()>(Err(error)) {
        Err(error) => error,
        Ok(()) => anyhow::anyhow!("no error"),
    };
    servers.iter().fold(error, explain)
}

fn settings(args: &Args, program: NodeProgram) -> Result<Settings> {
    let geometry = args.pool.data_parity;
    Ok(Settings::new(Nodes::Processes(program))
        .nodes(args.pool.nodes.try_into()?)
        .node_memory_mb(args.pool.node_memory_mb.try_into()?)
        .data_parity(geometry.data.try_into()?, geometry.parity.try_into()?)
        .hot_tier_mb(0))
}

/// redis-server takes no more than 512 MB unless it is told.
async fn allow(target: &Target, bytes: usize) -> Result<()> {
    if bytes > 512 << 20 && target.name == "redis-server" {
        let words = ["SET", "proto-max-bulk-len", &bytes.to_string()].map(str::to_owned);
        let set = words.into_iter().fold(Command::new("CONFIG"), Command::arg);
        Client::new(options(target)?).command(set).await?;
    }
    Ok(())
}

fn options(target: &Target) -> Result<Options> {
    let url = format!("redis://{}", target.address);
    Ok(Options::from_url(&url)?.request_timeout(LIMIT))
}

/// A way to read and write values.
enum Way {
    Raw(Box<Connection>),
    Library(Client),
}

/// What is read and written, and how.
struct Subject {
    name: String,
    /// To which it is compared.
    beside: Option<usize>,
    way: Way,
    /// GB/s of each round, GET and SET.
    rates: [Vec<f64>; 2],
}

const OPS: [Op; 2] = [Op::Get, Op::Set];

/// Rounds; figures are of those that were done, however it ends.
async fn measure(
    args: &Args,
    targets: &[Target],
    embedded: Option<&Embedded>,
    deadline: Deadline,
    report: &mut Report,
) -> Result<()> {
    let size = args.size.bytes;
    ensure!(
        size <= MAX_BYTES,
        "--size must be {MAX_BYTES} bytes at most"
    );
    let bodies = Bodies::new(size, args.seed);
    let values: Vec<Value> = (0..KEYS)
        .map(|n| Value {
            key: format!("client-overhead:{n}"),
            body: Bytes::copy_from_slice(bodies.body(n, 0, size)),
        })
        .collect();
    let mut subjects = Vec::new();
    for target in targets {
        let what = || format!("target {} ({})", target.name, target.address);
        let raw = Connection::open(&target.address, 1, size);
        let raw = deadline.before(what, raw).await?;
        let client = async { Ok(Client::connect(options(target)?).await?) };
        let client = deadline.before(what, client).await?;
        let beside = Some(subjects.len());
        subjects.push(Subject::new(
            &target.name,
            "raw",
            None,
            Way::Raw(Box::new(raw)),
        ));
        subjects.push(Subject::new(
            &target.name,
            "client",
            beside,
            Way::Library(client),
        ));
    }
    if let Some(embedded) = embedded {
        let client = Client::new(embedded.options().request_timeout(LIMIT));
        // beside the client at the proxy that is a process of its own
        let beside = Some(subjects.len() - 1);
        subjects.push(Subject::new(
            "embedded",
            "client",
            beside,
            Way::Library(client),
        ));
    }
    let mut told = Told {
        args,
        subjects,
        report,
    };
    rounds(args, &mut told.subjects, &values, deadline).await
}

async fn rounds(
    args: &Args,
    subjects: &mut [Subject],
    values: &[Value],
    deadline: Deadline,
) -> Result<()> {
    let progress = Progress::new(args.rounds as usize * subjects.len(), "rounds");
    for subject in &mut *subjects {
        let what = format!("{}, storing", subject.name);
        progress.at(|| what.clone());
        let stored = subject.populate(values);
        deadline.before(|| what.clone(), stored).await?;
    }
    for round in 1..=args.rounds {
        for subject in &mut *subjects {
            let what = format!("{}, round {round} of {}", subject.name, args.rounds);
            progress.at(|| what.clone());
            let done = subject.round(values, args.seconds);
            deadline.before(|| what.clone(), done).await?;
            progress.step();
        }
    }
    progress.end();
    Ok(())
}

struct Value {
    key: String,
    body: Bytes,
}

impl Subject {
    fn new(server: &str, way_name: &str, beside: Option<usize>, way: Way) -> Self {
        Self {
            name: format!("{server} {way_name}"),
            beside,
            way,
            rates: Default::default(),
        }
    }

    /// Stores all values, and reads each back to its last byte.
    async fn populate(&mut self, values: &[Value]) -> Result<()> {
        for value in values {
            self.way.set(value).await?;
            let found = self.way.get(value).await?;
            ensure!(found, "{}: {} is another value", self.name, value.key);
        }
        Ok(())
    }

    async fn round(&mut self, values: &[Value], seconds: f64) -> Result<()> {
        for (op, rates) in OPS.into_iter().zip(&mut self.rates) {
            let (begun, mut done) = (Instant::now(), 0_u64);
            let mut turn = values.iter().cycle();
            while done == 0 || begun.elapsed().as_secs_f64() < seconds {
                let value = turn.next().context("no values")?;
                match op {
                    Op::Get => self.way.read(value).await?,
                    Op::Set => self.way.set(value).await?,
                }
                done += value.body.len() as u64;
            }
            rates.push(done as f64 / 1e9 / begun.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

impl Way {
    async fn set(&mut self, value: &Value) -> Result<()> {
        match self {
            Self::Raw(connection) => {
                connection.set(value.key.as_bytes(), &value.body).await?;
                check_stored(connection.reply(0))
            }
            Self::Library(client) => Ok(client.set(&value.key, value.body.clone()).await?),
        }
    }

    /// Reads a value whose length is checked, and its ends.
    async fn read(&mut self, value: &Value) -> Result<()> {
        let found = self.body(value, |found| {
            let ends = |body: &[u8]| (body.len(), body.first().copied(), body.last().copied());
            ends(found) == ends(&value.body)
        });
        ensure!(found.await?, "{} is another value", value.key);
        Ok(())
    }

    /// Whether it is the same to its last byte.
    async fn get(&mut self, value: &Value) -> Result<bool> {
        self.body(value, |found| *found == value.body[..]).await
    }

    async fn body(&mut self, value: &Value, judge: impl Fn(&[u8]) -> bool) -> Result<bool> {
        match self {
            Self::Raw(connection) => {
                connection.push(&[b"GET", value.key.as_bytes()])?;
                connection.exchange(1).await?;
                Ok(matches!(connection.reply(0), Some(Reply::Bulk(body)) if judge(body)))
            }
            Self::Library(client) => {
                let found = client.get(&value.key).await?;
                Ok(found.is_some_and(|body| judge(&body)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hangs_is_cut_off_and_named() {
        let deadline = Deadline {
            at: Instant::now() + Duration::from_millis(1),
            seconds: 0.001,
        };
        let what = || "round 2 of 9".to_owned();
        let hangs = std::future::pending::<Result<()>>();
        let error = deadline.before(what, hangs).await.unwrap_err();
        assert!(error.is::<CutOff>());
        let said = error.to_string();
        assert_eq!(said, "round 2 of 9: cut off after --limit-s 0.001");
        let failed = deadline.before(what, async { bail!("no server") }).await;
        let said = format!("{:#}", failed.map(|()| 0).unwrap_err());
        assert_eq!(said, "round 2 of 9: no server");
    }
}
