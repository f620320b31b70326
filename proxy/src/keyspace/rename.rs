//! RENAME: keys change, slots do not. So a walk over the slots that is under way
//! misses nothing, as it would if values could move behind it.

use super::{KeyRef, Keyspace};

/// A key that is to get another name.
#[derive(Clone, Copy, Debug)]
pub struct Rename<'a> {
    /// The name that it has.
    pub from: KeyRef<'a>,
    /// The name that it gets; what had it is removed, unless it is renamed too.
    pub to: KeyRef<'a>,
    /// When it expires then, in milliseconds since 1970, or never; none: as before.
    pub expiry: Option<Option<u64>>,
}

impl Keyspace {
    /// Has `to` mean what `from` means, expiry included, and removes `from`; false if
    /// there is no such key.
    pub fn rename(&mut self, from: KeyRef<'_>, to: KeyRef<'_>, now_ms: u64) -> bool {
        let expiry = None;
        self.rename_all(&[Rename { from, to, expiry }], now_ms) == 1
    }

    /// Renames keys all at once, so that names may be exchanged; no two have the same
    /// old name, or the same new one. What is not there is left out; how many were.
    pub fn rename_all(&mut self, renames: &[Rename<'_>], now_ms: u64) -> usize {
        let mut moving = Vec::with_capacity(renames.len());
        for rename in renames {
            if let Some(i) = self.live(rename.from, now_ms) {
                moving.push((i, rename));
            }
        }
        let done = moving.len();
        moving.retain(|(_, rename)| rename.from != rename.to || rename.expiry.is_some());
        for (i, rename) in &moving {
            self.unname(*i, rename.from);
        }
        // those that are to be renamed are not found any more
        for (_, rename) in &moving {
            if let Some(old) = self.find(rename.to) {
                self.remove_slot(old);
            }
        }
        for (i, rename) in moving {
            self.name(i, rename.to);
            if let Some(at) = rename.expiry {
                self.expire_slot(i, at.unwrap_or(0));
            }
        }
        done
    }

    /// Has two databases change places.
    pub fn swap(&mut self, a: u8, b: u8) {
        let is_meant = |i: &u32| {
            let db = self.slot(*i).map(|slot| slot.db);
            a != b && (db == Some(a) || db == Some(b))
        };
        let count = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let slots: Vec<u32> = (0..count).filter(is_meant).collect();
        let named = |keyspace: &Self, i: u32| keyspace.slot(i).map(|s| (s.db, s.key.clone()));
        for i in &slots {
            if let Some((db, key)) = named(self, *i) {
                self.unname(*i, KeyRef { db, key: &key });
            }
        }
        for i in slots {
            if let Some((db, key)) = named(self, i) {
                let db = if db == a { b } else { a };
                self.name(i, KeyRef { db, key: &key });
            }
        }
    }

    fn unname(&mut self, i: u32, key: KeyRef<'_>) {
        if let Ok(entry) = self.table.find_entry(self.hash(key), |&j| j == i) {
            entry.remove();
        }
        self.counts[usize::from(key.db)] -= 1;
        self.changes.removed(key.db, key.key.into());
        self.news.changed(key.key);
    }

    fn name(&mut self, i: u32, key: KeyRef<'_>) {
        if let Some(slot) = self.slots[i as usize].as_mut() {
            (slot.db, slot.key) = (key.db, key.key.into());
        }
        self.counts[usize::from(key.db)] += 1;
        self.changes.slot(i);
        self.news.changed(key.key);
        self.enter(i, key);
    }
}
