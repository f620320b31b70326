use proptest::{collection::vec, prelude::*};
use scatterhoard_wire::{Geometry, Layout};

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
            let sum: u64 = store.chunks.values().map(|c| c.descriptor.layout.accounted_bytes()).sum();
            prop_assert_eq!(store.held().bytes, sum);
            prop_assert!(sum <= budget);
        }
        store.delete_below(WriteId { epoch: Epoch(u64::MAX), counter: 0 });
        prop_assert_eq!(store.held().bytes, 0);
    }
}
