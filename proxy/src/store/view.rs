//! What a command sees and changes: the index itself, or a transaction over it.
//! Commands are written once, for both.

use std::sync::Arc;

use scatterhoard_wire::WriteId;

use super::{
    Broken, CommitOutcome, Key, Looked, Lookup, Pinned, ReadError, Store, overlay::Overlay,
    transaction::Transaction, write::WriteError, written::Written,
};
use crate::{
    clock,
    keyspace::{Condition, Names, NewExpiry},
    pubsub::Classes,
    value::Value,
};

/// Where a command looks names up and changes them.
#[derive(Clone, Copy)]
pub struct View<'a> {
    store: &'a Arc<Store>,
    transaction: Option<&'a Transaction>,
}

impl<'a> View<'a> {
    /// The index itself: each change is one of its own.
    pub fn of(store: &'a Arc<Store>) -> Self {
        Self {
            store,
            transaction: None,
        }
    }

    /// What a transaction makes of the index.
    pub fn within(store: &'a Arc<Store>, transaction: &'a Transaction) -> Self {
        Self {
            store,
            transaction: Some(transaction),
        }
    }

    /// The transaction, if there is one.
    pub fn transaction(&self) -> Option<&'a Transaction> {
        self.transaction
    }

    /// Looks at names and changes them, at one moment.
    pub fn names<R>(&self, work: impl FnOnce(&mut dyn Names) -> R) -> R {
        if let Some(transaction) = self.transaction {
            return transaction.over(self.store, |overlay| work(overlay));
        }
        let mut index = self.store.index();
        let result = work(&mut *index);
        self.store.free(&mut index);
        result
    }

    /// The key's value, ready to be read. Counts as a use.
    pub fn look_up(&self, key: Key) -> Lookup {
        self.look_up_named(key)
            .map_or(Lookup::Missing, |looked| looked.lookup)
    }

    /// The same, with what the index says of it.
    pub fn look_up_named(&self, key: Key) -> Option<Looked> {
        match self.transaction {
            None => self.store.look_up_named(key),
            Some(transaction) => {
                transaction.over(self.store, |overlay| self.look_up_within(overlay, key))
            }
        }
    }

    /// The same for several keys, at one moment.
    pub fn look_up_all(&self, keys: Vec<Key>) -> Vec<Option<Looked>> {
        if let Some(transaction) = self.transaction {
            return transaction.over(self.store, |overlay| {
                let look_up = |key| self.look_up_within(overlay, key);
                keys.into_iter().map(look_up).collect()
            });
        }
        let mut index = self.store.index();
        let look_up = |key| self.store.look_up_in(&mut index, key);
        keys.into_iter().map(look_up).collect()
    }

    fn look_up_within(&self, overlay: &mut Overlay<'_>, key: Key) -> Option<Looked> {
        let now = clock::unix_ms();
        let found = overlay.get(key.as_ref(), now)?;
        let looked = Looked::of(&found);
        let lookup = match overlay.staged.value_of(&key) {
            Some(value) => Lookup::Here(value),
            None => {
                // as it is now: it may have come to nodes since the first look, or
                // been repaired
                let key = overlay.staged.origin_of(key);
                let index = &mut *overlay.index;
                let present = index.peek(key.as_ref(), now);
                let present = present.filter(|p| p.object.write_id == found.object.write_id);
                self.store.pin(index, key, present.unwrap_or(found))
            }
        };
        Some(Looked { lookup, ..looked })
    }

    /// Another pin of the same object.
    pub fn again(&self, pinned: &Pinned) -> Pinned {
        self.store.again(pinned)
    }

    /// Makes a value ready to be committed.
    pub async fn write(&self, value: Value) -> Result<Written, WriteError> {
        match self.transaction {
            None => self.store.write(value).await,
            Some(transaction) => transaction.write(self.store, value).await,
        }
    }

    /// The same where several values are written by one command, which must not
    /// wait for room that only they can give back.
    pub async fn write_one_of_several(&self, value: Value) -> Result<Written, WriteError> {
        match self.transaction {
            None => self.store.write_through(value).await,
            Some(transaction) => transaction.write(self.store, value).await,
        }
    }

    /// Makes a key mean what was written, if the condition holds.
    pub fn commit(
        &self,
        key: Key,
        written: Written,
        condition: Condition,
        expiry: NewExpiry,
        want_previous: bool,
    ) -> CommitOutcome {
        let Some(transaction) = self.transaction else {
            let store = self.store;
            return store.commit(key, written, condition, expiry, want_previous);
        };
        let previous = match want_previous {
            true => self.look_up(key.clone()),
            false => Lookup::Missing,
        };
        let now = clock::unix_ms();
        let wants_new = self.store.events.wants(Classes::NEW);
        let (done, is_new) = transaction.over(self.store, |overlay| {
            overlay.commit(key.as_ref(), written, condition, expiry, now, wants_new)
        });
        CommitOutcome {
            done,
            is_new,
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
        if self.transaction.is_none() {
            return self.store.commit_all(writes, if_none_exist);
        }
        let now = clock::unix_ms();
        let any = self.names(|names| {
            let mut keys = writes.iter();
            if_none_exist && keys.any(|(key, _)| names.peek(key.as_ref(), now).is_some())
        });
        if any {
            return None;
        }
        let (always, never) = (Condition::Always, NewExpiry::Set(None));
        let commit = |(key, written)| self.commit(key, written, always, never, false).is_new;
        Some(writes.into_iter().map(commit).collect())
    }

    /// Removes the key if it still names this write; says whether it did.
    pub fn remove_if(&self, key: &Key, write_id: WriteId) -> bool {
        let now = clock::unix_ms();
        self.names(|names| {
            let found = names.peek(key.as_ref(), now);
            found.is_some_and(|f| f.object.write_id == write_id) && names.remove(key.as_ref(), now)
        })
    }

    /// Gives the key an expiry, or none, if it still names this write; says
    /// whether it did.
    pub fn expire_if(&self, key: &Key, write_id: WriteId, at_ms: Option<u64>) -> bool {
        let now = clock::unix_ms();
        self.names(|names| {
            let found = names.peek(key.as_ref(), now);
            let named = found.is_some_and(|f| f.object.write_id == write_id);
            named && names.set_expiry(key.as_ref(), at_ms, now)
        })
    }

    /// Removes every key of a database, or of all of them.
    pub fn flush(&self, db: Option<u8>) {
        match self.transaction {
            None => self.store.flush(db),
            Some(transaction) => transaction.over(self.store, |overlay| overlay.flush(db)),
        }
    }

    /// A key was changed, though it means what it did: who watches it is told.
    pub fn touch(&self, key: &Key) {
        match self.transaction {
            None => {
                self.store.watches.touch(key);
                if self.store.tracking.any() {
                    self.store.tracking.changed(&key.bytes);
                }
            }
            Some(transaction) => transaction.touches(key),
        }
    }

    /// Writes a value anew that is there already, ready to be committed.
    pub async fn write_again(&self, lookup: Lookup) -> Result<Written, Broken<ReadError>> {
        match lookup {
            Lookup::Here(value) => Ok(self.write(value).await?),
            other => self.store.write_copy(other).await,
        }
    }

    /// Waits for the key's turn to be edited; held until dropped. A transaction has
    /// its turns already, as far as its keys were known.
    pub async fn edit_turn(&self, key: &Key) -> Option<tokio::sync::MutexGuard<'a, ()>> {
        match self.transaction {
            None => Some(self.store.edit_turn(key).await),
            Some(_) => None,
        }
    }
}
