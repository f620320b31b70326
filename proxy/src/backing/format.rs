//! How an object lies in the backing store, as bytes. Pure.
//!
//! A header that says which write it is, then the value in blocks of 1 MiB, each
//! with its checksum behind it. A checksum covers the header and the block's
//! number as well: a right block in a wrong place fails. So any range can be read
//! and checked with one request, and a value can be sent while it comes.
//!
//! No expiry: it can change while the value does not, and a segment holds values
//! of many; the index alone decides.

use std::ops::Range;

use bytes::{BufMut, Bytes};
use crc_fast::{CrcAlgorithm::Crc32Iscsi, Digest};
use scatterhoard_wire::WriteId;

/// Value bytes between two checksums.
pub(super) const BLOCK_BYTES: u64 = 1 << 20;
const HEADER_BYTES: u64 = 40;
const CHECKSUM_BYTES: u64 = 4;
const MAGIC: &[u8; 8] = b"schoard1";

/// It is not what was stored under this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {block} fails its check")]
pub(super) struct Damaged {
    /// Which one, from 0.
    pub(super) block: u64,
}

/// One write as the backing store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Names it.
    pub(super) write_id: WriteId,
    /// Length of the value.
    pub(super) size_bytes: u64,
}

impl Image {
    /// Length of all of it.
    pub(super) fn stored_bytes(self) -> u64 {
        HEADER_BYTES + self.size_bytes + self.blocks() * CHECKSUM_BYTES
    }

    fn blocks(self) -> u64 {
        self.size_bytes.div_ceil(BLOCK_BYTES)
    }

    /// What it claims to be.
    fn claim(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES as usize);
        out.put_slice(MAGIC);
        out.put_u64_le(self.write_id.epoch.0);
        out.put_u64_le(self.write_id.counter);
        out.put_u64_le(self.size_bytes);
        out.put_u32_le(BLOCK_BYTES as u32);
        out
    }

    fn header(self) -> Vec<u8> {
        let mut out = self.claim();
        out.put_u32_le(finish(&checksum(&out)));
        out
    }

    /// Begins the checksum of a block. Not with the header's own checksum: behind
    /// that, all headers are alike to a CRC.
    fn block_checksum(self, block: u64) -> Digest {
        let mut digest = checksum(&self.claim());
        digest.update(&block.to_le_bytes());
        digest
    }

    /// The value's bytes that a block holds.
    fn block_range(self, block: u64) -> Range<u64> {
        let start = block * BLOCK_BYTES;
        start..(start + BLOCK_BYTES).min(self.size_bytes)
    }

    /// The blocks in which bytes of the value lie.
    pub(super) fn blocks_of(self, bytes: &Range<u64>) -> Range<u64> {
        bytes.start / BLOCK_BYTES..bytes.end.div_ceil(BLOCK_BYTES)
    }

    /// Where blocks lie in what is stored.
    pub(super) fn stored_range(self, blocks: &Range<u64>) -> Range<u64> {
        let start = |block: u64| {
            let before = self.block_range(block).start.min(self.size_bytes);
            HEADER_BYTES + before + block * CHECKSUM_BYTES
        };
        start(blocks.start)..start(blocks.end)
    }

    /// Checks stored blocks; their bytes of the value's range, without copying.
    pub(super) fn open(
        self,
        blocks: Range<u64>,
        stored: &Bytes,
        bytes: &Range<u64>,
    ) -> Result<Vec<Bytes>, Damaged> {
        let mut pieces = Vec::with_capacity((blocks.end - blocks.start) as usize);
        let mut at = 0;
        for block in blocks {
            let range = self.block_range(block);
            let len = (range.end - range.start) as usize;
            let end = at + len;
            let claimed = stored.get(end..end + CHECKSUM_BYTES as usize);
            let mut digest = self.block_checksum(block);
            digest.update(stored.get(at..end).unwrap_or_default());
            if claimed != Some(&finish(&digest).to_le_bytes()) {
                return Err(Damaged { block });
            }
            let (low, high) = (range.start.max(bytes.start), range.end.min(bytes.end));
            if low < high {
                let start = at + (low - range.start) as usize;
                pieces.push(stored.slice(start..start + (high - low) as usize));
            }
            at = end + CHECKSUM_BYTES as usize;
        }
        Ok(pieces)
    }
}

/// Makes the image of a value that comes piece by piece.
pub(super) struct Encoder {
    image: Image,
    /// Bytes of the value taken so far.
    taken: u64,
    digest: Digest,
}

impl Encoder {
    /// The header goes to `out`.
    pub(super) fn new(image: Image, out: &mut Vec<Bytes>) -> Self {
        out.push(image.header().into());
        Self {
            image,
            taken: 0,
            digest: image.block_checksum(0),
        }
    }

    /// The value's next bytes; beyond its length they are ignored. They go to
    /// `out` as they are, with checksums between them.
    pub(super) fn push(&mut self, mut bytes: Bytes, out: &mut Vec<Bytes>) {
        while !bytes.is_empty() && self.taken < self.image.size_bytes {
            let block = self.image.block_range(self.taken / BLOCK_BYTES);
            let piece = bytes.split_to(bytes.len().min((block.end - self.taken) as usize));
            self.digest.update(&piece);
            self.taken += piece.len() as u64;
            out.push(piece);
            if self.taken == block.end {
                let sum = finish(&self.digest).to_le_bytes();
                out.push(Bytes::copy_from_slice(&sum));
                self.digest = self.image.block_checksum(self.taken.div_ceil(BLOCK_BYTES));
            }
        }
    }

    /// Whether all of the value has come.
    pub(super) fn is_whole(&self) -> bool {
        self.taken == self.image.size_bytes
    }
}

fn checksum(bytes: &[u8]) -> Digest {
    let mut digest = Digest::new(Crc32Iscsi);
    digest.update(bytes);
    digest
}

/// A 32-bit checksum in a 64-bit return value.
fn finish(digest: &Digest) -> u32 {
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scatterhoard_wire::Epoch;

    use super::*;

    fn image(size_bytes: u64) -> Image {
        let write_id = WriteId {
            epoch: Epoch(7),
            counter: 9,
        };
        Image {
            write_id,
            size_bytes,
        }
    }

    fn stored(image: Image, value: &Bytes, step: usize) -> Bytes {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(image, &mut out);
        for piece in value.chunks(step) {
            encoder.push(Bytes::copy_from_slice(piece), &mut out);
        }
        assert!(encoder.is_whole());
        out.concat().into()
    }

    fn value(size: u64) -> Bytes {
        (0..size).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_range_comes_back_and_no_flipped_bit_does(
            size in prop_oneof![1u64..200, BLOCK_BYTES - 2..BLOCK_BYTES + 3, 1..3 * BLOCK_BYTES],
            step in 1usize..700_000, ends in any::<(f64, f64)>(), flip in any::<u64>()
        ) {
            let (image, value) = (image(size), value(size));
            let whole = stored(image, &value, step.max(size as usize / 50));
            prop_assert_eq!(whole.len() as u64, image.stored_bytes());
            let place = |part: f64| ((part.abs() % 1.0) * size as f64) as u64;
            let (a, b) = (place(ends.0), place(ends.1));
            let bytes = a.min(b)..a.max(b) + 1;
            let blocks = image.blocks_of(&bytes);
            let range = image.stored_range(&blocks);
            let part = whole.slice(range.start as usize..range.end as usize);
            let read = image.open(blocks.clone(), &part, &bytes).unwrap().concat();
            prop_assert_eq!(&read[..], &value[bytes.start as usize..bytes.end as usize]);

            let mut bad = part.to_vec();
            let at = (flip / 8) as usize % bad.len();
            bad[at] ^= 1 << (flip % 8);
            prop_assert!(image.open(blocks.clone(), &bad.into(), &bytes).is_err());
            let short = part.slice(..part.len() - 1);
            prop_assert!(image.open(blocks, &short, &bytes).is_err());
        }
    }

    #[test]
    fn blocks_of_another_write_or_place_are_refused() {
        let size = 3 * BLOCK_BYTES;
        let (mine, value) = (image(size), value(size));
        let whole = stored(mine, &value, 300_000);
        let mut other = mine;
        other.write_id.counter += 1;
        let of = |blocks: &Range<u64>| {
            let range = mine.stored_range(blocks);
            whole.slice(range.start as usize..range.end as usize)
        };
        assert!(mine.open(1..2, &of(&(1..2)), &(0..size)).is_ok());
        assert!(mine.open(0..1, &of(&(1..2)), &(0..size)).is_err());
        assert!(other.open(1..2, &of(&(1..2)), &(0..size)).is_err());
    }
}
