//! When the instances of a node are brought together in a round. Pure.
//!
//! In a round, a second instance is invoked beside the one that serves: each is
//! given what only the other has, and what neither has is known to be lost. It
//! keeps the standby warm, too.

use std::time::Duration;

use tokio::time::Instant;

/// When rounds are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether each node is to have a standby. Without, rounds only take stock of
    /// the instance that serves when it is another one than before.
    pub standby: bool,
    /// Longest time between two rounds of a node (T_bak).
    pub interval: Duration,
    /// Bytes stored since the last round after which the next one is due (B).
    pub after_bytes: u64,
}

/// A round that only keeps instances warm may come so much of its interval early, if others
/// are due: made together, they cost the proxy less than one by one.
const EARLY_SHARE: u32 = 32;
/// After a round that failed the next one is due so much later, and twice as
/// much after each further failure.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(30);
/// After so many rounds alone, and so long, it is clear that the platform gives no
/// second instance: what a dead proxy left awake has returned by then.
const HOPELESS: u32 = 5;
const HOPELESS_AFTER: Duration = Duration::from_secs(15);
/// Rounds that search for an absent instance follow each other at this pace.
const SEARCH: Duration = Duration::from_millis(200);
/// Longest pause between rounds that are too early: each may start an instance in vain.
const MAX_EARLY: Duration = Duration::from_secs(4);

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All that was to be done is done.
    Done,
    /// No second instance was to be had, although there ought to be one.
    Alone,
    /// Interrupted: the next one goes on.
    BrokenOff,
    /// Something is on neither instance, while one may be at work for a dead proxy: the
    /// next one may meet it, when it has returned.
    Early,
}

/// The rounds of one node.
#[derive(Clone, Debug)]
pub struct Backup {
    settings: Settings,
    last: Instant,
    /// Stored since then.
    fresh_bytes: u64,
    /// Something has to be looked at before the interval is over.
    is_urgent: bool,
    failures: u32,
    /// Rounds in a row in which no second instance was to be had.
    alone: u32,
    /// When the first of them ended.
    alone_since: Option<Instant>,
    /// Urged since the latest failure.
    urged_anew: bool,
    /// The latest round was too early.
    was_early: bool,
    running: bool,
    ended: u64,
    not_before: Instant,
    /// When the latest round ended.
    attempted: Instant,
}

impl Backup {
    /// No round was made yet. `last` in the past makes the first one due
    /// earlier; the pool uses that to spread rounds in time.
    pub fn new(settings: Settings, last: Instant) -> Self {
        Self {
            settings,
            last,
            fresh_bytes: 0,
            is_urgent: false,
            failures: 0,
            alone: 0,
            alone_since: None,
            urged_anew: false,
            was_early: false,
            running: false,
            ended: 0,
            not_before: last,
            attempted: last,
        }
    }

    /// Whether there is to be a standby.
    pub fn has_standby(&self) -> bool {
        self.settings.standby
    }

    /// So much was stored on the node.
    pub fn stored(&mut self, bytes: u64) {
        self.fresh_bytes = self.fresh_bytes.saturating_add(bytes);
    }

    /// Another instance than before answers, or may have to be found.
    pub fn urge(&mut self) {
        self.is_urgent = true;
        // a new reason shortens the wait after a failure, once
        if self.failures == 0 || !self.urged_anew {
            self.urged_anew = self.failures > 0;
            self.not_before = self.not_before.min(self.attempted + SEARCH);
        }
    }

    /// Whether a round is under way.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// When the latest good round ended.
    pub fn last(&self) -> Instant {
        self.last
    }

    /// Whether a round is due; it is under way then, until [`Self::ended`].
    /// `silence`: how long instances may be left alone; without anything new to
    /// be copied, a round only keeps them warm.
    pub fn begin(&mut self, silence: Duration, now: Instant) -> bool {
        let regular = self.fresh_bytes >= self.settings.after_bytes
            || now >= self.last + self.interval(silence);
        let due = self.is_urgent || self.settings.standby && regular;
        due && self.begin_now(now)
    }

    /// The same beside another round that was due: also if this one soon will be, and has
    /// nothing to copy.
    pub fn begin_in_company(&mut self, silence: Duration, now: Instant) -> bool {
        let interval = self.interval(silence);
        let soon = now >= self.last + (interval - interval / EARLY_SHARE);
        self.settings.standby && self.fresh_bytes == 0 && soon && self.begin_now(now)
    }

    fn interval(&self, silence: Duration) -> Duration {
        let interval = self.settings.interval;
        match self.fresh_bytes {
            0 => interval.max(silence),
            _ => interval,
        }
    }

    fn begin_now(&mut self, now: Instant) -> bool {
        if self.running || now < self.not_before {
            return false;
        }
        self.running = true;
        self.is_urgent = false;
        self.fresh_bytes = 0;
        true
    }

    /// Whether another one is wanted for something else than the time that has passed.
    pub fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// How many rounds have ended so far.
    pub fn rounds(&self) -> u64 {
        self.ended
    }

    /// Whether instances that did not answer may still be found: not after
    /// several rounds in a row in which no second one was to be had.
    pub fn can_search(&self) -> bool {
        let since = self.alone_since.unwrap_or(self.attempted);
        let hopeless = self.alone >= HOPELESS && self.attempted - since >= HOPELESS_AFTER;
        self.settings.standby && !hopeless
    }

    /// The round is over. `searching`: an instance is absent that may hold what
    /// is missing.
    pub fn ended(&mut self, how: Ending, searching: bool, now: Instant) {
        self.running = false;
        self.ended += 1;
        self.attempted = now;
        let is_early = how == Ending::Early;
        // nothing brings it back sooner
        self.urged_anew = is_early;
        if std::mem::replace(&mut self.was_early, is_early) && !is_early {
            // those were none
            self.failures = 0;
        }
        match how {
            Ending::Alone => {
                self.alone = self.alone.saturating_add(1);
                self.alone_since.get_or_insert(now);
            }
            Ending::BrokenOff | Ending::Early => {}
            Ending::Done => (self.alone, self.alone_since) = (0, None),
        }
        if how == Ending::Done {
            self.last = now;
            self.failures = 0;
            // without a standby there is nobody to be searched for
            self.is_urgent |= searching && self.settings.standby;
            self.not_before = now + SEARCH;
            return;
        }
        self.is_urgent = true;
        let pause = RETRY * 2u32.pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let longest = match how {
            Ending::Early => MAX_EARLY,
            _ => MAX_RETRY,
        };
        self.not_before = now + pause.min(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn backup(now: Instant) -> Backup {
        let settings = Settings {
            standby: true,
            interval: 60 * S,
            after_bytes: 1000,
        };
        Backup::new(settings, now)
    }

    #[test]
    fn rounds_come_with_time_with_bytes_and_when_urged() {
        let now = Instant::now();
        let mut b = backup(now);
        assert!(!b.begin(S, now + 59 * S) && !b.begin(90 * S, now + 60 * S));
        b.stored(1);
        assert!(b.begin(90 * S, now + 60 * S));
        assert!(!b.begin(S, now + 90 * S), "one at a time");
        b.stored(998);
        b.ended(Ending::Done, false, now + 90 * S);
        assert!(!b.begin(S, now + 100 * S));
        b.stored(2);
        assert!(b.begin(S, now + 101 * S), "also what came during the round");
        b.ended(Ending::Done, false, now + 101 * S);
        b.urge();
        assert!(!b.begin(S, now + 101 * S) && b.begin(S, now + 102 * S));
    }

    #[test]
    fn rounds_that_only_keep_warm_are_made_a_little_early_beside_others() {
        let now = Instant::now();
        let early = now + 60 * S - 60 * S / EARLY_SHARE;
        let mut b = backup(now);
        let before = early.checked_sub(Duration::from_millis(1)).unwrap();
        assert!(!b.begin_in_company(S, before) && !b.begin(S, early));
        assert!(!b.begin_in_company(90 * S, early), "left alone for longer");
        let mut fresh = b.clone();
        fresh.stored(1);
        assert!(
            !fresh.begin_in_company(S, early),
            "copies may take their time"
        );
        assert!(b.begin_in_company(S, early));
        assert!(!b.begin_in_company(S, now + 61 * S) && !b.begin(S, now + 61 * S));
        b.ended(Ending::BrokenOff, false, now + 61 * S);
        assert!(
            b.is_urgent() && !b.begin_in_company(S, now + 61 * S),
            "waits"
        );
        let alone = Settings {
            standby: false,
            ..b.settings
        };
        assert!(!Backup::new(alone, now).begin_in_company(S, now + 90 * S));
    }

    #[test]
    fn a_search_goes_on_and_failures_wait_longer_and_longer() {
        let now = Instant::now();
        let mut b = backup(now);
        b.urge();
        assert!(b.begin(S, now));
        b.ended(Ending::Done, true, now);
        assert!(b.begin(S, now + SEARCH));
        b.ended(Ending::BrokenOff, false, now + SEARCH);
        let mut at = now + SEARCH;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let from = at;
            while !b.begin(S, at) {
                at += Duration::from_millis(100);
            }
            pauses.push(at - from);
            b.ended(Ending::BrokenOff, false, at);
        }
        assert_eq!(pauses[0], RETRY);
        assert_eq!(pauses[7], MAX_RETRY);
        b.urge();
        assert!(!b.begin(S, at) && b.begin(S, at + SEARCH), "a new reason");
        let at = at + SEARCH;
        b.ended(Ending::BrokenOff, false, at);
        (0..2).for_each(|_| b.urge());
        assert!(b.begin(S, at + SEARCH));
        b.ended(Ending::Done, false, at);
        assert!(b.can_search());
        for _ in 0..HOPELESS {
            b.ended(Ending::Alone, true, at);
        }
        assert!(b.can_search(), "a dead proxy's invocation may still run");
        b.ended(Ending::Alone, true, at + HOPELESS_AFTER);
        assert!(!b.can_search());
    }

    #[test]
    fn who_is_not_back_yet_is_not_looked_for_all_the_time() {
        let mut at = Instant::now();
        let mut b = backup(at);
        b.urge();
        assert!(b.begin(S, at));
        for pause in [RETRY, 2 * RETRY, 4 * RETRY, MAX_EARLY, MAX_EARLY] {
            b.ended(Ending::Early, true, at);
            (0..2).for_each(|_| b.urge());
            at += pause;
            let before = at.checked_sub(Duration::from_millis(1)).unwrap();
            assert!(!b.begin(S, before) && b.begin(S, at));
        }
        // they make no other failure last longer
        b.ended(Ending::BrokenOff, false, at);
        at += RETRY;
        assert!(b.begin(S, at));
        b.ended(Ending::Done, false, at);
        b.urge();
        assert!(b.begin(S, at + SEARCH) && b.can_search());
    }
}
