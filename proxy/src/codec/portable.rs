//! rusty_erasure with the matrix of reed-solomon-erasure.

use bytes::BytesMut;
use rusty_erasure::{Coder, coder, compat::reed_solomon_erasure_matrix};

use super::{Code, CodecError};

pub(super) struct Portable {
    data: usize,
    coder: Coder,
}

impl Portable {
    pub(super) fn new(data: usize, parity: usize) -> Result<Self, CodecError> {
        let matrix =
            reed_solomon_erasure_matrix(data, parity).map_err(|e| CodecError(e.to_string()))?;
        let coder = coder(matrix).map_err(|e| CodecError(e.to_string()))?;
        Ok(Self { data, coder })
    }
}

impl Code for Portable {
    fn add(&self, chunk: usize, cell: &[u8], parity: &mut [&mut [u8]]) -> Result<(), CodecError> {
        self.coder
            .update(chunk, cell, parity)
            .map_err(|e| CodecError(e.to_string()))
    }

    fn decode(&self, cells: &mut [Option<BytesMut>], cell_len: usize) -> Result<(), CodecError> {
        let missing: Vec<usize> = cells
            .iter()
            .take(self.data)
            .enumerate()
            .filter(|(_, c)| c.is_none())
            .map(|(i, _)| i)
            .collect();
        let mut rebuilt: Vec<BytesMut> =
            missing.iter().map(|_| BytesMut::zeroed(cell_len)).collect();
        let present: Vec<Option<&[u8]>> = cells.iter().map(|c| c.as_deref()).collect();
        let mut out: Vec<&mut [u8]> = rebuilt.iter_mut().map(|c| &mut c[..]).collect();
        self.coder
            .recover(&present, &missing, &mut out)
            .map_err(|e| CodecError(e.to_string()))?;
        for (i, cell) in missing.into_iter().zip(rebuilt) {
            cells[i] = Some(cell);
        }
        Ok(())
    }
}
