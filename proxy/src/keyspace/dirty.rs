//! Values that no node has yet. Each lies in the slot of its key, as a hot one does, but
//! nothing evicts it; it is in the queue of those that are to be written to nodes, once,
//! however often its key is overwritten before its turn comes.

use std::{collections::VecDeque, sync::Arc};

use scatterhoard_node::random::HashSet;
use scatterhoard_wire::{Layout, WriteId};

use super::{KeyRef, Keyspace, Object};

/// Bookkeeping of a waiting value, in bytes, counted against the budget.
const ENTRY_BYTES: u64 = 256;
/// Whoever writes them to nodes is told each time that so many more wait.
const NOTICE_EVERY: usize = 4096;

/// These values, all together.
#[derive(Default)]
pub(super) struct Dirty {
    /// Slots whose turn comes; some of them have been left meanwhile.
    queue: VecDeque<u32>,
    values: usize,
    /// What is no longer held since it was last asked for, in bytes.
    released: u64,
    is_news: bool,
}

/// A value whose turn has come: where it lies, as long as its key means this write.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    slot: u32,
    /// The write.
    pub write_id: WriteId,
    /// Says how long it is.
    pub layout: Layout,
}

/// What a value of this length takes of the budget, in bytes.
pub fn dirty_bytes(len: u64) -> u64 {
    len + ENTRY_BYTES
}

impl Keyspace {
    /// Holds the value of a write that no node has, if the key names it; says whether.
    pub fn hold_value(&mut self, key: KeyRef<'_>, write_id: WriteId, value: Arc<[u8]>) -> bool {
        let named = self.find(key).filter(|i| self.is_named(*i, write_id));
        if let Some(i) = named {
            self.hold_at(i, value);
        }
        named.is_some()
    }

    pub(super) fn hold_at(&mut self, i: u32, value: Arc<[u8]>) {
        self.cool(i);
        let Some(slot) = self.slots[i as usize].as_mut() else {
            return;
        };
        slot.hot = Some(value);
        slot.is_dirty = true;
        self.note_held(i);
    }

    /// The slot's value is a dirty one from now on.
    pub(super) fn note_held(&mut self, i: u32) {
        let Some(slot) = self.slots[i as usize].as_mut() else {
            return;
        };
        self.dirty.values += 1;
        if !std::mem::replace(&mut slot.is_queued, true) {
            self.dirty.is_news |= self.dirty.queue.len().is_multiple_of(NOTICE_EVERY);
            self.dirty.queue.push_back(i);
            if self.dirty.queue.len() >= 2 * self.dirty.values + NOTICE_EVERY {
                self.forget_left();
            }
        }
    }

    /// Takes those out of the queue whose keys have gone: while nodes do not answer, nobody
    /// else does.
    fn forget_left(&mut self) {
        let (slots, mut seen) = (&self.slots, HashSet::default());
        let queued = |i: u32| slots[i as usize].as_ref().is_some_and(|s| s.is_queued);
        self.dirty.queue.retain(|i| queued(*i) && seen.insert(*i));
    }

    /// Takes values from the queue, at most `max` of them, in order. They stay where they
    /// are until [`Self::settle`]; what has no key any more is left out.
    pub fn take_waiting(&mut self, max: usize, taken: &mut Vec<Waiting>) {
        let count = max.min(self.dirty.queue.len());
        for i in self.dirty.queue.drain(..count) {
            let Some(slot) = self.slots[i as usize].as_mut() else {
                continue;
            };
            if std::mem::take(&mut slot.is_queued) && slot.is_dirty {
                taken.push(Waiting {
                    slot: i,
                    write_id: slot.object.write_id,
                    layout: slot.object.layout,
                });
            }
        }
    }

    /// The value, unless it was overwritten or removed.
    pub fn waiting_value(&self, waiting: &Waiting) -> Option<&[u8]> {
        let slot = self.slot(waiting.slot)?;
        let is_it = slot.is_dirty && slot.object.write_id == waiting.write_id;
        slot.hot.as_deref().filter(|_| is_it)
    }

    /// A value is on nodes now, as this object. If its key still means this write, it is a
    /// hot one like others from now on, as far as there is room; if not, the object is
    /// discarded.
    pub fn settle(&mut self, waiting: &Waiting, object: Arc<Object>) {
        let i = waiting.slot;
        if !self.is_named(i, waiting.write_id) {
            self.release(object);
            return;
        }
        self.rehome_at(i, object);
        let slot = self.slots[i as usize].as_mut();
        let value = slot.filter(|s| s.is_dirty).and_then(|s| s.hot.clone());
        if let Some(value) = value {
            self.cool(i);
            self.keep_at(i, value);
        }
    }

    /// A dirty value has gone from its slot.
    pub(super) fn left_dirty(&mut self, len: usize) {
        self.dirty.values -= 1;
        self.dirty.released += dirty_bytes(len as u64);
    }

    /// How many there are, those that are being written included.
    pub fn dirty_values(&self) -> usize {
        self.dirty.values
    }

    /// What they take of the budget together, in bytes. Looks at every slot.
    pub fn dirty_bytes_held(&self) -> u64 {
        let dirty = self.slots.iter().flatten().filter(|slot| slot.is_dirty);
        let values = dirty.filter_map(|slot| slot.hot.as_deref());
        values.map(|value| dirty_bytes(value.len() as u64)).sum()
    }

    /// How many slots are in the queue.
    pub fn waiting(&self) -> usize {
        self.dirty.queue.len()
    }

    /// What was given back of the budget since the last call, in bytes.
    pub fn take_released(&mut self) -> u64 {
        std::mem::take(&mut self.dirty.released)
    }

    /// Whether more wait than when it was last asked, by a multiple of some thousands.
    pub fn take_news_of_waiting(&mut self) -> bool {
        std::mem::take(&mut self.dirty.is_news)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scatterhoard_wire::{Epoch, Geometry};

    use super::{
        super::{EvictionPolicy, HeldString, HotString, Place, eviction::Verdict},
        *,
    };

    fn id(counter: u64) -> WriteId {
        let epoch = Epoch(1);
        WriteId { epoch, counter }
    }

    fn layout(len: usize) -> Layout {
        Layout::new(Geometry::new(2, 1).unwrap(), len as u64, 1024).unwrap()
    }

    fn at(key: &[u8]) -> KeyRef<'_> {
        KeyRef { db: 0, key }
    }

    fn hold(k: &mut Keyspace, key: u8, counter: u64, value: &[u8]) {
        let key = [key];
        let string = HeldString {
            key: at(&key),
            layout: layout(value.len()),
            value,
        };
        k.hold_all(&[string], id(counter), 1);
    }

    fn value(k: &mut Keyspace, key: u8) -> Option<Vec<u8>> {
        match k.hot_string(at(&[key]), 1) {
            HotString::Kept(value) => Some(value.to_vec()),
            _ => None,
        }
    }

    fn take(k: &mut Keyspace) -> Vec<Waiting> {
        let mut taken = Vec::new();
        k.take_waiting(usize::MAX, &mut taken);
        taken
    }

    /// As if it were on nodes, in a segment of its own.
    fn settle(k: &mut Keyspace, waiting: &Waiting, segment: u64) {
        let whole = Arc::new(Object::new(id(segment), waiting.layout, vec![None; 3]));
        k.add_segment(whole, 1, waiting.layout.size_bytes());
        let place = Place {
            segment: id(segment),
            offset_bytes: 0,
        };
        let object = Object::packed(waiting.write_id, waiting.layout, place);
        k.settle(waiting, Arc::new(object));
    }

    #[test]
    fn a_key_has_one_turn_however_often_it_is_overwritten() {
        let mut k = Keyspace::default();
        k.keep_values(1 << 20, 1 << 10);
        for counter in 1..=100 {
            hold(&mut k, 1, counter, b"abc");
        }
        assert!(k.take_news_of_waiting() && !k.take_news_of_waiting());
        assert_eq!((k.waiting(), k.dirty_values()), (1, 1));
        assert_eq!(k.take_released(), 99 * dirty_bytes(3));
        let [waiting] = take(&mut k)[..] else {
            panic!("one turn")
        };
        assert_eq!(waiting.write_id, id(100));
        assert_eq!(k.waiting_value(&waiting), Some(&b"abc"[..]));
        // meanwhile
        hold(&mut k, 1, 101, b"d");
        assert_eq!(k.waiting_value(&waiting), None);
        settle(&mut k, &waiting, 200);
        assert_eq!((k.waiting(), k.dirty_values(), k.segments()), (1, 1, 0));
        let [waiting] = take(&mut k)[..] else {
            panic!("another turn")
        };
        settle(&mut k, &waiting, 201);
        assert_eq!((k.waiting(), k.dirty_values(), k.segments()), (0, 0, 1));
        assert_eq!(value(&mut k, 1), Some(b"d".to_vec()), "hot from now on");
        assert!(k.hot_bytes() > 0);
    }

    #[test]
    fn values_go_with_their_keys_and_nothing_evicts_them() {
        let mut k = Keyspace::default();
        // no room for any hot value
        k.keep_values(1, 1 << 10);
        hold(&mut k, 1, 1, b"one");
        hold(&mut k, 2, 2, b"two");
        hold(&mut k, 3, 3, b"three");
        k.keep_value(at(&[9]), id(9), (*b"hot").into());
        assert!(k.rename(at(&[1]), at(&[7]), 1));
        k.remove(at(&[2]), 1);
        k.swap(0, 1);
        k.swap(0, 1);
        assert_eq!(value(&mut k, 7), Some(b"one".to_vec()));
        assert_eq!(k.take_released(), dirty_bytes(3));
        let waiting = take(&mut k);
        let ids: Vec<WriteId> = waiting.iter().map(|w| w.write_id).collect();
        assert_eq!(ids, [id(1), id(3)]);
        for (waiting, segment) in waiting.iter().zip(100..) {
            settle(&mut k, waiting, segment);
        }
        assert_eq!((value(&mut k, 7), k.hot_bytes()), (None, 0));
        assert_eq!((k.dirty_values(), k.segments()), (0, 2));
    }

    #[test]
    fn keys_that_come_and_go_do_not_fill_the_queue() {
        let mut k = Keyspace::default();
        k.keep_values(1 << 20, 1 << 10);
        hold(&mut k, 1, 1, b"stays");
        for counter in 2..10 * NOTICE_EVERY as u64 {
            hold(&mut k, 2, counter, b"goes");
            k.remove(at(&[2]), 1);
        }
        assert!(k.waiting() <= 2 + NOTICE_EVERY, "{}", k.waiting());
        let ids: Vec<WriteId> = take(&mut k).iter().map(|w| w.write_id).collect();
        assert_eq!(ids, [id(1)]);
    }

    proptest! {
        /// Whatever happens: what is held and what was given back add up, each dirty value
        /// has its turn, and none is in the hot tier's account.
        #[test]
        fn nothing_is_forgotten(steps in prop::collection::vec((0u8..9, 0u8..6, 0usize..60), 1..300)) {
            let mut k = Keyspace::default();
            k.keep_values(300, 50);
            let (mut counter, mut held, mut given_back) = (1000, 0, 0);
            let mut under_way = Vec::new();
            for (what, key, len) in steps {
                counter += 1;
                match what {
                    0..=2 => {
                        hold(&mut k, key, counter, &vec![key; len]);
                        held += dirty_bytes(len as u64);
                    }
                    3 => { k.remove(at(&[key]), 1); }
                    4 => { k.rename(at(&[key]), at(&[key / 2]), 1); }
                    5 => under_way.extend(take(&mut k)),
                    6 => {
                        let mut rng = <rand::rngs::SmallRng as rand::SeedableRng>::seed_from_u64(counter);
                        let mut left = 1;
                        k.evict(EvictionPolicy::AllkeysLru, &mut rng, |_| {
                            left -= 1;
                            if left < 0 { Verdict::Skip } else { Verdict::Take }
                        });
                    }
                    7 if len == 0 => k.flush(None),
                    _ => for waiting in under_way.drain(..) {
                        counter += 1;
                        settle(&mut k, &waiting, counter);
                    },
                }
                given_back += k.take_released();
                let dirty: Vec<_> = k.slots.iter().flatten().filter(|s| s.is_dirty).collect();
                let of = |s: &&super::super::Slot| s.hot.as_deref().map_or(0, |v| dirty_bytes(v.len() as u64));
                prop_assert_eq!(held - given_back, dirty.iter().map(of).sum::<u64>());
                prop_assert_eq!(k.dirty_values(), dirty.len());
                for slot in dirty {
                    let is_under_way = under_way.iter().any(|w| w.write_id == slot.object.write_id);
                    prop_assert!(slot.is_queued || is_under_way);
                }
                prop_assert!(k.hot_bytes() <= 300);
            }
        }
    }
}
