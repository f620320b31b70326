//! reed-solomon-erasure with its AVX2 kernels.

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
    code: ReedSolomon,
}

impl Simd {
    pub(super) fn new(data: usize, parity: usize) -> Result<Self, CodecError> {
        let code = ReedSolomon::new(data, parity).map_err(|e| CodecError(e.to_string()))?;
        Ok(Self { code })
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

    fn decode(
        &self,
        data: &[Option<&[u8]>],
        parity: &mut [Option<&mut [u8]>],
    ) -> Result<(), CodecError> {
        let there = data.iter().map(Option::is_some);
        let present: Vec<bool> = there.chain(parity.iter().map(Option::is_some)).collect();
        let cell_len = parity.iter().flatten().map(|cell| cell.len()).next();
        // the crate wants all of them to be its own
        let mut blocks: Vec<[u8; BLOCK_BYTES]> = vec![[0; BLOCK_BYTES]; present.len()];
        for at in (0..cell_len.unwrap_or(0)).step_by(BLOCK_BYTES) {
            let columns = at..cell_len.unwrap_or(0).min(at + BLOCK_BYTES);
            let known = data.iter().copied();
            let sums = parity.iter().map(|cell| cell.as_deref());
            for (block, cell) in blocks.iter_mut().zip(known.chain(sums)) {
                if let Some(cell) = cell {
                    block[..columns.len()].copy_from_slice(&cell[columns.clone()]);
                }
            }
            let mut shards: Vec<(&mut [u8], bool)> = blocks
                .iter_mut()
                .zip(&present)
                .map(|(block, present)| (&mut block[..columns.len()], *present))
                .collect();
            self.code
                .reconstruct_data(&mut shards)
                .map_err(|e| CodecError(e.to_string()))?;
            let missing = blocks.iter().zip(data).filter(|(_, cell)| cell.is_none());
            for (cell, (block, _)) in parity.iter_mut().flatten().zip(missing) {
                cell[columns.clone()].copy_from_slice(&block[..columns.len()]);
            }
        }
        Ok(())
    }
}
