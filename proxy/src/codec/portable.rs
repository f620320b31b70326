//! rusty_erasure with the matrix of reed-solomon-erasure.

use rusty_erasure::{Coder, coder, compat::reed_solomon_erasure_matrix};

use super::{Code, CodecError};

/// Columns decoded at a time: what is made of them is in the first-level cache
/// when it takes their place.
const BLOCK_BYTES: usize = 16 * 1024;

pub(super) struct Portable {
    coder: Coder,
}

impl Portable {
    pub(super) fn new(data: usize, parity: usize) -> Result<Self, CodecError> {
        let matrix =
            reed_solomon_erasure_matrix(data, parity).map_err(|e| CodecError(e.to_string()))?;
        let coder = coder(matrix).map_err(|e| CodecError(e.to_string()))?;
        Ok(Self { coder })
    }
}

impl Code for Portable {
    fn add(&self, chunk: usize, cell: &[u8], parity: &mut [&mut [u8]]) -> Result<(), CodecError> {
        self.coder
            .update(chunk, cell, parity)
            .map_err(|e| CodecError(e.to_string()))
    }

    fn decode(
        &self,
        data: &[Option<&[u8]>],
        parity: &mut [Option<&mut [u8]>],
    ) -> Result<(), CodecError> {
        let missing: Vec<usize> = (0..data.len()).filter(|i| data[*i].is_none()).collect();
        let there = data.iter().map(Option::is_some);
        let present: Vec<bool> = there.chain(parity.iter().map(Option::is_some)).collect();
        let plan = self.coder.decode_plan(&present, &missing);
        let plan = plan.map_err(|e| CodecError(e.to_string()))?;
        let cell_len = parity.iter().flatten().map(|cell| cell.len()).next();
        let cell_len = cell_len.unwrap_or(0);
        let mut scratch = vec![0; missing.len() * BLOCK_BYTES.min(cell_len)];
        for at in (0..cell_len).step_by(BLOCK_BYTES) {
            let columns = at..cell_len.min(at + BLOCK_BYTES);
            let known = data
                .iter()
                .map(|cell| cell.and_then(|c| c.get(columns.clone())));
            let sums = parity.iter();
            let sums = sums.map(|cell| cell.as_deref().and_then(|c| c.get(columns.clone())));
            let block: Vec<Option<&[u8]>> = known.chain(sums).collect();
            let mut out: Vec<&mut [u8]> = scratch
                .chunks_mut(BLOCK_BYTES.min(cell_len))
                .map(|block| &mut block[..columns.len()])
                .collect();
            self.coder
                .recover_with(&plan, &block, &mut out)
                .map_err(|e| CodecError(e.to_string()))?;
            for (cell, block) in parity.iter_mut().flatten().zip(out) {
                cell[columns.clone()].copy_from_slice(block);
            }
        }
        Ok(())
    }
}
