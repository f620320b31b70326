//! The server under test with its platform: started, struck, healed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use tempfile::TempDir;
use tokio::time::sleep;

use super::client::{Shared, lock};
use super::platform::{Instance, NO_FAULTS, Platform};
use super::schedule::{Fault, Strike};
use crate::pool::{Ack, Pool};
use crate::server::{Proxy, Server};

/// Share of the nodes that a burst kills.
const BURST: f64 = 0.3;
const EVICTED: &str = "scatterhoard_evicted_objects_total";
/// Longest time that a proxy goes on to wait for a node that stopped.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(20);
/// Several times as long as idle nodes are held by default.
const FALL_ASLEEP_WITHIN: Duration = Duration::from_millis(800);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How to start a proxy again.
pub(super) struct Restart {
    pub(super) program: PathBuf,
    pub(super) proxy: Proxy,
}

pub(super) struct World {
    pub(super) platform: Option<Platform>,
    pub(super) server: Option<Server>,
    restart: Option<Restart>,
    parity: usize,
    rng: SmallRng,
    _data: Option<TempDir>,
}

impl World {
    /// A proxy of ours, with its journal, and a platform that outlives it.
    pub(super) async fn start(
        program: PathBuf,
        platform: Platform,
        pool: &Pool,
        ack: Ack,
        hot_tier_mb: u32,
        rng: SmallRng,
    ) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut proxy = Proxy::new(pool, hot_tier_mb, ack)?;
        proxy.arguments.extend([
            OsString::from("--lambda-endpoint"),
            platform.url().into(),
            "--data-dir".into(),
            data.path().into(),
        ]);
        let server = proxy.start(&program).await?;
        Ok(Self {
            platform: Some(platform),
            server: Some(server),
            restart: Some(Restart { program, proxy }),
            parity: pool.data_parity.parity,
            rng,
            _data: Some(data),
        })
    }

    /// Servers that run already.
    pub(super) fn of_others(platform: Option<Platform>, parity: usize, rng: SmallRng) -> Self {
        Self {
            platform,
            server: None,
            restart: None,
            parity,
            rng,
            _data: None,
        }
    }

    /// Does it, waits as long as it lasts, and undoes what can be undone.
    pub(super) async fn strike(&mut self, strike: &Strike, shared: &Shared) -> Result<String> {
        match strike.fault {
            Fault::Kill => self.kill(self.some_of(strike.dose), strike, shared).await,
            Fault::Burst => {
                let nodes = functions(&self.platform()?.instances().await?).len();
                self.kill((nodes as f64 * BURST).round() as usize, strike, shared)
                    .await
            }
            Fault::Stop => self.stop(strike, shared).await,
            Fault::Twins => self.twins(strike, shared).await,
            Fault::InvokeDown => {
                let how = if strike.dose < 0.5 {
                    "service-exception"
                } else {
                    "close-connection"
                };
                let faults = format!(r#"{{"down":"{how}"}}"#);
                let nodes = self.with_faults(&faults, strike, shared).await?;
                Ok(format!("{how}, nodes {nodes}"))
            }
            Fault::Throttle => {
                let rules = r#"{"rules":[{"kind":"throttle","when":{"fraction":0.9}}]}"#;
                let nodes = self.with_faults(rules, strike, shared).await?;
                Ok(format!("90 % of invokes, nodes {nodes}"))
            }
            Fault::Proxy => self.restart_proxy(strike, shared).await,
        }
    }

    fn platform(&self) -> Result<&Platform> {
        self.platform.as_ref().context("no platform to strike")
    }

    /// 1 to p.
    fn some_of(&self, dose: f64) -> usize {
        1 + (dose * self.parity as f64) as usize
    }

    /// Functions that are at work, in an order drawn at random.
    async fn victims(&mut self, count: usize) -> Result<Vec<Instance>> {
        let all = self.platform()?.instances().await?;
        let mut names: Vec<String> = functions(&all).into_iter().collect();
        let (chosen, _) = names.partial_shuffle(&mut self.rng, count);
        let of_chosen = |instance: &Instance| chosen.contains(&instance.function);
        Ok(all.into_iter().filter(of_chosen).collect())
    }

    /// All processes of `count` functions.
    pub(super) async fn kill_now(&mut self, count: usize, shared: &Shared) -> Result<String> {
        let victims = self.victims(count).await?;
        harm(&victims, shared);
        for victim in &victims {
            victim.signal(Signal::SIGKILL)?;
        }
        Ok(names(&victims))
    }

    async fn kill(&mut self, count: usize, strike: &Strike, shared: &Shared) -> Result<String> {
        let killed = self.kill_now(count, shared).await?;
        sleep(strike.lasts).await;
        Ok(killed)
    }

    async fn stop(&mut self, strike: &Strike, shared: &Shared) -> Result<String> {
        let victims = self.victims(self.some_of(strike.dose)).await?;
        // Whoever waits in vain for one has the platform start another, without its chunks.
        harm(&victims, shared);
        for victim in &victims {
            victim.signal(Signal::SIGSTOP)?;
        }
        sleep(strike.lasts).await;
        for victim in &victims {
            victim.signal(Signal::SIGCONT)?;
        }
        Ok(names(&victims))
    }

    async fn twins(&mut self, strike: &Strike, shared: &Shared) -> Result<String> {
        let all = self.platform()?.instances().await?;
        let busy: Vec<Instance> = all.into_iter().filter(Instance::is_busy).collect();
        let mut order = busy;
        order.shuffle(&mut self.rng);
        let Some(first) = order.first() else {
            return Ok("none was busy".to_owned());
        };
        harm(std::slice::from_ref(first), shared);
        first.signal(Signal::SIGSTOP)?;
        let began = Instant::now();
        // As long as it takes, within reason: the proxy must give the first one up.
        let limit = strike.lasts.max(GIVEN_UP_WITHIN);
        let mut twins = vec![first.clone()];
        while twins.len() < 2 && began.elapsed() < limit {
            sleep(LOOK_EVERY).await;
            let all = self.platform()?.instances().await?;
            twins = all;
            twins.retain(|instance| instance.function == first.function);
        }
        harm(&twins, shared);
        for twin in &twins {
            twin.signal(Signal::SIGKILL)?;
        }
        first.signal(Signal::SIGKILL)?;
        sleep(strike.lasts.saturating_sub(began.elapsed())).await;
        Ok(format!("{} of {}", twins.len(), first.function))
    }

    /// Half of the times nodes have fallen asleep before clients need them.
    async fn with_faults(
        &self,
        faults: &str,
        strike: &Strike,
        shared: &Shared,
    ) -> Result<&'static str> {
        let platform = self.platform()?;
        let asleep = ((strike.dose * 4.0) as u32).is_multiple_of(2);
        platform.set_faults(faults).await?;
        if asleep {
            shared.paused.store(true, Ordering::Relaxed);
            sleep(FALL_ASLEEP_WITHIN).await;
            shared.paused.store(false, Ordering::Relaxed);
        }
        sleep(strike.lasts).await;
        platform.set_faults(NO_FAULTS).await?;
        Ok(if asleep { "asleep" } else { "awake" })
    }

    async fn restart_proxy(&mut self, strike: &Strike, shared: &Shared) -> Result<String> {
        let restart = self.restart.as_ref().context("no proxy of ours")?;
        // Dropped, it is killed.
        drop(self.server.take());
        sleep(strike.lasts.mul_f64(strike.dose / 4.0)).await;
        let began = Instant::now();
        self.server = Some(restart.proxy.start(&restart.program).await?);
        let took = began.elapsed();
        lock(&shared.tally).restarts.push(took);
        sleep(strike.lasts).await;
        Ok(format!("ready after {:.0} ms", took.as_secs_f64() * 1e3))
    }

    /// Says how the proxy was, with the end of its log, if something failed.
    pub(super) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        match &self.server {
            Some(server) => server.explain(result),
            None => result,
        }
    }

    pub(super) async fn stop_server(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    /// Values that gave way to others since the proxy started: they look like misses.
    pub(super) async fn evicted(&self) -> Result<u64> {
        match &self.server {
            Some(server) => server.counter(EVICTED).await,
            None => Ok(0),
        }
    }
}

fn functions(instances: &[Instance]) -> BTreeSet<String> {
    instances.iter().map(|i| i.function.clone()).collect()
}

/// Functions by their numbers.
fn names(instances: &[Instance]) -> String {
    let all = functions(instances);
    let number = |name: &String| {
        let digits = name.rsplit('-').next().unwrap_or(name);
        digits.trim_start_matches('0').to_owned()
    };
    let short: Vec<String> = all
        .iter()
        .map(number)
        .map(|n| if n.is_empty() { "0".to_owned() } else { n })
        .collect();
    format!("nodes {}", short.join(" "))
}

fn harm(instances: &[Instance], shared: &Shared) {
    let mut losses = lock(&shared.losses);
    for function in functions(instances) {
        losses.harm(&function, shared.now());
    }
}
