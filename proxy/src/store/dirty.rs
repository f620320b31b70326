//! Values that no node has yet (see `behind`), by the write that they are. Nothing evicts
//! them; their budget is that of the queue.

use std::sync::Arc;

use scatterhoard_node::random::HashMap;
use scatterhoard_wire::WriteId;

/// These values.
#[derive(Default)]
pub(super) struct Dirty(HashMap<WriteId, Arc<[u8]>>);

impl Dirty {
    /// Holds a value until it is taken or removed.
    pub(super) fn hold(&mut self, write_id: WriteId, value: Arc<[u8]>) {
        self.0.insert(write_id, value);
    }

    /// The value of a write, if no node has it yet.
    pub(super) fn value(&self, write_id: WriteId) -> Option<Arc<[u8]>> {
        self.0.get(&write_id).cloned()
    }

    /// Whether there is one of this write.
    pub(super) fn holds(&self, write_id: WriteId) -> bool {
        self.0.contains_key(&write_id)
    }

    /// The value of a write; nodes have it now.
    pub(super) fn take(&mut self, write_id: WriteId) -> Option<Arc<[u8]>> {
        self.0.remove(&write_id)
    }

    /// Nothing names the write any more.
    pub(super) fn remove(&mut self, write_id: WriteId) {
        self.0.remove(&write_id);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
