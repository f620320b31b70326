//! Parity, and what is computed from it.

use std::io;

use rusty_erasure::{Coder, Matrix, coder};

use crate::{CELL_BYTES, DATA, PARITY};

/// Columns that are decoded at a time.
const DECODE_BYTES: usize = 16 << 10;

pub(crate) struct Checker {
    coder: Coder,
    pub(crate) parity: [Vec<u8>; PARITY],
}

impl Checker {
    pub(crate) fn new() -> io::Result<Self> {
        let matrix = Matrix::cauchy(DATA, PARITY).map_err(io::Error::other)?;
        Ok(Self {
            coder: coder(matrix).map_err(io::Error::other)?,
            parity: std::array::from_fn(|_| vec![0; CELL_BYTES]),
        })
    }

    pub(crate) fn add(&mut self, chunk: usize, cell: &[u8]) -> io::Result<()> {
        if chunk == 0 {
            self.parity.iter_mut().for_each(|parity| parity.fill(0));
        }
        let mut parity = self.parity.each_mut().map(|p| &mut p[..cell.len()]);
        let added = self.coder.update(chunk, cell, &mut parity);
        added.map_err(io::Error::other)
    }

    /// Computes the data cells of a stripe for which `stand_in` names a parity cell, from
    /// those that it names and from the others.
    pub(crate) fn decode(
        &self,
        data: &mut [u8],
        parity: &[Vec<u8>; PARITY],
        cell_len: usize,
        stand_in: impl Fn(usize) -> Option<usize>,
    ) -> io::Result<()> {
        let (mut known, mut missing, mut sums) = (Vec::new(), Vec::new(), [None; PARITY]);
        let (mut cells, mut rebuilt) = (Vec::new(), Vec::new());
        for (chunk, cell) in data.chunks_exact_mut(CELL_BYTES).enumerate() {
            if let Some(which) = stand_in(chunk) {
                sums[which] = Some(&parity[which][..]);
                cells.push(None);
                missing.push(chunk);
                rebuilt.push(cell);
            } else {
                cells.push(Some(&*cell));
            }
        }
        cells.extend(sums);
        known.extend(cells.iter().map(Option::is_some));
        let plan = self.coder.decode_plan(&known, &missing);
        let plan = plan.map_err(io::Error::other)?;
        for from in (0..cell_len).step_by(DECODE_BYTES) {
            let columns = from..cell_len.min(from + DECODE_BYTES);
            let cells = cells.iter().copied();
            let cells: Vec<_> = cells
                .map(|cell| cell.map(|cell| &cell[columns.clone()]))
                .collect();
            let rebuilt = rebuilt.iter_mut();
            let mut rebuilt: Vec<_> = rebuilt.map(|cell| &mut cell[columns.clone()]).collect();
            let done = self.coder.recover_with(&plan, &cells, &mut rebuilt);
            done.map_err(io::Error::other)?;
        }
        Ok(())
    }
}
