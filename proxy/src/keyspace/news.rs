//! What happened to keys, for those who asked to be told: kept only while somebody
//! does, and handed out when the index is unlocked.

use super::Keyspace;

/// Why a key left the index, where it was not a command that took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its time was over.
    Expired,
    /// Room was needed, or nodes lost its value.
    Evicted,
}

/// A key that left on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Its database.
    pub db: u8,
    /// The key.
    pub key: Box<[u8]>,
    /// Why it left.
    pub why: Why,
}

/// Keys that have changed that are kept under one hold of the lock; if there are more,
/// all are taken for changed.
pub const MAX_CHANGED: usize = 1 << 16;

/// What is kept under one hold of the lock; more is only counted.
pub const MAX_DEPARTURES: usize = 1 << 16;

/// What somebody is to be told.
#[derive(Default)]
pub(super) struct News {
    wants_departures: bool,
    departures: Vec<Departure>,
    left_out: u64,
    wants_changes: bool,
    changed: Vec<Box<[u8]>>,
    flushed: bool,
}

impl News {
    /// A key means something else, or nothing any more.
    pub(super) fn changed(&mut self, key: &[u8]) {
        if !self.wants_changes || self.flushed {
            return;
        }
        if self.changed.len() == MAX_CHANGED {
            // too many to be named
            self.flushed();
            return;
        }
        self.changed.push(key.into());
    }

    /// All keys of a database do.
    pub(super) fn flushed(&mut self) {
        self.flushed = self.wants_changes;
        self.changed.clear();
    }

    pub(super) fn left(&mut self, db: u8, key: &[u8], why: Why) {
        if !self.wants_departures {
            return;
        }
        if self.departures.len() == MAX_DEPARTURES {
            self.left_out += 1;
            return;
        }
        let key = key.into();
        self.departures.push(Departure { db, key, why });
    }
}

impl Keyspace {
    /// Whether keys that leave on their own are kept, from now on.
    pub fn keep_departures(&mut self, wanted: bool) {
        self.news.wants_departures = wanted;
        if !wanted {
            self.take_departures();
        }
    }

    /// Whether keys that change are kept, from now on.
    pub fn keep_changed(&mut self, wanted: bool) {
        self.news.wants_changes = wanted;
        if !wanted {
            self.take_changed();
        }
    }

    /// Whether any have changed since [`Self::take_changed`].
    pub fn has_any_changed(&self) -> bool {
        self.news.flushed || !self.news.changed.is_empty()
    }

    /// Keys that have changed; `None`: any may have.
    pub fn take_changed(&mut self) -> Option<Vec<Box<[u8]>>> {
        let changed = std::mem::take(&mut self.news.changed);
        (!std::mem::take(&mut self.news.flushed)).then_some(changed)
    }

    /// Whether any have left since [`Self::take_departures`].
    pub fn has_departures(&self) -> bool {
        !self.news.departures.is_empty()
    }

    /// Keys that have left on their own, in order, and how many more there were.
    pub fn take_departures(&mut self) -> (Vec<Departure>, u64) {
        let news = &mut self.news;
        let left_out = std::mem::take(&mut news.left_out);
        (std::mem::take(&mut news.departures), left_out)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::super::{
        EvictionPolicy, KeyRef,
        eviction::Verdict,
        tests::{at, put},
    };
    use super::*;

    fn taken(k: &mut Keyspace) -> Vec<(Vec<u8>, Why)> {
        let (departures, left_out) = k.take_departures();
        assert_eq!(left_out, 0);
        let pair = |d: Departure| (d.key.into_vec(), d.why);
        departures.into_iter().map(pair).collect()
    }

    #[test]
    fn keys_that_leave_on_their_own_are_told_with_the_reason() {
        let mut k = Keyspace::default();
        put(&mut k, b"before", 1);
        k.set_expiry(at(b"before"), Some(5), 0);
        assert_eq!(k.expire(9, 10), 1);
        assert!(!k.has_departures(), "nobody has asked");
        k.keep_departures(true);
        for (i, key) in [&b"a"[..], b"b", b"c", b"d", b"e"].into_iter().enumerate() {
            put(&mut k, key, 10 + i as u64);
        }
        k.set_expiry(at(b"a"), Some(5), 0);
        k.set_expiry(at(b"b"), Some(6), 0);
        // met, found by the walk, removed, evicted, lost
        assert!(k.get(at(b"b"), 9).is_none());
        k.expire(9, 10);
        k.remove(at(b"c"), 9);
        let mut rng = SmallRng::seed_from_u64(1);
        k.evict(EvictionPolicy::AllkeysLru, &mut rng, |_| {
            Verdict::TakeAndStop
        });
        let e = k.peek(at(b"e"), 9).unwrap();
        assert!(k.lose(at(b"e"), e.object.write_id));
        let expected = [
            (b"b".to_vec(), Why::Expired),
            (b"a".to_vec(), Why::Expired),
            (b"d".to_vec(), Why::Evicted),
            (b"e".to_vec(), Why::Evicted),
        ];
        assert_eq!(taken(&mut k), expected);
        put(&mut k, b"f", 20);
        k.flush(None);
        assert!(!k.has_departures());
    }

    #[test]
    fn keys_that_change_are_told_but_not_those_that_move() {
        let mut k = Keyspace::default();
        put(&mut k, b"quiet", 1);
        assert!(!k.has_any_changed());
        k.keep_changed(true);
        let told = |k: &mut Keyspace| {
            let changed = k.take_changed().expect("keys that have names");
            let text = |key: Box<[u8]>| String::from_utf8(key.into_vec()).unwrap();
            changed.into_iter().map(text).collect::<Vec<_>>()
        };
        put(&mut k, b"a", 2);
        put(&mut k, b"a", 3);
        k.set_expiry(at(b"a"), Some(90), 0);
        assert_eq!(told(&mut k), ["a", "a", "a"]);
        k.rename(at(b"a"), at(b"b"), 0);
        assert_eq!(told(&mut k), ["a", "b"]);
        let b = k.peek(at(b"b"), 0).unwrap().object;
        assert!(k.chunk_moved(at(b"b"), b.write_id, 0, scatterhoard_wire::NodeId(5)));
        assert!(!k.has_any_changed());
        k.expire(90, 10);
        assert_eq!(told(&mut k), ["b"]);
        put(&mut k, b"c", 5);
        k.flush(Some(7));
        assert!(k.has_any_changed() && k.take_changed().is_none());
        for i in 0..=MAX_CHANGED as u64 {
            put(&mut k, &i.to_be_bytes(), i + 9);
        }
        assert!(k.take_changed().is_none(), "too many");
        assert!(!k.has_any_changed());
    }

    #[test]
    fn they_are_bounded() {
        let mut k = Keyspace::default();
        k.keep_departures(true);
        for i in 0..MAX_DEPARTURES as u64 + 3 {
            let key = i.to_be_bytes();
            put(&mut k, &key, i + 1);
            let key = KeyRef { db: 0, key: &key };
            assert!(k.set_expiry(key, Some(5), 0));
        }
        assert_eq!(k.expire(9, usize::MAX), MAX_DEPARTURES + 3);
        let (departures, left_out) = k.take_departures();
        assert_eq!((departures.len(), left_out), (MAX_DEPARTURES, 3));
    }
}
