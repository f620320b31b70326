//! GETs of values in the proxy's own memory and of keys that are not there, and with
//! `ack = proxy` SETs of small values, carried out where they lie in the read buffer: no
//! request is taken apart, nor does each one of a pipeline take the index's lock for itself.

use std::time::Duration;

use bytes::Buf;
use smallvec::SmallVec;

use super::{FLUSH_BYTES, Session};
use crate::{
    apply,
    clients::Silence,
    journal::Fsync,
    keyspace::{HotString, KeyRef},
    pubsub::Classes,
    resp::{
        Reply,
        ahead::{plain_get, plain_set},
        reply,
    },
    store::SmallSet,
};

/// Requests that are carried out under one hold of the index's lock.
const TOGETHER: usize = 64;

/// They take less, all together; who logs such commands gets each by itself.
const QUICK: Duration = Duration::from_millis(1);

impl Session {
    /// Carries out what is at the front of the input, as far as it is of this kind; how many
    /// requests that were.
    pub(super) async fn carry_out_in_memory(&mut self) -> usize {
        if plain_get(&self.input).is_some() && self.is_plain() {
            return self.answer_gets();
        }
        if plain_set(&self.input).is_some() && self.is_plain() && self.may_set() {
            return self.carry_out_sets().await;
        }
        0
    }

    /// Answers GETs, up to one that has to be taken apart; how many.
    fn answer_gets(&mut self) -> usize {
        let (mut hits, mut misses, mut taken) = (0, 0, 0);
        let are_misses_told = self.context.store.events().wants(Classes::MISSED);
        let mut strings = self.context.store.hot_strings();
        while hits + misses < TOGETHER && self.output.pending_bytes() < FLUSH_BYTES {
            let rest = &self.input[taken..];
            let Some(get) = plain_get(rest) else { break };
            let key = KeyRef {
                db: self.client.db,
                key: &rest[get.key],
            };
            match strings.get(key) {
                HotString::Kept(value) => {
                    reply::hot_bulk(value, &mut self.output);
                    hits += 1;
                }
                HotString::NoKey if !are_misses_told => {
                    Reply::Null.encode(self.client.protocol, &mut self.output);
                    misses += 1;
                }
                HotString::NoKey | HotString::NotKept => break,
            }
            taken += get.len;
        }
        drop(strings);
        self.input.advance(taken);
        let answered = hits + misses;
        if answered > 0 {
            self.client.entry.update(|entry| entry.command = "get");
            self.context.stats.count_reads(hits as u64, misses as u64);
        }
        answered
    }

    /// Commits SETs, if there is room for all of them at once; how many.
    async fn carry_out_sets(&mut self) -> usize {
        let store = &self.context.store;
        let mut sets: SmallVec<[SmallSet<'_>; 16]> = SmallVec::new();
        let mut taken = 0;
        while sets.len() < TOGETHER {
            let rest = &self.input[taken..];
            let Some(set) = plain_set(rest) else { break };
            sets.push(SmallSet {
                key: &rest[set.key],
                value: &rest[set.value],
            });
            taken += set.len;
        }
        let count = sets.len();
        if !store.commit_behind(self.client.db, &sets) {
            return 0;
        }
        drop(sets);
        self.input.advance(taken);
        self.client.entry.update(|entry| entry.command = "set");
        self.context.stats.count_commands(count as u64);
        let mut failure = None;
        if let Some(journal) = store.journal() {
            journal.settled().await;
            failure = journal.failure();
        }
        for _ in 0..count {
            match &failure {
                None => reply::ok(&mut self.output),
                Some(why) => self.put(apply::journal_failed(why)),
            }
        }
        count
    }

    /// Whether nothing but the requests themselves decides about SETs.
    fn may_set(&self) -> bool {
        let store = &self.context.store;
        // what waits for the disk may be slow, and somebody may log that
        self.context.config.appendfsync != Fsync::Always
            && store.refusal().is_none()
            && !store.gate().is_closing()
            && !store.events().wants(Classes::STRING | Classes::NEW)
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
