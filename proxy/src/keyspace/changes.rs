//! What has changed since it was last asked, for a journal: which keys and
//! segments, not what they mean now, so that any number of changes to one of
//! them is one.

use std::sync::Arc;

use scatterhoard_wire::WriteId;

use super::{KeyRef, Keyspace, Object, StockCursor};

/// Names of what has changed.
#[derive(Default)]
pub(super) struct Changes {
    is_kept: bool,
    slots: Vec<u32>,
    removed: Vec<(u8, Box<[u8]>)>,
    segments: Vec<WriteId>,
    flushed: bool,
}

impl Changes {
    pub(super) fn slot(&mut self, i: u32) {
        if self.is_kept {
            self.slots.push(i);
        }
    }

    pub(super) fn removed(&mut self, db: u8, key: Box<[u8]>) {
        if self.is_kept {
            self.removed.push((db, key));
        }
    }

    pub(super) fn segment(&mut self, id: WriteId) {
        if self.is_kept {
            self.segments.push(id);
        }
    }

    /// Nothing from before is left.
    pub(super) fn flushed(&mut self) {
        let is_kept = self.is_kept;
        *self = Self {
            is_kept,
            flushed: is_kept,
            ..Self::default()
        };
    }
}

/// One change, in an order in which they may be repeated.
pub enum Change<'a> {
    /// Every key and segment is gone.
    Flushed,
    /// The key is gone.
    Removed(KeyRef<'a>),
    /// The key means this, until this time in milliseconds since 1970; with the value, if
    /// no node has it.
    Named(KeyRef<'a>, &'a Object, Option<u64>, Option<&'a Arc<[u8]>>),
    /// The segment's object is this.
    Segment(&'a Object),
    /// The segment is gone.
    SegmentGone(WriteId),
}

impl Keyspace {
    /// Keeps changes from now on.
    pub fn keep_changes(&mut self) {
        self.changes.is_kept = true;
    }

    /// Whether something has changed.
    pub fn has_changed(&self) -> bool {
        let c = &self.changes;
        c.flushed || !(c.slots.is_empty() && c.removed.is_empty() && c.segments.is_empty())
    }

    /// Calls `visit` with every change since [`Self::forget_changes`].
    pub fn changes(&self, mut visit: impl FnMut(Change<'_>)) {
        let changes = &self.changes;
        if changes.flushed {
            visit(Change::Flushed);
        }
        for (db, key) in &changes.removed {
            visit(Change::Removed(KeyRef { db: *db, key }));
        }
        for slot in changes.slots.iter().filter_map(|i| self.slot(*i)) {
            let value = slot.hot.as_ref().filter(|_| slot.is_dirty);
            visit(Change::Named(
                slot.key(),
                &slot.object,
                slot.expiry(),
                value,
            ));
        }
        for id in &changes.segments {
            visit(match self.segments.object(*id) {
                Some(object) => Change::Segment(object),
                None => Change::SegmentGone(*id),
            });
        }
    }

    /// Goes on with a walk that takes all there is for changed: about `count` slots,
    /// and all segments first. `None`: that was the end.
    pub fn note_all(&mut self, cursor: StockCursor, count: usize) -> Option<StockCursor> {
        if cursor == StockCursor::default() {
            let ids: Vec<WriteId> = self.segments.ids().collect();
            ids.into_iter().for_each(|id| self.changes.segment(id));
        }
        let (slots, next) = cursor.step(count, self.slots.len());
        slots.for_each(|i| self.changes.slot(i as u32));
        next
    }

    /// They are in the journal.
    pub fn forget_changes(&mut self) {
        let changes = &mut self.changes;
        changes.slots.clear();
        changes.removed.clear();
        changes.segments.clear();
        changes.flushed = false;
    }

    /// Takes in what a journal has: segments, then keys. What has expired or lies
    /// in a segment that is not there is left out, and segments in which nothing
    /// lies are freed; that is a change.
    pub fn restore(
        &mut self,
        segments: Vec<Object>,
        now_ms: u64,
        mut keys: impl FnMut(&mut dyn FnMut(KeyRef<'_>, Object, Option<u64>)),
    ) {
        for object in segments {
            // one reference of our own, until all keys are there
            self.add_segment(Arc::new(object), 1, 0);
        }
        let mut gone = Vec::new();
        keys(&mut |key, object, expires_unix_ms| {
            let expired = expires_unix_ms.is_some_and(|at| at <= now_ms);
            let place = object.place().filter(|_| !expired);
            let lies_there =
                place.is_none_or(|place| self.segments.refer(place.segment, object.size_bytes()));
            if expired || !lies_there {
                gone.push((key.db, Box::from(key.key)));
                return;
            }
            self.insert(key, object);
            if let (Some(at), Some(i)) = (expires_unix_ms, self.find(key)) {
                self.expire_slot(i, at);
            }
        });
        self.forget_changes();
        if self.changes.is_kept {
            self.changes.removed = gone;
        }
        let ids: Vec<WriteId> = self.segments.ids().collect();
        for id in ids {
            if let Some(segment) = self.segments.left(id, 0) {
                self.changes.segment(id);
                self.release(segment);
            }
        }
    }
}
