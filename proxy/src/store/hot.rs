//! The hot tier: small values kept in the proxy's own memory, by write id.
//!
//! A key's value is found here only through the index, so an entry of a
//! superseded write is never served; it is merely dropped early. Values that
//! no node has yet (see `behind`) are held beside the budget, under their own.

use bytes::Bytes;
use lru::LruCache;
use scatterhoard_node::random::HashMap;
use scatterhoard_wire::WriteId;

/// Bookkeeping of an entry, in bytes, counted against the budget.
const ENTRY_BYTES: u64 = 128;

/// Values by write id, the longest unused dropped first.
pub(super) struct HotTier {
    entries: LruCache<WriteId, Bytes>,
    dirty: HashMap<WriteId, Bytes>,
    bytes: u64,
    budget_bytes: u64,
    max_value_bytes: u64,
}

impl HotTier {
    /// A tier of `budget_bytes`; 0 keeps nothing. Values beyond
    /// `max_value_bytes` are left to the nodes.
    pub(super) fn new(budget_bytes: u64, max_value_bytes: u64) -> Self {
        Self {
            entries: LruCache::unbounded(),
            dirty: HashMap::default(),
            bytes: 0,
            budget_bytes,
            max_value_bytes,
        }
    }

    /// Whether a value of this length would be kept.
    pub(super) fn takes(&self, len: u64) -> bool {
        len <= self.max_value_bytes && len + ENTRY_BYTES <= self.budget_bytes
    }

    /// The value of a write, if it is here. Counts as a use.
    pub(super) fn get(&mut self, write_id: WriteId) -> Option<Bytes> {
        self.entries
            .get(&write_id)
            .or_else(|| self.dirty.get(&write_id))
            .cloned()
    }

    /// Whether the value of a write is here.
    pub(super) fn has(&self, write_id: WriteId) -> bool {
        self.entries.contains(&write_id) || self.dirty.contains_key(&write_id)
    }

    /// Keeps a value. It is copied: a slice would keep the whole buffer that it
    /// was read with.
    pub(super) fn put(&mut self, write_id: WriteId, value: &[u8]) {
        if !self.takes(value.len() as u64) {
            return;
        }
        self.remove(write_id);
        self.bytes += value.len() as u64 + ENTRY_BYTES;
        self.entries.push(write_id, Bytes::copy_from_slice(value));
        while self.bytes > self.budget_bytes {
            let Some((_, dropped)) = self.entries.pop_lru() else {
                break;
            };
            self.bytes -= dropped.len() as u64 + ENTRY_BYTES;
        }
    }

    /// Holds a value that no node has yet, until it is settled or removed.
    pub(super) fn hold(&mut self, write_id: WriteId, value: Bytes) {
        self.dirty.insert(write_id, value);
    }

    /// The value of a write, if no node has it yet.
    pub(super) fn dirty_value(&self, write_id: WriteId) -> Option<Bytes> {
        self.dirty.get(&write_id).cloned()
    }

    /// Nodes have the value now: it is kept like any other.
    pub(super) fn settled(&mut self, write_id: WriteId) {
        if let Some(value) = self.dirty.remove(&write_id) {
            self.put(write_id, &value);
        }
    }

    /// Values that no node has yet.
    pub(super) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Drops the value of a write that nothing names any more.
    pub(super) fn remove(&mut self, write_id: WriteId) {
        self.dirty.remove(&write_id);
        if let Some(dropped) = self.entries.pop(&write_id) {
            self.bytes -= dropped.len() as u64 + ENTRY_BYTES;
        }
    }

    /// Bytes in use, bookkeeping included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use scatterhoard_wire::Epoch;

    use super::*;

    fn id(counter: u64) -> WriteId {
        WriteId {
            epoch: Epoch(1),
            counter,
        }
    }

    #[test]
    fn the_budget_holds_and_the_longest_unused_goes() {
        let mut hot = HotTier::new(3 * (100 + ENTRY_BYTES), 100);
        (1..=3).for_each(|i| hot.put(id(i), &[i as u8; 100]));
        hot.get(id(1));
        hot.put(id(4), &[4; 100]);
        assert!(hot.get(id(2)).is_none());
        assert_eq!(hot.get(id(1)).unwrap()[..], [1; 100]);
        hot.put(id(5), &[5; 101]);
        assert!(hot.get(id(5)).is_none(), "too long");
        (1..=5).for_each(|i| hot.remove(id(i)));
        assert_eq!(hot.bytes(), 0);
    }
}
