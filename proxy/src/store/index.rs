//! The index behind its lock: what has changed is in the journal when it is
//! unlocked, and what has left it is told to nodes then.

use std::ops::{Deref, DerefMut};

use parking_lot::MutexGuard;

use super::Store;
use crate::{
    keyspace::{Keyspace, Why},
    pubsub::{Classes, KeyEvent},
};

/// The index, locked.
pub struct IndexGuard<'a> {
    store: &'a Store,
    index: MutexGuard<'a, Keyspace>,
}

impl Deref for IndexGuard<'_> {
    type Target = Keyspace;

    fn deref(&self) -> &Keyspace {
        &self.index
    }
}

impl DerefMut for IndexGuard<'_> {
    fn deref_mut(&mut self) -> &mut Keyspace {
        &mut self.index
    }
}

impl Drop for IndexGuard<'_> {
    fn drop(&mut self) {
        let released = self.index.take_released();
        if released > 0 {
            self.store.behind.released(released);
        }
        if self.index.take_news_of_waiting() {
            self.store.behind.call();
        }
        if self.index.has_departures() {
            self.store.tell_departures(&mut self.index);
        }
        if self.index.has_any_changed() {
            self.store.tell_trackers(&mut self.index);
        }
        if !self.index.has_changed() {
            return;
        }
        if self.store.watches.any() {
            self.store.watches.tell(&self.index);
        }
        if self.store.gives_labels() && self.store.refusal().is_none() {
            self.store.tell_labels(&self.index);
        }
        match &self.store.journal {
            Some(journal) => journal.write(&mut self.index),
            // only nodes or watchers had to be told
            None => self.index.forget_changes(),
        }
        self.store.free(&mut self.index);
    }
}

impl Store {
    /// The index, locked. Held only for the moment; call [`Self::free`] before
    /// letting go when something may have left it. What has changed is in the
    /// journal when it is unlocked.
    pub fn index(&self) -> IndexGuard<'_> {
        IndexGuard {
            store: self,
            index: self.index.lock(),
        }
    }

    /// Tells who tracks them which keys have changed.
    fn tell_trackers(&self, index: &mut Keyspace) {
        match index.take_changed() {
            Some(keys) => keys.iter().for_each(|key| self.tracking.changed(key)),
            None => self.tracking.flushed(),
        }
    }

    /// Publishes which keys have left on their own.
    fn tell_departures(&self, index: &mut Keyspace) {
        let (departures, left_out) = index.take_departures();
        for departure in departures {
            let (class, name) = match departure.why {
                Why::Expired => (Classes::EXPIRED, "expired"),
                Why::Evicted => (Classes::EVICTED, "evicted"),
            };
            if self.events.wants(class) {
                let (db, key) = (departure.db, departure.key.into());
                self.events.publish(&KeyEvent { db, key, name });
            }
        }
        if left_out > 0 {
            metrics::counter!("scatterhoard_key_events_left_out_total").increment(left_out);
        }
    }

    /// Passes on what has left the index: nodes may free it. Not
    /// while the journal still names it: then when the index is unlocked.
    pub fn free(&self, index: &mut Keyspace) {
        if index.has_changed() {
            return;
        }
        let freed = index.take_freed();
        if freed.is_empty() {
            return;
        }
        self.forget_backed(&freed);
        for object in freed {
            for id in object.nodes() {
                if let Some(node) = self.pool.node(id) {
                    node.discard(object.write_id);
                }
            }
        }
    }
}
