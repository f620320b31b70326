//! What a node should hold, by the index.

use std::{ops::Range, sync::Arc};

use scatterhoard_node::random::HashSet;
use scatterhoard_wire::{ChunkDescriptor, NodeId, WriteId};

use super::{KeyRef, Keyspace, Object};

/// A chunk that a node should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The chunk.
    pub chunk: ChunkDescriptor,
    /// How many uses of other keys ago it was last used; a segment, in which
    /// many keys lie, comes before all.
    pub idleness: u32,
    slot: Option<u32>,
}

/// A write that a key names, but none of whose chunks a node should hold: a repair
/// moved the one that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The write.
    pub write_id: WriteId,
    /// `None`: it is a segment.
    slot: Option<u32>,
}

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StockCursor(usize);

impl StockCursor {
    /// The next `count` slots of `len`, and where it goes on.
    pub(super) fn step(self, count: usize, len: usize) -> (Range<usize>, Option<Self>) {
        let start = self.0.min(len);
        let end = start.saturating_add(count).min(len);
        (start..end, (end < len).then_some(Self(end)))
    }
}

impl Keyspace {
    /// Goes on with a walk over what keys name, as far as a node holds chunks of it
    /// or of its segment: the object whose chunks they are, the key, what it names
    /// and when it expires.
    pub fn values_on(
        &self,
        node: NodeId,
        cursor: StockCursor,
        count: usize,
        mut visit: impl FnMut(&Object, KeyRef<'_>, &Object, Option<u64>),
    ) -> Option<StockCursor> {
        let (slots, next) = cursor.step(count, self.slots.len());
        for slot in self.slots[slots].iter().flatten() {
            let source = self.holder(&slot.object);
            if source.nodes().any(|holder| holder == node) {
                let expires = slot.expiry();
                visit(source, slot.key(), &slot.object, expires);
            }
        }
        next
    }

    /// Goes on with a walk over all that a node should hold: looks at about
    /// `count` slots, and at all segments first. `None`: that was the end. What
    /// is there throughout the walk is visited once.
    pub fn expected_on(
        &self,
        node: NodeId,
        cursor: StockCursor,
        count: usize,
        expected: &mut Vec<Expected>,
    ) -> Option<StockCursor> {
        if cursor == StockCursor::default() {
            for id in self.segments.ids() {
                let Some(object) = self.segments.object(id) else {
                    continue;
                };
                let held = (0..object.chunks()).filter(|i| object.node(*i) == Some(node));
                expected.extend(held.map(|index| Expected {
                    chunk: object.descriptor(index),
                    idleness: 0,
                    slot: None,
                }));
            }
        }
        let start = cursor.0.min(self.slots.len());
        let end = start.saturating_add(count).min(self.slots.len());
        for (i, slot) in (start..end).zip(&self.slots[start..end]) {
            let Some(slot) = slot else { continue };
            let object = &slot.object;
            let held = (0..object.chunks()).filter(|i| object.node(*i) == Some(node));
            expected.extend(held.map(|index| Expected {
                chunk: object.descriptor(index),
                idleness: self.recency.idleness(slot).saturating_add(1),
                slot: u32::try_from(i).ok(),
            }));
        }
        (end < self.slots.len()).then_some(StockCursor(end))
    }

    /// Goes on with a walk over all that has chunks of its own: segments first, by
    /// an empty key, then what keys name.
    pub fn sources(
        &self,
        cursor: StockCursor,
        count: usize,
        mut visit: impl FnMut(KeyRef<'_>, &Object),
    ) -> Option<StockCursor> {
        if cursor == StockCursor::default() {
            let nameless = KeyRef { db: 0, key: &[] };
            let segments = self.segments.ids();
            segments
                .filter_map(|id| self.segments.object(id))
                .for_each(|object| visit(nameless, object));
        }
        let start = cursor.0.min(self.slots.len());
        let end = start.saturating_add(count).min(self.slots.len());
        for slot in self.slots[start..end].iter().flatten() {
            if slot.object.chunks() > 0 {
                visit(slot.key(), &slot.object);
            }
        }
        (end < self.slots.len()).then_some(StockCursor(end))
    }

    /// Goes on with a walk that takes what keys name out of `suspects`.
    pub fn unsuspect(
        &self,
        cursor: StockCursor,
        count: usize,
        suspects: &mut HashSet<WriteId>,
    ) -> Option<StockCursor> {
        let start = cursor.0.min(self.slots.len());
        let end = start.saturating_add(count).min(self.slots.len());
        for slot in self.slots[start..end].iter().flatten() {
            suspects.remove(&slot.object.write_id);
        }
        (end < self.slots.len()).then_some(StockCursor(end))
    }

    /// Goes on with a walk that finds those of `suspects` whose chunks should be on
    /// other nodes than this one.
    pub fn elsewhere(
        &self,
        node: NodeId,
        cursor: StockCursor,
        count: usize,
        suspects: &HashSet<WriteId>,
        found: &mut Vec<Elsewhere>,
    ) -> Option<StockCursor> {
        let segments = (cursor == StockCursor::default()).then(|| suspects.iter());
        let segments = segments.into_iter().flatten().map(|id| Elsewhere {
            write_id: *id,
            slot: None,
        });
        let (slots, next) = cursor.step(count, self.slots.len());
        let named = slots.filter_map(|i| {
            let write_id = self.slots[i].as_ref()?.object.write_id;
            let slot = Some(u32::try_from(i).ok()?);
            let is_suspect = suspects.contains(&write_id);
            is_suspect.then_some(Elsewhere { write_id, slot })
        });
        let all = segments.chain(named);
        found.extend(all.filter(|e| self.is_elsewhere(node, e)));
        next
    }

    /// Whether that is still so, and nobody reads it there or is about to bring it
    /// back.
    pub fn is_elsewhere(&self, node: NodeId, what: &Elsewhere) -> bool {
        let object = match what.slot {
            None => self.segments.object(what.write_id).map(|object| &**object),
            Some(slot) => self.slot(slot).map(|slot| &slot.object),
        };
        let object = object.filter(|o| o.write_id == what.write_id && o.chunks() > 0);
        object.is_some_and(|o| o.nodes().all(|holder| holder != node))
            && !self.pins.contains_key(&what.write_id)
    }

    /// Where what a write stored is at present, in chunks of its own: a segment, what `key`
    /// names, or what is only read still.
    pub fn placed(
        &mut self,
        write_id: WriteId,
        key: KeyRef<'_>,
        now_ms: u64,
    ) -> Option<Arc<Object>> {
        if let Some(segment) = self.segments.object(write_id) {
            return Some(segment.clone());
        }
        let named = self.peek(key, now_ms).map(|found| found.object);
        let is_it = |object: &Arc<Object>| object.write_id == write_id && object.chunks() > 0;
        named
            .filter(is_it)
            .or_else(|| self.deferred.get(&write_id).cloned())
    }

    /// Whether somebody reads there what no key names any more.
    pub fn is_read_on(&self, node: NodeId) -> bool {
        let mut objects = self.deferred.values();
        objects.any(|o| o.nodes().any(|holder| holder == node))
    }

    /// Whether a reader holds this write, or it is a segment.
    pub fn is_held(&self, write_id: WriteId) -> bool {
        self.pins.contains_key(&write_id) || self.segments.object(write_id).is_some()
    }

    /// A key by which the chunk's object can be found, if it still is where it
    /// was expected. That of a segment is found by its write id alone.
    pub fn key_of(&self, expected: &Expected) -> Option<(KeyRef<'_>, WriteId)> {
        let write_id = expected.chunk.id.write_id;
        let Some(slot) = expected.slot else {
            let known = self.segments.object(write_id).is_some();
            let key = KeyRef { db: 0, key: &[] };
            return known.then_some((key, write_id));
        };
        let slot = self.slot(slot)?;
        (slot.object.write_id == write_id).then_some((slot.key(), write_id))
    }
}
