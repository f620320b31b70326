//! What a transaction sees and changes: the index, and what is staged over it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use scatterhoard_wire::WriteId;

use super::{Key, transaction::Announcement, written::Written};
use crate::{
    keyspace::{Condition, DATABASES, Found, KeyRef, Keyspace, Names, NewExpiry, Object},
    value::Value,
};

/// Values in memory until the commit; beyond that they go to nodes at once.
const HOLD_BYTES: u64 = 16 << 20;

/// How often a random key is drawn that the transaction has removed, before one that it
/// has not is looked for; and slots that are looked at together then.
const DRAWS: usize = 16;
const SCAN: usize = 256;

/// What a key meant when the transaction first looked: the write and the expiry.
pub(super) type Seen = Option<(WriteId, Option<u64>)>;

#[derive(Default)]
pub(super) struct Staged {
    pub(super) names: BTreeMap<(u8, Bytes), Stage>,
    pub(super) flushed: BTreeSet<u8>,
    /// Keys that were changed before their database was flushed.
    pub(super) touched: BTreeSet<(u8, Bytes)>,
    /// Values that came in before, and were overwritten by the transaction itself.
    pub(super) retired: Vec<Written>,
    /// The same of values that it wrote itself: to be dropped as soon as the index is
    /// not locked.
    garbage: Vec<Written>,
    held_bytes: u64,
    pub(super) messages: Vec<Announcement>,
    pub(super) message_bytes: usize,
    /// Why it must not be committed.
    pub(super) refusal: Option<String>,
}

/// One key, as the transaction sees it.
pub(super) struct Stage {
    /// `None`: it has not looked.
    pub(super) seen: Option<Seen>,
    /// Its meaning now, if it has been changed.
    pub(super) change: Option<Change>,
    /// What the index says, as long as it has not.
    found: Option<Found>,
}

pub(super) enum Change {
    Removed,
    Named(Named),
}

pub(super) struct Named {
    pub(super) object: Arc<Object>,
    pub(super) expires_unix_ms: Option<u64>,
    pub(super) from: Source,
}

/// Where a key's value comes from when it is committed.
pub(super) enum Source {
    /// It was written.
    Written(Written),
    /// From this key, which may be the same.
    Key((u8, Bytes)),
}

impl Source {
    pub(super) fn written(&self) -> Option<&Written> {
        match self {
            Self::Written(written) => Some(written),
            Self::Key(_) => None,
        }
    }

    pub(super) fn into_written(self) -> Option<Written> {
        match self {
            Self::Written(written) => Some(written),
            Self::Key(_) => None,
        }
    }
}

impl Staged {
    /// Whether a value may be held until the commit.
    pub(super) fn may_hold(&mut self, bytes: u64) -> bool {
        let fits = self.held_bytes + bytes <= HOLD_BYTES;
        if fits {
            self.held_bytes += bytes;
        }
        fits
    }

    /// The value of a write that the transaction has in memory.
    pub(super) fn value_of(&self, key: &Key) -> Option<Value> {
        let stage = self.names.get(&(key.db, key.bytes.clone()))?;
        match stage.change.as_ref()? {
            Change::Named(named) => named.from.written()?.value(),
            Change::Removed => None,
        }
    }

    /// The key under which the index has this one's value, if it has been moved.
    pub(super) fn origin_of(&self, key: Key) -> Key {
        let stage = self.names.get(&(key.db, key.bytes.clone()));
        match stage.and_then(|stage| stage.change.as_ref()) {
            Some(Change::Named(Named {
                from: Source::Key((db, bytes)),
                ..
            })) => Key {
                db: *db,
                bytes: bytes.clone(),
            },
            _ => key,
        }
    }

    fn change(&mut self, key: KeyRef<'_>, change: Change) {
        let fresh = || Stage {
            seen: None,
            change: None,
            found: None,
        };
        let name = (key.db, Bytes::copy_from_slice(key.key));
        let stage = self.names.entry(name).or_insert_with(fresh);
        if let Some(Change::Named(named)) = stage.change.replace(change) {
            self.retire(named);
        }
    }

    /// What a key meant is overwritten.
    fn retire(&mut self, named: Named) {
        if let Source::Written(written) = named.from {
            self.retire_written(written);
        }
    }

    fn retire_written(&mut self, written: Written) {
        if let Some(value) = written.held_value() {
            self.held_bytes = self.held_bytes.saturating_sub(value.len());
        }
        match written.upload {
            Some(_) => self.retired.push(written),
            None => self.garbage.push(written),
        }
    }

    /// What is to be dropped as soon as the index is not locked.
    pub(super) fn take_garbage(&mut self) -> Vec<Written> {
        std::mem::take(&mut self.garbage)
    }

    /// What came in before, whether or not it was overwritten since.
    pub(super) fn into_uploads(self) -> Vec<Written> {
        let written = |stage: Stage| match stage.change {
            Some(Change::Named(named)) => named.from.into_written(),
            _ => None,
        };
        let staged = self.names.into_values().filter_map(written);
        staged
            .chain(self.retired)
            .filter(|written| written.upload.is_some())
            .collect()
    }
}

/// The index as the transaction sees it.
pub(super) struct Overlay<'a> {
    pub(super) index: &'a mut Keyspace,
    pub(super) staged: &'a mut Staged,
}

impl Overlay<'_> {
    fn look(&mut self, key: KeyRef<'_>, now_ms: u64, uses: bool) -> Option<Found> {
        let name = (key.db, Bytes::copy_from_slice(key.key));
        if let Some(stage) = self.staged.names.get(&name) {
            match &stage.change {
                Some(Change::Removed) => return None,
                Some(Change::Named(named)) => return named.found(now_ms),
                None if stage.seen.is_some() => {
                    return stage.found.clone().filter(|f| !is_past(f, now_ms));
                }
                None => {}
            }
        }
        if self.staged.flushed.contains(&key.db) {
            return None;
        }
        let found = if uses {
            self.index.get(key, now_ms)
        } else {
            self.index.peek(key, now_ms)
        };
        let stage = Stage {
            seen: Some(seen(found.as_ref())),
            change: None,
            // its value would stay in memory as long as the transaction
            found: found.clone().map(|found| Found { hot: None, ..found }),
        };
        self.staged.names.insert(name, stage);
        found
    }

    /// As [`Keyspace::commit`], of a value that was written; whether it is so, and, if
    /// that is asked, whether the key is new.
    pub(super) fn commit(
        &mut self,
        key: KeyRef<'_>,
        written: Written,
        condition: Condition,
        expiry: NewExpiry,
        now_ms: u64,
        asks_if_new: bool,
    ) -> (bool, bool) {
        let object = written.object();
        // who overwrites without a look needs nothing to stay as it was
        let blind = condition == Condition::Always && expiry != NewExpiry::Keep && !asks_if_new;
        let present = match blind {
            true => None,
            false => self.look(key, now_ms, false),
        };
        let allowed = match condition {
            Condition::Always => true,
            Condition::Absent => present.is_none(),
            Condition::Present => present.is_some(),
            Condition::Names(id) => present.as_ref().map(|f| f.object.write_id) == id,
        };
        if !allowed {
            self.staged.retire_written(written);
            return (false, false);
        }
        let is_new = !blind && present.is_none();
        let expires_unix_ms = match expiry {
            NewExpiry::Keep => present.and_then(|f| f.expires_unix_ms),
            NewExpiry::Set(at) => at,
        };
        if expires_unix_ms.is_some_and(|at| at <= now_ms) {
            self.staged.retire_written(written);
            self.staged.change(key, Change::Removed);
            return (true, is_new);
        }
        let named = Named {
            object,
            expires_unix_ms,
            from: Source::Written(written),
        };
        self.staged.change(key, Change::Named(named));
        (true, is_new)
    }

    pub(super) fn flush(&mut self, db: Option<u8>) {
        let flushed = |of: u8| db.is_none_or(|db| db == of);
        let mut gone = Vec::new();
        for (name, stage) in &mut self.staged.names {
            if !flushed(name.0) {
                continue;
            }
            // what it looked at must hold nevertheless
            stage.found = None;
            if let Some(change) = stage.change.take() {
                self.staged.touched.insert(name.clone());
                gone.push(change);
            }
        }
        for change in gone {
            if let Change::Named(named) = change {
                self.staged.retire(named);
            }
        }
        let all = (0..DATABASES as u8).filter(|of| flushed(*of));
        self.staged.flushed.extend(all);
    }

    /// Whether the key is there for this transaction; not a look that must hold.
    fn sees(&self, db: u8, key: &[u8]) -> bool {
        let name = (db, Bytes::copy_from_slice(key));
        match self.staged.names.get(&name).and_then(|s| s.change.as_ref()) {
            Some(Change::Removed) => false,
            Some(Change::Named(_)) => true,
            None => !self.staged.flushed.contains(&db),
        }
    }

    /// Keys that the index does not have (yet).
    fn added(&mut self, db: u8, now_ms: u64) -> Vec<(Bytes, Arc<Object>)> {
        let named = |((of, key), stage): (&(u8, Bytes), &Stage)| match &stage.change {
            Some(Change::Named(named)) if *of == db => {
                let found = named.found(now_ms)?;
                Some((key.clone(), found.object))
            }
            _ => None,
        };
        let named: Vec<_> = self.staged.names.iter().filter_map(named).collect();
        let flushed = self.staged.flushed.contains(&db);
        let index = &mut *self.index;
        let is_new = |(key, _): &(Bytes, Arc<Object>)| {
            flushed || index.peek(KeyRef { db, key }, now_ms).is_none()
        };
        named.into_iter().filter(is_new).collect()
    }
}

impl Named {
    fn found(&self, now_ms: u64) -> Option<Found> {
        let found = Found {
            object: self.object.clone(),
            expires_unix_ms: self.expires_unix_ms,
            hot: None,
        };
        (!is_past(&found, now_ms)).then_some(found)
    }
}

fn is_past(found: &Found, now_ms: u64) -> bool {
    found.expires_unix_ms.is_some_and(|at| at <= now_ms)
}

pub(super) fn seen(found: Option<&Found>) -> Seen {
    found.map(|f| (f.object.write_id, f.expires_unix_ms))
}

impl Names for Overlay<'_> {
    fn peek(&mut self, key: KeyRef<'_>, now_ms: u64) -> Option<Found> {
        self.look(key, now_ms, false)
    }

    fn get(&mut self, key: KeyRef<'_>, now_ms: u64) -> Option<Found> {
        self.look(key, now_ms, true)
    }

    fn remove(&mut self, key: KeyRef<'_>, now_ms: u64) -> bool {
        let was = self.look(key, now_ms, false).is_some();
        if was {
            self.staged.change(key, Change::Removed);
        }
        was
    }

    fn set_expiry(&mut self, key: KeyRef<'_>, at_ms: Option<u64>, now_ms: u64) -> bool {
        let Some(found) = self.look(key, now_ms, false) else {
            return false;
        };
        if at_ms.is_some_and(|at| at <= now_ms) {
            self.staged.change(key, Change::Removed);
            return true;
        }
        let name = (key.db, Bytes::copy_from_slice(key.key));
        match self.staged.names.get_mut(&name).map(|s| &mut s.change) {
            Some(Some(Change::Named(named))) => named.expires_unix_ms = at_ms,
            _ => {
                let named = Named {
                    object: found.object,
                    expires_unix_ms: at_ms,
                    from: Source::Key(name),
                };
                self.staged.change(key, Change::Named(named));
            }
        }
        true
    }

    fn rename(&mut self, from: KeyRef<'_>, to: KeyRef<'_>, now_ms: u64) -> bool {
        let Some(found) = self.look(from, now_ms, false) else {
            return false;
        };
        if from == to {
            return true;
        }
        let name = (from.db, Bytes::copy_from_slice(from.key));
        let stage = self.staged.names.get_mut(&name);
        let change = stage.and_then(|stage| stage.change.replace(Change::Removed));
        let named = match change {
            Some(Change::Named(named)) => named,
            _ => Named {
                object: found.object,
                expires_unix_ms: found.expires_unix_ms,
                from: Source::Key(name),
            },
        };
        self.staged.change(to, Change::Named(named));
        true
    }

    fn scan(
        &mut self,
        db: u8,
        cursor: u64,
        count: usize,
        now_ms: u64,
        visit: &mut dyn FnMut(&[u8], &Object),
    ) -> u64 {
        let mut met: Vec<(Bytes, Arc<Object>)> = Vec::new();
        let mut meet = |key: &[u8], object: &Object| {
            met.push((Bytes::copy_from_slice(key), Arc::new(object.clone())));
        };
        let next = match self.staged.flushed.contains(&db) {
            // whatever is there, it is gone
            true => 0,
            false => Keyspace::scan(self.index, db, cursor, count, now_ms, &mut meet),
        };
        met.retain(|(key, _)| self.sees(db, key));
        // those that only the transaction knows come first
        if cursor == 0 {
            met.extend(self.added(db, now_ms));
        }
        met.iter().for_each(|(key, object)| visit(key, object));
        next
    }

    fn random_key(&mut self, db: u8, now_ms: u64) -> Option<Box<[u8]>> {
        if !self.staged.flushed.contains(&db) {
            for _ in 0..DRAWS {
                let key = Names::random_key(self.index, db, now_ms)?;
                if self.sees(db, &key) {
                    return Some(key);
                }
            }
        }
        let (mut any, mut cursor) = (None, 0);
        loop {
            cursor = self.scan(db, cursor, SCAN, now_ms, &mut |key, _| {
                any.get_or_insert_with(|| Box::from(key));
            });
            if any.is_some() || cursor == 0 {
                return any;
            }
        }
    }

    fn len(&mut self, db: u8, now_ms: u64) -> u64 {
        let added = self.added(db, now_ms).len() as u64;
        if self.staged.flushed.contains(&db) {
            return added;
        }
        let index = &mut *self.index;
        let removed = |((of, key), stage): &(&(u8, Bytes), &Stage)| {
            let is_removed = *of == db && matches!(stage.change, Some(Change::Removed));
            is_removed && index.peek(KeyRef { db, key }, now_ms).is_some()
        };
        let removed = self.staged.names.iter().filter(removed).count() as u64;
        Keyspace::len(self.index, db) - removed + added
    }
}
