//! GETs of values in the proxy's own memory, answered where they lie: neither is the
//! request taken apart, nor does one of a pipeline take the index's lock for itself.

use std::time::Duration;

use bytes::Buf;

use super::{FLUSH_BYTES, Session};
use crate::{
    clients::Silence,
    keyspace::KeyRef,
    resp::{ahead::plain_get, reply},
};

/// Requests that are answered under one hold of the index's lock.
const TOGETHER: u64 = 64;

/// They take less, all together; who logs such commands gets each by itself.
const QUICK: Duration = Duration::from_millis(1);

impl Session {
    /// Answers the GETs at the front of the input, up to one whose value is not in memory;
    /// whether there was any.
    pub(super) fn answer_from_memory(&mut self) -> bool {
        if plain_get(&self.input).is_none() || !self.is_plain() {
            return false;
        }
        let (mut answered, mut taken) = (0, 0);
        let mut strings = self.context.store.hot_strings();
        while answered < TOGETHER && self.output.pending_bytes() < FLUSH_BYTES {
            let rest = &self.input[taken..];
            let Some(get) = plain_get(rest) else { break };
            let key = KeyRef {
                db: self.client.db,
                key: &rest[get.key],
            };
            let Some(value) = strings.get(key) else { break };
            reply::hot_bulk(value, &mut self.output);
            answered += 1;
            taken += get.len;
        }
        drop(strings);
        self.input.advance(taken);
        if answered == 0 {
            return false;
        }
        self.client.entry.update(|entry| entry.command = "get");
        self.context.stats.count_hits(answered);
        true
    }

    /// Whether nobody wants to know of this client's commands, holds them up or forbids
    /// them, and it gets a reply to each.
    fn is_plain(&self) -> bool {
        let (client, context) = (&self.client, &self.context);
        let is_trusted = client.user.as_ref().is_some_and(|u| u.is_unrestricted());
        is_trusted
            && self.next_step.is_none()
            && self.parser.is_idle()
            && client.queue.is_none()
            && client.silence == Silence::None
            && client.tracking.is_none()
            && client.monitoring.is_none()
            && !client.subscriptions.any()
            && !self.mailbox.has_any()
            && context.config.cluster.is_none()
            && !context.monitors.any()
            && context.clients.pause.holds(true).is_none()
            && !context.slow_log.takes(QUICK)
    }
}
