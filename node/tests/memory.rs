//! What the kernel has given this process, against what a node claims to hold.
//! Alone in its file: the figure is the whole process's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::{BufMut, Bytes};
use scatterhoard_node::store::ChunkStore;
use scatterhoard_wire::{
    ChunkDescriptor, ChunkId, Epoch, Geometry, Layout, WriteId, message::Refusal,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MEMORY_BYTES: u64 = 128 << 20;
/// As `instance::budget_bytes` has it.
const BUDGET_BYTES: u64 = 96 << 20;
const CELL_BYTES: u32 = 256 << 10;

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn chunk(counter: u64, size: u64) -> ChunkDescriptor {
    let write_id = WriteId {
        epoch: Epoch(1),
        counter,
    };
    ChunkDescriptor {
        id: ChunkId { write_id, index: 0 },
        layout: Layout::new(Geometry::new(1, 2).unwrap(), size, CELL_BYTES).unwrap(),
    }
}

fn receive(store: &mut ChunkStore, chunk: &ChunkDescriptor) -> Result<(), Refusal> {
    for stripe in 0..chunk.layout.stripes() {
        let len = chunk.layout.cell_len(stripe);
        let mut buffer = store.buffer(len);
        buffer.put_bytes(stripe as u8, len);
        store.put(chunk, chunk.cell(stripe, buffer.freeze()))?;
        // read as well: each cell has a count of its readers from then on
        let read = store.cell(chunk.id, stripe).map(|cell| cell.payload);
        drop::<Option<Bytes>>(read);
    }
    Ok(())
}

#[test]
fn a_full_node_stays_below_its_memory() {
    let before = resident_bytes();
    let mut store = ChunkStore::new(BUDGET_BYTES);
    // sizes that the allocator rounds most, and those of 1 and 10 MB objects
    let sizes = [
        1025, 4100, 8200, 16_500, 33_000, 66_000, 131_073, 250_000, 1_000_000,
    ];
    let (mut oldest, mut peak) = (0, 0);
    // full, and then the oldest for the newest, several times over
    for next in 0..2500 {
        let chunk = chunk(next, sizes[next as usize % sizes.len()]);
        while receive(&mut store, &chunk) == Err(Refusal::Full) {
            store.delete(&[self::chunk(oldest, 1).id.write_id]);
            oldest += 1;
        }
        peak = peak.max(resident_bytes() - before);
    }
    let held = store.held().bytes;
    println!("{held} bytes held, at most {peak} resident");
    assert!(oldest > 1500 && held > BUDGET_BYTES - (2 << 20));
    assert!(peak < MEMORY_BYTES, "{peak} resident");
}
