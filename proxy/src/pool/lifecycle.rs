//! A node's life, as a pure state machine.
//!
//! ```text
//!            Wanted                Hello              Goodbye / LinkLost
//! Asleep ----------> Waking ------------> Active ------------------> Returning
//!   ^  \ Tick (silent     \ failed twice                                 |
//!   |   v  too long)       v                                             |
//!   | Pinging         Unreachable --Wanted after the back-off--> Waking  |
//!   +------+------------------------- Returned --------------------------+
//! ```
//! Rules that every path keeps: at most one invocation of a node is under way,
//! since a second one would make the platform start another, empty instance; a
//! link exists only between the hello and the goodbye of that invocation; a
//! node is unreachable, not lost, when invokes fail (see `instances` for what
//! is lost). The one exception is the companion of a round (`companion`): it is
//! invoked only while the node is `Active`, so that it reaches another instance.

mod companion;

use std::time::Duration;

use scatterhoard_wire::{InvocationId, invoke::Purpose};
use tokio::time::Instant;

pub use companion::Companion;

/// Times that steer the machine.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Longest silence before a ping keeps the instance warm (T_warm), at first:
    /// see [`Lifecycle::leave_alone`].
    pub warm_interval: Duration,
    /// From invoke to hello, cold start included.
    pub wake_timeout: Duration,
    /// From goodbye, or a lost link, to the invoke's response.
    pub return_timeout: Duration,
    /// Longest pause between attempts to invoke a node that fails.
    pub max_backoff: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            warm_interval: Duration::from_secs(60),
            wake_timeout: Duration::from_secs(12),
            return_timeout: Duration::from_secs(5),
            max_backoff: Duration::from_secs(5),
        }
    }
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No invocation is under way: the instance is frozen, or there is none.
    Asleep,
    /// An invocation without a link only asks how it is.
    Pinging {
        /// The invocation.
        invocation: InvocationId,
        /// Give it up then.
        deadline: Instant,
    },
    /// Invoked to serve; the hello has not come yet.
    Waking {
        /// The invocation.
        invocation: InvocationId,
        /// Give it up then.
        deadline: Instant,
    },
    /// The link is open.
    Active {
        /// The invocation.
        invocation: InvocationId,
    },
    /// The link is closed, the invoke has not returned yet.
    Returning {
        /// The invocation.
        invocation: InvocationId,
        /// Do not wait longer than that.
        deadline: Instant,
    },
    /// Invokes failed: not tried again before then.
    Unreachable {
        /// End of the back-off.
        retry_at: Instant,
    },
}

/// How an invocation ended, as far as the machine cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The instance returned in good order.
    Ok,
    /// The invoke failed, or the instance died or refused.
    Failed,
    /// The platform did not run the function, and would not at once.
    Refused {
        /// The first pause.
        first: Duration,
        /// The longest.
        most: Duration,
    },
}

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request needs the link.
    Wanted,
    /// A round needs the link.
    RoundWanted,
    /// A round needs another instance beside the one that serves.
    CompanionWanted,
    /// Time passes.
    Tick,
    /// The instance of this invocation dialled, with its token.
    Hello(InvocationId),
    /// The instance takes no more requests.
    Goodbye(InvocationId),
    /// The link ended without goodbye.
    LinkLost(InvocationId),
    /// The invoke call returned.
    Returned(InvocationId, Outcome),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Call invoke.
    Invoke(InvocationId, Purpose),
    /// Open the link.
    Admit,
    /// Open the link beside the one that serves.
    AdmitCompanion,
    /// Refuse the hello: not of this invocation.
    Refuse,
}

/// The machine of one node.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    settings: Settings,
    phase: Phase,
    companion: Companion,
    wanted: bool,
    failures: u32,
    last_contact: Instant,
    /// How long it is left alone.
    silence: Duration,
    /// How long it had been left alone when it was invoked last.
    woken_after: Duration,
    woken_for: Purpose,
    /// The latest that was no companion.
    last_main: InvocationId,
    last_invocation: InvocationId,
}

impl Lifecycle {
    /// A node that was not invoked yet. `last_contact` in the past makes its
    /// first ping due earlier; the pool uses that to spread pings in time.
    pub fn new(settings: Settings, last_contact: Instant) -> Self {
        Self {
            settings,
            phase: Phase::Asleep,
            companion: Companion::None,
            wanted: false,
            failures: 0,
            last_contact,
            silence: settings.warm_interval,
            woken_after: Duration::ZERO,
            woken_for: Purpose::Warm,
            last_main: InvocationId(0),
            last_invocation: InvocationId(0),
        }
    }

    /// Where the node is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The second invocation, if there is one.
    pub fn companion(&self) -> Companion {
        self.companion
    }

    /// The invocation under way, if there is one that was not given up.
    pub fn invocation(&self) -> Option<InvocationId> {
        match self.phase {
            Phase::Asleep | Phase::Unreachable { .. } => None,
            Phase::Pinging { invocation, .. }
            | Phase::Waking { invocation, .. }
            | Phase::Active { invocation }
            | Phase::Returning { invocation, .. } => Some(invocation),
        }
    }

    /// Makes a ping due: nothing is known of the node.
    pub fn overdue(&mut self, now: Instant) {
        self.last_contact = now.checked_sub(self.silence).unwrap_or(self.last_contact);
    }

    /// It was invoked apart from this, and has answered.
    pub fn contacted(&mut self, now: Instant) {
        self.last_contact = now;
        if matches!(self.phase, Phase::Unreachable { .. }) {
            self.phase = Phase::Asleep;
        }
        self.failures = 0;
    }

    /// The longest silence before a ping from now on (T_warm).
    pub fn leave_alone(&mut self, silence: Duration) {
        self.silence = silence;
    }

    /// The longest silence before a ping.
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// When something of it was heard, or it failed, last.
    pub fn last_contact(&self) -> Instant {
        self.last_contact
    }

    /// How long it had been left alone when it was invoked last.
    pub fn woken_after(&self) -> Duration {
        self.woken_after
    }

    /// The latest invocation that was no companion.
    pub fn last_main(&self) -> InvocationId {
        self.last_main
    }

    /// What it was invoked for last.
    pub fn woken_for(&self) -> Purpose {
        self.woken_for
    }

    /// Whether somebody who wants the link would have it invoked now.
    pub fn would_invoke(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Asleep => true,
            Phase::Unreachable { retry_at } => now >= retry_at,
            _ => false,
        }
    }

    /// Whether requests should rather go elsewhere.
    pub fn is_unreachable(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Unreachable { retry_at } if now < retry_at)
    }

    /// Whether it would answer without an invoke.
    pub fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active { .. })
    }

    /// Who was invoked beside the one that serves takes its place, if both links
    /// are open; says whether it has.
    pub fn swap(&mut self) -> bool {
        let (Phase::Active { invocation: main }, Companion::Active { invocation: beside }) =
            (self.phase, self.companion)
        else {
            return false;
        };
        self.phase = Phase::Active { invocation: beside };
        self.companion = Companion::Active { invocation: main };
        (self.last_main, self.woken_for) = (beside, Purpose::Backup);
        true
    }

    /// Takes the next step.
    pub fn step(&mut self, event: Event, now: Instant) -> Option<Action> {
        match event {
            Event::Wanted => self.wanted_at(Purpose::Serve, now),
            Event::RoundWanted => self.wanted_at(Purpose::Backup, now),
            Event::CompanionWanted => self.companion_wanted(now),
            Event::Tick => self.tick(now),
            Event::Hello(id) => Some(self.hello(id, now)),
            Event::Goodbye(id) | Event::LinkLost(id) => {
                let limit = self.settings.return_timeout;
                if self.companion.unlinked(id, now, limit) {
                    return None;
                }
                if self.phase == (Phase::Active { invocation: id }) {
                    self.last_contact = now;
                    let deadline = now + self.settings.return_timeout;
                    self.phase = Phase::Returning {
                        invocation: id,
                        deadline,
                    };
                }
                None
            }
            Event::Returned(id, outcome) => self.returned(id, outcome, now),
        }
    }

    fn wanted_at(&mut self, purpose: Purpose, now: Instant) -> Option<Action> {
        match self.phase {
            Phase::Asleep => Some(self.invoke(purpose, now)),
            Phase::Unreachable { retry_at } if now >= retry_at => Some(self.invoke(purpose, now)),
            Phase::Unreachable { .. } | Phase::Active { .. } => None,
            Phase::Pinging { .. } | Phase::Waking { .. } | Phase::Returning { .. } => {
                self.wanted = true;
                None
            }
        }
    }

    /// Only beside an instance that is busy: an idle one would be chosen again.
    fn companion_wanted(&mut self, now: Instant) -> Option<Action> {
        if !self.is_active() || self.companion != Companion::None {
            return None;
        }
        self.last_invocation.0 += 1;
        let invocation = self.last_invocation;
        self.companion = Companion::Waking {
            invocation,
            deadline: now + self.settings.wake_timeout,
        };
        Some(Action::Invoke(invocation, Purpose::Backup))
    }

    fn tick(&mut self, now: Instant) -> Option<Action> {
        self.companion.tick(now);
        match self.phase {
            Phase::Asleep if now >= self.last_contact + self.silence => {
                Some(self.invoke(Purpose::Warm, now))
            }
            Phase::Unreachable { retry_at }
                if now >= retry_at && now >= self.last_contact + self.silence =>
            {
                Some(self.invoke(Purpose::Warm, now))
            }
            Phase::Waking { deadline, .. } | Phase::Pinging { deadline, .. } if now >= deadline => {
                self.failed(None, now)
            }
            Phase::Returning { deadline, .. } if now >= deadline => self.rest(now),
            _ => None,
        }
    }

    fn hello(&mut self, id: InvocationId, now: Instant) -> Action {
        if self.companion.hello(id) {
            return Action::AdmitCompanion;
        }
        match self.phase {
            Phase::Waking { invocation, .. } if invocation == id => {
                self.phase = Phase::Active { invocation };
                self.wanted = false;
                self.failures = 0;
                self.last_contact = now;
                Action::Admit
            }
            _ => Action::Refuse,
        }
    }

    fn returned(&mut self, id: InvocationId, outcome: Outcome, now: Instant) -> Option<Action> {
        if self.companion.returned(id) {
            return None;
        }
        match self.phase {
            Phase::Pinging { invocation, .. } | Phase::Waking { invocation, .. }
                if invocation == id =>
            {
                if let Outcome::Refused { first, most } = outcome {
                    return self.failed(Some((first, most)), now);
                }
                if outcome == Outcome::Failed {
                    return self.failed(None, now);
                }
                // a good return without a hello: pinged, or the proxy's port
                // could not be reached, which counts below as a failure
                if matches!(self.phase, Phase::Waking { .. }) {
                    return self.failed(None, now);
                }
                self.failures = 0;
                self.last_contact = now;
                self.rest(now)
            }
            // whether it ended well or was killed on the way, it is over; what
            // was lost shows at the next hello
            Phase::Active { invocation } | Phase::Returning { invocation, .. }
                if invocation == id =>
            {
                self.last_contact = now;
                self.rest(now)
            }
            // given up before; the later invocation is what counts
            _ => None,
        }
    }

    /// Nothing is under way: sleep, or wake again if somebody waits.
    fn rest(&mut self, now: Instant) -> Option<Action> {
        self.phase = Phase::Asleep;
        if self.wanted {
            Some(self.invoke(Purpose::Serve, now))
        } else {
            None
        }
    }

    /// The first failure is retried at once (an instance may have died under
    /// the invoke), unless the platform `refused`; further ones after a growing pause.
    fn failed(&mut self, refused: Option<(Duration, Duration)>, now: Instant) -> Option<Action> {
        self.failures = self.failures.saturating_add(1);
        self.last_contact = now;
        let wanted = self.wanted || matches!(self.phase, Phase::Waking { .. });
        if wanted && self.failures == 1 && refused.is_none() {
            return Some(self.invoke(Purpose::Serve, now));
        }
        self.wanted = false;
        let doublings = self.failures.saturating_sub(2).min(16);
        let (first, most) =
            refused.unwrap_or((Duration::from_millis(100), self.settings.max_backoff));
        self.phase = Phase::Unreachable {
            retry_at: now + (first * 2u32.pow(doublings)).min(most),
        };
        None
    }

    fn invoke(&mut self, purpose: Purpose, now: Instant) -> Action {
        self.last_invocation.0 += 1;
        let invocation = self.last_invocation;
        let deadline = now + self.settings.wake_timeout;
        self.woken_for = purpose;
        self.last_main = invocation;
        self.woken_after = now.saturating_duration_since(self.last_contact);
        self.phase = match purpose {
            Purpose::Serve | Purpose::Backup => {
                self.wanted = false;
                Phase::Waking {
                    invocation,
                    deadline,
                }
            }
            Purpose::Warm => Phase::Pinging {
                invocation,
                deadline,
            },
        };
        Action::Invoke(invocation, purpose)
    }
}

#[cfg(test)]
mod tests;
