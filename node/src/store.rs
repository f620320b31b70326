//! Chunks in memory, by write id. Immutable once complete; never beyond the
//! budget; bytes are counted before they are kept.

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;
use scatterhoard_wire::{
    Cell, ChunkDescriptor, ChunkId, Epoch, WriteId,
    message::{Held, Refusal},
};

#[derive(Clone, Debug)]
struct StoredCell {
    checksum: u32,
    payload: Bytes,
}

/// One chunk, complete or still arriving.
#[derive(Debug)]
struct Chunk {
    descriptor: ChunkDescriptor,
    cells: Vec<Option<StoredCell>>,
    present: u32,
}

impl Chunk {
    fn is_complete(&self) -> bool {
        self.present == self.descriptor.layout.stripes()
    }
}

/// The chunks of one instance.
#[derive(Debug)]
pub struct ChunkStore {
    chunks: BTreeMap<ChunkId, Chunk>,
    bytes: u64,
    budget_bytes: u64,
}

impl ChunkStore {
    /// An empty store that holds at most `budget_bytes`, bookkeeping included
    /// (see `Layout::accounted_bytes`).
    pub fn new(budget_bytes: u64) -> Self {
        Self {
            chunks: BTreeMap::new(),
            bytes: 0,
            budget_bytes,
        }
    }

    /// What is held, for the proxy's accounts.
    pub fn held(&self) -> Held {
        let chunks = u32::try_from(self.chunks.len()).unwrap_or(u32::MAX);
        Held {
            bytes: self.bytes,
            budget_bytes: self.budget_bytes,
            chunks,
        }
    }

    /// Keeps a cell; says whether its chunk is complete now. A cell that is
    /// already there is left as it is. The first cell of a chunk counts the
    /// whole chunk against the budget.
    pub fn put(&mut self, descriptor: &ChunkDescriptor, cell: Cell) -> Result<bool, Refusal> {
        if !descriptor.verifies(cell.stripe, cell.checksum, &cell.payload) {
            return Err(Refusal::BadCell);
        }
        let chunk = match self.chunks.entry(descriptor.id) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(slot) => {
                let bytes = descriptor.layout.accounted_bytes();
                if bytes > self.budget_bytes - self.bytes {
                    return Err(Refusal::Full);
                }
                self.bytes += bytes;
                let cells = vec![None; descriptor.layout.stripes() as usize];
                slot.insert(Chunk {
                    descriptor: *descriptor,
                    cells,
                    present: 0,
                })
            }
        };
        if chunk.descriptor != *descriptor {
            return Err(Refusal::BadCell);
        }
        let slot = chunk
            .cells
            .get_mut(cell.stripe as usize)
            .ok_or(Refusal::BadCell)?;
        if slot.is_none() {
            *slot = Some(StoredCell {
                checksum: cell.checksum,
                payload: cell.payload,
            });
            chunk.present += 1;
        }
        Ok(chunk.is_complete())
    }

    /// One cell of a complete chunk; none if the chunk is missing, incomplete
    /// or has no such stripe.
    pub fn cell(&self, id: ChunkId, stripe: u32) -> Option<Cell> {
        let chunk = self.chunks.get(&id).filter(|c| c.is_complete())?;
        let stored = chunk.cells.get(stripe as usize)?.as_ref()?;
        Some(Cell {
            stripe,
            checksum: stored.checksum,
            payload: stored.payload.clone(),
        })
    }

    /// Frees every chunk of these write ids.
    pub fn delete(&mut self, ids: &[WriteId]) {
        for &write_id in ids {
            let first = ChunkId { write_id, index: 0 };
            let last = ChunkId {
                write_id,
                index: u8::MAX,
            };
            let doomed: Vec<ChunkId> = self.chunks.range(first..=last).map(|(id, _)| *id).collect();
            doomed.iter().for_each(|id| self.remove(*id));
        }
    }

    /// Frees every chunk whose write id is below `floor`.
    pub fn delete_below(&mut self, floor: WriteId) {
        let kept = self.chunks.split_off(&ChunkId {
            write_id: floor,
            index: 0,
        });
        let doomed = std::mem::replace(&mut self.chunks, kept);
        self.bytes -= doomed
            .values()
            .map(|c| c.descriptor.layout.accounted_bytes())
            .sum::<u64>();
    }

    /// Frees what was begun, but not finished, before `epoch`.
    pub fn drop_unfinished_below(&mut self, epoch: Epoch) {
        let unfinished = self.chunks.values().filter(|c| !c.is_complete());
        let doomed: Vec<ChunkId> = unfinished
            .map(|c| c.descriptor.id)
            .filter(|id| id.write_id.epoch < epoch)
            .collect();
        doomed.iter().for_each(|id| self.remove(*id));
    }

    /// Complete chunks behind `after` in order of their ids, at most `max`, and
    /// whether there are more.
    pub fn list(&self, after: Option<ChunkId>, max: usize) -> (Vec<ChunkDescriptor>, bool) {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut rest = self
            .chunks
            .range((from, std::ops::Bound::Unbounded))
            .map(|(_, c)| c)
            .filter(|c| c.is_complete());
        let page: Vec<ChunkDescriptor> = rest.by_ref().take(max).map(|c| c.descriptor).collect();
        (page, rest.next().is_some())
    }

    fn remove(&mut self, id: ChunkId) {
        if let Some(chunk) = self.chunks.remove(&id) {
            self.bytes -= chunk.descriptor.layout.accounted_bytes();
        }
    }
}

#[cfg(test)]
mod tests;
