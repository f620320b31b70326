//! How an object is cut: d data and p parity chunks, striped in cells.
//!
//! Stripe `s` of an object with d data chunks and cells of `c` bytes holds the
//! object's bytes `s*d*c .. (s+1)*d*c`; chunk `i` is the concatenation of cell
//! `i` of every stripe. The last stripe has shorter cells, equal among
//! themselves (the codec needs that), so at most `d - 1` bytes are padding.

use std::{fmt, ops::Range};

use crate::{
    buffer::buffer_bytes,
    limits::{MAX_CELL_BYTES, MAX_DATA_CHUNKS, MAX_OBJECT_BYTES, MAX_PARITY_CHUNKS},
};

/// Bookkeeping of a chunk in a node's memory: its entry in a map whose tree may
/// be half empty. A test of the node's store derives the figure.
const CHUNK_OVERHEAD_BYTES: u64 = 176;
/// Bookkeeping of a cell in a node's memory: handle and checksum (40 bytes), the
/// count of its readers (24), both rounded by the allocator.
const CELL_OVERHEAD_BYTES: u64 = 88;

/// (d, p): an object survives the loss of any p of its d + p chunks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    data: u8,
    parity: u8,
}

/// What is wrong with a geometry or layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// d or p out of bounds.
    #[error(
        "a geometry needs 1 to {MAX_DATA_CHUNKS} data and at most {MAX_PARITY_CHUNKS} parity chunks, written D+P"
    )]
    Chunks,
    /// Cell of zero bytes or beyond the frame limit.
    #[error("a cell has 1 to {MAX_CELL_BYTES} bytes")]
    Cell,
    /// Object beyond the limit.
    #[error("an object has at most {MAX_OBJECT_BYTES} bytes")]
    Size,
}

impl Geometry {
    /// d data and p parity chunks.
    pub const fn new(data: u8, parity: u8) -> Result<Self, GeometryError> {
        if data == 0 || data > MAX_DATA_CHUNKS || parity > MAX_PARITY_CHUNKS {
            return Err(GeometryError::Chunks);
        }
        Ok(Self { data, parity })
    }

    /// Number of data chunks, d: as many chunks are needed to read.
    pub const fn data(self) -> usize {
        self.data as usize
    }

    /// Number of parity chunks, p: as many chunks may be lost.
    pub const fn parity(self) -> usize {
        self.parity as usize
    }

    /// d + p: as many different nodes hold a piece.
    pub const fn total(self) -> usize {
        self.data() + self.parity()
    }

    /// d as it is stored.
    pub const fn data_u8(self) -> u8 {
        self.data
    }

    /// p as it is stored.
    pub const fn parity_u8(self) -> u8 {
        self.parity
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}
impl fmt::Debug for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl std::str::FromStr for Geometry {
    type Err = GeometryError;
    /// Parses `D+P`, e.g. `10+2`.
    fn from_str(s: &str) -> Result<Self, GeometryError> {
        let (d, p) = s.split_once('+').ok_or(GeometryError::Chunks)?;
        let number = |t: &str| t.trim().parse::<u8>().map_err(|_| GeometryError::Chunks);
        Self::new(number(d)?, number(p)?)
    }
}

/// Chooses the layout of an object by its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeometryPolicy {
    /// The widest geometry, that of large objects.
    pub full: Geometry,
    /// Objects up to this many bytes are whole copies on p + 1 nodes (d = 1):
    /// splitting costs a request per chunk, which small objects do not repay.
    pub whole_up_to_bytes: u64,
    /// Above that, one data chunk for every so many bytes (at least two).
    pub bytes_per_chunk: u64,
    /// Longest cell, in bytes.
    pub cell_bytes: u32,
}

impl GeometryPolicy {
    /// The defaults around a widest geometry: copies up to 256 KiB, one data
    /// chunk per 256 KiB above, cells of 256 KiB.
    pub const fn with_full(full: Geometry) -> Self {
        Self {
            full,
            whole_up_to_bytes: 256 << 10,
            bytes_per_chunk: 256 << 10,
            cell_bytes: 256 << 10,
        }
    }

    /// The layout of an object of `size_bytes`.
    pub fn layout(&self, size_bytes: u64) -> Result<Layout, GeometryError> {
        let data = if size_bytes <= self.whole_up_to_bytes {
            1
        } else {
            let wanted = size_bytes.div_ceil(self.bytes_per_chunk.max(1)).max(2);
            u8::try_from(wanted.min(u64::from(self.full.data))).unwrap_or(self.full.data)
        };
        let geometry = Geometry::new(data, self.full.parity)?;
        let longest = size_bytes.div_ceil(u64::from(data)).max(1);
        let cell =
            u32::try_from(longest.min(u64::from(self.cell_bytes))).unwrap_or(self.cell_bytes);
        Layout::new(geometry, size_bytes, cell)
    }
}

/// Where each byte of one object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    geometry: Geometry,
    size_bytes: u64,
    cell_bytes: u32,
}

impl Layout {
    /// An object of `size_bytes` in cells of at most `cell_bytes`.
    pub const fn new(
        geometry: Geometry,
        size_bytes: u64,
        cell_bytes: u32,
    ) -> Result<Self, GeometryError> {
        if cell_bytes == 0 || cell_bytes > MAX_CELL_BYTES {
            return Err(GeometryError::Cell);
        }
        if size_bytes > MAX_OBJECT_BYTES {
            return Err(GeometryError::Size);
        }
        Ok(Self {
            geometry,
            size_bytes,
            cell_bytes,
        })
    }

    /// (d, p).
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Length of the object in bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Length of a cell in every stripe but the last.
    pub const fn cell_bytes(&self) -> u32 {
        self.cell_bytes
    }

    /// Object bytes in a full stripe.
    const fn stripe_bytes(&self) -> u64 {
        self.cell_bytes as u64 * self.geometry.data as u64
    }

    /// Number of stripes, which is also the number of cells of every chunk.
    /// None for an empty object.
    pub const fn stripes(&self) -> u32 {
        // at most MAX_OBJECT_BYTES / 1, but cells that small come only from a
        // hostile descriptor: saturate
        let n = self.size_bytes.div_ceil(self.stripe_bytes());
        if n > u32::MAX as u64 {
            u32::MAX
        } else {
            n as u32
        }
    }

    /// Stripes that hold these bytes of the object: first, and one behind the
    /// last; equal if there are no bytes.
    pub const fn stripes_of(&self, bytes: &Range<u64>) -> (u32, u32) {
        if bytes.start >= bytes.end {
            return (0, 0);
        }
        let first = bytes.start / self.stripe_bytes();
        let end = bytes.end.div_ceil(self.stripe_bytes());
        // within the object: no more than stripes()
        (first as u32, end as u32)
    }

    /// Length of each cell of `stripe`, in bytes; 0 beyond the last.
    pub const fn cell_len(&self, stripe: u32) -> usize {
        let before = stripe as u64 * self.stripe_bytes();
        if before >= self.size_bytes {
            return 0;
        }
        let rest = self.size_bytes - before;
        if rest >= self.stripe_bytes() {
            self.cell_bytes as usize
        } else {
            rest.div_ceil(self.geometry.data as u64) as usize
        }
    }

    /// Length of every chunk, padding included, in bytes.
    pub const fn chunk_bytes(&self) -> u64 {
        match self.stripes() {
            0 => 0,
            n => (n as u64 - 1) * self.cell_bytes as u64 + self.cell_len(n - 1) as u64,
        }
    }

    /// What one chunk counts against a node's budget, in bytes: the buffers of
    /// its cells (see [`buffer_bytes`]) and the bookkeeping around them. Never
    /// less than the node holds for it. Both ends use this figure.
    pub const fn accounted_bytes(&self) -> u64 {
        let buffers = match self.stripes() {
            0 => 0,
            n => {
                let full = buffer_bytes(self.cell_bytes as usize) as u64;
                (n as u64 - 1) * full + buffer_bytes(self.cell_len(n - 1)) as u64
            }
        };
        buffers + CHUNK_OVERHEAD_BYTES + self.stripes() as u64 * CELL_OVERHEAD_BYTES
    }

    /// The object's bytes in data cell `chunk` of `stripe`; shorter than
    /// [`Self::cell_len`] (even empty) where the cell ends in padding.
    pub fn data_range(&self, stripe: u32, chunk: usize) -> Range<u64> {
        let cell = self.cell_len(stripe) as u64;
        let start = u64::from(stripe) * self.stripe_bytes() + chunk as u64 * cell;
        start.min(self.size_bytes)..(start + cell).min(self.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> GeometryPolicy {
        GeometryPolicy::with_full(Geometry::new(10, 2).unwrap())
    }

    #[test]
    fn small_objects_are_copied_and_large_ones_coded() {
        let d = |size| policy().layout(size).unwrap().geometry().data();
        assert_eq!([d(0), d(1), d(256 << 10)], [1, 1, 1]);
        assert_eq!(
            [d((256 << 10) + 1), d(1_000_000), d(10_000_000), d(1 << 32)],
            [2, 4, 10, 10]
        );
    }

    #[test]
    fn geometry_is_parsed_and_bounded() {
        assert_eq!("10+2".parse(), Geometry::new(10, 2));
        for bad in ["", "10", "0+2", "65+2", "10+33", "a+b", "10+2+1", "-1+2"] {
            assert_eq!(bad.parse::<Geometry>(), Err(GeometryError::Chunks), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn data_cells_tile_the_object(size in 0u64..20_000, d in 1u8..12, cell in 1u32..700) {
            let layout = Layout::new(Geometry::new(d, 2).unwrap(), size, cell).unwrap();
            let mut at = 0;
            for stripe in 0..layout.stripes() {
                for chunk in 0..usize::from(d) {
                    let range = layout.data_range(stripe, chunk);
                    prop_assert_eq!(range.start, at);
                    prop_assert!(range.end - range.start <= layout.cell_len(stripe) as u64);
                    at = range.end;
                }
            }
            prop_assert_eq!(at, size);
            let cells: u64 = (0..layout.stripes()).map(|s| layout.cell_len(s) as u64).sum();
            prop_assert_eq!(cells, layout.chunk_bytes());
            prop_assert!(layout.chunk_bytes() * u64::from(d) < size + u64::from(d));
        }

        #[test]
        fn policy_never_exceeds_its_limits(size in 0u64..=MAX_OBJECT_BYTES) {
            let layout = policy().layout(size).unwrap();
            prop_assert!(layout.geometry().data() <= 10);
            prop_assert!(layout.cell_bytes() <= 256 << 10);
            prop_assert_eq!(layout.geometry().parity(), 2);
        }
    }
}
