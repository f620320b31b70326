//! A value that was written and that no key names yet: garbage, unless the index
//! takes it over.

use std::sync::{Arc, atomic::Ordering};

use scatterhoard_wire::{Layout, NodeId, WriteId};

use super::{Store, behind::Ticket, write::WriteError};
use crate::{
    keyspace::{Kind, Object, bytes_of},
    value::Value,
};

/// A value that no key names yet. Garbage if dropped.
pub struct Written {
    pub(super) attempt: Attempt,
    pub(super) object: Option<Arc<Object>>,
    pub(super) cargo: Cargo,
    pub(super) kind: Kind,
    /// The number by which its request knows it, if it came while that arrived.
    pub upload: Option<usize>,
}

/// What a write brings for the proxy's own memory.
pub(super) enum Cargo {
    /// Nothing.
    None,
    /// A small value for the hot tier.
    Small(Arc<[u8]>),
    /// A value that is on no node yet.
    Dirty(Ticket),
    /// The same, of a transaction: its commit puts it on nodes.
    Held(Value),
    /// A value that came in before the transaction that it is for.
    Early(#[allow(dead_code, reason = "goes with the value")] Early),
}

/// Somebody queues values for a transaction, which will be written when it is carried
/// out, though they are on nodes before: FLUSHALL must leave them alone meanwhile.
pub struct Early {
    store: Arc<Store>,
    bytes: u64,
}

impl Drop for Early {
    fn drop(&mut self) {
        self.store.early.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// Nothing can be evicted in favour of what no key names yet, so that it must not
/// become too much: one part in so many of all there is room for.
const EARLY_SHARE: u64 = 4;

impl Store {
    /// To be called before a value of so many bytes is written, and kept in it: see
    /// [`Early`].
    pub fn early(self: &Arc<Self>, bytes: u64) -> Result<Early, WriteError> {
        let views = self.pool.active().filter_map(|node| node.view().held);
        let budget: u64 = views.map(|held| held.budget_bytes).sum();
        // given back by its drop
        let others = self.early.fetch_add(bytes, Ordering::SeqCst);
        let store = self.clone();
        let early = Early { store, bytes };
        match others.saturating_add(bytes) > budget / EARLY_SHARE {
            true => Err(WriteError::Full),
            false => Ok(early),
        }
    }
}

impl Written {
    pub(super) fn on_nodes(
        attempt: Attempt,
        layout: Layout,
        placement: Vec<Option<NodeId>>,
    ) -> Self {
        let object = Object::new(attempt.write_id, layout, placement);
        Self {
            attempt,
            object: Some(Arc::new(object)),
            cargo: Cargo::None,
            kind: Kind::String,
            upload: None,
        }
    }

    /// A value that only a transaction has.
    pub(super) fn held(store: &Arc<Store>, layout: Layout, value: Value) -> Self {
        let write_id = store.next_write_id();
        Self {
            attempt: Attempt::idle(store, write_id),
            object: Some(Arc::new(Object::unplaced(write_id, layout))),
            cargo: Cargo::Held(value),
            kind: Kind::String,
            upload: None,
        }
    }

    /// The same, as a value of this kind.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// What the index is to name.
    pub(super) fn object(&self) -> Arc<Object> {
        let object = match &self.object {
            Some(object) => (**object).clone(),
            None => Object::new(self.attempt.write_id, EMPTY, Vec::new()),
        };
        Arc::new(object.of_kind(self.kind))
    }

    /// The value, as far as it is in memory.
    pub(super) fn value(&self) -> Option<Value> {
        match &self.cargo {
            Cargo::None | Cargo::Early(_) => None,
            Cargo::Small(value) => Some(bytes_of(value).into()),
            Cargo::Dirty(ticket) => Some(bytes_of(&ticket.value).into()),
            Cargo::Held(value) => Some(value.clone()),
        }
    }

    /// The value that was held is on nodes now, under the same write id.
    pub(super) fn take_place(&mut self, mut placed: Self) {
        std::mem::swap(&mut self.attempt, &mut placed.attempt);
        std::mem::swap(&mut self.object, &mut placed.object);
        std::mem::swap(&mut self.cargo, &mut placed.cargo);
    }

    /// The value, if its commit must put it on nodes.
    pub(super) fn held_value(&self) -> Option<&Value> {
        match &self.cargo {
            Cargo::Held(value) => Some(value),
            _ => None,
        }
    }

    /// It is for a transaction that is carried out later.
    pub fn set_early(&mut self, early: Early) {
        if let Cargo::None = self.cargo {
            self.cargo = Cargo::Early(early);
        }
    }

    /// Whether it counts as written before this write, which FLUSHALL was.
    pub(super) fn is_before(&self, flushed: WriteId) -> bool {
        self.write_id() < flushed && !matches!(self.cargo, Cargo::Early(_))
    }

    /// A value in a segment that the index knows.
    pub(super) fn packed(store: &Arc<Store>, object: Arc<Object>) -> Self {
        Self {
            // it has no chunks of its own
            attempt: Attempt::idle(store, object.write_id),
            object: Some(object),
            cargo: Cargo::None,
            kind: Kind::String,
            upload: None,
        }
    }

    pub(super) fn write_id(&self) -> WriteId {
        self.attempt.write_id
    }

    /// The value itself, for the hot tier.
    pub(super) fn keep(&mut self, value: Value, settings: &super::Settings) {
        if let Value::One(bytes) = value
            && bytes.len() as u64 <= settings.hot_value_bytes
        {
            self.cargo = Cargo::Small(Arc::from(&bytes[..]));
        }
    }

    /// Hands the object over to the index, which must be locked: from then on
    /// it is the index that says it is no garbage.
    pub(super) fn into_parts(mut self) -> (Arc<Object>, Cargo) {
        let object = match self.object.take() {
            Some(object) if object.kind() == self.kind => object,
            other => {
                self.object = other;
                let object = self.object();
                self.object = None;
                object
            }
        };
        self.attempt.nodes.clear();
        self.attempt.backed = false;
        (object, std::mem::replace(&mut self.cargo, Cargo::None))
    }
}

/// Not to be dropped while the index is locked.
impl Drop for Written {
    fn drop(&mut self) {
        if let Some(object) = self.object.take_if(|o| o.place().is_some()) {
            let mut index = self.attempt.store.index();
            index.discard(object);
            self.attempt.store.free(&mut index);
        }
    }
}

#[allow(clippy::panic, reason = "evaluated at compile time")]
const EMPTY: Layout = match scatterhoard_wire::Geometry::new(1, 0) {
    Ok(geometry) => match Layout::new(geometry, 0, 1) {
        Ok(layout) => layout,
        Err(_) => panic!("valid by the limits"),
    },
    Err(_) => panic!("valid by the limits"),
};

/// What an attempt may have left on nodes, until it is committed.
pub(super) struct Attempt {
    store: Arc<Store>,
    pub(super) write_id: WriteId,
    pub(super) nodes: Vec<NodeId>,
    /// The backing store may have it.
    pub(super) backed: bool,
    /// It may be on nodes.
    has_begun: bool,
}

impl Attempt {
    pub(super) fn new(store: &Arc<Store>, write_id: WriteId) -> Self {
        store.under_way.lock().insert(write_id);
        let mut attempt = Self::idle(store, write_id);
        attempt.has_begun = true;
        attempt
    }

    pub(super) fn idle(store: &Arc<Store>, write_id: WriteId) -> Self {
        Self {
            store: store.clone(),
            write_id,
            nodes: Vec::new(),
            backed: false,
            has_begun: false,
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.has_begun {
            self.store.under_way.lock().remove(&self.write_id);
        }
        for node in self.nodes.iter().filter_map(|id| self.store.pool.node(*id)) {
            node.discard(self.write_id);
        }
        if let Some(backing) = self.store.backing.as_ref().filter(|_| self.backed) {
            backing.forget(self.write_id);
        }
    }
}
