//! Cuts a value into the cells of its layout, stripe by stripe, and has the
//! parity computed when a stripe is first asked for.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use scatterhoard_wire::Layout;

use crate::{
    codec::{Codec, CodecError},
    keyspace::Object,
    pool::{link::Pace, requests::CellSource},
    value::Value,
};

/// Every cell of one object, made as they are asked for and kept: a node that
/// is interrupted asks again.
pub(super) struct Stripes<'a> {
    layout: Layout,
    codec: &'a Codec,
    inner: Mutex<Inner>,
}

struct Inner {
    rest: VecDeque<Bytes>,
    done: Vec<Vec<Bytes>>,
}

impl<'a> Stripes<'a> {
    pub(super) fn new(value: &Value, layout: Layout, codec: &'a Codec) -> Self {
        let rest = value.segments().iter().cloned().collect();
        let done = Vec::with_capacity(layout.stripes() as usize);
        Self {
            layout,
            codec,
            inner: Mutex::new(Inner { rest, done }),
        }
    }

    /// The cell of `chunk` in `stripe`.
    pub(super) fn cell(&self, stripe: u32, chunk: usize) -> Result<Bytes, CodecError> {
        let mut inner = self.inner.lock();
        while inner.done.len() <= stripe as usize {
            let next = inner.done.len() as u32;
            let cells = self.encode(&mut inner.rest, next)?;
            inner.done.push(cells);
        }
        Ok(inner.done[stripe as usize][chunk].clone())
    }

    fn encode(&self, rest: &mut VecDeque<Bytes>, stripe: u32) -> Result<Vec<Bytes>, CodecError> {
        let geometry = self.layout.geometry();
        let cell_len = self.layout.cell_len(stripe);
        let mut cells: Vec<Bytes> = (0..geometry.data())
            .map(|chunk| {
                let range = self.layout.data_range(stripe, chunk);
                take(rest, (range.end - range.start) as usize, cell_len)
            })
            .collect();
        cells.extend(self.codec.parity(geometry, &cells)?);
        Ok(cells)
    }
}

/// One chunk of an object that is written, and how it goes out.
pub(super) struct ChunkOf<'a, 'b> {
    pub(super) stripes: &'a Stripes<'b>,
    pub(super) plan: &'a Object,
    pub(super) index: usize,
    pub(super) pace: Pace,
}

impl CellSource for ChunkOf<'_, '_> {
    /// A stripe fails to encode only by our own mistake.
    async fn cell(&self, stripe: u32) -> Bytes {
        self.stripes
            .cell(stripe, self.index)
            .unwrap_or_else(|error| {
                tracing::error!(%error, "cannot encode");
                Bytes::new()
            })
    }
}

/// Takes `len` bytes off the front, padded with zeros to `padded_len`. Copies
/// only where a segment's border or padding is in the way.
fn take(rest: &mut VecDeque<Bytes>, len: usize, padded_len: usize) -> Bytes {
    if len == padded_len
        && let Some(front) = rest.front_mut()
        && front.len() >= len
    {
        let cell = front.split_to(len);
        if front.is_empty() {
            rest.pop_front();
        }
        return cell;
    }
    let mut cell = BytesMut::with_capacity(padded_len);
    while cell.len() < len {
        let Some(front) = rest.front_mut() else { break };
        let n = front.len().min(len - cell.len());
        cell.extend_from_slice(&front[..n]);
        front.advance(n);
        if front.is_empty() {
            rest.pop_front();
        }
    }
    cell.resize(padded_len, 0);
    cell.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use scatterhoard_wire::{Geometry, GeometryPolicy};

    use super::*;
    use crate::codec::Backend;

    proptest! {
        #[test]
        fn cells_are_the_bytes_however_the_value_is_cut(
            cuts in vec(1usize..3000, 1..12), d in 1u8..=4, cell in 1u32..500
        ) {
            let full = Geometry::new(d, 2).unwrap();
            let codec = Codec::new(full, Backend::RustyErasure).unwrap();
            let size: usize = cuts.iter().sum();
            let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
            let mut at = 0;
            let segments = cuts.iter().map(|n| { at += n; Bytes::copy_from_slice(&bytes[at - n..at]) });
            let value = Value::from_segments(segments.collect());
            let layout = Layout::new(full, size as u64, cell).unwrap();
            let stripes = Stripes::new(&value, layout, &codec);
            for stripe in (0..layout.stripes()).rev() {
                for chunk in 0..usize::from(d) {
                    let range = layout.data_range(stripe, chunk);
                    let cell = stripes.cell(stripe, chunk).unwrap();
                    prop_assert_eq!(cell.len(), layout.cell_len(stripe));
                    let real = (range.end - range.start) as usize;
                    prop_assert_eq!(&cell[..real], &bytes[range.start as usize..range.end as usize]);
                    prop_assert!(cell[real..].iter().all(|b| *b == 0));
                }
            }
        }
    }

    #[test]
    fn aligned_segments_are_not_copied() {
        let policy = GeometryPolicy::with_full(Geometry::new(10, 2).unwrap());
        let layout = policy.layout(10 << 20).unwrap();
        let codec = Codec::new(Geometry::new(10, 2).unwrap(), Backend::RustyErasure).unwrap();
        let segments: Vec<Bytes> = (0..40).map(|i| Bytes::from(vec![i; 256 << 10])).collect();
        let value = Value::from_segments(segments.clone());
        let stripes = Stripes::new(&value, layout, &codec);
        for (i, segment) in segments.iter().enumerate() {
            let cell = stripes.cell(i as u32 / 10, i % 10).unwrap();
            assert_eq!(cell.as_ptr(), segment.as_ptr());
        }
    }
}
