//! Buffers of freed cells, kept for the cells that come next: memory that went
//! back to the kernel would have to be cleared and mapped again.
//!
//! A buffer serves only cells whose length [`buffer_bytes`] rounds to its own,
//! so what is stored in it never wastes a page. Cells up to 16 KiB are left to
//! the allocator, which shares pages among them anyway.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use scatterhoard_wire::{buffer_bytes, off_page_start};

/// Longest buffer that is not kept.
const SMALL_BYTES: usize = 16 * 1024;
/// Bookkeeping of a kept buffer: its entries in two maps, half empty each.
const ENTRY_BYTES: u64 = 256;

/// Free buffers; those kept longest are the first to go. How many there may be
/// is the owner's affair.
#[derive(Debug, Default)]
pub(super) struct Slab {
    /// By capacity, then by age.
    free: BTreeMap<(usize, u64), BytesMut>,
    /// Capacities by age.
    ages: BTreeMap<u64, usize>,
    next_age: u64,
    bytes: u64,
}

impl Slab {
    /// What the free buffers take, bookkeeping included.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// An empty buffer with room for `len` bytes: the one freed last, if there
    /// is one of this size. A cell that does not fill its pages begins within one.
    pub(super) fn take(&mut self, len: usize) -> BytesMut {
        if len <= SMALL_BYTES {
            return BytesMut::with_capacity(len);
        }
        let capacity = buffer_bytes(len);
        let of_this_size = (capacity, 0)..=(capacity, u64::MAX);
        let newest = self.free.range(of_this_size).next_back();
        let newest = newest.map(|(key, _)| *key);
        let kept = newest.and_then(|key| self.remove(key));
        let buffer = kept.unwrap_or_else(|| BytesMut::with_capacity(capacity));
        off_page_start(buffer, len)
    }

    /// Keeps the buffer of a freed cell, unless somebody still reads it or it
    /// is not one that [`Self::take`] gave.
    pub(super) fn keep(&mut self, payload: Bytes) {
        if payload.len() <= SMALL_BYTES {
            return;
        }
        let capacity = buffer_bytes(payload.len());
        let Ok(mut buffer) = payload.try_into_mut() else {
            return;
        };
        buffer.clear();
        // all of it, also what lies before the place where its cell began, and no more
        if buffer.try_reclaim(capacity + 1) || !buffer.try_reclaim(capacity) {
            return;
        }
        self.free.insert((capacity, self.next_age), buffer);
        self.ages.insert(self.next_age, capacity);
        self.next_age += 1;
        self.bytes += capacity as u64 + ENTRY_BYTES;
    }

    /// Gives up the oldest until at most `bytes` are left.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        while self.bytes > bytes {
            let Some((&age, &capacity)) = self.ages.first_key_value() else {
                return;
            };
            self.remove((capacity, age));
        }
    }

    fn remove(&mut self, (capacity, age): (usize, u64)) -> Option<BytesMut> {
        let buffer = self.free.remove(&(capacity, age))?;
        self.ages.remove(&age);
        self.bytes -= capacity as u64 + ENTRY_BYTES;
        Some(buffer)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn cell(slab: &mut Slab, len: usize) -> Bytes {
        let mut buffer = slab.take(len);
        assert!(buffer.is_empty() && buffer.capacity() >= len);
        buffer.put_bytes(7, len);
        buffer.freeze()
    }

    #[test]
    fn a_freed_buffer_serves_the_next_cell_of_its_size() {
        let mut slab = Slab::default();
        let first = cell(&mut slab, 100_000);
        let place = first.as_ptr();
        slab.keep(first);
        assert_eq!(slab.bytes(), 102_400 + ENTRY_BYTES);
        assert_ne!(cell(&mut slab, 98_000).as_ptr(), place, "another size");
        // one that fills its pages begins with the first
        assert_eq!(cell(&mut slab, 102_400).as_ptr(), place.wrapping_sub(2_048));
        assert_eq!(slab.bytes(), 0);
    }

    #[test]
    fn what_is_read_small_or_strange_is_not_kept() {
        let mut slab = Slab::default();
        let sent = cell(&mut slab, 100_000);
        slab.keep(sent.clone());
        let small = cell(&mut slab, SMALL_BYTES);
        slab.keep(small);
        slab.keep(Bytes::from(vec![0; 100_000]));
        slab.keep(Bytes::from_static(&[0; 20_480]));
        let mut of_a_link = scatterhoard_wire::bulk_buffer(102_400);
        of_a_link.put_bytes(7, 102_400);
        slab.keep(of_a_link.freeze());
        slab.keep(cell(&mut Slab::default(), 200_000).slice(..100_000));
        assert_eq!(slab.bytes(), 0);
        assert_eq!(sent.len(), 100_000);
        // read once, but by nobody any more
        slab.keep(sent);
        assert_eq!(slab.free.len(), 1);
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut slab = Slab::default();
        let cells = [40_960, 81_920, 61_440].map(|len| cell(&mut slab, len));
        cells.into_iter().for_each(|cell| slab.keep(cell));
        slab.shrink_to(150_000);
        assert_eq!(slab.ages.values().collect::<Vec<_>>(), [&81_920, &61_440]);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_counted_and_nothing_is_wasted(
            ops in vec((0u8..4, 1usize..300_000), 1..60)
        ) {
            let (mut slab, mut live) = (Slab::default(), Vec::new());
            for (op, len) in ops {
                match op {
                    0 => {
                        slab.shrink_to(len as u64);
                        prop_assert!(slab.bytes() <= len as u64);
                    }
                    1 if !live.is_empty() => slab.keep(live.swap_remove(len % live.len())),
                    _ => {
                        let buffer = slab.take(len);
                        prop_assert!(buffer.is_empty());
                        prop_assert!((len..=buffer_bytes(len)).contains(&buffer.capacity()));
                        // the same sizes again and again
                        live.push(cell(&mut slab, len % 5 * 30_000 + 1));
                    }
                }
                let kept: u64 = slab.free.values().map(|b| b.capacity() as u64 + ENTRY_BYTES).sum();
                prop_assert_eq!(slab.bytes(), kept);
                prop_assert_eq!(slab.ages.len(), slab.free.len());
            }
        }
    }
}
