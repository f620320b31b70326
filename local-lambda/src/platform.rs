//! The state that all tasks share, and the ways through it: admit an
//! invocation, start its instance, take instances away.
//!
//! Invariants: `World` is locked for a few map operations at a time and never
//! across an await; an instance is in the fleet only while its task is in
//! `tasks`, so whoever is admitted can be handed over.

use crate::Error;
use crate::answer::{Outcome, Refusal};
use crate::cgroup::Cgroups;
use crate::clock;
use crate::faults::Faults;
use crate::fleet::{Admission, Fleet, InstanceId, InstanceState, Limits, ages};
use crate::function::FunctionConfig;
use crate::http::Admitted;
use crate::instance::{Call, InstanceTask, Work};
use crate::ledger::Books;
use crate::process::{Process, Spawner};
use crate::reclaim::{Reclaim, ReclaimPolicy};
use crate::settings::{MemoryEnforcement, Settings};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Smallest budget for bodies: two of the largest.
const MIN_BUFFER_BYTES: usize = 16 << 20;

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

#[derive(Debug)]
struct Task {
    work: mpsc::Sender<Work>,
    recheck: Arc<Notify>,
    kill: CancellationToken,
    process: Option<Arc<Process>>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) books: Books,
    pub(crate) faults: Faults,
    fault_rng: StdRng,
    rng: StdRng,
    tasks: HashMap<InstanceId, Task>,
    closing: bool,
}

#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) settings: Settings,
    pub(crate) world: Mutex<World>,
    pub(crate) spawner: Spawner,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) poll_memory: bool,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) request_budget: Arc<Semaphore>,
    pub(crate) response_budget: Arc<Semaphore>,
    pub(crate) event_slots: Arc<Semaphore>,
    pub(crate) event_budget: Arc<Semaphore>,
    pub(crate) reclaim_policy: watch::Sender<ReclaimPolicy>,
}

/// One invocation's answer.
#[derive(Debug)]
pub(crate) struct Invoked {
    pub(crate) request_id: String,
    pub(crate) outcome: Outcome,
    /// A fault: the caller is not to get it.
    pub(crate) lost: bool,
}

impl Platform {
    pub(crate) fn new(settings: Settings) -> Result<Platform, Error> {
        let (cgroups, poll_memory) = memory_enforcement(settings.memory_enforcement)?;
        let rng = settings
            .seed
            .map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
        let limits = Limits {
            account_concurrency: settings.account_concurrency,
            max_instances: settings.max_instances,
            rate_limit: settings.rate_limit,
        };
        let mut world = World {
            fleet: Fleet::new(limits, Instant::now()),
            books: Books::default(),
            faults: Faults::default(),
            fault_rng: rng.clone(),
            rng,
            tasks: HashMap::new(),
            closing: false,
        };
        world.set_faults(settings.faults.clone());
        let budget = || Arc::new(Semaphore::new(settings.buffer_bytes.max(MIN_BUFFER_BYTES)));
        let (reclaim_policy, _) = watch::channel(settings.reclaim.clone());
        Ok(Platform {
            world: Mutex::new(world),
            spawner: Spawner::start()?,
            cgroups,
            poll_memory,
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            request_budget: budget(),
            response_budget: budget(),
            event_slots: Arc::new(Semaphore::new(settings.events.queue_events)),
            event_budget: Arc::new(Semaphore::new(settings.events.queue_bytes)),
            reclaim_policy,
            settings,
        })
    }

    /// Runs one invocation to its end, faults included. The invocation goes on
    /// if the caller goes away, as on Lambda.
    pub(crate) async fn invoke(
        self: &Arc<Self>,
        function: &str,
        payload: Admitted,
    ) -> Result<Invoked, Refusal> {
        let (verdict, request_id, trace_id) = {
            let mut world = self.world.lock();
            let verdict = world.decide(function);
            let request_id = world.request_id();
            (verdict, request_id, world.trace_id())
        };
        if !verdict.delay.is_zero() {
            tokio::time::sleep(verdict.delay).await;
        }
        if let Some(refusal) = verdict.refuse {
            if let Refusal::Throttled(_) = refusal {
                self.world.lock().books.throttled(function);
            }
            return Err(refusal);
        }
        let (reply, answer) = oneshot::channel();
        let call = Call {
            function: function.to_owned(),
            request_id: request_id.clone(),
            trace_id,
            reply,
        };
        self.dispatch(Work { call, payload });
        let outcome = answer
            .await
            .unwrap_or(Err(Refusal::Service("the platform is stopping")))?;
        Ok(Invoked {
            request_id,
            outcome,
            lost: verdict.lose_response,
        })
    }

    /// Gives an invocation to an instance, a new one if need be; a refusal goes
    /// to its caller.
    pub(crate) fn dispatch(self: &Arc<Self>, work: Work) {
        let mut world = self.world.lock();
        if world.closing {
            let _ = work
                .call
                .reply
                .send(Err(Refusal::Service("the platform is stopping")));
            return;
        }
        match world.fleet.admit(&work.call.function, Instant::now()) {
            Ok(Admission::Reuse(id)) => world.hand_over(id, work),
            Ok(Admission::Start { id, evicted }) => {
                if let Some(evicted) = evicted {
                    world.kill(evicted);
                }
                self.start_instance(&mut world, id, work);
            }
            Err(refusal) => {
                if let Refusal::Throttled(_) = refusal {
                    world.books.throttled(&work.call.function);
                }
                let _ = work.call.reply.send(Err(refusal));
            }
        }
    }

    fn start_instance(self: &Arc<Self>, world: &mut World, id: InstanceId, first: Work) {
        let Some(config) = world.fleet.instance(id).map(|i| Arc::clone(&i.config)) else {
            return;
        };
        let (sender, work) = mpsc::channel(1);
        let recheck = Arc::new(Notify::new());
        let kill = self.stop.child_token();
        let task = Task {
            work: sender,
            recheck: Arc::clone(&recheck),
            kill: kill.clone(),
            process: None,
        };
        world.tasks.insert(id, task);
        let task = InstanceTask {
            id,
            platform: Arc::clone(self),
            config,
            work,
            recheck,
            kill,
        };
        self.tracker.spawn(task.run(first));
    }

    /// The instance has a process now.
    pub(crate) fn attach(&self, id: InstanceId, process: Arc<Process>) {
        if let Some(task) = self.world.lock().tasks.get_mut(&id) {
            task.process = Some(process);
        }
    }

    /// The instance is no more.
    pub(crate) fn forget(&self, id: InstanceId) {
        let mut world = self.world.lock();
        world.fleet.leave(id);
        world.tasks.remove(&id);
    }

    pub(crate) fn put(&self, config: FunctionConfig) -> Result<(), Error> {
        let mut world = self.world.lock();
        let name = config.name.clone();
        let seed = world.rng.next_u64();
        let old = world.fleet.put(config, seed, Instant::now())?;
        world.kill_all(&old);
        let World { fleet, tasks, .. } = &mut *world;
        for (id, _) in fleet.instances().filter(|(_, i)| i.config.name == name) {
            if let Some(task) = tasks.get(&id) {
                task.recheck.notify_one();
            }
        }
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        let mut world = self.world.lock();
        let old = world
            .fleet
            .remove(name)
            .ok_or_else(|| Error::UnknownFunction(name.to_owned()))?;
        world.kill_all(&old);
        Ok(())
    }

    /// Takes away what `order` names; says what went.
    pub(crate) fn reclaim(&self, order: &Reclaim) -> Vec<InstanceId> {
        let mut world = self.world.lock();
        match order.seed {
            Some(seed) => world.reclaim(order, &mut StdRng::seed_from_u64(seed)),
            None => {
                let mut rng = world.split_rng();
                world.reclaim(order, &mut rng)
            }
        }
    }

    pub(crate) fn instances(&self) -> Vec<InstanceInfo> {
        let now = Instant::now();
        let mut list = Vec::new();
        let world = self.world.lock();
        for (id, instance) in world.fleet.instances() {
            let (age, idle) = ages(instance, now);
            let process = world.tasks.get(&id).and_then(|t| t.process.clone());
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
        drop(world);
        // Reading /proc takes its time; not under the lock.
        let rss = |(mut info, process): (InstanceInfo, Option<Arc<Process>>)| {
            info.rss_bytes = process.and_then(|p| p.rss_bytes()).unwrap_or(0);
            info
        };
        list.into_iter().map(rss).collect()
    }

    /// Processes that can grow, with their limits in bytes.
    pub(crate) fn running(&self) -> Vec<(Arc<Process>, u64)> {
        let world = self.world.lock();
        let process = |(id, instance): (InstanceId, &crate::fleet::Instance)| {
            let process = world
                .tasks
                .get(&id)?
                .process
                .clone()
                .filter(|p| !p.is_frozen())?;
            Some((process, u64::from(instance.config.memory_mb) << 20))
        };
        world.fleet.instances().filter_map(process).collect()
    }

    pub(crate) fn warm_delay(&self) -> Duration {
        self.world.lock().faults.warm_invoke_delay
    }

    pub(crate) fn cold_delay(&self) -> Duration {
        self.world.lock().faults.cold_start_delay
    }

    /// Refuses all that comes from now on, and kills every process.
    pub(crate) fn close(&self) {
        self.stop.cancel();
        let mut world = self.world.lock();
        world.closing = true;
        for task in world.tasks.values() {
            if let Some(process) = &task.process {
                process.kill();
            }
        }
        self.tracker.close();
    }
}

impl World {
    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.fault_rng = match faults.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => self.split_rng(),
        };
        self.faults = faults;
    }

    /// A generator of its own for a sequence of draws.
    pub(crate) fn split_rng(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.rng.next_u64())
    }

    fn decide(&mut self, function: &str) -> crate::faults::Verdict {
        self.faults.decide(function, &mut self.fault_rng)
    }

    fn hand_over(&mut self, id: InstanceId, work: Work) {
        let Some(task) = self.tasks.get(&id) else {
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

    fn kill_all(&mut self, ids: &[InstanceId]) {
        for id in ids {
            self.kill(*id);
        }
    }

    /// Kills an instance that has left the fleet.
    fn kill(&mut self, id: InstanceId) {
        if let Some(task) = self.tasks.remove(&id) {
            task.kill.cancel();
            if let Some(process) = task.process {
                process.kill();
            }
        }
    }

    /// A random UUID (version 4), as Lambda's request ids are.
    fn request_id(&mut self) -> String {
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

    fn trace_id(&mut self) -> String {
        let now = clock::since_epoch().as_secs();
        let (root, parent) = (self.rng.random::<u128>() >> 32, self.rng.random::<u64>());
        format!("Root=1-{now:08x}-{root:024x};Parent={parent:016x};Sampled=0")
    }
}

/// The cgroups, and whether to poll sizes instead.
fn memory_enforcement(wanted: MemoryEnforcement) -> Result<(Option<Cgroups>, bool), Error> {
    match wanted {
        MemoryEnforcement::Off => Ok((None, false)),
        MemoryEnforcement::Rss => Ok((None, true)),
        MemoryEnforcement::Cgroup => Ok((Some(Cgroups::create().map_err(Error::NoCgroup)?), false)),
        MemoryEnforcement::Auto => match Cgroups::create() {
            Ok(cgroups) => Ok((Some(cgroups), false)),
            Err(reason) => {
                tracing::info!(%reason, "no cgroups; memory limits are kept by polling");
                Ok((None, true))
            }
        },
    }
}
