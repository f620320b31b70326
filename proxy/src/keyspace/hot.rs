//! The hot tier: small values in the proxy's own memory, each in the slot of its key, so
//! that it goes with the write it belongs to and costs little more than its bytes.
//!
//! What is used longest ago goes first when the budget is used up. The recency list has
//! that order already; it only marks from where on there may be values.

use std::sync::Arc;

use scatterhoard_wire::WriteId;

use super::{KeyRef, Keyspace, Kind, Slot};

/// What a value takes besides its bytes: its place in the slot and its counters.
const ENTRY_BYTES: u64 = 32;

/// Slots that are passed by at most for the sake of one value: the index is locked.
const MOST_STEPS: usize = 1000;

/// What is kept, and how much of it.
#[derive(Debug, Default)]
pub(super) struct Hot {
    bytes: u64,
    budget_bytes: u64,
    longest_bytes: u64,
}

/// A look for the string that a key means.
#[derive(Debug, PartialEq, Eq)]
pub enum HotString<'a> {
    /// It is kept.
    Kept(&'a Arc<[u8]>),
    /// Something else is to be done: it is not kept, is none, or its time is over.
    NotKept,
    /// The key does not exist.
    NoKey,
}

fn cost(len: usize) -> u64 {
    len as u64 + ENTRY_BYTES
}

impl Keyspace {
    /// Keeps values of up to `longest_bytes` from now on, within a budget; 0 keeps none.
    pub fn keep_values(&mut self, budget_bytes: u64, longest_bytes: u64) {
        self.hot.budget_bytes = budget_bytes;
        self.hot.longest_bytes = longest_bytes;
    }

    /// Whether a value of this length would be kept.
    pub fn keeps(&self, len: u64) -> bool {
        len <= self.hot.longest_bytes && len + ENTRY_BYTES <= self.hot.budget_bytes
    }

    /// Keeps the value of a write, if the key names it. In memory of its own: a slice would
    /// keep the whole buffer that it was read with.
    pub fn keep_value(&mut self, key: KeyRef<'_>, write_id: WriteId, value: Arc<[u8]>) {
        let named = self.find(key).filter(|i| self.is_named(*i, write_id));
        if let Some(i) = named {
            self.keep_at(i, value);
        }
    }

    pub(super) fn keep_at(&mut self, i: u32, value: Arc<[u8]>) {
        let is_dirty = self.slot(i).is_some_and(|slot| slot.is_dirty);
        if is_dirty || !self.keeps(value.len() as u64) {
            return;
        }
        // what is used longer ago than everything that is kept would be the next to go
        if !self.recency.may_be_hot(&self.slots, i) {
            return;
        }
        self.cool(i);
        if let Some(slot) = self.slots[i as usize].as_mut() {
            self.hot.bytes += cost(value.len());
            slot.hot = Some(value);
        }
        for _ in 0..MOST_STEPS {
            if self.hot.bytes <= self.hot.budget_bytes {
                return;
            }
            let Some(coldest) = self.recency.next_to_cool(&self.slots) else {
                return;
            };
            self.cool_clean(coldest);
        }
        // many keys without a value lie between: the next one goes on from here
        if self.hot.bytes > self.hot.budget_bytes {
            self.cool(i);
        }
    }

    /// Whether the value of a write is kept under this key.
    pub fn has_value(&self, key: KeyRef<'_>, write_id: WriteId) -> bool {
        let slot = self.find(key).and_then(|i| self.slot(i));
        slot.is_some_and(|s| s.object.write_id == write_id && s.hot.is_some())
    }

    /// The string that a key means, if it is kept: counts as a use then, and as nothing
    /// otherwise.
    pub fn hot_string(&mut self, key: KeyRef<'_>, now_ms: u64) -> HotString<'_> {
        let Some(i) = self.find(key) else {
            return HotString::NoKey;
        };
        let is_kept = self.slot(i).is_some_and(|slot| {
            let has_expired = slot.expires_unix_ms != 0 && slot.expires_unix_ms <= now_ms;
            !has_expired && slot.object.kind() == Kind::String && slot.hot.is_some()
        });
        if is_kept {
            self.recency.touch(&mut self.slots, i);
        }
        let kept = self.slot(i).filter(|_| is_kept);
        match kept.and_then(|slot| slot.hot.as_ref()) {
            Some(value) => HotString::Kept(value),
            None => HotString::NotKept,
        }
    }

    /// Bytes of kept values, bookkeeping included.
    pub fn hot_bytes(&self) -> u64 {
        self.hot.bytes
    }

    /// Drops the value of a slot.
    pub(super) fn cool(&mut self, i: u32) {
        let slot = self.slots.get_mut(i as usize).and_then(Option::as_mut);
        if let Some(slot) = slot
            && let Some(value) = slot.hot.take()
        {
            let was_dirty = std::mem::take(&mut slot.is_dirty);
            self.lost_value(value.len(), was_dirty);
        }
    }

    /// The same for the sake of another value: never of one that no node has.
    fn cool_clean(&mut self, i: u32) {
        if self.slot(i).is_some_and(|slot| !slot.is_dirty) {
            self.cool(i);
        }
    }

    /// A slot has left, with its value.
    pub(super) fn left_hot(&mut self, slot: &Slot) {
        if let Some(value) = &slot.hot {
            self.lost_value(value.len(), slot.is_dirty);
        }
    }

    /// A value of this length is kept no longer.
    pub(super) fn lost_value(&mut self, len: usize, was_dirty: bool) {
        match was_dirty {
            true => self.left_dirty(len),
            false => self.hot.bytes -= cost(len),
        }
    }
}

/// Bytes of a kept value that may outlive it. Short ones are copied: that is cheaper than
/// another owner.
pub fn bytes_of(value: &Arc<[u8]>) -> bytes::Bytes {
    const COPY_UP_TO: usize = 1024;
    match value.len() {
        ..=COPY_UP_TO => bytes::Bytes::copy_from_slice(value),
        _ => bytes::Bytes::from_owner(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scatterhoard_wire::{Epoch, Geometry, Layout};

    use super::{
        super::{Condition, NewExpiry, Object},
        HotString::{Kept, NoKey, NotKept},
        *,
    };

    fn object(counter: u64) -> Arc<Object> {
        let write_id = WriteId {
            epoch: Epoch(1),
            counter,
        };
        let layout = Layout::new(Geometry::new(2, 1).unwrap(), 8, 1024).unwrap();
        Arc::new(Object::new(write_id, layout, vec![None; 3]))
    }

    fn at(key: &[u8]) -> KeyRef<'_> {
        KeyRef { db: 0, key }
    }

    fn set(k: &mut Keyspace, key: u8, counter: u64, value: &[u8]) {
        let object = object(counter);
        let id = object.write_id;
        k.commit(at(&[key]), object, Condition::Always, NewExpiry::Keep, 1);
        k.keep_value(at(&[key]), id, value.into());
    }

    fn value(k: &mut Keyspace, key: u8) -> Option<Vec<u8>> {
        let found = k.get(at(&[key]), 1)?;
        found.hot.map(|value| value.to_vec())
    }

    #[test]
    fn the_budget_holds_and_the_longest_unused_goes() {
        let mut k = Keyspace::default();
        k.keep_values(3 * (100 + ENTRY_BYTES), 100);
        (1..=3).for_each(|i| set(&mut k, i, i.into(), &[i; 100]));
        assert!(value(&mut k, 1).is_some());
        set(&mut k, 4, 4, &[4; 100]);
        assert_eq!(value(&mut k, 2), None);
        assert_eq!(value(&mut k, 1), Some(vec![1; 100]));
        set(&mut k, 5, 5, &[5; 101]);
        assert_eq!(value(&mut k, 5), None, "too long");
        // of another write
        k.keep_value(at(&[5]), object(4).write_id, (*b"x").into());
        assert_eq!(value(&mut k, 5), None);
        set(&mut k, 1, 6, b"new");
        assert_eq!(value(&mut k, 1), Some(b"new".to_vec()));
        for key in 1..=5 {
            k.remove(at(&[key]), 1);
        }
        assert_eq!(k.hot_bytes(), 0);
    }

    #[test]
    fn a_kept_string_is_found_until_it_expires_and_counts_as_used() {
        let mut k = Keyspace::default();
        k.keep_values(2 * (1 + ENTRY_BYTES), 1);
        set(&mut k, 1, 1, b"a");
        set(&mut k, 2, 2, b"b");
        let Kept(value) = k.hot_string(at(&[1]), 1) else {
            panic!("not kept");
        };
        assert_eq!(value[..], *b"a");
        assert_eq!(k.hot_string(at(&[9]), 1), NoKey);
        // 2 is the longest unused now
        set(&mut k, 3, 3, b"c");
        assert_eq!(k.hot_string(at(&[2]), 1), NotKept);
        k.set_expiry(at(&[1]), Some(10), 1);
        assert!(matches!(k.hot_string(at(&[1]), 9), Kept(_)));
        assert_eq!(k.hot_string(at(&[1]), 10), NotKept, "expiring is a change");
        assert_eq!(k.len(0), 3, "only looked at");
    }

    #[test]
    fn what_was_used_longest_ago_is_not_kept_in_place_of_others() {
        let mut k = Keyspace::default();
        k.keep_values(2 * (1 + ENTRY_BYTES), 1);
        for key in 0..4 {
            set(&mut k, key, key.into(), b"v");
        }
        // 2 and 3 are kept; 0 was read from nodes, slowly
        k.keep_value(at(&[0]), object(0).write_id, (*b"v").into());
        assert!(!k.has_value(at(&[0]), object(0).write_id));
        assert!(k.has_value(at(&[2]), object(2).write_id));
    }

    #[test]
    fn many_keys_without_a_value_are_passed_by_little_by_little() {
        let mut k = Keyspace::default();
        k.keep_values(2 * (1 + ENTRY_BYTES), 1);
        set(&mut k, 0, 1, b"v");
        let many = 3 * MOST_STEPS as u64;
        for counter in 0..many {
            let key = counter.to_le_bytes();
            let object = object(10 + counter);
            k.commit(at(&key), object, Condition::Always, NewExpiry::Keep, 1);
        }
        set(&mut k, 1, 2, b"v");
        let kept = |k: &mut Keyspace, key| value(k, key).is_some();
        // 0 goes at once; behind it there are the many
        set(&mut k, 2, 3, b"v");
        assert_eq!([kept(&mut k, 1), kept(&mut k, 2)], [true, true]);
        let mut tries = 0;
        for key in 3..9 {
            set(&mut k, key, key.into(), b"v");
            tries += u32::from(kept(&mut k, key));
            assert!(k.hot_bytes() <= 2 * (1 + ENTRY_BYTES));
        }
        assert!((1..6).contains(&tries), "{tries}");
        assert!(kept(&mut k, 8));
    }

    proptest! {
        /// Whatever happens, the bytes are those of what is kept, and within the budget.
        #[test]
        fn bytes_are_those_of_what_is_kept(steps in prop::collection::vec((0u8..6, 0u8..12, 0usize..60), 1..300)) {
            let mut k = Keyspace::default();
            k.keep_values(300, 50);
            let mut counter = 0;
            for (what, key, len) in steps {
                counter += 1;
                match what {
                    0 | 1 => set(&mut k, key, counter, &vec![key; len]),
                    2 => { k.get(at(&[key]), 1); }
                    3 => { k.remove(at(&[key]), 1); }
                    4 => { k.rename(at(&[key]), at(&[key / 2]), 1); }
                    _ if len == 0 => k.flush(None),
                    _ => {
                        let named = k.peek(at(&[key]), 1).map(|f| f.object.write_id);
                        if let Some(id) = named { k.keep_value(at(&[key]), id, vec![key; len].into()); }
                    }
                }
                let kept: u64 = k.slots.iter().flatten().filter_map(|s| s.hot.as_deref()).map(|v| cost(v.len())).sum();
                prop_assert_eq!(k.hot_bytes(), kept);
                prop_assert!(kept <= 300);
            }
        }
    }
}
