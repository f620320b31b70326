//! The node's store against a map that keeps everything.

use std::collections::BTreeMap;

use bytes::Bytes;
use scatterhoard_wire::{
    Cell, ChunkDescriptor, ChunkId, Epoch, Geometry, Layout, WriteId, message::Refusal,
};

use scatterhoard_node::store::ChunkStore;

use crate::input::Input;

const BUDGET_BYTES: u64 = 20_000;

#[derive(Default)]
struct Model(BTreeMap<ChunkId, (ChunkDescriptor, BTreeMap<u32, Bytes>)>);

impl Model {
    fn bytes(&self) -> u64 {
        self.0
            .values()
            .map(|(d, _)| d.layout.accounted_bytes())
            .sum()
    }

    fn is_complete(&self, id: ChunkId) -> bool {
        let chunk = self.0.get(&id);
        chunk.is_some_and(|(d, cells)| cells.len() == d.layout.stripes() as usize)
    }

    fn put(&mut self, chunk: &ChunkDescriptor, cell: &Cell) -> Result<bool, Refusal> {
        if !chunk.verifies(cell.stripe, cell.checksum, &cell.payload) {
            return Err(Refusal::BadCell);
        }
        let bytes = chunk.layout.accounted_bytes();
        if !self.0.contains_key(&chunk.id) && bytes > BUDGET_BYTES - self.bytes() {
            return Err(Refusal::Full);
        }
        let (known, cells) = self.0.entry(chunk.id).or_insert((*chunk, BTreeMap::new()));
        if known != chunk {
            return Err(Refusal::BadCell);
        }
        cells.entry(cell.stripe).or_insert(cell.payload.clone());
        Ok(self.is_complete(chunk.id))
    }
}

/// Does what `data` says to both, and compares.
pub fn check(data: &[u8]) {
    let (mut input, mut store) = (Input(data), ChunkStore::new(BUDGET_BYTES));
    let mut model = Model::default();
    while !input.is_empty() {
        let op = input.u8();
        let write_id = WriteId {
            epoch: Epoch(u64::from(op >> 6)),
            counter: u64::from(input.u8() % 8),
        };
        match op % 16 {
            0 => {
                store.delete(&[write_id]);
                model.0.retain(|id, _| id.write_id != write_id);
            }
            1 => {
                store.delete_below(write_id);
                model.0.retain(|id, _| id.write_id >= write_id);
            }
            2 => {
                store.drop_unfinished_below(write_id.epoch);
                model.0.retain(|id, (chunk, cells)| {
                    let complete = cells.len() == chunk.layout.stripes() as usize;
                    complete || id.write_id.epoch >= write_id.epoch
                });
            }
            _ => put(&mut input, write_id, &mut store, &mut model),
        }
        compare(&store, &model);
    }
}

fn put(input: &mut Input<'_>, write_id: WriteId, store: &mut ChunkStore, model: &mut Model) {
    let (size, cell_bytes) = (u64::from(input.u16()), 1 + u32::from(input.u8()) * 16);
    let shape = input.u8();
    let Ok(geometry) = Geometry::new(1 + shape % 3, shape / 128) else {
        return;
    };
    let Ok(layout) = Layout::new(geometry, size, cell_bytes) else {
        return;
    };
    let index = input.u8() % geometry.total() as u8;
    let chunk = ChunkDescriptor {
        id: ChunkId { write_id, index },
        layout,
    };
    let stripe = u32::from(input.u8() % 8);
    let len = layout.cell_len(stripe).min(1 << 16);
    let mut cell = chunk.cell(stripe, Bytes::from(vec![shape; len]));
    if input.u8() == 7 {
        cell.checksum ^= 1;
    }
    let expected = model.put(&chunk, &cell);
    assert_eq!(store.put(&chunk, cell), expected);
}

fn compare(store: &ChunkStore, model: &Model) {
    let held = store.held();
    assert_eq!(held.bytes, model.bytes());
    assert_eq!(held.chunks as usize, model.0.len());
    assert!(held.bytes <= held.budget_bytes);
    let complete = model.0.keys().filter(|id| model.is_complete(**id));
    let (listed, more) = store.list(None, usize::MAX);
    assert!(!more && listed.iter().map(|d| &d.id).eq(complete));
    for (id, (chunk, cells)) in &model.0 {
        for (stripe, payload) in cells {
            match store.cell(*id, *stripe) {
                Some(cell) => {
                    assert!(chunk.verifies(cell.stripe, cell.checksum, &cell.payload));
                    assert!(model.is_complete(*id) && cell.payload == payload);
                }
                None => assert!(!model.is_complete(*id)),
            }
        }
    }
}
