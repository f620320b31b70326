//! What is looked at a few times a second, of every node: quick where nothing is to be done.

use std::time::Duration;

use tokio::time::Instant;

use super::{Node, membership::rests};
use crate::pool::{
    lifecycle::{Action, Event},
    outage::Trouble,
};

impl Node {
    /// Time passes. No silence of the node is longer than `longest`, and a link on which
    /// nothing came for `patience`, although somebody waits, ends.
    pub(in crate::pool) fn tick(
        &self,
        longest: Duration,
        patience: Duration,
        now: Instant,
    ) -> Option<Action> {
        let mut inner = self.inner.lock();
        // of one that has gone the end of its last invocation is awaited
        if !inner.state.is_member() && rests(inner.life.phase()) {
            return None;
        }
        if inner.life.silence() > longest {
            inner.life.leave_alone(longest);
        }
        let second = inner.second.as_ref().map(|second| &second.link);
        let links = inner.link.iter().chain(second);
        for link in links.filter(|link| !link.is_closed() && link.is_mute(patience)) {
            tracing::info!(node = %self.id, invocation = %link.invocation(), "node is mute");
            link.give_up();
        }
        self.step_locked(inner, Event::Tick, now)
    }

    /// Why it fails, if it does; nothing of one that takes no chunks.
    pub(in crate::pool) fn trouble_if_active(&self) -> Option<Option<Trouble>> {
        let inner = self.inner.lock();
        inner.state.takes_chunks().then_some(inner.trouble)
    }
}
