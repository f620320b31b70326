//! Bytes of request bodies are admitted before they are read.
//!
//! All bodies share one budget. Who finds it used up waits, and is held back
//! through its socket. Several bodies that are each half read could wait for
//! each other for ever, so one of them at a time may exceed the budget; if its
//! client then sends nothing, the session's stall limit ends it.

use std::sync::Arc;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Granularity of the budget in bytes; permits are 32-bit numbers.
const UNIT_BYTES: u64 = 4096;

/// The budget for bodies under way.
#[derive(Clone)]
pub struct Admission {
    free: Arc<Semaphore>,
    exempt: Arc<tokio::sync::Mutex<()>>,
}

/// Admitted bytes of one request; given back when dropped.
#[derive(Default)]
pub struct Admitted {
    permits: Vec<OwnedSemaphorePermit>,
    exempt: Option<OwnedMutexGuard<()>>,
}

impl Admission {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX);
        let units = units.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(units)),
            exempt: Arc::default(),
        }
    }

    /// Waits until `bytes` more may be read for this request.
    pub async fn admit(&self, admitted: &mut Admitted, bytes: u64) {
        if admitted.exempt.is_some() {
            return;
        }
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        tokio::select! {
            biased;
            permit = self.free.clone().acquire_many_owned(units) => {
                // the semaphore is never closed
                admitted.permits.extend(permit);
            }
            guard = self.exempt.clone().lock_owned() => admitted.exempt = Some(guard),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn half_read_bodies_cannot_wait_for_each_other_for_ever() {
        let admission = Admission::new(2 * UNIT_BYTES);
        let (mut a, mut b) = (Admitted::default(), Admitted::default());
        admission.admit(&mut a, UNIT_BYTES).await;
        admission.admit(&mut b, UNIT_BYTES).await;
        // the budget is used up: a goes on as the exempt one, b waits for it
        admission.admit(&mut a, UNIT_BYTES).await;
        admission.admit(&mut a, 100 * UNIT_BYTES).await;
        let soon = Duration::from_millis(20);
        assert!(
            tokio::time::timeout(soon, admission.admit(&mut b, UNIT_BYTES))
                .await
                .is_err()
        );
        drop(a);
        admission.admit(&mut b, UNIT_BYTES).await;
    }
}
