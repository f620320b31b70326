//! A value on its way to nodes: cut into the cells of its layout, stripe by
//! stripe, while it arrives.
//!
//! Checksums and parity are computed cell by cell, while each is in the
//! processor's cache. Stripes are kept for nodes that are interrupted and ask
//! again: all of them while memory is plenty, otherwise until every node has its
//! cell.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use scatterhoard_wire::{Cell, ChunkDescriptor, ChunkId, Layout, WriteId};
use tokio::sync::Notify;

use crate::{
    admission::Permit,
    codec::{Codec, CodecError, Parity},
    keyspace::Object,
    pool::{link::Pace, node::Reservation, requests::CellSource},
};

/// The node of a chunk "has everything": nothing is kept for it.
pub(super) const NOT_WANTED: u32 = u32::MAX;

/// The cells of one object that is written.
pub(super) struct Stripes<'a> {
    write_id: WriteId,
    layout: Layout,
    codec: &'a Codec,
    inner: Mutex<Inner>,
    /// Of the stripe begun last, as far as it has come.
    parity: Mutex<Option<Parity>>,
    /// Rung when a cell of the chunk came, or none will come any more.
    came: Vec<Notify>,
    /// Rung when a stripe was let go.
    freed: Notify,
}

struct Inner {
    /// Stripes from this one on are kept.
    first: u32,
    kept: VecDeque<Stripe>,
    /// For every chunk: its node has all cells below.
    stored: Vec<u32>,
    /// Whether stripes stay although every node has them.
    keeps_all: bool,
    /// The rest of the body will not come.
    broken: bool,
}

struct Stripe {
    /// The data cells that have come, then parity.
    cells: Vec<Kept>,
    _memory: Permit,
}

/// A cell, and its checksum unless nobody wanted it when it came.
#[derive(Clone)]
struct Kept {
    payload: Bytes,
    checksum: Option<u32>,
}

impl Inner {
    fn cell(&self, stripe: u32, chunk: usize) -> Option<&Kept> {
        let offset = stripe.checked_sub(self.first)?;
        self.kept.get(offset as usize)?.cells.get(chunk)
    }

    /// The stripe begun last, and the chunk whose cell comes next.
    fn begun(&self) -> Option<(u32, usize)> {
        let stripe = self.kept.back()?;
        Some((self.first + self.kept.len() as u32 - 1, stripe.cells.len()))
    }

    fn drop_stored(&mut self, total: u32) {
        let stored = self.stored.iter().copied().min().unwrap_or(total);
        while self.first < stored && self.kept.pop_front().is_some() {
            self.first += 1;
        }
    }
}

impl<'a> Stripes<'a> {
    pub(super) fn new(write_id: WriteId, layout: Layout, codec: &'a Codec) -> Self {
        let total = layout.geometry().total();
        Self {
            write_id,
            layout,
            codec,
            inner: Mutex::new(Inner {
                first: 0,
                kept: VecDeque::new(),
                stored: vec![0; total],
                keeps_all: true,
                broken: false,
            }),
            parity: Mutex::new(None),
            came: std::iter::repeat_with(Notify::new).take(total).collect(),
            freed: Notify::new(),
        }
    }

    /// Begins the next stripe, whose memory was granted.
    pub(super) fn begin(&self, memory: Permit) {
        let cells = Vec::with_capacity(self.layout.geometry().total());
        self.inner.lock().kept.push_back(Stripe {
            cells,
            _memory: memory,
        });
    }

    /// The next data cell of the stripe begun last, padded to its full length.
    pub(super) fn push(&self, cell: Bytes) -> Result<(), CodecError> {
        let geometry = self.layout.geometry();
        let Some((stripe, chunk)) = self.inner.lock().begun() else {
            return Ok(());
        };
        self.keep(stripe, chunk, cell.clone());
        let mut parity = self.parity.lock();
        // one of a stripe that was let go before it was whole is nobody's
        let mut sum = match parity.take().filter(|_| chunk > 0) {
            Some(sum) => sum,
            None => self.codec.begin(geometry, cell.len())?,
        };
        sum.add(&cell)?;
        if chunk + 1 < geometry.data() {
            *parity = Some(sum);
            return Ok(());
        }
        for (index, cell) in (geometry.data()..).zip(sum.finish()) {
            self.keep(stripe, index, cell);
        }
        Ok(())
    }

    /// Adds a cell to the stripe begun last.
    fn keep(&self, stripe: u32, chunk: usize, payload: Bytes) {
        let is_wanted = self.inner.lock().stored[chunk] != NOT_WANTED;
        let checksum = is_wanted.then(|| self.descriptor(chunk).checksum(stripe, &payload));
        if let Some(stripe) = self.inner.lock().kept.back_mut() {
            stripe.cells.push(Kept { payload, checksum });
        }
        self.came[chunk].notify_waiters();
    }

    fn descriptor(&self, chunk: usize) -> ChunkDescriptor {
        ChunkDescriptor {
            id: ChunkId {
                write_id: self.write_id,
                // d + p is far below 256
                index: chunk as u8,
            },
            layout: self.layout,
        }
    }

    /// Nobody need wait for what has not come.
    pub(super) fn break_off(&self) {
        self.inner.lock().broken = true;
        self.came.iter().for_each(Notify::notify_waiters);
    }

    /// Memory is scarce: from now on only what a node still lacks is kept.
    pub(super) fn economise(&self) {
        let mut inner = self.inner.lock();
        inner.keeps_all = false;
        inner.drop_stored(self.layout.stripes());
    }

    /// Whether everything from the first stripe on is there for another node.
    pub(super) fn is_whole(&self) -> bool {
        self.inner.lock().first == 0
    }

    /// Waits until another stripe may be kept beside those that are, `most_bytes`
    /// in all, or alone.
    pub(super) async fn room(&self, most_bytes: u64) {
        loop {
            let freed = self.freed.notified();
            let kept = self.inner.lock().kept.len() as u64;
            if kept == 0 || (kept + 1) * self.stripe_bytes(0) <= most_bytes {
                return;
            }
            self.economise();
            if (self.inner.lock().kept.len() as u64) < kept {
                continue;
            }
            freed.await;
        }
    }

    /// Memory that a stripe takes, parity included, in bytes.
    pub(super) fn stripe_bytes(&self, stripe: u32) -> u64 {
        let cells = self.layout.geometry().total() as u64;
        cells * self.layout.cell_len(stripe) as u64
    }

    /// The chunk's node has all cells below, or none are to be kept for it.
    pub(super) fn stored(&self, chunk: usize, below: u32) {
        let mut inner = self.inner.lock();
        inner.stored[chunk] = below;
        if !inner.keeps_all {
            inner.drop_stored(self.layout.stripes());
            drop(inner);
            self.freed.notify_waiters();
        }
    }

    fn is_ready(&self, stripe: u32, chunk: usize) -> bool {
        self.inner.lock().cell(stripe, chunk).is_some()
    }

    /// The cell, when it has come; `None` if it is not kept or will not come.
    pub(super) async fn cell(&self, stripe: u32, chunk: usize) -> Option<Cell> {
        let kept = loop {
            let came = self.came[chunk].notified();
            {
                let inner = self.inner.lock();
                if let Some(cell) = inner.cell(stripe, chunk) {
                    break cell.clone();
                }
                if inner.broken || stripe < inner.first {
                    return None;
                }
            }
            came.await;
        };
        let checksum = kept.checksum;
        Some(Cell {
            stripe,
            checksum: checksum
                .unwrap_or_else(|| self.descriptor(chunk).checksum(stripe, &kept.payload)),
            payload: kept.payload,
        })
    }
}

/// One chunk of an object that is written, and how it goes out.
pub(super) struct ChunkOf<'a, 'b> {
    pub(super) stripes: &'a Stripes<'b>,
    pub(super) plan: &'a Object,
    pub(super) room: &'a Reservation,
    pub(super) index: usize,
    pub(super) pace: Pace,
}

impl CellSource for ChunkOf<'_, '_> {
    async fn cell(&self, stripe: u32) -> Option<Cell> {
        self.stripes.cell(stripe, self.index).await
    }

    fn is_ready(&self, stripe: u32) -> bool {
        self.stripes.is_ready(stripe, self.index)
    }

    fn stored(&self, below: u32) {
        // the node counts the whole chunk from its first cell on, and says so
        self.room.settle();
        self.stripes.stored(self.index, below);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::{collection::vec, prelude::*};
    use scatterhoard_wire::{Epoch, Geometry, GeometryPolicy};

    use super::*;
    use crate::{
        codec::Backend,
        store::body::{Body, InMemory},
        value::Value,
    };

    const WRITE_ID: WriteId = WriteId {
        epoch: Epoch(3),
        counter: 7,
    };

    /// Cuts a value whole.
    fn cut<'a>(value: &Value, layout: Layout, codec: &'a Codec) -> Stripes<'a> {
        let (stripes, mut body) = (Stripes::new(WRITE_ID, layout, codec), InMemory::new(value));
        for stripe in 0..layout.stripes() {
            stripes.begin(Permit::default());
            for chunk in 0..layout.geometry().data() {
                let range = layout.data_range(stripe, chunk);
                let len = (range.end - range.start) as usize;
                let Ok(cell) = body
                    .next(len, layout.cell_len(stripe))
                    .now_or_never()
                    .unwrap();
                stripes.push(cell).unwrap();
            }
        }
        stripes
    }

    fn cell(stripes: &Stripes<'_>, stripe: u32, chunk: usize) -> Option<Bytes> {
        let cell = stripes.cell(stripe, chunk).now_or_never().flatten()?;
        let verifies = |c: &Cell| {
            stripes
                .descriptor(chunk)
                .verifies(stripe, c.checksum, &c.payload)
        };
        assert!(verifies(&cell));
        Some(cell.payload)
    }

    proptest! {
        #[test]
        fn cells_are_the_bytes_however_the_value_is_cut(
            cuts in vec(1usize..3000, 1..12), d in 1u8..=4, cell_bytes in 1u32..500
        ) {
            let full = Geometry::new(d, 2).unwrap();
            let codec = Codec::new(full, Backend::RustyErasure).unwrap();
            let size: usize = cuts.iter().sum();
            let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
            let mut at = 0;
            let segments = cuts.iter().map(|n| { at += n; Bytes::copy_from_slice(&bytes[at - n..at]) });
            let value = Value::from_segments(segments.collect());
            let layout = Layout::new(full, size as u64, cell_bytes).unwrap();
            let stripes = cut(&value, layout, &codec);
            for stripe in (0..layout.stripes()).rev() {
                let chunks: Vec<Bytes> =
                    (0..full.total()).map(|c| cell(&stripes, stripe, c).unwrap()).collect();
                prop_assert_eq!(&chunks[full.data()..], codec.parity(full, &chunks[..full.data()]).unwrap());
                for (chunk, cell) in chunks[..full.data()].iter().enumerate() {
                    let range = layout.data_range(stripe, chunk);
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
        let stripes = cut(&value, layout, &codec);
        for (i, segment) in segments.iter().enumerate() {
            let cell = cell(&stripes, i as u32 / 10, i % 10).unwrap();
            assert_eq!(cell.as_ptr(), segment.as_ptr());
        }
    }

    #[test]
    fn when_memory_is_scarce_only_what_a_node_lacks_is_kept() {
        let geometry = Geometry::new(2, 1).unwrap();
        let codec = Codec::new(geometry, Backend::RustyErasure).unwrap();
        let layout = Layout::new(geometry, 80, 10).unwrap();
        let value = Value::from(Bytes::from(vec![7; 80]));
        let stripes = cut(&value, layout, &codec);
        [4, 2, 3]
            .iter()
            .enumerate()
            .for_each(|(chunk, below)| stripes.stored(chunk, *below));
        assert!(stripes.is_whole());
        stripes.economise();
        assert!(cell(&stripes, 1, 1).is_none() && cell(&stripes, 2, 0).is_some());
        stripes.stored(1, 4);
        assert!(cell(&stripes, 2, 2).is_none() && cell(&stripes, 3, 2).is_some());
        assert!(!stripes.is_whole());
    }

    #[test]
    fn a_chunk_that_nobody_wanted_is_whole_for_who_asks_later() {
        let geometry = Geometry::new(2, 1).unwrap();
        let codec = Codec::new(geometry, Backend::RustyErasure).unwrap();
        let layout = Layout::new(geometry, 20, 10).unwrap();
        let stripes = Stripes::new(WRITE_ID, layout, &codec);
        (1..3).for_each(|chunk| stripes.stored(chunk, NOT_WANTED));
        stripes.begin(Permit::default());
        for fill in [1, 2] {
            stripes.push(Bytes::from(vec![fill; 10])).unwrap();
        }
        // a substitute: the node that was to have it did not take it
        assert_eq!(cell(&stripes, 0, 1), Some(Bytes::from(vec![2; 10])));
        assert!(cell(&stripes, 0, 2).is_some());
    }

    #[test]
    fn the_parity_of_a_stripe_that_was_let_go_is_forgotten() {
        let geometry = Geometry::new(3, 1).unwrap();
        for backend in [Backend::RustyErasure, Backend::ReedSolomonErasure] {
            let codec = Codec::new(geometry, backend).unwrap();
            let layout = Layout::new(geometry, 60, 10).unwrap();
            let stripes = Stripes::new(WRITE_ID, layout, &codec);
            (1..4).for_each(|chunk| stripes.stored(chunk, NOT_WANTED));
            stripes.economise();
            let push = |fill| stripes.push(Bytes::from(vec![fill; 10])).unwrap();
            stripes.begin(Permit::default());
            push(1);
            // the only node that wants any of it has its cell
            stripes.stored(0, 1);
            (2..4).for_each(push);
            stripes.begin(Permit::default());
            (4..7).for_each(push);
            let data: Vec<Bytes> = (0..3).map(|c| cell(&stripes, 1, c).unwrap()).collect();
            let parity = cell(&stripes, 1, 3).unwrap();
            assert_eq!(codec.parity(geometry, &data).unwrap(), [parity]);
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_cell_hears_of_it() {
        let geometry = Geometry::new(2, 2).unwrap();
        let codec = Codec::new(geometry, Backend::RustyErasure).unwrap();
        let stripes = Stripes::new(WRITE_ID, Layout::new(geometry, 20, 10).unwrap(), &codec);
        let waiting = futures_util::future::join_all((0..4).map(|c| stripes.cell(0, c)));
        let pushing = async {
            stripes.begin(Permit::default());
            for fill in [1, 2] {
                tokio::task::yield_now().await;
                stripes.push(Bytes::from(vec![fill; 10])).unwrap();
            }
        };
        let all = async { tokio::join!(waiting, pushing).0 };
        // a bound only to tell a hang
        let cells = tokio::time::timeout(std::time::Duration::from_secs(60), all).await;
        assert!(cells.unwrap().iter().all(Option::is_some));
    }

    #[test]
    fn nobody_waits_for_a_body_that_broke_off() {
        let geometry = Geometry::new(2, 1).unwrap();
        let codec = Codec::new(geometry, Backend::RustyErasure).unwrap();
        let stripes = Stripes::new(WRITE_ID, Layout::new(geometry, 40, 10).unwrap(), &codec);
        assert!(stripes.cell(0, 0).now_or_never().is_none());
        stripes.break_off();
        assert_eq!(stripes.cell(0, 0).now_or_never(), Some(None));
    }
}
