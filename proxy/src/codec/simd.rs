//! reed-solomon-erasure with its AVX2 kernels.

use bytes::BytesMut;
use reed_solomon_erasure::galois_8::ReedSolomon;

use super::{Code, CodecError};

/// Columns worked on at a time: blocks of it stay in the first-level cache.
const BLOCK_BYTES: usize = 8 * 1024;

pub(super) fn is_supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx2")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        true
    }
}

pub(super) struct Simd {
    data: usize,
    code: ReedSolomon,
}

impl Simd {
    pub(super) fn new(data: usize, parity: usize) -> Result<Self, CodecError> {
        let code = ReedSolomon::new(data, parity).map_err(|e| CodecError(e.to_string()))?;
        Ok(Self { data, code })
    }
}

impl Code for Simd {
    fn add(&self, chunk: usize, cell: &[u8], parity: &mut [&mut [u8]]) -> Result<(), CodecError> {
        for (i, block) in cell.chunks(BLOCK_BYTES).enumerate() {
            let columns = i * BLOCK_BYTES..i * BLOCK_BYTES + block.len();
            let mut sinks: Vec<&mut [u8]> = parity
                .iter_mut()
                .map(|cell| &mut cell[columns.clone()])
                .collect();
            self.code
                .encode_single_sep(chunk, block, &mut sinks)
                .map_err(|e| CodecError(e.to_string()))?;
        }
        Ok(())
    }

    fn decode(&self, cells: &mut [Option<BytesMut>], cell_len: usize) -> Result<(), CodecError> {
        let present: Vec<bool> = cells.iter().map(Option::is_some).collect();
        for cell in cells.iter_mut().take(self.data) {
            cell.get_or_insert_with(|| BytesMut::zeroed(cell_len));
        }
        // parity that is missing stays missing, but the crate wants a place for it
        let mut unused: Vec<[u8; BLOCK_BYTES]> = vec![[0; BLOCK_BYTES]; cells.len() - self.data];
        let mut at = 0;
        while at < cell_len {
            let end = cell_len.min(at + BLOCK_BYTES);
            let mut unused = unused.iter_mut();
            let mut block: Vec<(&mut [u8], bool)> = cells
                .iter_mut()
                .zip(&present)
                .filter_map(|(cell, present)| match cell {
                    Some(cell) => Some((&mut cell[at..end], *present)),
                    None => unused.next().map(|block| (&mut block[..end - at], false)),
                })
                .collect();
            self.code
                .reconstruct_data(&mut block)
                .map_err(|e| CodecError(e.to_string()))?;
            at = end;
        }
        Ok(())
    }
}
