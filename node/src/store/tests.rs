use bytes::BufMut;
use proptest::{collection::vec, prelude::*};
use scatterhoard_wire::{
    Geometry, buffer_bytes,
    message::Message,
    stream::{Assembler, HEAD_BYTES, SendQueue},
};

use super::*;

fn write_id(counter: u64) -> WriteId {
    WriteId {
        epoch: Epoch(1 + counter % 3),
        counter,
    }
}

fn descriptor(counter: u64, index: u8, size: u64) -> ChunkDescriptor {
    let layout = Layout::new(Geometry::new(2, 1).unwrap(), size, 100).unwrap();
    ChunkDescriptor {
        id: ChunkId {
            write_id: write_id(counter),
            index,
        },
        layout,
    }
}

fn cell(d: &ChunkDescriptor, stripe: u32) -> Cell {
    let fill = (d.id.write_id.counter as u8) ^ d.id.index ^ stripe as u8;
    d.cell(stripe, Bytes::from(vec![fill; d.layout.cell_len(stripe)]))
}

fn put_all(store: &mut ChunkStore, d: &ChunkDescriptor) -> Result<bool, Refusal> {
    (0..d.layout.stripes())
        .map(|s| store.put(d, cell(d, s)))
        .last()
        .unwrap()
}

#[test]
fn only_complete_chunks_are_served() {
    let mut store = ChunkStore::new(1 << 20);
    let d = descriptor(1, 0, 500);
    assert_eq!(store.put(&d, cell(&d, 0)), Ok(false));
    assert!(store.cell(d.id, 0).is_none());
    assert_eq!(store.put(&d, cell(&d, 2)), Ok(false));
    assert_eq!(
        store.put(&d, cell(&d, 2)),
        Ok(false),
        "twice the same cell is one cell"
    );
    assert_eq!(store.put(&d, cell(&d, 1)), Ok(true));
    assert_eq!(store.cell(d.id, 2), Some(cell(&d, 2)));
    assert!(store.cell(d.id, 3).is_none());
}

#[test]
fn bad_cells_are_refused() {
    let mut store = ChunkStore::new(1 << 20);
    let d = descriptor(1, 0, 500);
    let mut flipped = cell(&d, 0);
    flipped.checksum ^= 1;
    assert_eq!(store.put(&d, flipped), Err(Refusal::BadCell));
    let beyond = d.cell(3, Bytes::from_static(b"x"));
    assert_eq!(store.put(&d, beyond), Err(Refusal::BadCell));
    store.put(&d, cell(&d, 0)).unwrap();
    let other = descriptor(1, 0, 501);
    assert_eq!(
        store.put(&other, cell(&other, 1)),
        Err(Refusal::BadCell),
        "one id, two layouts"
    );
}

#[test]
fn a_hostile_layout_cannot_allocate_beyond_the_budget() {
    let mut store = ChunkStore::new(1 << 20);
    let layout = Layout::new(Geometry::new(1, 0).unwrap(), 8 << 30, 1).unwrap();
    let d = ChunkDescriptor {
        id: ChunkId {
            write_id: write_id(1),
            index: 0,
        },
        layout,
    };
    assert_eq!(
        store.put(&d, d.cell(0, Bytes::from_static(b"x"))),
        Err(Refusal::Full)
    );
    assert_eq!(store.held().bytes, 0);
}

#[test]
fn a_new_epoch_drops_what_is_unfinished() {
    let mut store = ChunkStore::new(1 << 20);
    let (whole, half) = (descriptor(3, 0, 500), descriptor(6, 0, 500));
    put_all(&mut store, &whole).unwrap();
    store.put(&half, cell(&half, 0)).unwrap();
    store.drop_unfinished_below(Epoch(9));
    assert_eq!(store.held().chunks, 1);
    assert!(store.cell(whole.id, 0).is_some());
}

#[test]
fn listing_pages_are_in_order_and_complete() {
    let mut store = ChunkStore::new(1 << 20);
    (0..10).for_each(|i| assert_eq!(put_all(&mut store, &descriptor(3 * i, 1, 90)), Ok(true)));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let (page, more) = store.list(after, 3);
        seen.extend(page.iter().map(|d| d.id));
        after = seen.last().copied();
        if !more {
            break;
        }
    }
    assert_eq!(seen.len(), 10);
    assert!(seen.is_sorted());
}

proptest! {
    #[test]
    fn accounts_are_exact(
        ops in vec((0u8..4, 0u64..12, 0u8..3, 1u64..900), 1..80), budget in 500u64..20_000
    ) {
        let mut store = ChunkStore::new(budget);
        for (op, counter, index, size) in ops {
            match op {
                0 => store.delete(&[write_id(counter)]),
                1 => store.delete_below(write_id(counter)),
                2 => { let d = descriptor(counter, index, size); let _ = store.put(&d, cell(&d, 0)); }
                _ => { let _ = put_all(&mut store, &descriptor(counter, index, size)); }
            }
            let sum: u64 = store.chunks.values().map(|c| c.layout.accounted_bytes()).sum();
            prop_assert_eq!(store.held().bytes, sum);
            prop_assert!(sum <= budget);
        }
        store.delete_below(WriteId { epoch: Epoch(u64::MAX), counter: 0 });
        prop_assert_eq!(store.held().bytes, 0);
    }
}

/// A whole copy in cells of at most `cell_bytes`.
fn large(counter: u64, size: u64, cell_bytes: u32) -> ChunkDescriptor {
    let mut d = descriptor(counter, 0, 1);
    d.layout = Layout::new(Geometry::new(1, 2).unwrap(), size, cell_bytes).unwrap();
    d
}

fn receive_all(store: &mut ChunkStore, d: &ChunkDescriptor) -> Result<bool, Refusal> {
    receive(store, d, u32::MAX)
}

/// The first `cells`, as a link does it: each in a buffer of the store's.
fn receive(store: &mut ChunkStore, d: &ChunkDescriptor, cells: u32) -> Result<bool, Refusal> {
    let mut outcome = Ok(false);
    for stripe in 0..d.layout.stripes().min(cells) {
        let len = d.layout.cell_len(stripe);
        let mut buffer = store.buffer(len);
        buffer.put_bytes(stripe as u8, len);
        outcome = store.put(d, d.cell(stripe, buffer.freeze()));
        outcome?;
    }
    outcome
}

/// What a chunk takes in a `BTreeMap` whose nodes all have the fewest entries,
/// 5 of 11; an inner node has 6 children or more.
fn entry_bytes() -> u64 {
    let leaf = 11 * size_of::<(ChunkId, Chunk)>() + 16;
    let inner = leaf + 12 * size_of::<usize>();
    let (leaf, inner) = (buffer_bytes(leaf) as u64, buffer_bytes(inner) as u64);
    (leaf / 5).max((5 * leaf + inner) / 30) + 1
}

/// The memory of all chunks, as the allocator rounds it. Cells that were sent
/// have a count of their readers, three words.
fn really_held(store: ChunkStore) -> u64 {
    let entries = store.chunks.len() as u64 * entry_bytes();
    let readers = buffer_bytes(3 * size_of::<usize>());
    let chunk = |chunk: Chunk| {
        let cells = buffer_bytes(size_of_val(&*chunk.cells));
        let cell = |cell: StoredCell| {
            let mut buffer = cell.payload.try_into_mut().unwrap();
            // a payload may begin behind the beginning of its buffer
            buffer.clear();
            let _ = buffer.try_reclaim(buffer.capacity() + 1);
            buffer_bytes(buffer.capacity()) + readers
        };
        cells + chunk.cells.into_iter().flatten().map(cell).sum::<usize>()
    };
    entries + store.chunks.into_values().map(chunk).sum::<usize>() as u64
}

#[test]
fn no_chunk_holds_more_than_is_claimed_for_it() {
    let sizes = [
        1, 60, 100, 1000, 1025, 4097, 5000, 16_384, 16_385, 70_000, 250_000, 262_144, 900_001,
    ];
    for cell_bytes in [40, 1 << 10, 33_000, 256 << 10] {
        for size in sizes {
            let mut store = ChunkStore::new(64 << 20);
            let one = |i: u64| large(3 * i, size, cell_bytes);
            // half of them again, so that buffers are used again
            (0..8).for_each(|i| assert_eq!(receive_all(&mut store, &one(i)), Ok(true)));
            (0..4).for_each(|i| store.delete(&[one(i).id.write_id]));
            (8..12).for_each(|i| assert_eq!(receive_all(&mut store, &one(i)), Ok(true)));
            let claimed = store.held().bytes;
            assert_eq!(claimed, 8 * one(0).layout.accounted_bytes());
            let held = really_held(store);
            assert!(
                held <= claimed,
                "{size} in {cell_bytes}: {held} of {claimed}"
            );
            // nor is much more claimed: bookkeeping of many tiny cells, at most
            let bookkeeping = 8 * (60 + 40 * size.div_ceil(cell_bytes.into()));
            assert!(claimed - held <= bookkeeping, "{size} in {cell_bytes}");
        }
    }
}

#[test]
fn a_payload_is_sent_from_where_it_was_received() {
    let (mut store, d) = (ChunkStore::new(8 << 20), large(3, 200_000, 1 << 20));
    let mut wire = SendQueue::default();
    let cell = d.cell(0, Bytes::from(vec![9; 200_000]));
    let message = Message::Put {
        chunk: d,
        stripe: 0,
        checksum: cell.checksum,
        last: true,
    };
    wire.push(1, &message, cell.payload);
    let mut place = None;
    for _ in 0..2 {
        let (mut assembler, mut stream) = (Assembler::default(), Vec::new());
        let mut slices = [std::io::IoSlice::new(&[]); 2];
        wire.slices(&mut slices);
        slices.iter().for_each(|s| stream.extend_from_slice(s));
        let (mut at, mut received) = (0, None);
        let frame = loop {
            let next = assembler.next_frame_into(|len| store.buffer(len)).unwrap();
            if let Some(frame) = next {
                break frame;
            }
            let direct = assembler.arriving().is_some();
            let mut spare = assembler.spare();
            if direct && received.is_none() {
                // what came with the header was copied, and only that
                assert_eq!(at, HEAD_BYTES);
                let copied = at - (stream.len() - 200_000);
                received = Some(spare.chunk_mut().as_mut_ptr().addr() - copied);
            }
            let n = spare.remaining_mut().min(stream.len() - at);
            spare.put_slice(&stream[at..at + n]);
            assembler.filled(n);
            at += n;
        };
        let payload = frame.payload.freeze();
        assert_eq!(store.put(&d, d.cell(0, payload)), Ok(true));
        let mut out = SendQueue::default();
        let cell = store.cell(d.id, 0).unwrap();
        let message = Message::Cell {
            stripe: 0,
            checksum: cell.checksum,
        };
        out.push(1, &message, cell.payload);
        let mut slices = [std::io::IoSlice::new(&[]); 2];
        assert_eq!(out.slices(&mut slices), 2);
        assert_eq!(Some(slices[1].as_ptr().addr()), received);
        // and the next cell is received there as well
        assert_eq!(place.replace(received).unwrap_or(received), received);
        drop(out);
        store.delete(&[d.id.write_id]);
    }
}

#[test]
fn a_full_store_uses_the_buffers_of_one_chunk_for_the_next() {
    let one = large(0, 1_000_000, 256 << 10).layout.accounted_bytes();
    let mut store = ChunkStore::new(10 * one);
    let chunk = |i: u64| large(3 * i, 1_000_000, 256 << 10);
    (0..10).for_each(|i| assert_eq!(receive_all(&mut store, &chunk(i)), Ok(true)));
    let places = |store: &ChunkStore, i| -> Vec<usize> {
        let cell = |stripe| store.cell(chunk(i).id, stripe).unwrap().payload;
        (0..4).map(|stripe| cell(stripe).as_ptr().addr()).collect()
    };
    let mut before = places(&store, 0);
    store.delete(&[chunk(0).id.write_id]);
    assert_eq!(receive_all(&mut store, &chunk(10)), Ok(true));
    let mut after = places(&store, 10);
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(before, after);
    assert_eq!(store.slab.bytes(), 0);
}

#[test]
fn a_cell_that_is_being_sent_outlives_its_chunk() {
    let (mut store, d) = (ChunkStore::new(8 << 20), large(3, 200_000, 1 << 20));
    receive_all(&mut store, &d).unwrap();
    let sent = store.cell(d.id, 0).unwrap();
    store.delete(&[d.id.write_id]);
    assert_eq!((store.held().bytes, store.slab.bytes()), (0, 0));
    receive_all(&mut store, &large(4, 200_000, 1 << 20)).unwrap();
    assert!(d.verifies(0, sent.checksum, &sent.payload));
}

proptest! {
    #[test]
    fn chunks_and_free_buffers_share_the_budget(
        ops in vec((0u8..6, 0u64..8, 0usize..4), 1..60), budget in 500_000u64..3_000_000
    ) {
        let mut store = ChunkStore::new(budget);
        for (op, counter, kind) in ops {
            match op {
                0 => store.delete(&[write_id(counter)]),
                1 => store.delete_below(write_id(counter)),
                2 => store.drop_unfinished_below(Epoch(2)),
                _ => {
                    let d = large(counter, [20_000, 60_000, 90_000, 400_000][kind], 60_000);
                    // whole, or its first cells
                    let cells = if op == 3 { 1 + kind as u32 } else { u32::MAX };
                    let _ = receive(&mut store, &d, cells);
                }
            }
            let to_come: u64 = store.chunks.values().map(Chunk::to_come_bytes).sum();
            prop_assert_eq!(store.to_come_bytes, to_come);
            prop_assert!(store.held().bytes - to_come + store.slab.bytes() <= budget);
        }
        let claimed = store.held().bytes;
        prop_assert!(really_held(store) <= claimed);
    }
}

fn label(object: u64, value: u64, len: usize) -> Label {
    Label {
        id: LabelId {
            object: write_id(object),
            value: write_id(value),
        },
        text: vec![value as u8; len],
    }
}

#[test]
fn labels_live_with_their_chunks_and_within_the_budget() {
    let mut store = ChunkStore::new(19_000);
    let [a, b] = [1, 2].map(|i| descriptor(i, 0, 500));
    store.label(label(1, 1, 50));
    assert_eq!(store.held().bytes, 0, "nothing that it would be a label of");
    put_all(&mut store, &a).unwrap();
    put_all(&mut store, &b).unwrap();
    let chunks = store.held().bytes;
    store.label(label(1, 1, 50));
    store.label(label(1, 1, 60));
    for value in 10..20 {
        store.label(label(2, value, 40));
    }
    let (labels, more) = store.list_labels(None);
    assert_eq!((labels.len(), more), (11, false));
    assert_eq!(store.list_labels(Some(labels[4].id)).0, labels[5..]);
    let (sums, more) = store.sum_labels(None);
    assert_eq!((sums.len(), more), (2, false));
    let sum_of = |id: WriteId| {
        let own = labels.iter().filter(|l| l.id.object == id);
        let sums = own.map(|l| scatterhoard_wire::checksum::label(l.id, &l.text));
        (id, sums.fold(0, u32::wrapping_add))
    };
    assert!(sums.iter().all(|(id, sum)| sum_of(*id) == (*id, *sum)));
    assert_eq!(store.sum_labels(Some(sums[0].0)).0, sums[1..]);
    let full = store.held().bytes;
    store.label(label(2, 99, 16 << 10));
    assert_eq!(store.held().bytes, full, "no room");
    store.unlabel(&[write_id(1)]);
    assert_eq!(store.list_labels(None).0.len(), 10);
    store.delete(&[write_id(1)]);
    store.delete_below(WriteId {
        epoch: Epoch(9),
        counter: 0,
    });
    assert!(chunks > 0 && store.held().bytes == 0);
    assert!(store.list_labels(None).0.is_empty());
}

#[test]
fn pages_of_labels_fit_a_frame() {
    let mut store = ChunkStore::new(20 << 20);
    put_all(&mut store, &descriptor(1, 0, 500)).unwrap();
    for value in 0..1000 {
        let len = if value % 3 == 0 { 16 << 10 } else { 3 };
        store.label(label(1, value, len));
    }
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (labels, more) = store.list_labels(after);
        let mut out = BytesMut::new();
        let page = Message::Labels {
            labels: labels.clone(),
            more,
        };
        scatterhoard_wire::frame::encode(scatterhoard_wire::SPOKEN.newest(), &page, 1, 0, &mut out);
        assert!(out.len() < 64 << 10);
        all.extend(labels);
        after = all.last().map(|l: &Label| l.id);
        if !more {
            break;
        }
    }
    assert_eq!(all.len(), 1000);
}
