//! SETs of strings that only the proxy has: most keys that are set were set before. The new
//! bytes replace the old ones where they lie, if nobody else has those: nothing is
//! allocated or freed, and the memory stays in the processor's cache.

use std::sync::Arc;

use scatterhoard_wire::{Layout, WriteId};
use smallvec::SmallVec;

use super::{KeyRef, Keyspace, Object, Slot};

/// What the processor reads from memory at a time.
const LINE_BYTES: usize = 64;
/// Of a value so many of these are asked for ahead.
const MOST_LINES: usize = 32;

/// A string that only the proxy has, and the key that is to mean it.
#[derive(Clone, Copy, Debug)]
pub struct HeldString<'a> {
    /// The key.
    pub key: KeyRef<'a>,
    /// Says how long it is.
    pub layout: Layout,
    /// The string.
    pub value: &'a [u8],
}

impl Keyspace {
    /// As SET does, in order: has keys name objects that are on no node, and holds their
    /// values. `first` is the first one's write, those of the others follow it.
    pub fn hold_all(&mut self, strings: &[HeldString<'_>], first: WriteId, now_ms: u64) {
        let slots = self.fetch(strings);
        for ((string, slot), counter) in strings.iter().zip(slots).zip(first.counter..) {
            let write_id = WriteId { counter, ..first };
            self.hold(string, write_id, slot, now_ms);
        }
    }

    /// The key is in this slot, or in another one.
    fn hold(&mut self, string: &HeldString<'_>, write_id: WriteId, slot: u32, now_ms: u64) {
        let layout = string.layout;
        let is_there = self.slot(slot).is_some_and(|s| s.is(string.key));
        let found = if is_there {
            Some(slot)
        } else {
            self.find(string.key)
        };
        match found.filter(|i| !self.meets_expired(*i, now_ms)) {
            Some(i) => {
                if !self.rewrite(i, write_id, layout) {
                    self.replace(i, Arc::new(Object::unplaced(write_id, layout)));
                }
                self.expire_slot(i, 0);
                if !self.overwrite(i, string.value) {
                    self.hold_at(i, string.value.into());
                }
            }
            None => {
                let i = self.insert(string.key, Object::unplaced(write_id, layout));
                self.hold_at(i, string.value.into());
            }
        }
    }

    /// Replaces an object that no node has and nobody reads, without a word to anybody.
    fn rewrite(&mut self, i: u32, write_id: WriteId, layout: Layout) -> bool {
        let Some(slot) = self.slots[i as usize].as_mut() else {
            return false;
        };
        let old_size = slot.object.size_bytes();
        let is_pinned = !self.pins.is_empty() && self.pins.contains_key(&slot.object.write_id);
        if is_pinned || !slot.object.is_unplaced() {
            return false;
        }
        slot.object = Object::unplaced(write_id, layout);
        self.bytes = self.bytes + layout.size_bytes() - old_size;
        self.changes.slot(i);
        self.news.changed(&slot.key);
        self.recency.touch(&mut self.slots, i);
        true
    }

    /// Replaces a value by one of the same length in its own memory, if nobody else has it.
    fn overwrite(&mut self, i: u32, value: &[u8]) -> bool {
        let slot = self.slots[i as usize].as_mut();
        let Some((slot, old)) = slot.and_then(|s| {
            let old = s.hot.as_mut().filter(|old| old.len() == value.len())?;
            Some((&mut s.is_dirty, Arc::get_mut(old)?))
        }) else {
            return false;
        };
        old.copy_from_slice(value);
        let was_dirty = std::mem::replace(slot, true);
        self.lost_value(value.len(), was_dirty);
        self.note_held(i);
        true
    }

    /// Looks at all that is about to be overwritten, step by step, so that the processor
    /// waits for its memory once for many rather than once for each. In which slot each key
    /// is, if it is in any; it may also be in another one.
    fn fetch(&self, strings: &[HeldString<'_>]) -> SmallVec<[u32; 16]> {
        let hashes: SmallVec<[u64; 16]> = strings.iter().map(|s| self.hash(s.key)).collect();
        let likely = |hash: &u64| self.table.iter_hash(*hash).next().copied();
        let slots = hashes.iter().map(|hash| likely(hash).unwrap_or(u32::MAX));
        let slots: SmallVec<[u32; 16]> = slots.collect();
        if slots.len() < 2 {
            return slots;
        }
        let there = || slots.iter().filter_map(|i| self.slot(*i));
        let mut seen: usize = there().map(|slot| slot.key.len()).sum();
        seen += there().map(Slot::look).sum::<usize>();
        let values = there().filter_map(|slot| slot.hot.as_deref());
        // what is longer the processor finds by itself
        let lines = values.flat_map(|value| value.iter().step_by(LINE_BYTES).take(MOST_LINES));
        seen += lines.map(|byte| usize::from(*byte)).sum::<usize>();
        std::hint::black_box(seen);
        slots
    }
}

impl Slot {
    /// Looks at what lies elsewhere in memory, but for the value's bytes; what it saw.
    fn look(&self) -> usize {
        let value = self.hot.as_ref().map_or(0, Arc::strong_count);
        let key = self.key.first().copied().unwrap_or_default();
        value + usize::from(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use scatterhoard_wire::{Epoch, Geometry};

    use super::{
        super::{HotString, NewExpiry, Waiting, dirty_bytes, tests::at},
        *,
    };

    fn id(counter: u64) -> WriteId {
        let epoch = Epoch(1);
        WriteId { epoch, counter }
    }

    fn layout(len: usize) -> Layout {
        Layout::new(Geometry::new(1, 1).unwrap(), len as u64, 1 << 16).unwrap()
    }

    /// Keys of a byte, each with its value; the first one's write is `first`.
    fn hold(k: &mut Keyspace, first: u64, sets: &[(u8, Vec<u8>)]) {
        let strings: Vec<_> = sets
            .iter()
            .map(|(key, value)| HeldString {
                key: at(std::slice::from_ref(key)),
                layout: layout(value.len()),
                value,
            })
            .collect();
        k.hold_all(&strings, id(first), 1);
    }

    fn keyspace() -> Keyspace {
        let mut k = Keyspace::default();
        k.keep_values(1 << 20, 1 << 16);
        k
    }

    fn memory_of(k: &mut Keyspace, key: u8) -> *const u8 {
        let slot = k.find(at(&[key])).and_then(|i| k.slot(i)).unwrap();
        slot.hot.as_ref().unwrap().as_ptr()
    }

    fn value(k: &mut Keyspace, key: u8) -> Option<Vec<u8>> {
        match k.hot_string(at(&[key]), 1) {
            HotString::Kept(value) => Some(value.to_vec()),
            _ => None,
        }
    }

    #[test]
    fn what_nobody_else_has_is_replaced_where_it_lies() {
        let mut k = keyspace();
        hold(&mut k, 1, &[(1, vec![b'a'; 1024]), (2, vec![b'b'; 9])]);
        k.set_expiry(at(&[1]), Some(99), 1);
        let before = memory_of(&mut k, 1);
        hold(&mut k, 3, &[(1, vec![b'c'; 1024])]);
        assert_eq!(memory_of(&mut k, 1), before);
        let found = k.peek(at(&[1]), 1).unwrap();
        assert_eq!(
            (found.object.write_id, found.expires_unix_ms),
            (id(3), None)
        );
        assert_eq!(value(&mut k, 1), Some(vec![b'c'; 1024]));
        // of another length
        hold(&mut k, 4, &[(1, vec![b'd'; 1023])]);
        assert_eq!(value(&mut k, 1), Some(vec![b'd'; 1023]));
        assert_eq!((k.bytes(), k.len(0), k.dirty_values()), (1023 + 9, 2, 2));
        assert_eq!(k.take_released(), 2 * dirty_bytes(1024));
        assert_eq!(k.dirty_bytes_held(), dirty_bytes(1023) + dirty_bytes(9));
    }

    #[test]
    fn a_reader_keeps_what_it_has_found() {
        let mut k = keyspace();
        hold(&mut k, 1, &[(1, vec![b'a'; 2000])]);
        let found = k.get(at(&[1]), 1).unwrap();
        // as for a reply
        let reply = super::super::bytes_of(found.hot.as_ref().unwrap());
        hold(&mut k, 2, &[(1, vec![b'b'; 2000])]);
        assert_eq!(found.hot.as_deref(), Some(&[b'a'; 2000][..]));
        assert_eq!(found.object.write_id, id(1));
        drop(found);
        hold(&mut k, 3, &[(1, vec![b'c'; 2000])]);
        assert_eq!(reply, vec![b'a'; 2000]);
        assert_eq!(value(&mut k, 1), Some(vec![b'c'; 2000]));
    }

    #[test]
    fn what_is_on_its_way_to_nodes_is_not_taken_for_what_replaced_it() {
        let mut k = keyspace();
        hold(&mut k, 1, &[(1, b"old".to_vec())]);
        let mut taken = Vec::new();
        k.take_waiting(9, &mut taken);
        assert_eq!(k.waiting_value(&taken[0]), Some(&b"old"[..]));
        hold(&mut k, 2, &[(1, b"new".to_vec())]);
        assert_eq!(k.waiting_value(&taken[0]), None);
        k.settle(
            &taken[0],
            Arc::new(Object::new(id(1), layout(3), vec![None])),
        );
        assert_eq!(
            (value(&mut k, 1), k.dirty_values()),
            (Some(b"new".to_vec()), 1)
        );
        let [freed] = &k.take_freed()[..] else {
            panic!("what nodes have got")
        };
        assert_eq!((freed.write_id, freed.chunks()), (id(1), 1));
        let mut again: Vec<Waiting> = Vec::new();
        k.take_waiting(9, &mut again);
        assert_eq!((again.len(), again[0].write_id), (1, id(2)));
    }

    #[test]
    fn what_has_expired_or_is_on_nodes_goes_as_ever() {
        let mut k = keyspace();
        hold(&mut k, 1, &[(1, b"old".to_vec())]);
        k.set_expiry(at(&[1]), Some(5), 1);
        k.keep_departures(true);
        let string = HeldString {
            key: at(&[1]),
            layout: layout(3),
            value: b"new",
        };
        k.hold_all(&[string], id(2), 5);
        assert_eq!((k.expired_total(), k.take_departures().0.len()), (1, 1));
        let object = Arc::new(Object::new(id(9), layout(3), vec![None; 2]));
        k.commit(
            at(&[1]),
            object,
            super::super::Condition::Always,
            NewExpiry::Keep,
            5,
        );
        k.keep_value(at(&[1]), id(9), (*b"hot").into());
        k.take_freed();
        hold(&mut k, 10, &[(1, b"abc".to_vec())]);
        let freed: Vec<_> = k.take_freed().iter().map(|o| o.write_id).collect();
        assert_eq!((freed, k.hot_bytes()), (vec![id(9)], 0));
        assert_eq!(value(&mut k, 1), Some(b"abc".to_vec()));
    }

    proptest! {
        /// Runs of SETs among removals and readers: each key means what it was set to last,
        /// and nobody sees what he holds change.
        #[test]
        fn as_if_each_were_set_alone(steps in prop::collection::vec(
            (0u8..8, prop::collection::vec((0u8..5, any::<u8>(), 0usize..4), 1..9)),
            1..60,
        )) {
            let mut k = keyspace();
            let (mut model, mut readers, mut taken) = (BTreeMap::new(), Vec::new(), Vec::new());
            let mut counter = 0;
            for (what, sets) in steps {
                let key = sets[0].0;
                match what {
                    0..=3 => {
                        let sets: Vec<_> = sets.iter().map(|(k, v, len)| (*k, vec![*v; *len])).collect();
                        hold(&mut k, counter + 1, &sets);
                        for (key, value) in sets {
                            counter += 1;
                            model.insert(key, (id(counter), value));
                        }
                    }
                    4 => {
                        let found = k.get(at(&[key]), 1);
                        readers.extend(found.map(|found| (found, model[&key].clone())));
                    }
                    5 => {
                        k.remove(at(&[key]), 1);
                        model.remove(&key);
                    }
                    6 => k.take_waiting(3, &mut taken),
                    _ => for waiting in taken.drain(..) {
                        let meant = model.values().find(|(id, _)| *id == waiting.write_id);
                        prop_assert_eq!(k.waiting_value(&waiting), meant.map(|(_, v)| &v[..]));
                        let object = Object::new(waiting.write_id, waiting.layout, vec![None]);
                        k.settle(&waiting, Arc::new(object));
                    },
                }
            }
            for (found, (id, value)) in &readers {
                prop_assert_eq!(found.object.write_id, *id);
                prop_assert_eq!(found.object.size_bytes(), value.len() as u64);
                // those on nodes need not be kept
                prop_assert!(found.hot.as_deref().is_none_or(|hot| hot == value));
            }
            for key in 0..5 {
                let meant = model.get(&key).cloned();
                let found = k.peek(at(&[key]), 1).map(|found| found.object.write_id);
                prop_assert_eq!(found, meant.as_ref().map(|(id, _)| *id));
                let slot = k.find(at(&[key])).and_then(|i| k.slot(i));
                let is_dirty = slot.is_some_and(|slot| slot.is_dirty);
                match value(&mut k, key) {
                    None => prop_assert!(!is_dirty),
                    held => prop_assert_eq!(held, meant.map(|(_, value)| value)),
                }
            }
            prop_assert_eq!(k.bytes(), model.values().map(|(_, v)| v.len() as u64).sum::<u64>());
        }
    }
}
