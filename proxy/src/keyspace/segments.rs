//! Segments: objects on nodes in which several small values lie.
//!
//! A segment is freed with the last value that lies in it. Values that left it
//! leave holes; when more than half of it is holes, it is noted as sparse, for
//! somebody to move what is left.

use std::{collections::BTreeSet, sync::Arc};

use scatterhoard_node::random::HashMap;
use scatterhoard_wire::WriteId;

use super::{KeyRef, Keyspace, Object};

/// One segment.
struct Segment {
    object: Arc<Object>,
    /// Slots whose keys named one of its values at some time.
    members: Vec<u32>,
    /// Values of it that a key names, or that somebody may yet commit.
    references: u32,
    live_bytes: u64,
}

/// All segments.
#[derive(Default)]
pub(super) struct Segments {
    by_id: HashMap<WriteId, Segment>,
    /// More than half holes, lately and for longer.
    sparse: BTreeSet<WriteId>,
    long_sparse: BTreeSet<WriteId>,
}

impl Segments {
    /// A value's key has this slot.
    pub(super) fn joined(&mut self, id: WriteId, slot: u32) {
        if let Some(segment) = self.by_id.get_mut(&id) {
            segment.members.push(slot);
        }
    }

    /// One more value lies in it; false if there is no such segment.
    pub(super) fn refer(&mut self, id: WriteId, bytes: u64) -> bool {
        let segment = self.by_id.get_mut(&id);
        if let Some(segment) = segment {
            segment.references += 1;
            segment.live_bytes += bytes;
            return true;
        }
        false
    }

    /// A value of it is named no longer; the segment's object, if it was the
    /// last one.
    pub(super) fn left(&mut self, id: WriteId, bytes: u64) -> Option<Arc<Object>> {
        let segment = self.by_id.get_mut(&id)?;
        segment.references -= 1;
        segment.live_bytes -= bytes;
        if segment.references == 0 {
            self.sparse.remove(&id);
            self.long_sparse.remove(&id);
            return self.by_id.remove(&id).map(|s| s.object);
        }
        if segment.live_bytes * 2 < segment.object.size_bytes() && !self.long_sparse.contains(&id) {
            self.sparse.insert(id);
        }
        None
    }

    pub(super) fn object(&self, id: WriteId) -> Option<&Arc<Object>> {
        self.by_id.get(&id).map(|s| &s.object)
    }

    pub(super) fn object_mut(&mut self, id: WriteId) -> Option<&mut Arc<Object>> {
        self.by_id.get_mut(&id).map(|s| &mut s.object)
    }

    pub(super) fn references(&self, id: WriteId) -> u32 {
        self.by_id.get(&id).map_or(0, |s| s.references)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = WriteId> + '_ {
        self.by_id.keys().copied()
    }
}

/// A value that lies in a segment, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Database of the key that names it.
    pub db: u8,
    /// The key.
    pub key: Box<[u8]>,
    /// The value.
    pub object: Arc<Object>,
}

impl Member {
    /// Its key, as the index wants it.
    pub fn key(&self) -> KeyRef<'_> {
        KeyRef {
            db: self.db,
            key: &self.key,
        }
    }
}

impl Keyspace {
    /// Takes a segment in, in which `values` values of together `bytes` bytes
    /// lie. Each of them must be committed, moved to or discarded.
    pub fn add_segment(&mut self, object: Arc<Object>, values: u32, bytes: u64) {
        let segment = Segment {
            members: Vec::with_capacity(values as usize),
            references: values,
            live_bytes: bytes,
            object,
        };
        self.changes.segment(segment.object.write_id);
        self.segments.by_id.insert(segment.object.write_id, segment);
    }

    /// The object whose chunks hold this one's bytes, and where they begin there.
    pub fn source(&self, object: &Arc<Object>) -> (Arc<Object>, u64) {
        match self.segment_of(object) {
            Some((segment, offset)) => (segment.clone(), offset),
            None => (object.clone(), 0),
        }
    }

    /// The object whose chunks hold this one's bytes.
    pub fn holder<'a>(&'a self, object: &'a Object) -> &'a Object {
        self.segment_of(object)
            .map_or(object, |(segment, _)| segment)
    }

    /// The segment in which an object lies, and where it begins there.
    fn segment_of(&self, object: &Object) -> Option<(&Arc<Object>, u64)> {
        let place = object.place()?;
        let segment = self.segments.object(place.segment)?;
        Some((segment, u64::from(place.offset_bytes)))
    }

    /// The object of a segment.
    pub fn segment(&self, id: WriteId) -> Option<&Arc<Object>> {
        self.segments.object(id)
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.segments.by_id.len()
    }

    /// A segment that was more than half holes before [`Self::age_sparse`], once.
    pub fn take_sparse(&mut self) -> Option<WriteId> {
        self.segments.long_sparse.pop_first()
    }

    /// Segments that are more than half holes by now may be taken.
    pub fn age_sparse(&mut self) {
        let mut lately = std::mem::take(&mut self.segments.sparse);
        self.segments.long_sparse.append(&mut lately);
    }

    /// The same segment again, later.
    pub fn note_sparse(&mut self, id: WriteId) {
        if self.segments.by_id.contains_key(&id) {
            self.segments.sparse.insert(id);
        }
    }

    /// What keys name in a segment.
    pub fn members(&self, id: WriteId) -> Vec<Member> {
        let member = |i: u32| {
            let slot = self.slot(i)?;
            Some(Member {
                db: slot.db,
                key: slot.key.clone(),
                object: Arc::new(slot.object.clone()),
            })
        };
        self.member_slots(id)
            .into_iter()
            .filter_map(member)
            .collect()
    }

    /// Their slots, each once.
    pub(super) fn member_slots(&self, id: WriteId) -> Vec<u32> {
        let is_there = |i: &u32| {
            let place = self.slot(*i).and_then(|s| s.object.place());
            place.is_some_and(|p| p.segment == id)
        };
        let all = self.segments.by_id.get(&id).map(|s| &s.members[..]);
        let mut slots: Vec<u32> = all.unwrap_or_default().to_vec();
        slots.sort_unstable();
        slots.dedup();
        slots.retain(is_there);
        slots
    }

    /// Has a key name its value at another place, if it still names this write;
    /// if not, the new place is discarded. Says whether it did. The value stays
    /// of its kind.
    pub fn rehome(&mut self, key: KeyRef<'_>, object: Arc<Object>) -> bool {
        let slot = self.find(key);
        let Some(i) = slot.filter(|i| self.is_named(*i, object.write_id)) else {
            self.release(object);
            return false;
        };
        self.rehome_at(i, object);
        true
    }

    pub(super) fn rehome_at(&mut self, i: u32, object: Arc<Object>) {
        self.join_segment(&object, i);
        self.changes.slot(i);
        if let Some(slot) = self.slots[i as usize].as_mut() {
            let object = Arc::unwrap_or_clone(object).of_kind(slot.object.kind());
            let old = std::mem::replace(&mut slot.object, object);
            self.leave_segment(&old);
        }
    }

    /// If the object lies in a segment, that is told.
    pub(super) fn leave_segment(&mut self, object: &Object) {
        let place = object.place();
        let last = place.and_then(|p| self.segments.left(p.segment, object.size_bytes()));
        if let Some(segment) = last {
            self.changes.segment(segment.write_id);
            self.release(segment);
        }
    }
}
