//! A node comes, is emptied, and goes.

use scatterhoard_wire::{Epoch, InstanceId, WriteId, message::Message};
use tokio::time::Instant;

use super::{Garbage, Instances, Link, Node};
use crate::pool::{
    account::Account,
    lifecycle::Phase,
    membership::{Change, State},
    platform::{InvokeFailure, errors::Cause},
};

/// Above every write.
const ALL_WRITES: WriteId = WriteId {
    epoch: Epoch(u64::MAX),
    counter: u64::MAX,
};

impl Node {
    /// Whether it is of the pool.
    pub fn state(&self) -> State {
        self.inner.lock().state
    }

    /// Changes its state, if that can be.
    pub(in crate::pool) fn change(&self, change: Change) -> bool {
        let mut inner = self.inner.lock();
        let Some(state) = inner.state.after(change) else {
            return false;
        };
        inner.state = state;
        if !state.is_member() {
            inner.garbage = Garbage::default();
        }
        drop(inner);
        self.changed.notify_waiters();
        true
    }

    /// Has the instance that serves over this link drop all that it holds, and the one
    /// beside it, if there is one, behind what they were told before; which they are.
    /// `None`: one of the links has ended.
    pub(in crate::pool) fn drop_all(
        &self,
        main: &Link,
        second: Option<(&Link, InstanceId)>,
    ) -> Option<Vec<InstanceId>> {
        let mut inner = self.inner.lock();
        let serving = inner.instances.current();
        let serving = serving.filter(|_| inner.is_linked(main.invocation()))?;
        if !main.send(&Message::DeleteBelow(ALL_WRITES)) {
            return None;
        }
        // its confirmation is counted
        inner.garbage.open.clear();
        inner.garbage.told.push_back(Vec::new());
        let beside = match second {
            Some((link, _)) if !link.send(&Message::DeleteBelow(ALL_WRITES)) => return None,
            second => second.map(|(_, instance)| instance),
        };
        Some([serving].into_iter().chain(beside).collect())
    }

    /// Whether it has, so far as is known, other instances than these.
    pub fn has_others_than(&self, these: &[InstanceId]) -> bool {
        let inner = self.inner.lock();
        inner.instances.known().any(|id| !these.contains(&id))
    }

    /// Whether its function is not there any more, by what the platform said last: so
    /// are its instances.
    pub fn is_deleted(&self) -> bool {
        let inner = self.inner.lock();
        let cause = inner.last_failure.as_ref().and_then(InvokeFailure::cause);
        matches!(inner.life.phase(), Phase::Unreachable { .. })
            && cause == Some(Cause::FunctionMissing)
    }

    /// Whether room is set aside on it for chunks that are on their way.
    pub fn has_reservations(&self) -> bool {
        self.inner.lock().account.reserved_bytes() > 0 || self.is_put_under_way()
    }

    /// Whether no invocation of it is under way.
    pub(in crate::pool) fn is_at_rest(&self) -> bool {
        let inner = self.inner.lock();
        rests(inner.life.phase()) && inner.calls == 0
    }

    /// Forgets what was known of one that has gone, and may be other instances by now.
    pub(in crate::pool) fn begin_anew(&self, lost_after: u32) {
        let mut inner = self.inner.lock();
        inner.instances = Instances::new(lost_after, inner.backup.has_standby());
        inner.account = Account::default();
        inner.garbage = Garbage::default();
        (inner.birth_unix_ms, inner.other_birth_unix_ms) = (0, 0);
        (inner.retiring, inner.last_failure, inner.trouble) = (None, None, None);
    }

    /// It was met just now.
    pub(in crate::pool) fn left_alone_since(&self, now: Instant) {
        self.inner.lock().life.contacted(now);
    }
}

pub(super) fn rests(phase: Phase) -> bool {
    matches!(phase, Phase::Asleep | Phase::Unreachable { .. })
}
