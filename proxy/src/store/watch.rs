//! WATCH: told as soon as a key means something else than it did.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use scatterhoard_node::random::Hashing;
use scatterhoard_wire::WriteId;

use super::{Key, Store};
use crate::{
    clock,
    keyspace::{Change, KeyRef, Keyspace},
};

/// The write that a key names and its expiry; nothing if there is no such key.
type Meaning = Option<(WriteId, Option<u64>)>;

/// A key that a client watches. Watched until dropped.
pub struct Watch {
    key: Key,
    entry: Arc<Entry>,
    store: Arc<Store>,
}

struct Entry {
    meaning: Meaning,
    changed: AtomicBool,
}

/// All keys that are watched.
#[derive(Default)]
pub(super) struct Watches {
    /// Looked at with every change, mostly alone.
    count: AtomicUsize,
    by_key: Mutex<HashMap<Key, Vec<Weak<Entry>>, Hashing>>,
}

impl Watches {
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Tells who watches what has changed in the index.
    pub(super) fn tell(&self, index: &Keyspace) {
        let by_key = self.by_key.lock();
        let tell = |entries: &[Weak<Entry>], meaning: Meaning| {
            for entry in entries.iter().filter_map(Weak::upgrade) {
                if entry.meaning != meaning {
                    entry.changed.store(true, Ordering::Relaxed);
                }
            }
        };
        let of = |key: KeyRef<'_>| {
            by_key.get(&Key {
                db: key.db,
                bytes: bytes::Bytes::copy_from_slice(key.key),
            })
        };
        index.changes(|change| match change {
            Change::Flushed => by_key.values().for_each(|entries| tell(entries, None)),
            Change::Removed(key) => of(key).into_iter().for_each(|entries| tell(entries, None)),
            Change::Named(key, object, expires, _) => {
                let meaning = Some((object.write_id, expires));
                of(key)
                    .into_iter()
                    .for_each(|entries| tell(entries, meaning));
            }
            Change::Segment(_) | Change::SegmentGone(_) => {}
        });
    }

    /// Tells who watches a key that it was changed, though it may mean what it did.
    pub(super) fn touch(&self, key: &Key) {
        let by_key = self.by_key.lock();
        let entries = by_key.get(key).into_iter().flatten();
        for entry in entries.filter_map(Weak::upgrade) {
            entry.changed.store(true, Ordering::Relaxed);
        }
    }
}

impl Watch {
    /// Whether it is of this key.
    pub fn is_of(&self, db: u8, key: &[u8]) -> bool {
        self.key.db == db && self.key.bytes == key
    }

    /// Whether the key means something else than when it was watched, or did so
    /// meanwhile. Not while the index is locked.
    pub fn has_changed(&self) -> bool {
        let now = clock::unix_ms();
        self.has_changed_in(&mut self.store.index(), now)
    }

    /// The same while the index is locked.
    pub(super) fn has_changed_in(&self, index: &mut Keyspace, now_ms: u64) -> bool {
        // one that has expired is noticed when it is looked at
        let found = index.peek(self.key.as_ref(), now_ms);
        let meaning = found.map(|f| (f.object.write_id, f.expires_unix_ms));
        meaning != self.entry.meaning || self.entry.changed.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let watches = &self.store.watches;
        let mut by_key = watches.by_key.lock();
        if let Some(entries) = by_key.get_mut(&self.key) {
            entries.retain(|entry| entry.as_ptr() != Arc::as_ptr(&self.entry));
            if entries.is_empty() {
                by_key.remove(&self.key);
            }
        }
        watches.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Store {
    /// Watches a key from now on.
    pub fn watch(self: &Arc<Self>, key: Key) -> Watch {
        let mut index = self.index();
        // from now on there is something to be told
        index.keep_changes();
        let found = index.peek(key.as_ref(), clock::unix_ms());
        let entry = Arc::new(Entry {
            meaning: found.map(|f| (f.object.write_id, f.expires_unix_ms)),
            changed: AtomicBool::new(false),
        });
        let mut by_key = self.watches.by_key.lock();
        let entries = by_key.entry(key.clone()).or_default();
        entries.push(Arc::downgrade(&entry));
        self.watches.count.fetch_add(1, Ordering::Relaxed);
        Watch {
            key,
            entry,
            store: self.clone(),
        }
    }
}
