//! Checksums of cells: CRC-32C over what the cell claims to be, then its bytes,
//! so that a right payload in a wrong place fails too.

use bytes::BufMut;

use crate::descriptor::ChunkDescriptor;

/// Checksum of one cell. Covers write id, geometry, object size, cell size,
/// chunk index, stripe, payload length and payload.
pub fn cell(descriptor: &ChunkDescriptor, stripe: u32, payload: &[u8]) -> u32 {
    let mut head = [0u8; ChunkDescriptor::ENCODED_BYTES + 8];
    let mut out = &mut head[..];
    descriptor.encode(&mut out);
    out.put_u32_le(stripe);
    // payloads are at most MAX_CELL_BYTES, far below 2^32
    out.put_u32_le(payload.len() as u32);
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// Checksum of a frame's header and control body.
pub(crate) fn frame(header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), body)
}
