//! What a miss means: an index that is exact, since it is told of every store and of every
//! eviction, knows whether the object should have been there. Pure.

use std::collections::HashSet;

use serde::Serialize;

/// What is known of one key. Whoever holds it is the only one who asks for that key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Of the latest write.
    pub(super) generation: u32,
    /// Length of what was acknowledged; none if nothing is there as far as is known.
    pub(super) stored: Option<usize>,
}

/// Keys that were evicted since they were last written.
#[derive(Debug, Default)]
pub(super) struct Evictions(HashSet<u32>);

impl Evictions {
    pub(super) fn evicted(&mut self, key: u32) {
        self.0.insert(key);
    }

    /// It is about to be written; nothing of it is there.
    pub(super) fn forget(&mut self, key: u32) {
        self.0.remove(&key);
    }

    pub(super) fn has(&self, key: u32) -> bool {
        self.0.contains(&key)
    }
}

/// What came of a GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Hit,
    /// Nothing was ever stored, or not again since it was refused.
    Cold,
    /// It had to make room.
    Evicted,
    /// It was stored, nobody evicted it, and it is not there: a RESET.
    Lost,
    /// Another version is there than is asked for.
    OtherVersion,
}

impl Known {
    /// Why nothing came back; evictions that were before the answer are known.
    pub(super) fn missed(&self, is_evicted: bool) -> Found {
        match (self.stored, is_evicted) {
            (None, _) => Found::Cold,
            (Some(_), true) => Found::Evicted,
            (Some(_), false) => Found::Lost,
        }
    }
}

/// Counts of some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) gets: u64,
    pub(crate) hits: u64,
    /// GETs that a cache of the same capacity without losses hits.
    pub(crate) lru_hits: u64,
    pub(crate) cold: u64,
    pub(crate) evicted: u64,
    /// Hits whose data was lost: RESETs.
    pub(crate) lost: u64,
    pub(crate) other_version: u64,
    /// Requests for objects that are too large to be stored.
    pub(crate) too_large: u64,
    pub(crate) stores: u64,
    pub(crate) errors: u64,
}

impl Counts {
    pub(super) fn found(&mut self, found: Found) {
        let count = match found {
            Found::Hit => &mut self.hits,
            Found::Cold => &mut self.cold,
            Found::Evicted => &mut self.evicted,
            Found::Lost => &mut self.lost,
            Found::OtherVersion => &mut self.other_version,
        };
        *count += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.gets, other.gets),
            (&mut self.hits, other.hits),
            (&mut self.lru_hits, other.lru_hits),
            (&mut self.cold, other.cold),
            (&mut self.evicted, other.evicted),
            (&mut self.lost, other.lost),
            (&mut self.other_version, other.other_version),
            (&mut self.too_large, other.too_large),
            (&mut self.stores, other.stores),
            (&mut self.errors, other.errors),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }

    pub(crate) fn hit_ratio(&self) -> f64 {
        self.hits as f64 / self.gets.max(1) as f64
    }

    pub(crate) fn lru_hit_ratio(&self) -> f64 {
        self.lru_hits as f64 / self.gets.max(1) as f64
    }

    /// Of what should have been hit, what had been lost.
    pub(crate) fn reset_share(&self) -> f64 {
        self.lost as f64 / (self.hits + self.lost).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_stored_and_not_evicted_is_lost() {
        let mut evictions = Evictions::default();
        let mut known = Known::default();
        assert_eq!(known.missed(evictions.has(7)), Found::Cold);
        known.stored = Some(10);
        assert_eq!(known.missed(evictions.has(7)), Found::Lost);
        evictions.evicted(7);
        assert_eq!(known.missed(evictions.has(7)), Found::Evicted);
        assert_eq!(known.missed(evictions.has(8)), Found::Lost);
        evictions.forget(7);
        assert_eq!(known.missed(evictions.has(7)), Found::Lost);
    }

    #[test]
    fn resets_are_a_share_of_what_should_have_been_hit() {
        let mut counts = Counts {
            gets: 10,
            lru_hits: 7,
            ..Counts::default()
        };
        for found in [
            Found::Hit,
            Found::Hit,
            Found::Hit,
            Found::Lost,
            Found::Evicted,
        ] {
            counts.found(found);
        }
        assert_eq!((counts.hit_ratio(), counts.reset_share()), (0.3, 0.25));
        assert_eq!(counts.lru_hit_ratio(), 0.7);
        let mut sum = counts;
        sum.add(&counts);
        assert_eq!((sum.gets, sum.lost, sum.evicted), (20, 2, 2));
    }
}
