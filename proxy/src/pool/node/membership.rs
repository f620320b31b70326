//! A node comes, is emptied, and goes.

use tokio::time::Instant;

use super::{Garbage, Instances, Node};
use crate::pool::{
    account::Account,
    lifecycle::Phase,
    membership::{Change, State},
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

    /// Whether room is set aside on it for chunks that are on their way.
    pub fn has_reservations(&self) -> bool {
        self.inner.lock().account.reserved_bytes() > 0 || self.is_put_under_way()
    }

    /// Whether no invocation of it is under way.
    pub(in crate::pool) fn is_at_rest(&self) -> bool {
        let inner = self.inner.lock();
        rests(inner.life.phase()) && inner.calls == 0
    }

    /// Whether it has gone, and nothing of it is waited for.
    pub(in crate::pool) fn is_at_rest_for_good(&self) -> bool {
        let inner = self.inner.lock();
        !inner.state.is_member() && rests(inner.life.phase())
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

fn rests(phase: Phase) -> bool {
    matches!(phase, Phase::Asleep | Phase::Unreachable { .. })
}
