//! Bytes of values under way, in both directions, are admitted before they are
//! read from a socket.
//!
//! All of them share one budget. Who finds it used up waits, and is held back
//! through its socket. What streams holds a stripe or a few, each granted whole,
//! and gives it back without needing more; reading ahead of what a client has
//! taken may use half of the budget, or slow clients would hold all of it. Bodies that must be collected are
//! another matter: several that are each half read could wait for each other
//! for ever, so one of them at a time may exceed the budget; if its client then
//! sends nothing, the session's stall limit ends it.

use std::sync::Arc;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Granularity of the budget in bytes; permits are 32-bit numbers.
const UNIT_BYTES: u64 = 4096;

/// The budget for values under way.
#[derive(Clone)]
pub struct Admission {
    free: Arc<Semaphore>,
    /// The part of it that what is not needed yet may use.
    spare: Arc<Semaphore>,
    units: u32,
    exempt: Arc<tokio::sync::Mutex<()>>,
}

/// Admitted bytes of one request; given back when dropped.
#[derive(Default)]
pub struct Admitted {
    permits: Vec<OwnedSemaphorePermit>,
    exempt: Option<OwnedMutexGuard<()>>,
}

/// Memory for one part of a value; given back when dropped. The default is for
/// what is in memory anyway.
#[derive(Default)]
pub struct Permit {
    _units: Option<OwnedSemaphorePermit>,
    _spare: Option<OwnedSemaphorePermit>,
}

impl Admitted {
    /// Whether nothing was admitted.
    pub fn is_empty(&self) -> bool {
        self.permits.is_empty() && self.exempt.is_none()
    }
}

impl Admission {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX);
        let units = units.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            units: u32::try_from(units).unwrap_or(u32::MAX),
            spare: Arc::new(Semaphore::new(units / 2)),
            free: Arc::new(Semaphore::new(units)),
            exempt: Arc::default(),
        }
    }

    /// Whether nothing is admitted, and nobody exempt.
    pub fn is_unused(&self) -> bool {
        let units = self.units as usize;
        let spare = self.spare.available_permits() == units / 2;
        spare && self.free.available_permits() == units && self.exempt.try_lock().is_ok()
    }

    /// The whole budget at most: a stripe larger than that passes alone.
    fn units(&self, bytes: u64) -> u32 {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        units.min(self.units)
    }

    /// Memory for `bytes`, if it is there at once.
    pub fn try_grant(&self, bytes: u64) -> Option<Permit> {
        let units = self.free.clone().try_acquire_many_owned(self.units(bytes));
        units.ok().map(|units| Permit {
            _units: Some(units),
            _spare: None,
        })
    }

    /// Memory for `bytes` that are not needed yet, if there is plenty.
    pub fn try_grant_spare(&self, bytes: u64) -> Option<Permit> {
        let spare = self.spare.clone().try_acquire_many_owned(self.units(bytes));
        let spare = spare.ok()?;
        Some(Permit {
            _spare: Some(spare),
            ..self.try_grant(bytes)?
        })
    }

    /// Memory for `bytes`, when its turn comes.
    pub async fn grant(&self, bytes: u64) -> Permit {
        let units = self.free.clone().acquire_many_owned(self.units(bytes));
        // the semaphore is never closed
        Permit {
            _units: units.await.ok(),
            _spare: None,
        }
    }

    /// Waits until `bytes` more may be read for this request.
    pub async fn admit(&self, admitted: &mut Admitted, bytes: u64) {
        if admitted.exempt.is_some() {
            return;
        }
        let units = self.units(bytes);
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
    async fn parts_wait_for_each_other_and_none_is_too_large() {
        let admission = Admission::new(2 * UNIT_BYTES);
        let first = admission.try_grant(1).unwrap();
        let second = admission.try_grant(UNIT_BYTES).unwrap();
        assert!(admission.try_grant(1).is_none());
        drop((first, second));
        let all = admission.grant(100 * UNIT_BYTES).await;
        assert!(admission.try_grant(1).is_none());
        drop(all);
        let ahead = admission.try_grant_spare(UNIT_BYTES).unwrap();
        assert!(admission.try_grant_spare(UNIT_BYTES).is_none());
        assert!(admission.try_grant(UNIT_BYTES).is_some());
        drop(ahead);
        assert!(admission.try_grant_spare(UNIT_BYTES).is_some());
    }

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
        assert!(!admission.is_unused());
        drop(b);
        assert!(admission.is_unused());
    }
}
