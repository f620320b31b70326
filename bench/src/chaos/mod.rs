//! Faults under load: clients that check every byte against what was acknowledged, while a
//! seeded schedule kills and stops nodes, cuts the platform off and kills the proxy.
//!
//! What may not be: bytes that were never written, a value older than one that was
//! acknowledged or seen, a miss that the faults do not explain. Errors may be, and are counted.

mod burst;
mod client;
mod losses;
pub(crate) mod platform;
mod report;
mod schedule;
mod tally;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::interrupt;
use crate::pool::{Ack, Pool};
use crate::progress::Progress;
use crate::results::Output;
use crate::server;
use client::{Client, Shared, lock};
use platform::Platform;
use report::Report;
use schedule::{Fault, Faults, Pace, Schedule, Strike};
use world::World;

const CLIENTS_END_WITHIN: Duration = Duration::from_secs(90);
const QUIET: &str = "quiet";
/// The bar goes on after so long at most.
const SHOWN_EVERY: Duration = Duration::from_secs(1);
/// Reading everything once more, when all faults are over.
const AFTER: &str = "afterwards";

#[derive(clap::Args)]
// Another pool than for speed: more parity in fewer chunks, so that some objects outlive a burst.
#[command(mut_arg("nodes", |arg| arg.default_value("12")))]
#[command(mut_arg("data_parity", |arg| arg.default_value("4+2")))]
pub(crate) struct Args {
    /// The scatterhoard program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    scatterhoard: Option<PathBuf>,
    /// The local-lambda program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    local_lambda: Option<PathBuf>,
    /// A server that runs already, instead of one of our own; --data-parity must be its own.
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<String>,
    /// The local-lambda of that server: without it nothing but load is done to it.
    #[arg(long, value_name = "URL", requires = "target")]
    lambda_endpoint: Option<String>,
    /// What to do, of kill, burst, stop, twins, invoke-down, throttle, proxy; or all, or none.
    #[arg(long, value_name = "LIST", default_value = "all")]
    faults: Faults,
    /// How long clients work.
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Of the schedule, the clients and the contents.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// About 20 seconds: every fault once.
    #[arg(long)]
    quick: bool,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    clients: u16,
    /// Keys of each client.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=200))]
    keys: u16,
    /// The proxy acknowledges small writes from its memory.
    #[arg(long)]
    ack_proxy: bool,
    /// Memory for small values in the proxy.
    #[arg(long, default_value_t = 4)]
    hot_tier_mb: u32,
    #[command(flatten)]
    pool: Pool,
    #[command(flatten)]
    output: Output,
}

/// Does it; what was counted until an error is published, too.
pub(crate) async fn run(args: Args) -> Result<()> {
    let mut report = Report::new(args.seed, args.faults.0.clone());
    let done = interrupt::unless_told(chaos(&args, &mut report)).await;
    report.close(done, &args.output)
}

async fn chaos(args: &Args, report: &mut Report) -> Result<()> {
    let mut world = args.world().await?;
    let address = match (&args.target, &world.server) {
        (Some(target), _) => target.clone(),
        (None, Some(server)) => server.target.address.clone(),
        (None, None) => bail!("nobody to talk to"),
    };
    let keys = usize::from(args.clients) * usize::from(args.keys);
    let parity = args.pool.data_parity.parity;
    let shared = Arc::new(Shared::new(address, keys, parity, args.seed));
    report.follow(&shared);
    let done = drive(args, &mut world, &shared, report).await;
    let done = match done {
        Ok(()) if world.platform.is_some() => burst::run(args, &mut world, &shared, report).await,
        done => done,
    };
    world.explain(done)?;
    let evicted = world.evicted().await?;
    ensure!(
        evicted == 0,
        "{evicted} values were evicted: give nodes more memory"
    );
    world.stop_server().await
}

/// Clients at work while the faults strike; then everything is read once more.
async fn drive(
    args: &Args,
    world: &mut World,
    shared: &Arc<Shared>,
    report: &mut Report,
) -> Result<()> {
    let cleared = timeout(CLIENTS_END_WITHIN, clear(shared)).await;
    cleared.context("the server does not answer DEL")??;
    let mut clients = JoinSet::new();
    for index in 0..usize::from(args.clients) {
        let (shared, count) = (shared.clone(), usize::from(args.clients));
        let mut rng = SmallRng::seed_from_u64(args.seed << 8 | index as u64);
        clients.spawn(async move { Client::new(&shared).work(index, count, &mut rng).await });
    }
    let struck = strikes(args, world, shared, report).await;
    shared.stopped.store(true, Ordering::Relaxed);
    let ended = timeout(CLIENTS_END_WITHIN, async {
        while let Some(client) = clients.join_next().await {
            client??;
        }
        anyhow::Ok(())
    });
    struck?;
    report.progress.at(|| "clients end".into());
    ended.await.context("a client hangs")??;
    report.progress.at(|| "everything is read once more".into());
    shared.stopped.store(false, Ordering::Relaxed);
    *lock(&shared.phase) = AFTER.to_owned();
    let began = Instant::now();
    let mut reader = Client::new(shared);
    for key in 0..shared.keys.len() {
        reader.get(key).await?;
    }
    lock(&shared.tally).phase(AFTER)?.lasted = began.elapsed();
    report.progress.end();
    Ok(())
}

/// Nothing is left of an earlier run with the same seed.
async fn clear(shared: &Shared) -> Result<()> {
    let mut connection = crate::client::Connection::open(&shared.address, 1, 0).await?;
    for key in 0..shared.keys.len() {
        connection.push(&[b"DEL", &shared.name(key)])?;
        connection.exchange(1).await?;
    }
    Ok(())
}

async fn strikes(
    args: &Args,
    world: &mut World,
    shared: &Shared,
    report: &mut Report,
) -> Result<()> {
    let rng = SmallRng::seed_from_u64(args.seed);
    let mut schedule = Schedule::new(&args.faults, args.pace(), rng);
    let (began, limit) = (Instant::now(), args.limit());
    report.progress = Progress::new(limit.as_secs() as usize, "s");
    let progress = report.progress.clone();
    let quiet = |lasts| quiet(shared, lasts, began, &progress);
    let mut left = if args.quick {
        args.faults.0.len()
    } else {
        usize::MAX
    };
    // The first values, before anything can be done to them.
    quiet(args.pace().quiet).await?;
    while left > 0 && began.elapsed() < limit {
        let Some(strike) = schedule.next() else {
            return quiet(limit.saturating_sub(began.elapsed())).await;
        };
        left -= 1;
        quiet(strike.quiet_before).await?;
        progress.at(|| strike.fault.name());
        let what = one_strike(world, &strike, args.pace(), shared)
            .await
            .with_context(|| format!("at {strike:?}"))?;
        report.struck(shared.now(), strike.fault, &what);
    }
    quiet(args.pace().quiet).await
}

/// Nothing is done for so long.
async fn quiet(
    shared: &Shared,
    lasts: Duration,
    began: Instant,
    progress: &Progress,
) -> Result<()> {
    progress.at(|| QUIET.into());
    let mut left = lasts;
    while !left.is_zero() {
        progress.to(began.elapsed().as_secs() as usize);
        let nap = left.min(SHOWN_EVERY);
        sleep(nap).await;
        left -= nap;
    }
    lock(&shared.tally).phase(QUIET)?.lasted += lasts;
    Ok(())
}

async fn one_strike(
    world: &mut World,
    strike: &Strike,
    pace: Pace,
    shared: &Shared,
) -> Result<String> {
    let (name, began) = (strike.fault.name(), shared.now());
    *lock(&shared.phase) = name.clone();
    lock(&shared.losses).begin(began);
    let what = world.strike(strike, shared).await?;
    lock(&shared.losses).end(shared.now());
    sleep(pace.recovery).await;
    *lock(&shared.phase) = QUIET.to_owned();
    let mut tally = lock(&shared.tally);
    let phase = tally.phase(&name)?;
    phase.strikes += 1;
    phase.lasted += shared.now() - began;
    Ok(what)
}

impl Args {
    async fn world(&self) -> Result<World> {
        let rng = SmallRng::seed_from_u64(!self.seed);
        let parity = self.pool.data_parity.parity;
        if self.target.is_some() {
            let platform = self
                .lambda_endpoint
                .as_deref()
                .map(Platform::at)
                .transpose()?;
            let possible = |fault: &Fault| platform.is_some() && !fault.needs_own_proxy();
            let impossible: Vec<&Fault> = self.faults.0.iter().filter(|f| !possible(f)).collect();
            ensure!(
                impossible.is_empty(),
                "cannot do {impossible:?} to another's server: name --faults, or none; all but \
                 proxy need its --lambda-endpoint"
            );
            return Ok(World::of_others(platform, parity, rng));
        }
        let program = server::program(self.scatterhoard.as_deref(), "scatterhoard")?;
        let lambda = server::program(self.local_lambda.as_deref(), "local-lambda")?;
        let platform = Platform::start(&lambda, &program, &self.pool)?;
        let mut pool = self.pool.clone();
        if self.quick {
            // Faults are brief: whoever waits for a node must give it up as soon.
            pool.extra.push("--node-timeout-ms=1000".into());
        }
        let ack = if self.ack_proxy {
            Ack::Proxy
        } else {
            Ack::Quorum
        };
        World::start(program, platform, &pool, ack, self.hot_tier_mb, rng).await
    }

    fn limit(&self) -> Duration {
        if self.quick {
            Duration::from_secs(60)
        } else {
            Duration::from_secs_f64(self.minutes.max(0.0) * 60.0)
        }
    }

    fn pace(&self) -> Pace {
        let ms = Duration::from_millis;
        if self.quick {
            return Pace {
                quiet: ms(400),
                fault: ms(600),
                recovery: ms(200),
            };
        }
        Pace {
            quiet: ms(3000),
            fault: ms(3000),
            recovery: ms(1500),
        }
    }
}
