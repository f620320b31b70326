//! Walks over all slots: SCAN and KEYS, a random key, flushing.

use rand::Rng;

use super::{Keyspace, Object};

impl Keyspace {
    /// Removes every key of one database, or of all.
    pub fn flush(&mut self, db: Option<u8>) {
        self.news.flushed();
        for i in 0..self.slots.len() {
            let doomed = self.slots[i]
                .as_ref()
                .is_some_and(|s| db.is_none_or(|db| s.db == db));
            if doomed {
                self.remove_slot(i as u32);
            }
        }
        if db.is_none() {
            self.changes.flushed();
        }
    }

    /// Walks from `cursor` until about `count` slots were looked at. Calls
    /// `visit` with each live key of the database; the cursor to go on with,
    /// 0 at the end. A key that is there throughout the walk is visited once.
    pub fn scan(
        &self,
        db: u8,
        cursor: u64,
        count: usize,
        now_ms: u64,
        mut visit: impl FnMut(&[u8], &Object),
    ) -> u64 {
        let start = usize::try_from(cursor)
            .unwrap_or(usize::MAX)
            .min(self.slots.len());
        let end = start.saturating_add(count).min(self.slots.len());
        for slot in self.slots[start..end].iter().flatten() {
            if slot.db == db && !slot.is_expired(now_ms) {
                visit(&slot.key, &slot.object);
            }
        }
        if end == self.slots.len() {
            0
        } else {
            end as u64
        }
    }

    /// A random live key of the database.
    pub fn random_key(&self, db: u8, now_ms: u64, rng: &mut impl Rng) -> Option<Box<[u8]>> {
        if self.counts[usize::from(db)] == 0 {
            return None;
        }
        let start = rng.random_range(0..self.slots.len());
        let (tail, head) = self.slots.split_at(start);
        let mut slots = head.iter().chain(tail).flatten();
        slots
            .find(|s| s.db == db && !s.is_expired(now_ms))
            .map(|s| s.key.clone())
    }

    /// Number of keys with an expiry in a database.
    pub fn volatile(&self, db: u8) -> u64 {
        let of_db = |(_, i): &&(u64, u32)| self.slot(*i).is_some_and(|s| s.db == db);
        self.expiries.iter().filter(of_db).count() as u64
    }
}
