//! What the index knows of one object.

use scatterhoard_wire::{ChunkDescriptor, ChunkId, Layout, NodeId, WriteId};

/// Stands in a placement for a chunk that no node holds.
const NOWHERE: NodeId = NodeId(u16::MAX);

/// One committed write: what a key means until it is written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Names the write attempt, and so its chunks.
    pub write_id: WriteId,
    /// How it is cut.
    pub layout: Layout,
    placement: Box<[NodeId]>,
}

impl Object {
    /// An object whose chunk `i` is on `placement[i]`; `None` where no node
    /// took it. An empty object has no chunks and an empty placement.
    pub fn new(write_id: WriteId, layout: Layout, placement: Vec<Option<NodeId>>) -> Self {
        let placement = placement
            .into_iter()
            .map(|n| n.unwrap_or(NOWHERE))
            .collect();
        Self {
            write_id,
            layout,
            placement,
        }
    }

    /// Length of the value in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.layout.size_bytes()
    }

    /// Where chunk `index` is.
    pub fn node(&self, index: usize) -> Option<NodeId> {
        self.placement.get(index).copied().filter(|n| *n != NOWHERE)
    }

    /// All nodes that hold a chunk.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.placement.iter().copied().filter(|n| *n != NOWHERE)
    }

    /// Number of chunks, held or not.
    pub fn chunks(&self) -> usize {
        self.placement.len()
    }

    /// The descriptor of chunk `index`.
    pub fn descriptor(&self, index: usize) -> ChunkDescriptor {
        // a geometry has at most 96 chunks
        let index = u8::try_from(index).unwrap_or(u8::MAX);
        ChunkDescriptor {
            id: ChunkId {
                write_id: self.write_id,
                index,
            },
            layout: self.layout,
        }
    }

    /// The same object with chunk `index` on another node.
    #[must_use]
    pub fn with_chunk_on(&self, index: usize, node: NodeId) -> Self {
        let mut moved = self.clone();
        if let Some(slot) = moved.placement.get_mut(index) {
            *slot = node;
        }
        moved
    }
}
