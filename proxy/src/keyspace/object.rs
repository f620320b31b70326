//! What the index knows of one object.

use scatterhoard_wire::{ChunkDescriptor, ChunkId, Layout, NodeId, WriteId};

/// Stands in a placement for a chunk that no node holds.
const NOWHERE: NodeId = NodeId(u16::MAX);

/// What a value is to its commands. The bytes of all but strings are an encoding
/// that only the proxy knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Bytes.
    #[default]
    String,
    /// Fields with a value each.
    Hash,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::String, Self::Hash];

    /// Its name in replies of TYPE.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Hash => "hash",
        }
    }

    /// Its number in the journal.
    pub fn code(self) -> u8 {
        match self {
            Self::String => 0,
            Self::Hash => 1,
        }
    }

    /// The kind of this number.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// One committed write: what a key means until it is written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Names the write attempt, and so its chunks.
    pub write_id: WriteId,
    /// How it is cut.
    pub layout: Layout,
    home: Home,
}

/// Where an object's bytes are. Each says the kind by itself, where padding would be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Home {
    /// In chunks of its own.
    Chunks {
        kind: Kind,
        placement: Box<[NodeId]>,
    },
    /// Among others in a segment: a [`Place`], without its padding.
    Packed {
        kind: Kind,
        offset_bytes: u32,
        segment: WriteId,
    },
}

/// Where in a segment a packed object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The write that the segment is.
    pub segment: WriteId,
    /// Its first byte there.
    pub offset_bytes: u32,
}

impl Object {
    /// An object whose chunk `i` is on `placement[i]`; `None` where no node
    /// took it. An empty object has no chunks and an empty placement, nor has one
    /// that only the proxy has so far.
    pub fn new(write_id: WriteId, layout: Layout, placement: Vec<Option<NodeId>>) -> Self {
        let placement = placement
            .into_iter()
            .map(|n| n.unwrap_or(NOWHERE))
            .collect();
        let kind = Kind::String;
        Self {
            write_id,
            layout,
            home: Home::Chunks { kind, placement },
        }
    }

    /// An object that was never on nodes: it has no chunks.
    pub fn unplaced(write_id: WriteId, layout: Layout) -> Self {
        Self::new(write_id, layout, Vec::new())
    }

    /// Whether no node has anything of it, so that it is nowhere but in the index.
    pub fn is_unplaced(&self) -> bool {
        matches!(&self.home, Home::Chunks { placement, .. } if placement.is_empty())
    }

    /// An object that lies in a segment with others. Its own layout only says
    /// how long it is.
    pub fn packed(write_id: WriteId, layout: Layout, place: Place) -> Self {
        Self {
            write_id,
            layout,
            home: Home::Packed {
                kind: Kind::String,
                offset_bytes: place.offset_bytes,
                segment: place.segment,
            },
        }
    }

    /// The same, as a value of this kind.
    #[must_use]
    pub fn of_kind(mut self, new: Kind) -> Self {
        match &mut self.home {
            Home::Chunks { kind, .. } | Home::Packed { kind, .. } => *kind = new,
        }
        self
    }

    /// What the value is.
    pub fn kind(&self) -> Kind {
        match self.home {
            Home::Chunks { kind, .. } | Home::Packed { kind, .. } => kind,
        }
    }

    /// Where in a segment it lies, if it does.
    pub fn place(&self) -> Option<Place> {
        match self.home {
            Home::Chunks { .. } => None,
            Home::Packed {
                segment,
                offset_bytes,
                ..
            } => Some(Place {
                segment,
                offset_bytes,
            }),
        }
    }

    fn placement(&self) -> &[NodeId] {
        match &self.home {
            Home::Chunks { placement, .. } => placement,
            Home::Packed { .. } => &[],
        }
    }

    /// Length of the value in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.layout.size_bytes()
    }

    /// Where chunk `index` is.
    pub fn node(&self, index: usize) -> Option<NodeId> {
        self.placement()
            .get(index)
            .copied()
            .filter(|n| *n != NOWHERE)
    }

    /// All nodes that hold a chunk of its own.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.placement().iter().copied().filter(|n| *n != NOWHERE)
    }

    /// Number of chunks of its own, held or not; 0 of one that was never on nodes.
    pub fn chunks(&self) -> usize {
        self.placement().len()
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

    /// The same object where there are only these nodes: what others held is
    /// nowhere.
    #[must_use]
    pub fn within(mut self, is_there: impl Fn(NodeId) -> bool) -> Self {
        if let Home::Chunks { placement, .. } = &mut self.home {
            let beyond = placement.iter_mut().filter(|n| !is_there(**n));
            beyond.for_each(|node| *node = NOWHERE);
        }
        self
    }

    /// Notes that chunk `index` is on another node.
    pub fn put_chunk_on(&mut self, index: usize, node: NodeId) {
        if let Home::Chunks { placement, .. } = &mut self.home
            && let Some(slot) = placement.get_mut(index)
        {
            *slot = node;
        }
    }
}
