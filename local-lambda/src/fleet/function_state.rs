//! One function's share of the fleet: its idle instances, what it runs, and
//! whether it may run more.

use crate::answer::ThrottleReason;
use crate::fleet::InstanceId;
use crate::function::{FunctionConfig, Routing};
use crate::rate::Bucket;
use rand::Rng;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::time::Instant;

/// Limits of the account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) account_concurrency: u32,
    pub(crate) max_instances: usize,
    pub(crate) rate_limit: bool,
}

/// Invocations a second that one unit of concurrency may make (Lambda's quota
/// for synchronous invocations).
pub(super) const RATE_PER_CONCURRENCY: f64 = 10.0;

#[derive(Debug)]
pub(super) struct FunctionState {
    pub(super) config: Arc<FunctionConfig>,
    /// The one that became idle last at the end.
    pub(super) idle: Vec<InstanceId>,
    pub(super) busy: u32,
    pub(super) rng: SmallRng,
    pub(super) bucket: Bucket,
}

/// What functions without a reservation share.
pub(super) struct Unreserved<'a> {
    pub(super) busy: u32,
    pub(super) concurrency: u32,
    pub(super) bucket: &'a mut Bucket,
}

impl FunctionState {
    /// Takes the idle instance that the policy prefers.
    pub(super) fn pick(&mut self) -> Option<InstanceId> {
        match self.config.routing {
            Routing::MostRecent => self.idle.pop(),
            _ if self.idle.is_empty() => None,
            Routing::LeastRecent => Some(self.idle.remove(0)),
            Routing::Random(_) => {
                let at = self.rng.random_range(0..self.idle.len());
                Some(self.idle.remove(at))
            }
        }
    }

    /// Whether one more invocation may run; counts it against the rate.
    pub(super) fn throttle(
        &mut self,
        unreserved: Unreserved<'_>,
        rate_limit: bool,
        now: Instant,
    ) -> Result<(), ThrottleReason> {
        let reserved = self.config.reserved_concurrency;
        let (busy, limit, bucket) = match reserved {
            Some(limit) => (self.busy, limit, &mut self.bucket),
            None => (unreserved.busy, unreserved.concurrency, unreserved.bucket),
        };
        if busy >= limit {
            return Err(match reserved {
                Some(_) => ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded,
                None => ThrottleReason::ConcurrentInvocationLimitExceeded,
            });
        }
        if rate_limit && !bucket.take(f64::from(limit) * RATE_PER_CONCURRENCY, now) {
            return Err(match reserved {
                Some(_) => ThrottleReason::ReservedFunctionInvocationRateLimitExceeded,
                None => ThrottleReason::FunctionInvocationRateLimitExceeded,
            });
        }
        Ok(())
    }
}
