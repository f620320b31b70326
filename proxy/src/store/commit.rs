//! What was written becomes what keys mean, or everything goes.

use std::sync::{Arc, atomic::Ordering};

use super::{
    CommitOutcome, Key, Lookup, Store,
    written::{Cargo, Written},
};
use crate::{
    clock,
    keyspace::{Committed, Condition, Keyspace, NewExpiry, Object},
};

/// What a commit did.
pub(super) struct Placed {
    /// Whether the condition held.
    done: bool,
    /// Whether the key named nothing before.
    is_new: bool,
}

impl Store {
    /// Makes a key mean what was written, if the condition holds.
    pub fn commit(
        self: &Arc<Self>,
        key: Key,
        written: Written,
        condition: Condition,
        expiry: NewExpiry,
        want_previous: bool,
    ) -> CommitOutcome {
        let now = clock::unix_ms();
        let mut index = self.index();
        let (object, cargo) = written.into_parts();
        let previous = match want_previous.then(|| index.peek(key.as_ref(), now)) {
            Some(Some(found)) => self.pin(&mut index, key.clone(), found),
            _ => Lookup::Missing,
        };
        let placed = self.commit_one(&mut index, &key, object, cargo, condition, expiry, now);
        self.free(&mut index);
        CommitOutcome {
            done: placed.done,
            is_new: placed.is_new,
            previous,
        }
    }

    /// Commits several writes at once, in order; with `if_none_exist` only if
    /// none of the keys exists. If it did: which of the keys are new.
    pub fn commit_all(
        &self,
        writes: Vec<(Key, Written)>,
        if_none_exist: bool,
    ) -> Option<Vec<bool>> {
        let now = clock::unix_ms();
        let mut index = self.index();
        let blocked = if_none_exist
            && writes
                .iter()
                .any(|(key, _)| index.peek(key.as_ref(), now).is_some());
        // one of them begun before FLUSHALL: all of them were written before it
        let flushed = *self.flushed.lock();
        let torn = writes.iter().any(|(_, written)| written.is_before(flushed));
        let mut new = Vec::with_capacity(writes.len());
        for (key, written) in writes {
            let (object, cargo) = written.into_parts();
            if blocked || torn {
                index.discard(object);
                new.push(false);
                continue;
            }
            let (condition, expiry) = (Condition::Always, NewExpiry::Set(None));
            let placed = self.commit_one(&mut index, &key, object, cargo, condition, expiry, now);
            new.push(placed.is_new);
        }
        self.free(&mut index);
        (!blocked).then_some(new)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one step of commit, shared by its two forms"
    )]
    pub(super) fn commit_one(
        &self,
        index: &mut Keyspace,
        key: &Key,
        object: Arc<Object>,
        cargo: Cargo,
        condition: Condition,
        expiry: NewExpiry,
        now: u64,
    ) -> Placed {
        let write_id = object.write_id;
        let is_early = matches!(cargo, Cargo::Early(_));
        if !is_early && write_id < *self.flushed.lock() {
            // begun before FLUSHALL: it counts as written and flushed
            index.discard(object);
            return Placed {
                done: true,
                is_new: false,
            };
        }
        let Committed { done, previous } =
            index.commit(key.as_ref(), object, condition, expiry, now);
        match cargo {
            Cargo::Small(value) if done => index.keep_value(key.as_ref(), write_id, value),
            Cargo::Dirty(ticket) if done => ticket.redeem(index, key.as_ref(), write_id),
            _ => {}
        }
        let is_new = done && previous.is_none();
        Placed { done, is_new }
    }

    /// Has two databases change places.
    pub fn swap(&self, a: u8, b: u8) {
        let mut index = self.index();
        index.swap(a, b);
        self.free(&mut index);
    }

    /// Removes every key of a database, or of all of them. What is being
    /// written at this moment to any of them counts as written before.
    pub fn flush(&self, db: Option<u8>) {
        let mut index = self.index();
        index.flush(db);
        if db.is_some() {
            self.free(&mut index);
            return;
        }
        // one floor instead of every single write id
        let floor = self.next_write_id();
        *self.flushed.lock() = floor;
        let freed = index.take_freed();
        self.forget_backed(&freed);
        // those that come now have write ids above the floor
        let wanted = index.has_pins() || self.early.load(Ordering::SeqCst) > 0;
        drop(index);
        if wanted {
            // some chunks below it are still needed: name the others one by one
            for object in freed {
                for node in object.nodes().filter_map(|id| self.pool.node(id)) {
                    node.discard(object.write_id);
                }
            }
        } else {
            self.pool.raise_floor(floor);
        }
    }
}
