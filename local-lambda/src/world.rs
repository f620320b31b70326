//! The mutable state of the platform, behind one lock: the fleet, the tasks of
//! its instances, the books, the faults and the generators.
//!
//! Invariant: an instance is in the fleet only while its task is in `tasks`, so
//! whoever is admitted can be handed over.

use crate::answer::Refusal;
use crate::clock;
use crate::faults::{Faults, Verdict};
use crate::fleet::{Fleet, InstanceId, InstanceState, Limits, ages};
use crate::instance::Work;
use crate::ledger::Books;
use crate::process::Process;
use crate::reclaim::Reclaim;
use crate::settings::Settings;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// An instance as a list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceInfo {
    /// Its id.
    pub id: InstanceId,
    /// Its function's name.
    pub function: String,
    /// Its process, once there is one.
    pub pid: Option<u32>,
    /// What it is doing.
    pub state: InstanceState,
    /// Whether its process is stopped.
    pub frozen: bool,
    /// Time since it was asked for, in seconds.
    #[serde(rename = "age_s", with = "crate::text::seconds")]
    pub age: Duration,
    /// Time since its last invocation ended, in seconds; `None` unless idle.
    #[serde(rename = "idle_s", with = "crate::text::optional_seconds")]
    pub idle: Option<Duration>,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Invocations begun.
    pub invocations: u64,
}

/// What the platform holds of an instance's task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) work: mpsc::Sender<Work>,
    pub(crate) recheck: Arc<Notify>,
    pub(crate) kill: CancellationToken,
    pub(crate) process: Option<Arc<Process>>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) books: Books,
    pub(crate) faults: Faults,
    fault_rng: StdRng,
    rng: StdRng,
    pub(crate) tasks: HashMap<InstanceId, Task>,
    pub(crate) closing: bool,
}

impl World {
    pub(crate) fn new(settings: &Settings, now: Instant) -> World {
        let rng = settings
            .seed
            .map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
        let limits = Limits {
            account_concurrency: settings.account_concurrency,
            max_instances: settings.max_instances,
            rate_limit: settings.rate_limit,
        };
        let mut world = World {
            fleet: Fleet::new(limits, now),
            books: Books::default(),
            faults: Faults::default(),
            fault_rng: rng.clone(),
            rng,
            tasks: HashMap::new(),
            closing: false,
        };
        world.set_faults(settings.faults.clone());
        world
    }

    /// The instances, oldest first, with their processes for a look at `/proc`.
    pub(crate) fn list(&self, now: Instant) -> Vec<(InstanceInfo, Option<Arc<Process>>)> {
        let mut list = Vec::new();
        for (id, instance) in self.fleet.instances() {
            let (age, idle) = ages(instance, now);
            let process = self.tasks.get(&id).and_then(|t| t.process.clone());
            let info = InstanceInfo {
                id,
                function: instance.config.name.clone(),
                pid: process.as_ref().map(|p| p.pid()),
                state: instance.state,
                frozen: process.as_ref().is_some_and(|p| p.is_frozen()),
                age,
                idle,
                rss_bytes: 0,
                invocations: instance.invocations,
            };
            list.push((info, process));
        }
        list
    }

    /// Processes that can grow, with their limits in bytes.
    pub(crate) fn running(&self) -> Vec<(Arc<Process>, u64)> {
        let mut list = Vec::new();
        for (id, instance) in self.fleet.instances() {
            let process = self.tasks.get(&id).and_then(|t| t.process.as_ref());
            if let Some(process) = process.filter(|p| !p.is_frozen()) {
                list.push((
                    Arc::clone(process),
                    u64::from(instance.config.memory_mb) << 20,
                ));
            }
        }
        list
    }

    /// An invocation was refused for want of concurrency.
    pub(crate) fn throttled(&mut self, function: &str) {
        // Names that nobody has are not kept: they could be any number.
        if self.fleet.has_function(function) {
            self.books.throttled(function);
        }
    }

    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.fault_rng = match faults.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => self.split_rng(),
        };
        self.faults = faults;
    }

    pub(crate) fn seed(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// A generator of its own for a sequence of draws.
    pub(crate) fn split_rng(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.seed())
    }

    pub(crate) fn decide(&mut self, function: &str) -> Verdict {
        self.faults.decide(function, &mut self.fault_rng)
    }

    pub(crate) fn hand_over(&mut self, id: InstanceId, work: Work) {
        let Some(task) = self.tasks.get(&id) else {
            self.fleet.leave(id);
            return;
        };
        // Room for one, and an instance is given one at a time.
        if let Err(refused) = task.work.try_send(work) {
            tracing::error!(instance = %id, "an idle instance took no work");
            let refusal = Err(Refusal::Service("the instance is gone"));
            let _ = refused.into_inner().call.reply.send(refusal);
            self.fleet.leave(id);
        }
    }

    pub(crate) fn reclaim(&mut self, order: &Reclaim, rng: &mut StdRng) -> Vec<InstanceId> {
        let fleet = self
            .fleet
            .instances()
            .map(|(id, i)| (id, i.config.name.as_str(), i.state));
        let chosen = order.choose(fleet, rng);
        for id in &chosen {
            self.fleet.leave(*id);
        }
        self.kill_all(&chosen);
        chosen
    }

    pub(crate) fn kill_all(&mut self, ids: &[InstanceId]) {
        for id in ids {
            self.kill(*id);
        }
    }

    /// Kills an instance that has left the fleet.
    pub(crate) fn kill(&mut self, id: InstanceId) {
        if let Some(task) = self.tasks.remove(&id) {
            task.kill.cancel();
            if let Some(process) = task.process {
                process.kill();
            }
        }
    }

    /// A random UUID (version 4), as Lambda's request ids are.
    pub(crate) fn request_id(&mut self) -> String {
        let n =
            (self.rng.random::<u128>() & !(0xf << 76) & !(0xc << 60)) | (0x4 << 76) | (0x8 << 60);
        let hex = format!("{n:032x}");
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }

    pub(crate) fn trace_id(&mut self) -> String {
        let now = clock::since_epoch().as_secs();
        let (root, parent) = (self.rng.random::<u128>() >> 32, self.rng.random::<u64>());
        format!("Root=1-{now:08x}-{root:024x};Parent={parent:016x};Sampled=0")
    }
}
