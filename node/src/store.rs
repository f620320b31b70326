//! Chunks in memory, by write id. Immutable once complete; never beyond the
//! budget; bytes are counted before they are kept. Buffers of freed cells are
//! used again. They may have all that chunks leave of the budget, for a full
//! pool tells its nodes of hundreds of MB at once that are garbage, and takes
//! the room again within seconds; chunks that need the room get it.

mod labels;
mod slab;

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::{Bytes, BytesMut};
use scatterhoard_wire::{
    Cell, ChunkDescriptor, ChunkId, Epoch, LabelId, Layout, WriteId, buffer_bytes,
    limits::LIST_PAGE,
    message::{Held, Label, Refusal},
};

use labels::Labels;
use slab::Slab;

#[derive(Clone, Debug)]
struct StoredCell {
    checksum: u32,
    payload: Bytes,
}

/// One chunk, complete or still arriving. Its size counts for every small
/// object: what `Layout::accounted_bytes` claims follows it.
#[derive(Debug)]
struct Chunk {
    layout: Layout,
    cells: Box<[Option<StoredCell>]>,
    present: u32,
}

impl Chunk {
    fn is_complete(&self) -> bool {
        self.present == self.layout.stripes()
    }

    /// What is counted for it, but not taken yet: buffers of cells to come.
    fn to_come_bytes(&self) -> u64 {
        let missing = (0..).zip(&self.cells).filter(|(_, cell)| cell.is_none());
        missing
            .map(|(stripe, _)| buffer_bytes(self.layout.cell_len(stripe)) as u64)
            .sum()
    }

    /// Its buffers; those still on their way to the proxy are not kept.
    fn recycle(self, slab: &mut Slab) {
        let cells = self.cells.into_iter().flatten();
        cells.for_each(|cell| slab.keep(cell.payload));
    }
}

/// The chunks of one instance.
#[derive(Debug)]
pub struct ChunkStore {
    chunks: BTreeMap<ChunkId, Chunk>,
    bytes: u64,
    /// The part of `bytes` that has not come: free buffers may have it so long,
    /// or a full node would give up the very ones that the next cells need.
    to_come_bytes: u64,
    budget_bytes: u64,
    slab: Slab,
    labels: Labels,
}

impl ChunkStore {
    /// An empty store that holds at most `budget_bytes`, bookkeeping included
    /// (see `Layout::accounted_bytes`). The one cell that is arriving and those
    /// being sent while their chunk is deleted come on top.
    pub fn new(budget_bytes: u64) -> Self {
        Self {
            chunks: BTreeMap::new(),
            bytes: 0,
            to_come_bytes: 0,
            budget_bytes,
            slab: Slab::default(),
            labels: Labels::default(),
        }
    }

    /// An empty buffer for an arriving cell of `len` bytes. Cells in other
    /// buffers can be put as well, but theirs are not used again.
    pub fn buffer(&mut self, len: usize) -> BytesMut {
        self.slab.take(len)
    }

    /// What is held, for the proxy's accounts: free buffers are not.
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
                let chunk = Chunk {
                    layout: descriptor.layout,
                    cells: cells.into_boxed_slice(),
                    present: 0,
                };
                self.to_come_bytes += chunk.to_come_bytes();
                slot.insert(chunk)
            }
        };
        if chunk.layout != descriptor.layout {
            return Err(Refusal::BadCell);
        }
        let slot = chunk
            .cells
            .get_mut(cell.stripe as usize)
            .ok_or(Refusal::BadCell)?;
        if slot.is_none() {
            self.to_come_bytes -= buffer_bytes(cell.payload.len()) as u64;
            *slot = Some(StoredCell {
                checksum: cell.checksum,
                payload: cell.payload,
            });
            chunk.present += 1;
        }
        let complete = chunk.is_complete();
        self.slab.shrink_to(self.room_bytes());
        Ok(complete)
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
        self.unlabel(ids);
    }

    /// Keeps a label of an object of which it has a complete chunk, if there is
    /// room.
    pub fn label(&mut self, label: Label) {
        let bytes = Labels::bytes_of(&label);
        let write_id = label.id.object;
        let first = ChunkId { write_id, index: 0 };
        let last = ChunkId {
            write_id,
            index: u8::MAX,
        };
        let mut chunks = self.chunks.range(first..=last);
        if chunks.any(|(_, c)| c.is_complete()) && bytes <= self.budget_bytes - self.bytes {
            self.bytes += bytes;
            self.bytes -= self.labels.put(label);
            self.slab.shrink_to(self.room_bytes());
        }
    }

    /// Drops the labels of these objects.
    pub fn unlabel(&mut self, ids: &[WriteId]) {
        for id in ids {
            self.bytes -= self.labels.drop_of(*id);
        }
    }

    /// A page of the labels behind `after`, and whether there are more.
    pub fn list_labels(&self, after: Option<LabelId>) -> (Vec<Label>, bool) {
        self.labels.list(after)
    }

    /// For each object behind `after` that has labels the sum of their checksums,
    /// a page of them, and whether there are more.
    pub fn sum_labels(&self, after: Option<WriteId>) -> (Vec<(WriteId, u32)>, bool) {
        self.labels.sums(after, LIST_PAGE)
    }

    /// Frees every chunk whose write id is below `floor`.
    pub fn delete_below(&mut self, floor: WriteId) {
        let kept = self.chunks.split_off(&ChunkId {
            write_id: floor,
            index: 0,
        });
        let doomed = std::mem::replace(&mut self.chunks, kept);
        for (id, chunk) in doomed {
            self.free(chunk);
            self.unlabel(&[id.write_id]);
        }
    }

    /// Frees what was begun, but not finished, before `epoch`.
    pub fn drop_unfinished_below(&mut self, epoch: Epoch) {
        let unfinished = self.chunks.iter().filter(|(_, c)| !c.is_complete());
        let doomed: Vec<ChunkId> = unfinished
            .map(|(id, _)| *id)
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
            .filter(|(_, c)| c.is_complete())
            .map(|(&id, c)| ChunkDescriptor {
                id,
                layout: c.layout,
            });
        let page: Vec<ChunkDescriptor> = rest.by_ref().take(max).collect();
        (page, rest.next().is_some())
    }

    fn remove(&mut self, id: ChunkId) {
        if let Some(chunk) = self.chunks.remove(&id) {
            self.free(chunk);
        }
    }

    fn free(&mut self, chunk: Chunk) {
        self.bytes -= chunk.layout.accounted_bytes();
        self.to_come_bytes -= chunk.to_come_bytes();
        chunk.recycle(&mut self.slab);
        self.slab.shrink_to(self.room_bytes());
    }

    /// What chunks leave of the budget at present.
    fn room_bytes(&self) -> u64 {
        self.budget_bytes - (self.bytes - self.to_come_bytes)
    }
}

#[cfg(test)]
mod tests;
