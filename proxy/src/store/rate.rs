//! Bytes per second for work that must not get in the way of clients.

use std::{num::NonZeroU64, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// A bound on bytes per second, shared by all who work under it.
pub struct Rate {
    per_s: Option<NonZeroU64>,
    /// What was asked for before is done by then.
    free_at: Mutex<Option<Instant>>,
}

impl Rate {
    /// At most so many bytes a second; none: no bound.
    pub fn new(per_s: Option<NonZeroU64>) -> Self {
        Self {
            per_s,
            free_at: Mutex::default(),
        }
    }

    /// Waits until so many bytes may be worked on.
    pub(super) async fn take(&self, bytes: u64) {
        if let Some(begin) = self.begin(bytes, Instant::now()) {
            sleep_until(begin).await;
        }
    }

    /// When work on so many bytes may begin; none: now.
    pub fn begin(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let per_s = self.per_s?.get();
        let mut free_at = self.free_at.lock();
        let begin = free_at.map_or(now, |at| at.max(now));
        *free_at = Some(begin + Duration::from_secs_f64(bytes as f64 / per_s as f64));
        (begin > now).then_some(begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_begins_when_what_was_asked_for_before_is_done() {
        let rate = Rate::new(NonZeroU64::new(100));
        let (now, s) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(rate.begin(200, now), None);
        assert_eq!(rate.begin(100, now), Some(now + 2 * s));
        assert_eq!(rate.begin(1, now + s), Some(now + 3 * s));
        assert_eq!(rate.begin(1, now + 9 * s), None);
        assert_eq!(Rate::new(None).begin(u64::MAX, now), None);
    }
}
