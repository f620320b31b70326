//! Checksums of cells: CRC-32C over what the cell claims to be, then its bytes,
//! so that a right payload in a wrong place fails too.

use bytes::BufMut;
use crc_fast::{CrcAlgorithm::Crc32Iscsi, Digest};

use crate::{
    descriptor::{ChunkDescriptor, put_write_id},
    ids::LabelId,
};

/// Checksum of one cell. Covers write id, geometry, object size, cell size,
/// chunk index, stripe, payload length and payload.
pub fn cell(descriptor: &ChunkDescriptor, stripe: u32, payload: &[u8]) -> u32 {
    let mut head = [0u8; ChunkDescriptor::ENCODED_BYTES + 8];
    let mut out = &mut head[..];
    descriptor.encode(&mut out);
    out.put_u32_le(stripe);
    // payloads are at most MAX_CELL_BYTES, far below 2^32
    out.put_u32_le(payload.len() as u32);
    crc32c([&head, payload])
}

/// Checksum of one label. The sum of those of an object's labels tells whether an
/// instance has them all.
pub fn label(id: LabelId, text: &[u8]) -> u32 {
    let mut head = [0u8; 16];
    let mut out = &mut head[..];
    put_write_id(&mut out, id.value);
    crc32c([&head, text])
}

/// Checksum of a frame's header and control body.
pub(crate) fn frame(header: &[u8], body: &[u8]) -> u32 {
    crc32c([header, body])
}

fn crc32c(parts: [&[u8]; 2]) -> u32 {
    let mut digest = Digest::new(Crc32Iscsi);
    parts.into_iter().for_each(|part| digest.update(part));
    // a 32-bit checksum in a 64-bit return value
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_crc_that_everybody_calls_crc32c() {
        assert_eq!(crc32c([b"1234", b"56789"]), 0xe306_9283);
    }
}
