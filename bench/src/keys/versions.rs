//! Which versions of a key a reader may see while writers overlap.
//!
//! Versions are numbered in the order in which their writes began. A write that began after
//! another had ended replaces it: once it has ended too, nobody may see the other any more.
//! Of two that overlapped, either may be what stays.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of all keys; each behind a lock of its own, which is held for an instant.
pub(super) struct Versions {
    keys: Vec<Mutex<Key>>,
}

#[derive(Default)]
struct Key {
    newest: u32,
    /// That may still be there.
    oldest: u32,
    /// Writes that have begun and not ended, as many as clients at most; and the oldest
    /// version that had not ended when each began.
    under_way: Vec<(u32, u32)>,
}

impl Versions {
    /// Version 0 of each is taken as written.
    pub(super) fn new(count: usize) -> Self {
        Self {
            keys: (0..count).map(|_| Mutex::default()).collect(),
        }
    }

    fn key(&self, key: usize) -> MutexGuard<'_, Key> {
        let locked = self.keys[key].lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn newest(&self, key: usize) -> u32 {
        self.key(key).newest
    }

    /// Of a GET that is sent now.
    pub(super) fn oldest(&self, key: usize) -> u32 {
        self.key(key).oldest
    }

    /// A write begins; its version.
    pub(super) fn begin(&self, key: usize) -> u32 {
        let mut key = self.key(key);
        key.newest += 1;
        let version = key.newest;
        let first = key.under_way.iter().map(|(version, _)| *version).min();
        key.under_way.push((version, first.unwrap_or(version)));
        version
    }

    /// A write was acknowledged.
    pub(super) fn end(&self, key: usize, version: u32) {
        let mut key = self.key(key);
        let place = key.under_way.iter().position(|(v, _)| *v == version);
        if let Some(place) = place {
            let (_, first) = key.under_way.swap_remove(place);
            key.oldest = key.oldest.max(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn writes_that_follow_each_other_leave_the_last() {
        let versions = Versions::new(1);
        for expected in 1..5 {
            assert_eq!(versions.begin(0), expected);
            assert_eq!(versions.oldest(0), expected - 1);
            versions.end(0, expected);
            assert_eq!(
                (versions.oldest(0), versions.newest(0)),
                (expected, expected)
            );
        }
    }

    #[test]
    fn of_two_that_overlap_either_may_stay() {
        let versions = Versions::new(1);
        let (first, second) = (versions.begin(0), versions.begin(0));
        versions.end(0, second);
        versions.end(0, first);
        assert_eq!(versions.oldest(0), first);
        let third = versions.begin(0);
        versions.end(0, third);
        assert_eq!(versions.oldest(0), third);
    }

    /// A register whose writes take effect at any moment between begin and end: what it
    /// holds is always within the bounds, and the bounds follow.
    #[test]
    fn what_a_register_holds_is_always_allowed() {
        let mut rng = SmallRng::seed_from_u64(11);
        for _ in 0..200 {
            let versions = Versions::new(1);
            let (mut holds, mut under_way) = (0, Vec::<(u32, bool)>::new());
            for _ in 0..300 {
                match rng.random_range(0..3) {
                    0 if under_way.len() < 5 => under_way.push((versions.begin(0), false)),
                    1 if !under_way.is_empty() => {
                        let at = rng.random_range(0..under_way.len());
                        if !under_way[at].1 {
                            under_way[at].1 = true;
                            holds = under_way[at].0;
                        }
                    }
                    2 if !under_way.is_empty() => {
                        let (version, is_done) =
                            under_way.swap_remove(rng.random_range(0..under_way.len()));
                        if !is_done {
                            holds = version;
                        }
                        versions.end(0, version);
                    }
                    _ => {}
                }
                assert!((versions.oldest(0)..=versions.newest(0)).contains(&holds));
            }
            for (version, is_done) in under_way.drain(..) {
                if !is_done {
                    holds = version;
                }
                versions.end(0, version);
            }
            assert!((versions.oldest(0)..=versions.newest(0)).contains(&holds));
            let last = versions.begin(0);
            versions.end(0, last);
            assert_eq!(versions.oldest(0), last);
        }
    }
}
