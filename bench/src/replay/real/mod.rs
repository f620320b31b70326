//! `replay` for real: a trace through the proxy, over sockets, on a pool of local processes
//! that are taken away as the platform was seen to.

mod clients;
mod evictions;
mod judge;
mod outcome;
mod plan;
mod reclaims;
mod report;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use local_lambda::Architecture;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Outcome, PoolArgs, play};
use crate::availability::patterns::Pattern;
use crate::availability::population;
use crate::chaos::platform::Platform;
use crate::interrupt::Signals;
use crate::pool::Ack;
use crate::procfs;
use crate::progress::Progress;
use crate::server::{self, Proxy, Server};
use crate::trace::Trace;
use clients::Shared;
use evictions::Listener;
pub(crate) use outcome::RealOutcome;
use plan::Plan;
pub(crate) use plan::RealArgs;
use reclaims::Reaper;
pub(super) use report::{drawing, text};

/// From everything being there to the trace's begin.
const RUN_UP: Duration = Duration::from_millis(200);
/// Invocations whose proxy is gone end within this.
const LAST_RETURNS_WITHIN: Duration = Duration::from_millis(500);
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

impl RealArgs {
    /// Seconds instead of minutes, on few nodes.
    pub(super) fn make_quick(&mut self) {
        self.speed_up = 500.0;
        self.scale_bytes = Some(60.0);
        self.local_nodes = 14;
    }
}

/// An hour of a generated trace, and minutes of which every third takes a tenth.
pub(super) fn quick(seed: u64) -> (Trace, Pattern) {
    let trace = super::story::of_gets(&population::generate(1.0, seed));
    (trace, Pattern::Minutes(vec![(0.67, 0), (1.0, 40)]))
}

/// Plays it here and in the simulation of the same pool. What there is by the time at which
/// it breaks off is in the outcome, with the reason.
pub(super) fn run(
    args: &RealArgs,
    wanted: &PoolArgs,
    trace: Trace,
    pattern: &Pattern,
    day: String,
) -> Result<RealOutcome> {
    let plan = Plan::new(args, wanted)?;
    let trace = args.head(trace)?;
    let skipped = trace.skipped;
    let story = plan.simulated.story(&trace);
    let settings = plan.simulated.settings(story.hours, Architecture::X86)?;
    let simulated = play(&plan.simulated, &story, pattern, &settings, skipped)?;
    simulated.end()?;
    let lru_hits = story.script.steps.iter().map(|s| s.is_hit).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let world = World {
        args,
        plan,
        pattern,
        day,
        simulated,
    };
    runtime.block_on(world.play(trace, lru_hits))
}

struct World<'a> {
    args: &'a RealArgs,
    plan: Plan,
    pattern: &'a Pattern,
    day: String,
    simulated: Outcome,
}

impl World<'_> {
    async fn play(self, trace: Trace, lru_hits: Vec<bool>) -> Result<RealOutcome> {
        let program = server::program(self.args.scatterhoard.as_deref(), "scatterhoard")?;
        let lambda = server::program(self.args.local_lambda.as_deref(), "local-lambda")?;
        // dropped, both are killed: neither outlives this program
        let platform = Platform::start(&lambda, &program, &self.plan.pool)?;
        let mut proxy = Proxy::new(&self.plan.pool, 0, Ack::Quorum)?;
        let endpoint = ["--lambda-endpoint".into(), platform.url().into()];
        proxy.arguments.extend(endpoint);
        let server = proxy.start(&program).await?;
        let before = platform.bill().await?;
        let listener = Listener::open(&server.target.address).await?;
        let (cpu_s, begin) = (
            procfs::own_cpu_seconds(server.pid()),
            Instant::now() + RUN_UP,
        );
        let shared = Arc::new(Shared::new(
            server.target.address.clone(),
            self.plan.clone(),
            trace,
            lru_hits,
            self.plan.simulated.max_object_mb << 20,
            self.plan.simulated.seed,
            begin,
        )?);
        let done = self.drive(&shared, listener, &platform).await;
        let elapsed_s = begin.elapsed().as_secs_f64();
        let broken_off = server.explain(done).err();
        let mut outcome = RealOutcome::new(&self.plan, &shared, &self.simulated);
        outcome.day = self.day;
        outcome.seed = self.plan.simulated.seed;
        outcome.elapsed_s = elapsed_s;
        outcome.broken_off = broken_off.map(|error| format!("{error:#}"));
        if outcome.broken_off.is_none() {
            outcome.proxy.cpu_s = procfs::own_cpu_seconds(server.pid()) - cpu_s;
            outcome.proxy.read(&server).await?;
            // what is held open is charged when it ends
            server.stop().await?;
            sleep(LAST_RETURNS_WITHIN).await;
            outcome.take_bill(before, platform.bill().await?);
        }
        Ok(outcome)
    }

    /// Until all requests are answered, or something fails.
    async fn drive(
        &self,
        shared: &Arc<Shared>,
        listener: Listener,
        platform: &Platform,
    ) -> Result<()> {
        let mut signals = Signals::new()?;
        let mut clients = JoinSet::new();
        for _ in 0..self.args.clients {
            let shared = shared.clone();
            clients.spawn(async move { clients::work(&shared).await });
        }
        let all = async {
            while let Some(client) = clients.join_next().await {
                client??;
            }
            anyhow::Ok(())
        };
        let simulated = &self.plan.simulated;
        let has_standbys = simulated.backup_interval_s != Some(0);
        let reaper = Reaper::new(
            self.pattern,
            simulated.correlation,
            has_standbys,
            simulated.seed,
        );
        let reap = reaper.reap(
            platform,
            shared.begin,
            self.plan.speed_up,
            &shared.reclaimed,
        );
        let progress = Progress::new(shared.trace.requests.len(), "requests");
        let ended = tokio::select! {
            biased;
            done = all => done,
            heard = listener.listen(&shared.heard) => heard,
            reaped = reap => reaped.context("local-lambda"),
            () = show(shared, &progress) => Ok(()),
            word = signals.next() => Err(anyhow::anyhow!(word)),
        };
        progress.end();
        ended
    }
}

/// How far it is, for whoever waits; never ends.
async fn show(shared: &Shared, progress: &Progress) {
    loop {
        sleep(PROGRESS_EVERY).await;
        progress.to(shared.done.load(Ordering::Relaxed));
        progress.at(|| {
            let hours = shared.begin.elapsed().as_secs_f64() * shared.plan.speed_up / 3600.0;
            let counts = outcome::sum(&shared.tally().hours);
            format!(
                "{hours:.1} h, hits {:.1} %, RESETs {}",
                counts.hit_ratio() * 100.0,
                counts.lost
            )
        });
    }
}

impl outcome::ProxyCounters {
    /// From the metrics of the proxy.
    async fn read(&mut self, server: &Server) -> Result<()> {
        for (value, name) in [
            (
                &mut self.evicted_objects,
                "scatterhoard_evicted_objects_total",
            ),
            (&mut self.lost_objects, "scatterhoard_lost_objects_total"),
            (
                &mut self.instances_lost,
                "scatterhoard_instances_lost_total",
            ),
            (
                &mut self.repaired_chunks,
                "scatterhoard_repaired_chunks_total",
            ),
            (&mut self.backup_chunks, "scatterhoard_backup_chunks_total"),
            (
                &mut self.evictions_not_told,
                "scatterhoard_key_events_left_out_total",
            ),
        ] {
            *value = server.counter(name).await?;
        }
        Ok(())
    }
}
