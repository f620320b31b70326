//! What a chunk says of itself, and a cell of it in transit.

use bytes::{BufMut, Bytes};

use crate::{
    checksum,
    codec::Fields,
    frame::FrameError,
    geometry::{Geometry, Layout},
    ids::{ChunkId, Epoch, WriteId},
};

/// Names a chunk and says how its object is cut. Immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkDescriptor {
    /// Write id and chunk index.
    pub id: ChunkId,
    /// How the object is cut, its length included.
    pub layout: Layout,
}

/// One cell of a chunk in transit: its stripe, checksum and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Which stripe of the object.
    pub stripe: u32,
    /// [`checksum::cell`] of descriptor, stripe and payload.
    pub checksum: u32,
    /// The bytes, [`Layout::cell_len`] of them.
    pub payload: Bytes,
}

impl ChunkDescriptor {
    /// Encoded length in bytes.
    pub const ENCODED_BYTES: usize = 32;

    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        put_write_id(out, self.id.write_id);
        out.put_u8(self.id.index);
        out.put_u8(self.layout.geometry().data_u8());
        out.put_u8(self.layout.geometry().parity_u8());
        out.put_u8(0);
        out.put_u32_le(self.layout.cell_bytes());
        out.put_u64_le(self.layout.size_bytes());
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Result<Self, FrameError> {
        let write_id = write_id(fields)?;
        let [index, data, parity, reserved] =
            [fields.u8()?, fields.u8()?, fields.u8()?, fields.u8()?];
        let cell_bytes = fields.u32()?;
        let size_bytes = fields.u64()?;
        let geometry =
            Geometry::new(data, parity).map_err(|_| FrameError::Malformed("geometry"))?;
        let layout = Layout::new(geometry, size_bytes, cell_bytes)
            .map_err(|_| FrameError::Malformed("layout"))?;
        if usize::from(index) >= geometry.total() || reserved != 0 {
            return Err(FrameError::Malformed("chunk index"));
        }
        Ok(Self {
            id: ChunkId { write_id, index },
            layout,
        })
    }

    /// Makes a cell of this chunk, computing its checksum.
    pub fn cell(&self, stripe: u32, payload: Bytes) -> Cell {
        Cell {
            stripe,
            checksum: self.checksum(stripe, &payload),
            payload,
        }
    }

    /// [`checksum::cell`] of the cell of this chunk in `stripe`.
    pub fn checksum(&self, stripe: u32, payload: &[u8]) -> u32 {
        checksum::cell(self, stripe, payload)
    }

    /// Whether these bytes are the cell of this chunk and stripe, unharmed.
    pub fn verifies(&self, stripe: u32, checksum: u32, payload: &[u8]) -> bool {
        payload.len() == self.layout.cell_len(stripe)
            && !payload.is_empty()
            && checksum == checksum::cell(self, stripe, payload)
    }
}

pub(crate) fn put_write_id(out: &mut impl BufMut, id: WriteId) {
    out.put_u64_le(id.epoch.0);
    out.put_u64_le(id.counter);
}

pub(crate) fn write_id(fields: &mut Fields<'_>) -> Result<WriteId, FrameError> {
    Ok(WriteId {
        epoch: Epoch(fields.u64()?),
        counter: fields.u64()?,
    })
}
