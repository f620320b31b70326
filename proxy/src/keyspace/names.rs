//! What commands on keys need of the index, so that the same code runs on it and
//! on a transaction that has not been committed to it yet.

use super::{Found, KeyRef, Keyspace, Object};

/// Keys and what they mean.
pub trait Names {
    /// What the key names. Does not count as a use.
    fn peek(&mut self, key: KeyRef<'_>, now_ms: u64) -> Option<Found>;

    /// What the key names. Counts as a use.
    fn get(&mut self, key: KeyRef<'_>, now_ms: u64) -> Option<Found>;

    /// Removes a key; says whether there was one.
    fn remove(&mut self, key: KeyRef<'_>, now_ms: u64) -> bool;

    /// Gives the key an expiry, or none; false if there is no such key. One in
    /// the past removes it.
    fn set_expiry(&mut self, key: KeyRef<'_>, at_ms: Option<u64>, now_ms: u64) -> bool;

    /// Has `to` mean what `from` means, expiry included, and removes `from`; false
    /// if there is no such key.
    fn rename(&mut self, from: KeyRef<'_>, to: KeyRef<'_>, now_ms: u64) -> bool;

    /// See [`Keyspace::scan`].
    fn scan(
        &mut self,
        db: u8,
        cursor: u64,
        count: usize,
        now_ms: u64,
        visit: &mut dyn FnMut(&[u8], &Object),
    ) -> u64;

    /// A random live key of the database.
    fn random_key(&mut self, db: u8, now_ms: u64) -> Option<Box<[u8]>>;

    /// Number of keys in a database, expired ones included until they are met.
    fn len(&mut self, db: u8, now_ms: u64) -> u64;
}

impl Names for Keyspace {
    fn peek(&mut self, key: KeyRef<'_>, now_ms: u64) -> Option<Found> {
        Keyspace::peek(self, key, now_ms)
    }

    fn get(&mut self, key: KeyRef<'_>, now_ms: u64) -> Option<Found> {
        Keyspace::get(self, key, now_ms)
    }

    fn remove(&mut self, key: KeyRef<'_>, now_ms: u64) -> bool {
        Keyspace::remove(self, key, now_ms).is_some()
    }

    fn set_expiry(&mut self, key: KeyRef<'_>, at_ms: Option<u64>, now_ms: u64) -> bool {
        Keyspace::set_expiry(self, key, at_ms, now_ms)
    }

    fn rename(&mut self, from: KeyRef<'_>, to: KeyRef<'_>, now_ms: u64) -> bool {
        Keyspace::rename(self, from, to, now_ms)
    }

    fn scan(
        &mut self,
        db: u8,
        cursor: u64,
        count: usize,
        now_ms: u64,
        visit: &mut dyn FnMut(&[u8], &Object),
    ) -> u64 {
        Keyspace::scan(self, db, cursor, count, now_ms, visit)
    }

    fn random_key(&mut self, db: u8, now_ms: u64) -> Option<Box<[u8]>> {
        Keyspace::random_key(self, db, now_ms, &mut scatterhoard_node::random::rng())
    }

    fn len(&mut self, db: u8, _now_ms: u64) -> u64 {
        Keyspace::len(self, db)
    }
}
