//! Which instances there are, and which of them serves the next invocation.
//! Pure: takes `now`, returns decisions; starts and kills nothing itself.
//!
//! Invariants: an instance serves at most one invocation; none is admitted
//! beyond the limit of its function or account; an instance that left the fleet is
//! never chosen again. `idle` of a function lists exactly its idle instances,
//! the one that became idle last at the end.
//!
//! States: Starting -> Busy -> Idle -> Busy ...; any of them -> gone.

mod function_state;

use crate::Error;
use crate::answer::{Refusal, ThrottleReason};
use crate::function::{FunctionConfig, Routing};
use crate::rate::Bucket;
pub(crate) use function_state::Limits;
use function_state::{FunctionState, RATE_PER_CONCURRENCY, Unreserved};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names one instance for ever; never used again within a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Initialising for its first invocation.
    Starting,
    /// Serving an invocation.
    Busy,
    /// Waiting for one, frozen.
    Idle,
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) config: Arc<FunctionConfig>,
    pub(crate) state: InstanceState,
    pub(crate) born: Instant,
    pub(crate) idle_since: Instant,
    pub(crate) invocations: u64,
}

/// Who serves an invocation.
#[derive(Debug, PartialEq)]
pub(crate) enum Admission {
    /// This idle instance; it is busy now.
    Reuse(InstanceId),
    /// This new one, to be started. `evicted` has left the fleet to make room.
    Start {
        id: InstanceId,
        evicted: Option<InstanceId>,
    },
}

/// What becomes of an instance after an invocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It is idle and may be chosen at once.
    Idle,
    /// It has left the fleet: its configuration is old, or its age is up, or it
    /// was reclaimed meanwhile.
    Retire,
}

#[derive(Debug)]
pub(crate) struct Fleet {
    limits: Limits,
    functions: BTreeMap<String, FunctionState>,
    instances: BTreeMap<InstanceId, Instance>,
    reserved: u32,
    unreserved_busy: u32,
    unreserved_bucket: Bucket,
    next_id: u64,
}

impl Fleet {
    pub(crate) fn new(limits: Limits, now: Instant) -> Fleet {
        Fleet {
            limits,
            functions: BTreeMap::new(),
            instances: BTreeMap::new(),
            reserved: 0,
            unreserved_busy: 0,
            unreserved_bucket: Bucket::new(
                f64::from(limits.account_concurrency) * RATE_PER_CONCURRENCY,
                now,
            ),
            next_id: 1,
        }
    }

    /// Adds or replaces a function. Returns the idle instances that no longer
    /// fit and have left the fleet; busy ones leave when they finish.
    pub(crate) fn put(
        &mut self,
        config: FunctionConfig,
        seed: u64,
        now: Instant,
    ) -> Result<Vec<InstanceId>, Error> {
        config.validate()?;
        let old_reserved = self
            .functions
            .get(&config.name)
            .and_then(|f| f.config.reserved_concurrency);
        let others = self.reserved - old_reserved.unwrap_or(0);
        let asked = config.reserved_concurrency.unwrap_or(0);
        let available = self.limits.account_concurrency - others;
        if asked > available {
            return Err(Error::ReservedConcurrency {
                name: config.name,
                asked,
                available,
            });
        }
        self.reserved = others + asked;
        let seed = match config.routing {
            Routing::Random(seed) => seed,
            Routing::MostRecent | Routing::LeastRecent => seed,
        };
        let config = Arc::new(config);
        let name = config.name.clone();
        let function = self
            .functions
            .entry(name.clone())
            .or_insert_with(|| FunctionState {
                config: Arc::clone(&config),
                idle: Vec::new(),
                busy: 0,
                rng: SmallRng::seed_from_u64(seed),
                bucket: Bucket::new(f64::from(asked) * RATE_PER_CONCURRENCY, now),
            });
        if function.config.routing != config.routing {
            function.rng = SmallRng::seed_from_u64(seed);
        }
        let replaced = std::mem::replace(&mut function.config, Arc::clone(&config));
        match (replaced.reserved_concurrency, config.reserved_concurrency) {
            (None, Some(_)) => self.unreserved_busy -= function.busy,
            (Some(_), None) => self.unreserved_busy += function.busy,
            _ => {}
        }
        if replaced.same_instances(&config) {
            for instance in self
                .instances
                .values_mut()
                .filter(|i| i.config.name == name)
            {
                if instance.config.same_instances(&config) {
                    instance.config = Arc::clone(&config);
                }
            }
            return Ok(Vec::new());
        }
        let old = std::mem::take(&mut function.idle);
        for id in &old {
            self.instances.remove(id);
        }
        Ok(old)
    }

    /// Removes a function. Returns its instances, idle and busy, which have
    /// left the fleet. `None` if there is no such function.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Vec<InstanceId>> {
        if !self.functions.contains_key(name) {
            return None;
        }
        let ids: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|(_, i)| i.config.name == name)
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            self.leave(*id);
        }
        if let Some(function) = self.functions.remove(name) {
            self.reserved -= function.config.reserved_concurrency.unwrap_or(0);
        }
        Some(ids)
    }

    /// Finds an instance for an invocation of `name`.
    pub(crate) fn admit(&mut self, name: &str, now: Instant) -> Result<Admission, Refusal> {
        let Some(function) = self.functions.get_mut(name) else {
            return Err(Refusal::NoSuchFunction(name.to_owned()));
        };
        let unreserved = Unreserved {
            busy: self.unreserved_busy,
            concurrency: self.limits.account_concurrency - self.reserved,
            bucket: &mut self.unreserved_bucket,
        };
        let allowed = function.throttle(unreserved, self.limits.rate_limit, now);
        allowed.map_err(Refusal::Throttled)?;
        if let Some(id) = function.pick() {
            self.occupy(id, InstanceState::Busy);
            return Ok(Admission::Reuse(id));
        }
        let evicted = if self.instances.len() >= self.limits.max_instances {
            let victim = self.longest_idle();
            let Some(victim) = victim else {
                return Err(Refusal::Throttled(
                    ThrottleReason::ConcurrentInvocationLimitExceeded,
                ));
            };
            self.leave(victim);
            Some(victim)
        } else {
            None
        };
        let id = self.create(name, now);
        Ok(Admission::Start { id, evicted })
    }

    fn create(&mut self, name: &str, now: Instant) -> InstanceId {
        let id = InstanceId(self.next_id);
        if let Some(function) = self.functions.get(name) {
            self.next_id += 1;
            let config = Arc::clone(&function.config);
            let state = InstanceState::Starting;
            self.instances.insert(
                id,
                Instance {
                    config,
                    state,
                    born: now,
                    idle_since: now,
                    invocations: 0,
                },
            );
            self.occupy(id, InstanceState::Starting);
        }
        id
    }

    fn occupy(&mut self, id: InstanceId, state: InstanceState) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.state = state;
        instance.invocations += 1;
        if let Some(function) = self.functions.get_mut(&instance.config.name) {
            function.busy += 1;
            self.unreserved_busy += u32::from(function.config.reserved_concurrency.is_none());
        }
    }

    fn longest_idle(&self) -> Option<InstanceId> {
        let idle = self
            .instances
            .iter()
            .filter(|(_, i)| i.state == InstanceState::Idle);
        idle.min_by_key(|(_, i)| i.idle_since).map(|(id, _)| *id)
    }

    /// The instance has initialised and begins its first invocation.
    pub(crate) fn initialised(&mut self, id: InstanceId) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.state = InstanceState::Busy;
        }
    }

    /// The instance has done its invocation and is well.
    pub(crate) fn finished(&mut self, id: InstanceId, now: Instant) -> After {
        let Some(instance) = self.instances.get(&id) else {
            return After::Retire;
        };
        let current = self.functions.get(&instance.config.name).is_some_and(|f| {
            f.config.same_instances(&instance.config)
                && f.config
                    .max_age
                    .is_none_or(|max| now.saturating_duration_since(instance.born) < max)
        });
        if !current {
            self.leave(id);
            return After::Retire;
        }
        self.vacate(id);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.state = InstanceState::Idle;
            instance.idle_since = now;
            if let Some(function) = self.functions.get_mut(&instance.config.name) {
                function.idle.push(id);
            }
        }
        After::Idle
    }

    /// Takes an instance out, whatever it does. `false` if it had left before.
    pub(crate) fn leave(&mut self, id: InstanceId) -> bool {
        self.vacate(id);
        let Some(instance) = self.instances.remove(&id) else {
            return false;
        };
        if let Some(function) = self.functions.get_mut(&instance.config.name) {
            function.idle.retain(|i| *i != id);
        }
        true
    }

    /// Takes an instance out if it is idle and its time is up at `now`.
    pub(crate) fn expire(&mut self, id: InstanceId, now: Instant) -> bool {
        let due = self.expiry(id).is_some_and(|at| at <= now);
        due && self.leave(id)
    }

    /// When an idle instance's idle time-out or age is up; `None`: never, or not idle.
    pub(crate) fn expiry(&self, id: InstanceId) -> Option<Instant> {
        let instance = self
            .instances
            .get(&id)
            .filter(|i| i.state == InstanceState::Idle)?;
        let idle = instance
            .config
            .idle_timeout
            .map(|d| instance.idle_since + d);
        let age = instance.config.max_age.map(|d| instance.born + d);
        idle.into_iter().chain(age).min()
    }

    /// Gives back the concurrency that a starting or busy instance holds.
    fn vacate(&mut self, id: InstanceId) {
        let Some(instance) = self
            .instances
            .get(&id)
            .filter(|i| i.state != InstanceState::Idle)
        else {
            return;
        };
        if let Some(function) = self.functions.get_mut(&instance.config.name) {
            function.busy -= 1;
            self.unreserved_busy -= u32::from(function.config.reserved_concurrency.is_none());
        }
    }

    pub(crate) fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(&id)
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.instances.iter().map(|(id, i)| (*id, i))
    }

    pub(crate) fn configs(&self) -> impl Iterator<Item = &FunctionConfig> {
        self.functions.values().map(|f| &*f.config)
    }

    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }
}

/// How long an instance has been there and idle, for lists.
pub(crate) fn ages(instance: &Instance, now: Instant) -> (Duration, Option<Duration>) {
    let idle = instance.state == InstanceState::Idle;
    (
        now.saturating_duration_since(instance.born),
        idle.then(|| now.saturating_duration_since(instance.idle_since)),
    )
}

#[cfg(test)]
mod tests;
