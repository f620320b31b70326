//! Cells in, bytes in order out: what has come of an object that is read.
//! Pure.
//!
//! A data cell is handed on as soon as everything before it was. Where one is
//! missing, the stripe waits for any d cells and is decoded, into the memory of
//! parity cells; what was handed on is kept until then, since decoding reads it.

use std::{collections::VecDeque, ops::Range};

use bytes::{Bytes, BytesMut};
use scatterhoard_wire::{Geometry, Layout};

use crate::codec::{Codec, CodecError};

/// The cell of one chunk in a stripe that is not done.
#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Here(BytesMut),
    /// Handed on, and kept for decoding others.
    HandedOn(Bytes),
}

impl Slot {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Empty => None,
            Self::Here(cell) => Some(cell),
            Self::HandedOn(cell) => Some(cell),
        }
    }

    /// A parity cell, which never is handed on.
    fn take_parity(&mut self) -> Option<BytesMut> {
        match std::mem::take(self) {
            Self::Here(cell) => Some(cell),
            Self::Empty | Self::HandedOn(_) => None,
        }
    }
}

/// Fills in the data cells of a stripe that are missing.
fn decode(slots: &mut [Slot], codec: &Codec, geometry: Geometry) -> Result<(), CodecError> {
    let (data, parity) = slots.split_at_mut(geometry.data());
    let parity = parity.iter_mut().map(Slot::take_parity).collect();
    let known: Vec<Option<&[u8]>> = data.iter().map(Slot::bytes).collect();
    let rebuilt = codec.rebuild(geometry, &known, parity)?;
    let missing = data.iter_mut().filter(|slot| slot.is_empty());
    for (slot, cell) in missing.zip(rebuilt) {
        *slot = Slot::Here(cell);
    }
    Ok(())
}

/// Puts one range of an object's bytes together.
pub(super) struct Gather {
    layout: Layout,
    bytes: Range<u64>,
    /// Stripes from `next` on, a slot for each chunk.
    stripes: VecDeque<Vec<Slot>>,
    /// The stripe that is due.
    next: u32,
    /// One behind the last stripe of the range.
    end: u32,
    /// Data cells of the stripe that is due which were handed on.
    handed_on: usize,
}

impl Gather {
    /// Nothing has come yet of these bytes, which lie within the object.
    pub(super) fn new(layout: Layout, bytes: Range<u64>) -> Self {
        let (next, end) = layout.stripes_of(&bytes);
        let mut gather = Self {
            layout,
            bytes,
            stripes: VecDeque::new(),
            next,
            end,
            handed_on: 0,
        };
        gather.handed_on = gather.wanted(next).start;
        gather
    }

    /// The stripe that is due.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Stripes that are still to come.
    pub(super) fn rest(&self) -> Range<u32> {
        self.next..self.end
    }

    /// The range.
    pub(super) fn bytes(&self) -> Range<u64> {
        self.bytes.clone()
    }

    /// Nothing more is taken: what has come is let go.
    pub(super) fn clear(&mut self) {
        self.stripes.clear();
    }

    /// Length of the range in bytes.
    pub(super) fn len_bytes(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    /// Whether all of it was handed on.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// Data chunks whose cells in `stripe` hold bytes of the range.
    pub(super) fn wanted(&self, stripe: u32) -> Range<usize> {
        let d = self.layout.geometry().data();
        let overlaps = |chunk: &usize| {
            let cell = self.layout.data_range(stripe, *chunk);
            cell.start < self.bytes.end && cell.end > self.bytes.start
        };
        let first = (0..d).find(overlaps).unwrap_or(0);
        let last = (0..d).rfind(overlaps).map_or(first, |last| last + 1);
        first..last
    }

    /// Whether the stripe that is due has this chunk's cell.
    pub(super) fn has(&self, chunk: usize) -> bool {
        let due = self.stripes.front();
        due.is_some_and(|slots| !slots[chunk].is_empty())
    }

    /// Takes a cell, already checked, in. One that is no longer needed is dropped.
    pub(super) fn keep(&mut self, stripe: u32, chunk: usize, cell: BytesMut) {
        let Some(offset) = stripe.checked_sub(self.next) else {
            return;
        };
        let n = self.layout.geometry().total();
        while self.stripes.len() <= offset as usize {
            self.stripes
                .push_back((0..n).map(|_| Slot::Empty).collect());
        }
        let slot = &mut self.stripes[offset as usize][chunk];
        if slot.is_empty() {
            *slot = Slot::Here(cell);
        }
    }

    /// What can be handed on of the stripe that is due; empty if nothing can.
    /// While `given_up` says so of a data chunk that is missing, the stripe
    /// waits for any d cells.
    pub(super) fn take(
        &mut self,
        codec: &Codec,
        given_up: impl Fn(usize) -> bool,
    ) -> Result<Vec<Bytes>, CodecError> {
        let (stripe, geometry) = (self.next, self.layout.geometry());
        let wanted = self.wanted(stripe);
        let Some(slots) = self.stripes.front_mut() else {
            return Ok(Vec::new());
        };
        let open = self.handed_on..wanted.end;
        let missing = |slots: &[Slot], chunk: usize| slots[chunk].is_empty();
        if open.clone().any(|chunk| missing(slots, chunk)) {
            let came = slots.iter().filter(|slot| !slot.is_empty()).count();
            if came >= geometry.data() {
                decode(slots, codec, geometry)?;
                if geometry.data() > 1 {
                    metrics::counter!("scatterhoard_degraded_stripes_total").increment(1);
                }
            } else if open.clone().any(|c| missing(slots, c) && given_up(c)) {
                return Ok(Vec::new());
            }
        }
        let mut out = Vec::with_capacity(open.len());
        for chunk in open {
            let cell = match std::mem::take(&mut slots[chunk]) {
                Slot::Empty => break,
                Slot::Here(cell) => cell.freeze(),
                Slot::HandedOn(cell) => cell,
            };
            out.push(clip(&self.layout, &self.bytes, stripe, chunk, &cell));
            slots[chunk] = Slot::HandedOn(cell);
            self.handed_on += 1;
        }
        if self.handed_on == wanted.end {
            self.stripes.pop_front();
            self.next += 1;
            self.handed_on = self.wanted(self.next).start;
        }
        Ok(out)
    }
}

/// The part of a data cell that belongs to the range.
fn clip(layout: &Layout, bytes: &Range<u64>, stripe: u32, chunk: usize, cell: &Bytes) -> Bytes {
    let held = layout.data_range(stripe, chunk);
    let from = bytes.start.max(held.start) - held.start;
    let to = bytes.end.min(held.end) - held.start;
    // within a cell: far below 4 GiB
    cell.slice(from as usize..to as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, seq::SliceRandom};
    use scatterhoard_wire::Geometry;

    use super::*;
    use crate::codec::Backend;

    /// All cells of an object, by stripe and chunk.
    fn cells(layout: &Layout, codec: &Codec, bytes: &[u8]) -> Vec<Vec<Bytes>> {
        let geometry = layout.geometry();
        let stripe = |s: u32| {
            let cell = |chunk| {
                let range = layout.data_range(s, chunk);
                let mut cell = bytes[range.start as usize..range.end as usize].to_vec();
                cell.resize(layout.cell_len(s), 0);
                Bytes::from(cell)
            };
            let mut cells: Vec<Bytes> = (0..geometry.data()).map(cell).collect();
            cells.extend(codec.parity(geometry, &cells).unwrap());
            cells
        };
        (0..layout.stripes()).map(stripe).collect()
    }

    proptest! {
        #[test]
        fn any_order_of_any_enough_cells_gives_the_bytes(
            size in 1usize..3000, d in 1u8..=4, cell in 1u32..300,
            cut in (0.0f64..1.0, 0.0f64..1.0), lost in 0usize..36, seed: u64, late: bool
        ) {
            let geometry = Geometry::new(d, 2).unwrap();
            let codec = Codec::new(geometry, Backend::RustyErasure).unwrap();
            let layout = Layout::new(geometry, size as u64, cell).unwrap();
            let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
            let all = cells(&layout, &codec, &bytes);
            let mut edges = [cut.0, cut.1].map(|f| (f * size as f64) as u64);
            edges.sort_unstable();
            let range = edges[0]..edges[1];
            let mut gather = Gather::new(layout, range.clone());
            let n = geometry.total();
            let lost = [lost % n, (lost / 6) % n];
            let mut arrivals: Vec<(u32, usize)> = gather
                .rest()
                .flat_map(|s| (0..n).map(move |c| (s, c)))
                .filter(|(_, c)| !lost.contains(c))
                .collect();
            arrivals.shuffle(&mut rand::rngs::SmallRng::seed_from_u64(seed));
            let mut out = Vec::new();
            for (stripe, chunk) in arrivals {
                gather.keep(stripe, chunk, BytesMut::from(&all[stripe as usize][chunk][..]));
                loop {
                    // known in time, or only found out when d others are there
                    let piece = gather.take(&codec, |c| late && lost.contains(&c)).unwrap();
                    if piece.is_empty() { break }
                    out.extend(piece.iter().flat_map(|b| b.iter().copied()));
                }
            }
            prop_assert!(gather.is_done());
            prop_assert_eq!(&out[..], &bytes[range.start as usize..range.end as usize]);
        }
    }

    #[test]
    fn the_first_cell_does_not_wait_for_the_second() {
        let geometry = Geometry::new(4, 2).unwrap();
        let codec = Codec::new(geometry, Backend::RustyErasure).unwrap();
        let layout = Layout::new(geometry, 400, 50).unwrap();
        let mut gather = Gather::new(layout, 60..400);
        assert_eq!((gather.rest(), gather.wanted(0)), (0..2, 1..4));
        gather.keep(0, 1, BytesMut::from(&[1; 50][..]));
        assert_eq!(
            gather.take(&codec, |_| false).unwrap(),
            [Bytes::from(vec![1; 40])]
        );
        gather.keep(0, 3, BytesMut::from(&[3; 50][..]));
        assert!(gather.take(&codec, |_| false).unwrap().is_empty());
        gather.keep(0, 2, BytesMut::from(&[2; 50][..]));
        let both = [Bytes::from(vec![2; 50]), Bytes::from(vec![3; 50])];
        assert_eq!(gather.take(&codec, |_| false).unwrap(), both);
        assert_eq!(gather.next(), 1);
    }
}
