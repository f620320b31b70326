//! What all tasks share, and the ways through it: admit an invocation, start
//! its instance, take instances away.
//!
//! Invariant: the `World` is locked for a few map operations at a time, and
//! never across an await.

use crate::Error;
use crate::answer::{Outcome, Refusal};
use crate::cgroup::Cgroups;
use crate::fleet::{Admission, InstanceId};
use crate::function::FunctionConfig;
use crate::http::Admitted;
use crate::instance::{Call, InstanceTask, Work, arn};
use crate::process::{Process, Spawner};
use crate::reclaim::{Reclaim, ReclaimPolicy};
use crate::settings::{MemoryEnforcement, Settings};
use crate::world::{InstanceInfo, Task, World};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Smallest budget for bodies: two of the largest.
const MIN_BUFFER_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) settings: Settings,
    pub(crate) world: Mutex<World>,
    pub(crate) spawner: Spawner,
    pub(crate) cgroups: Option<Arc<Cgroups>>,
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
        let budget = || Arc::new(Semaphore::new(settings.buffer_bytes.max(MIN_BUFFER_BYTES)));
        let (reclaim_policy, _) = watch::channel(settings.reclaim.clone());
        Ok(Platform {
            world: Mutex::new(World::new(&settings, Instant::now())),
            spawner: Spawner::start()?,
            cgroups: cgroups.map(Arc::new),
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
            if world.faults.down.is_none() && !world.fleet.has_function(function) {
                return Err(Refusal::NoSuchFunction(arn(
                    &self.settings.region,
                    function,
                )));
            }
            let verdict = world.decide(function);
            let request_id = world.request_id();
            (verdict, request_id, world.trace_id())
        };
        if !verdict.delay.is_zero() {
            tokio::time::sleep(verdict.delay).await;
        }
        if let Some(refusal) = verdict.refuse {
            if let Refusal::Throttled(_) = refusal {
                self.world.lock().throttled(function);
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
                    world.throttled(&work.call.function);
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
        let seed = world.seed();
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
        let list = self.world.lock().list(Instant::now());
        // Reading /proc takes its time; not under the lock.
        let rss = |(mut info, process): (InstanceInfo, Option<Arc<Process>>)| {
            info.rss_bytes = process.and_then(|p| p.rss_bytes()).unwrap_or(0);
            info
        };
        list.into_iter().map(rss).collect()
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
