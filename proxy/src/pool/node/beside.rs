//! What a node is to a round: a second link, beside the one that serves.

use std::{sync::Arc, time::Duration};

use scatterhoard_wire::{
    InstanceId, InvocationId,
    invoke::Purpose,
    message::{Held, Message},
};
use tokio::time::Instant;

use super::{Event, Inner, Link, Meeting, Node, age};
use crate::pool::{
    PING_SLACK,
    backup::Ending,
    lifecycle::{Action, Companion},
};

/// A node whose proxy died without a word returns after so long at the latest.
const LETS_GO_WITHIN: Duration = Duration::from_secs(15);

/// The second link, and who is at its other end.
#[derive(Clone)]
pub struct Second {
    /// The link.
    pub link: Arc<Link>,
    /// The instance.
    pub instance: InstanceId,
    /// When it was started, by its own clock; 0: unknown.
    pub(in crate::pool) birth_unix_ms: u64,
    /// What it holds, as it last said.
    pub held: Held,
}

/// A second instance was met.
#[derive(Clone, Copy, Debug)]
pub(in crate::pool) struct Beside {
    pub(in crate::pool) meeting: Meeting,
    /// Whether the standby lived through the silence, if that can be said.
    pub(in crate::pool) survived: Option<bool>,
    /// How long it had been left alone.
    pub(in crate::pool) silence: Duration,
    /// How old the standby is, or would be.
    pub(in crate::pool) age: Option<Duration>,
}

/// What a round finds when it asks for the second link.
pub(in crate::pool) enum SecondAccess {
    /// Here it is.
    Open(Second),
    /// Wait for the node to change; carry out the action first.
    Wait(Option<Action>),
    /// It cannot be had in this round.
    None,
}

impl Node {
    /// The second link, or how to come by it.
    pub(in crate::pool) fn second(&self, asked: bool, now: Instant) -> SecondAccess {
        let mut inner = self.inner.lock();
        if let Some(second) = inner.second.as_ref().filter(|s| !s.link.is_closed()) {
            return SecondAccess::Open(second.clone());
        }
        let action = if asked {
            None
        } else {
            inner.life.step(Event::CompanionWanted, now)
        };
        match inner.life.companion() {
            Companion::None => SecondAccess::None,
            _ => SecondAccess::Wait(action),
        }
    }

    /// Another instance of the function answers, beside the one that serves.
    pub(in crate::pool) fn met_beside(
        &self,
        instance: InstanceId,
        birth_unix_ms: u64,
        now: Instant,
    ) -> Beside {
        let mut inner = self.inner.lock();
        let before = inner.instances.lost();
        let had_others = inner.instances.has_others();
        // those of the one that serves, and of this one
        let all_idle = inner.calls <= 2 && inner.inherited_until.is_none_or(|at| at <= now);
        let meeting = inner.instances.meet_beside(instance, all_idle);
        inner.count_lost(before);
        let before = std::mem::replace(&mut inner.other_birth_unix_ms, birth_unix_ms);
        Beside {
            meeting,
            survived: match meeting {
                Meeting::Back => Some(true),
                // the platform would have chosen the standby
                Meeting::Stranger => (had_others && all_idle).then_some(false),
                Meeting::First | Meeting::Same => None,
            },
            silence: now.saturating_duration_since(inner.backup.last()),
            age: match meeting {
                Meeting::Back => age(birth_unix_ms),
                _ => age(before),
            },
        }
    }

    /// Its link was admitted.
    pub(in crate::pool) fn attach_beside(&self, second: Second) {
        let mut inner = self.inner.lock();
        if inner.life.companion().invocation() != Some(second.link.invocation()) {
            second.link.give_up();
            return;
        }
        if !inner.backup.is_running() {
            // the round did not wait so long
            second.link.send(&Message::Release);
        }
        inner.second = Some(second);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Whether one of its instances may be at work for a predecessor still.
    pub fn is_inherited(&self, now: Instant) -> bool {
        self.inner.lock().inherited_until.is_some_and(|at| now < at)
    }

    /// The second link, if there is one.
    pub(in crate::pool) fn open_second(&self) -> Option<Second> {
        let inner = self.inner.lock();
        inner.second.clone().filter(|s| !s.link.is_closed())
    }

    /// Asks whoever is awake to return.
    pub(in crate::pool) fn release(&self) {
        let second = self.open_second().map(|s| s.link);
        for link in self.open_link().into_iter().chain(second) {
            link.send(&Message::Release);
        }
    }

    /// Whether a round of this node is due; if so, it has begun.
    pub(in crate::pool) fn begin_round(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        if inner.life.is_unreachable(now) || !inner.state.is_member() {
            return false;
        }
        let silence = inner.life.silence().saturating_sub(PING_SLACK);
        inner.backup.begin(silence, now)
    }

    /// The same beside another round, also if one of this node is due soon.
    pub(in crate::pool) fn begin_round_in_company(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        if inner.life.is_unreachable(now) || !inner.state.is_member() {
            return false;
        }
        let silence = inner.life.silence().saturating_sub(PING_SLACK);
        inner.backup.begin_in_company(silence, now)
    }

    /// The round over this link is over. `merged`: the one that serves has all
    /// that this instance has. Whether another round is wanted behind it.
    pub(in crate::pool) fn end_round(
        &self,
        how: Ending,
        merged: Option<(InvocationId, InstanceId)>,
        now: Instant,
    ) -> bool {
        let mut inner = self.inner.lock();
        if let Some((main, second)) = merged
            && inner.life.invocation() == Some(main)
        {
            inner.instances.merged(second);
        }
        let second = inner.second.as_ref().map(|s| s.instance);
        let searching = inner.instances.absent_but(second) > 0;
        inner.backup.ended(how, searching, now);
        if how == Ending::Done {
            inner.doubt.round_done();
        }
        let is_urgent = inner.backup.is_urgent();
        drop(inner);
        self.changed.notify_waiters();
        is_urgent
    }

    /// Whether this invocation was for a round, and nobody else has used it
    /// since.
    pub(in crate::pool) fn woken_in_vain(&self, invocation: InvocationId, since: Instant) -> bool {
        let inner = self.inner.lock();
        inner.life.invocation() == Some(invocation)
            && inner.life.woken_for() == Purpose::Backup
            && inner.linger.last_request().is_none_or(|at| at < since)
            && !self.is_put_under_way()
    }

    /// Whether this invocation was for a round, used since or not: it is patient.
    pub(in crate::pool) fn woken_for_round(&self, invocation: InvocationId) -> bool {
        let inner = self.inner.lock();
        inner.life.invocation() == Some(invocation) && inner.life.woken_for() == Purpose::Backup
    }

    /// A round is due now; how many have ended so far.
    pub(in crate::pool) fn urge_round(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.backup.urge();
        inner.backup.rounds()
    }

    /// Something that was stored before the round under way is left for the next one.
    pub fn owe_backup(&self) {
        self.inner.lock().backup.stored(1);
    }

    /// A round has something to bring, though nothing was stored.
    pub(in crate::pool) fn owe_labels(&self) {
        let mut inner = self.inner.lock();
        inner.backup.stored(1);
        if !inner.backup.has_standby() {
            // there are no others
            inner.backup.urge();
        }
    }

    /// How many rounds have ended, well or not.
    pub fn rounds_ended(&self) -> u64 {
        self.inner.lock().backup.rounds()
    }

    /// Instances that rounds may yet find, and that may hold what neither the one
    /// that serves does, nor this one.
    pub fn sought_instances(&self, second: Option<InstanceId>) -> usize {
        let inner = self.inner.lock();
        if inner.backup.can_search() {
            inner.instances.absent_but(second)
        } else {
            0
        }
    }

    /// Whether what the instance that serves lacks may be on another one: of those that
    /// rounds may yet find, or of a round under way.
    pub fn may_turn_up(&self) -> bool {
        self.sought_instances(None) > 0 || self.inner.lock().backup.is_running()
    }

    /// A predecessor's index is served: there may be instances nobody has met.
    pub fn assume_unknown_instances(&self, now: Instant) {
        let mut inner = self.inner.lock();
        inner.inherited_until = Some(now + LETS_GO_WITHIN);
        inner.instances.assume_unknown();
        inner.backup.urge();
    }
}

impl Inner {
    /// Lets go of the second link when its invocation is over.
    pub(super) fn step_beside(&mut self, event: Event) {
        let (Event::Goodbye(id) | Event::LinkLost(id) | Event::Returned(id, _)) = event else {
            return;
        };
        let ended = self.second.take_if(|s| s.link.invocation() == id);
        if let (Some(second), Event::Returned(..)) = (ended, event) {
            second.link.give_up();
        }
    }
}
