//! CLIENT PAUSE: commands wait until a moment, all of them or those that write.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paused {
    /// Those that change something, or what others get.
    Writes,
    /// All.
    All,
}

/// Whether commands wait at the moment.
#[derive(Default)]
pub struct Pause {
    /// Mostly there is none, and nobody looks further.
    is_on: AtomicBool,
    until: Mutex<Option<(Paused, Instant)>>,
    ended: Notify,
}

impl Pause {
    /// Commands wait for so long. Of several pauses, the stricter kind and the later
    /// end hold.
    pub fn begin(&self, what: Paused, lasts: Duration) {
        self.begin_at(what, lasts, Instant::now());
    }

    fn begin_at(&self, what: Paused, lasts: Duration, now: Instant) {
        let end = now + lasts;
        let mut until = self.until.lock();
        *until = Some(match *until {
            Some((other, later)) if later > now => (what.max(other), end.max(later)),
            _ => (what, end),
        });
        self.is_on.store(true, Ordering::Release);
    }

    /// Nobody waits any longer.
    pub fn end(&self) {
        *self.until.lock() = None;
        self.is_on.store(false, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Until when a command waits, if it does.
    pub fn holds(&self, writes: bool) -> Option<Instant> {
        match self.is_on.load(Ordering::Acquire) {
            true => self.holds_at(writes, Instant::now()),
            false => None,
        }
    }

    fn holds_at(&self, writes: bool, now: Instant) -> Option<Instant> {
        let until = self.until.lock();
        match *until {
            Some((_, end)) if end <= now => {
                self.is_on.store(false, Ordering::Release);
                None
            }
            Some((Paused::All, end)) => Some(end),
            Some((Paused::Writes, end)) => writes.then_some(end),
            None => None,
        }
    }

    /// Returns when a command that waits until then may look again.
    pub async fn over(&self, until: Instant, writes: bool) {
        let ended = self.ended.notified();
        // it may have ended before anybody listened
        if self.holds(writes).is_none() {
            return;
        }
        let _ = tokio::time::timeout_at(until, ended).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_stricter_kind_and_the_later_end_hold() {
        let (pause, now) = (Pause::default(), Instant::now());
        let at = |ms| now + Duration::from_millis(ms);
        assert_eq!(pause.holds(true), None);
        pause.begin_at(Paused::Writes, Duration::from_millis(300), now);
        assert_eq!(pause.holds_at(true, at(1)), Some(at(300)));
        assert_eq!(pause.holds_at(false, at(1)), None);
        pause.begin_at(Paused::All, Duration::from_millis(100), now);
        assert_eq!(pause.holds_at(false, at(1)), Some(at(300)));
        pause.begin_at(Paused::Writes, Duration::from_millis(1), at(400));
        assert_eq!(pause.holds_at(false, at(400)), None);
        pause.begin(Paused::All, Duration::from_secs(3600));
        assert!(pause.holds(false).is_some());
        pause.end();
        assert_eq!(pause.holds(true), None);
    }
}
