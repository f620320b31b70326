//! Holds invokes back while they cannot work for any function: the credentials have
//! expired, the endpoint is not there, the account is throttled. Pure.
//!
//! ```text
//!         so many failures of the pool in a row            the pause is over
//! Closed ---------------------------------------> Open ------------------------> Probing
//!    ^                                              ^                               |
//!    |                                              +-------- the probe fails ------+
//!    +---------------- any sign of life (a hello, a report, a node's own fault) ----+
//! ```
//! While it is open no invoke goes out; while it probes, one at a time does. The pause
//! doubles from failure to failure. Of what was sent before it opened only good news count:
//! an invoke that ends well closes it at any time.

use std::time::Duration;

use tokio::time::Instant;

use super::platform::errors::{Blame, Cause};

/// The first pause, about two pauses of a node that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest while the platform, not its owner, has to change something: as long as that
/// of a node.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest when somebody has to act first.
const LONGEST_REPAIR: Duration = Duration::from_secs(15);
/// A probe that says nothing for so long may be answered never: another one goes out.
/// Longer than it takes to give a connection up.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing { since: Instant },
}

/// Whether an invoke may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// As always.
    Free,
    /// To see whether it works again.
    Probe,
    /// Not now: it would fail for this reason.
    Held(Cause),
}

/// What became of the breaker, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It holds invokes back from now on.
    Opened(Cause),
    /// A probe failed, for another reason than before.
    Other(Cause),
    /// It works again, after so long.
    Closed(Duration),
}

/// The breaker of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    state: State,
    pause: Duration,
    cause: Cause,
    opened_at: Option<Instant>,
    /// The same of the last time, though it has closed since.
    last_opened: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed { failures: 0 },
            pause: FIRST_PAUSE,
            cause: Cause::Service,
            opened_at: None,
            last_opened: None,
        }
    }
}

impl Breaker {
    /// Whether an invoke may go out now. A probe counts as sent.
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => return Admission::Free,
            State::Open { until } if now < until => return Admission::Held(self.cause),
            State::Probing { since } if now < since + PROBE_LIMIT => {
                return Admission::Held(self.cause);
            }
            State::Open { .. } | State::Probing { .. } => {}
        }
        self.state = State::Probing { since: now };
        Admission::Probe
    }

    /// Why invokes are held back, if they are.
    pub fn holds(&self) -> Option<Cause> {
        self.opened_at.map(|_| self.cause)
    }

    /// The platform has run a function, or answered for one of them alone.
    pub fn works(&mut self, now: Instant) -> Option<Change> {
        self.state = State::Closed { failures: 0 };
        self.pause = FIRST_PAUSE;
        let opened_at = self.opened_at.take()?;
        Some(Change::Closed(now.saturating_duration_since(opened_at)))
    }

    /// The platform did not run a function that it was `sent` an invoke of then, for this
    /// reason.
    pub fn failed(&mut self, cause: Cause, sent: Instant, now: Instant) -> Option<Change> {
        let Blame::Pool { in_a_row } = cause.blame() else {
            return self.works(now);
        };
        if self.last_opened.is_some_and(|at| sent < at) {
            // it says nothing new
            return None;
        }
        match &mut self.state {
            State::Closed { failures } => {
                *failures += 1;
                if *failures < in_a_row {
                    return None;
                }
                (self.opened_at, self.last_opened) = (Some(now), Some(now));
                self.open(cause, now);
                Some(Change::Opened(cause))
            }
            State::Open { .. } => None,
            State::Probing { .. } => {
                let longest = match cause {
                    Cause::CredentialsMissing
                    | Cause::CredentialsInvalid
                    | Cause::RegionMissing
                    | Cause::RegionWrong
                    | Cause::AccountClosed => LONGEST_REPAIR,
                    _ => LONGEST_PAUSE,
                };
                self.pause = (self.pause * 2).min(longest);
                let is_other = cause != self.cause;
                self.open(cause, now);
                is_other.then_some(Change::Other(cause))
            }
        }
    }

    fn open(&mut self, cause: Cause, now: Instant) {
        self.cause = cause;
        self.state = State::Open {
            until: now + self.pause,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn opened(cause: Cause, now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        let changes = (0..100).find_map(|_| breaker.failed(cause, now, now));
        assert_eq!(changes, Some(Change::Opened(cause)));
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..50 {
            for _ in 0..7 {
                assert_eq!(breaker.failed(Cause::Service, now, now), None);
            }
            assert_eq!(breaker.works(now), None);
            assert_eq!(breaker.admit(now), Admission::Free);
        }
        for _ in 0..7 {
            assert_eq!(breaker.failed(Cause::Service, now, now), None);
        }
        let change = breaker.failed(Cause::Service, now, now);
        assert_eq!(change, Some(Change::Opened(Cause::Service)));
        assert_eq!(breaker.admit(now), Admission::Held(Cause::Service));
    }

    #[test]
    fn certain_causes_open_sooner() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.failed(Cause::CredentialsExpired, now, now), None);
        assert_eq!(breaker.failed(Cause::CredentialsExpired, now, now), None);
        assert!(
            breaker
                .failed(Cause::CredentialsExpired, now, now)
                .is_some()
        );
    }

    #[test]
    fn a_nodes_own_fault_never_holds_the_others_up() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for cause in Cause::ALL.iter().filter(|c| c.blame() == Blame::Node) {
            for _ in 0..20 {
                assert_eq!(breaker.failed(*cause, now, now), None);
                assert_eq!(breaker.admit(now), Admission::Free);
            }
        }
        // and shows that the account works
        let mut breaker = opened(Cause::Service, now);
        let change = breaker.failed(Cause::FunctionMissing, now, now + 3 * MS);
        assert_eq!(change, Some(Change::Closed(3 * MS)));
    }

    #[test]
    fn one_probe_at_a_time_after_growing_pauses() {
        let mut now = Instant::now();
        let mut breaker = opened(Cause::Unreachable, now);
        let mut pause = FIRST_PAUSE;
        for _ in 0..8 {
            let held = Admission::Held(Cause::Unreachable);
            assert_eq!(breaker.admit(now + pause - MS), held);
            now += pause;
            assert_eq!(breaker.admit(now), Admission::Probe);
            assert_eq!(breaker.admit(now), held);
            assert_eq!(breaker.failed(Cause::Unreachable, now, now), None);
            // stragglers change nothing
            assert_eq!(breaker.failed(Cause::Unreachable, now, now), None);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        now += pause;
        assert_eq!(breaker.admit(now), Admission::Probe);
        assert!(matches!(breaker.works(now), Some(Change::Closed(_))));
        assert_eq!(breaker.admit(now), Admission::Free);
    }

    #[test]
    fn another_reason_is_told_once() {
        let now = Instant::now();
        let mut breaker = opened(Cause::Unreachable, now);
        let later = now + FIRST_PAUSE;
        assert_eq!(breaker.admit(later), Admission::Probe);
        let change = breaker.failed(Cause::CredentialsExpired, later, later);
        assert_eq!(change, Some(Change::Other(Cause::CredentialsExpired)));
        assert_eq!(breaker.holds(), Some(Cause::CredentialsExpired));
    }

    #[test]
    fn a_probe_without_an_answer_is_followed_by_another() {
        let now = Instant::now();
        let mut breaker = opened(Cause::Service, now);
        let probe = now + FIRST_PAUSE;
        assert_eq!(breaker.admit(probe), Admission::Probe);
        let held = Admission::Held(Cause::Service);
        assert_eq!(breaker.admit(probe + PROBE_LIMIT - MS), held);
        assert_eq!(breaker.admit(probe + PROBE_LIMIT), Admission::Probe);
    }

    #[test]
    fn what_was_sent_before_it_opened_fails_no_probe() {
        let (sent, now) = (Instant::now(), Instant::now() + MS);
        let mut breaker = opened(Cause::Service, now);
        let probe = now + FIRST_PAUSE;
        assert_eq!(breaker.admit(probe), Admission::Probe);
        for cause in [Cause::Service, Cause::CredentialsExpired] {
            assert_eq!(breaker.failed(cause, sent, probe + MS), None);
        }
        assert_eq!(breaker.holds(), Some(Cause::Service));
        // the probe is still waited for, and its failure counts once
        let held = Admission::Held(Cause::Service);
        assert_eq!(breaker.admit(probe + FIRST_PAUSE), held);
        let failed = probe + FIRST_PAUSE;
        assert_eq!(breaker.failed(Cause::Service, probe, failed), None);
        assert_eq!(breaker.admit(failed + 2 * FIRST_PAUSE - MS), held);
        assert_eq!(breaker.admit(failed + 2 * FIRST_PAUSE), Admission::Probe);
        // one that works counts whenever it was sent
        assert!(matches!(
            breaker.works(failed + 2 * FIRST_PAUSE),
            Some(Change::Closed(_))
        ));
        // and then the others do not open it again
        for _ in 0..100 {
            assert_eq!(breaker.failed(Cause::Service, sent, failed), None);
        }
        assert_eq!(breaker.admit(failed + 2 * FIRST_PAUSE), Admission::Free);
    }

    proptest! {
        /// Whatever happens, an invoke goes out within the longest pause.
        #[test]
        fn it_never_holds_for_ever(steps in prop::collection::vec((0u64..4000, 0usize..40, any::<bool>()), 1..200)) {
            let (mut breaker, mut now, mut last) = (Breaker::default(), Instant::now(), None);
            for (ms, cause, works) in steps {
                now += MS * u32::try_from(ms).unwrap();
                match breaker.admit(now) {
                    Admission::Held(_) => {
                        let since = last.get_or_insert(now);
                        prop_assert!(now - *since <= LONGEST_REPAIR + PROBE_LIMIT);
                        continue;
                    }
                    Admission::Free | Admission::Probe => last = None,
                }
                if works {
                    breaker.works(now);
                    prop_assert_eq!(breaker.admit(now), Admission::Free);
                } else if let Some(cause) = Cause::ALL.get(cause) {
                    breaker.failed(*cause, now, now);
                }
            }
        }
    }
}
