//! A function and what the proxy knows of it: up to two instances, as the
//! platform has them, and the production policies that decide when to invoke.

use std::collections::VecDeque;
use std::time::Duration;

use scatterhoard_proxy::pool::{
    PING_SLACK,
    backup::{self, Backup},
    instances::{Instances, Meeting},
    lifecycle::{self, Action, Event, Lifecycle},
    linger::{self, Linger},
};
use scatterhoard_wire::{InstanceId, InvocationId};
use tokio::time::Instant;

/// Microseconds since the day began.
pub(crate) type Us = u64;

/// The longest that pings and rounds reach back before the day began.
const BEFORE: Duration = Duration::from_secs(86_400);

/// Virtual time as the policies take it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// When it really is does not matter: only differences do.
    pub(crate) fn new() -> Self {
        Self(Instant::now() + BEFORE)
    }

    pub(crate) fn at(self, us: Us) -> Instant {
        self.0 + Duration::from_micros(us)
    }

    fn before(self, ago: Duration) -> Instant {
        self.0.checked_sub(ago).unwrap_or(self.0)
    }
}

/// One running sandbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    /// When it was last invoked; the platform takes the latest first.
    used: Us,
    /// When it was started, after the day began or before.
    pub(crate) born: i64,
}

/// A chunk that the index names on this node, and which of the instances have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) object: u32,
    pub(crate) index: u8,
    /// A bit for each instance.
    pub(crate) on: u8,
}

/// One chunk that a round copies: its object, and the slot that gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub(crate) object: u32,
    pub(crate) to: usize,
}

/// An invocation, when its hello came, and who answered.
pub(crate) type Call = (InvocationId, Us, Answer);

/// Two instances awake.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) number: u32,
    pub(crate) main: Call,
    pub(crate) second: Option<Call>,
    pub(crate) copies: VecDeque<Copy>,
}

/// Who answered an invoke.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) slot: usize,
    pub(crate) id: InstanceId,
    pub(crate) is_cold: bool,
}

/// One function of the pool.
pub(crate) struct Node {
    pub(crate) life: Lifecycle,
    pub(crate) backup: Backup,
    pub(crate) met: Instances,
    pub(crate) slots: [Option<Instance>; 2],
    pub(crate) stock: Vec<Chunk>,
    pub(crate) used_bytes: u64,
    pub(crate) round: Option<Round>,
    pub(crate) rounds: u32,
    /// A round has to look at something as soon as it may.
    pub(crate) is_urgent: bool,
    pub(crate) fresh_bytes: u64,
    /// When the latest round ended.
    pub(crate) last_round: Us,
    /// When the instance that answered last was started.
    pub(crate) main_born: i64,
    /// The same of the other one, there or not.
    pub(crate) other_born: i64,
    /// Since when it is known that chunks are lost.
    pub(crate) hurt_since: Option<Us>,
    pub(crate) linger: Linger,
    /// An invocation for requests lasts until then.
    pub(crate) awake_until: Us,
}

impl Node {
    /// A node with what instances it should have, all of them met. `share` of each
    /// interval is over, as in a pool that has just started.
    pub(crate) fn new(
        clock: Clock,
        share: f64,
        lost_after: u32,
        life: lifecycle::Settings,
        rounds: backup::Settings,
        linger: linger::Settings,
        ids: [InstanceId; 2],
    ) -> Self {
        let mut met = Instances::new(lost_after, rounds.standby);
        met.meet(ids[0]);
        let instance = |id| {
            Some(Instance {
                id,
                used: 0,
                born: 0,
            })
        };
        let mut slots = [instance(ids[0]), None];
        if rounds.standby {
            met.meet_beside(ids[1], true);
            met.merged(ids[1]);
            slots[1] = instance(ids[1]);
        }
        if let Some(main) = &mut slots[0] {
            main.used = 1;
        }
        let last = clock.before(rounds.interval.mul_f64(share).min(BEFORE));
        Self {
            life: Lifecycle::new(life, clock.before(life.warm_interval.mul_f64(share))),
            backup: Backup::new(rounds, last),
            met,
            slots,
            stock: Vec::new(),
            used_bytes: 0,
            round: None,
            rounds: 0,
            is_urgent: false,
            fresh_bytes: 0,
            last_round: 0,
            main_born: 0,
            other_born: 0,
            hurt_since: None,
            linger: Linger::new(linger),
            awake_until: 0,
        }
    }

    /// The platform chooses: the idle instance that was used last, or a new one.
    /// `busy` is taken, `fresh` is the new one's id.
    pub(crate) fn route(&mut self, busy: Option<usize>, fresh: InstanceId, now: Us) -> Answer {
        let idle = |slot: &usize| Some(*slot) != busy && self.slots[*slot].is_some();
        let used = |slot: &usize| self.slots[*slot].map(|i| i.used);
        let found = (0..2).filter(idle).max_by_key(used);
        let slot = found.unwrap_or_else(|| usize::from(self.slots[0].is_some()));
        let is_cold = found.is_none();
        let instance = self.slots[slot].get_or_insert(Instance {
            id: fresh,
            used: 0,
            born: now as i64,
        });
        instance.used = now.max(2);
        Answer {
            slot,
            id: instance.id,
            is_cold,
        }
    }

    /// An instance answers an invocation alone, as `Inner::meet` of the pool's nodes.
    pub(crate) fn meet(&mut self, id: InstanceId) -> Meeting {
        let meeting = self.met.meet(id);
        if is_other(meeting) {
            self.urge();
        }
        meeting
    }

    /// How long it may be left alone by rounds, as the pool's nodes say.
    pub(crate) fn silence(&self) -> Duration {
        self.life.silence().saturating_sub(PING_SLACK)
    }

    pub(crate) fn urge(&mut self) {
        self.backup.urge();
        self.is_urgent = true;
    }

    /// Instances that may hold what neither the one that serves does, nor this.
    pub(crate) fn absent_but(&self, second: Option<InstanceId>) -> usize {
        if self.backup.can_search() {
            self.met.absent_but(second)
        } else {
            0
        }
    }

    /// When an invocation of an instance ended, if it still is there.
    pub(crate) fn used(&mut self, who: Answer, at: Us) {
        if let Some(instance) = &mut self.slots[who.slot] {
            instance.used = at;
        }
    }

    /// Starts an invocation; none if one is under way.
    pub(crate) fn begin(&mut self, event: Event, now: Instant) -> Option<InvocationId> {
        match self.life.step(event, now) {
            Some(Action::Invoke(id, _)) => Some(id),
            _ => None,
        }
    }

    /// The instance that a request would reach: during a round the one that serves.
    pub(crate) fn main_slot(&self) -> Option<usize> {
        if let Some(round) = &self.round {
            return Some(round.main.2.slot);
        }
        let used = |slot: &usize| self.slots[*slot].map(|i| i.used);
        (0..2).filter(|s| self.slots[*s].is_some()).max_by_key(used)
    }
}

/// Whether it is another instance than the last one.
pub(crate) fn is_other(meeting: Meeting) -> bool {
    matches!(meeting, Meeting::Stranger | Meeting::Back)
}

#[cfg(test)]
mod tests {
    use scatterhoard_proxy::pool::lifecycle::Settings;

    use super::*;

    fn node() -> Node {
        let rounds = backup::Settings {
            standby: true,
            interval: Duration::from_secs(60),
            after_bytes: 1 << 28,
        };
        let ids = [InstanceId(1), InstanceId(2)];
        let linger = linger::Settings {
            least: Duration::from_millis(10),
            break_even: Duration::from_millis(68),
        };
        Node::new(
            Clock::new(),
            0.5,
            3,
            Settings::default(),
            rounds,
            linger,
            ids,
        )
    }

    #[test]
    fn the_latest_used_answers_and_a_busy_one_leaves_the_other() {
        let mut n = node();
        let fresh = InstanceId(9);
        let main = n.route(None, fresh, 10);
        assert_eq!((main.id, main.is_cold), (InstanceId(1), false));
        let second = n.route(Some(main.slot), fresh, 10);
        assert_eq!((second.id, second.is_cold), (InstanceId(2), false));
        n.slots[second.slot] = None;
        let second = n.route(Some(main.slot), fresh, 20);
        assert_eq!((second.id, second.is_cold), (fresh, true));
        assert_eq!(n.main_slot(), Some(second.slot));
    }

    #[test]
    fn another_instance_than_before_is_urgent() {
        let mut n = node();
        assert!(n.meet(InstanceId(1)) == Meeting::Same && !n.is_urgent);
        assert!(n.meet(InstanceId(2)) == Meeting::Back && n.is_urgent);
        assert_eq!(n.absent_but(None), 1);
        assert!(n.begin(Event::Wanted, Clock::new().at(0)).is_some());
        assert!(n.begin(Event::Wanted, Clock::new().at(0)).is_none(), "one");
    }
}
