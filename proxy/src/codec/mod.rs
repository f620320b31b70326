//! The erasure code behind a seam: cells of one stripe in, cells out.
//!
//! Both backends use the same matrix, so what one encodes the other decodes
//! (property-tested). With d = 1 a parity chunk is a copy and no code is run.

mod known;
mod portable;
mod simd;

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use scatterhoard_wire::Geometry;

/// Which implementation computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// `reed-solomon-erasure`, compiled for AVX2.
    ReedSolomonErasure,
    /// `rusty_erasure`: finds out at run time what the processor can do.
    RustyErasure,
}

impl Backend {
    /// What runs here and computes right, which is tried with known answers: this
    /// one, else the other one, with a warning. The AVX2 build is not attempted
    /// without AVX2, since it would end the process with an illegal instruction.
    fn or_other(self) -> Result<Self, CodecError> {
        let other = match self {
            Self::ReedSolomonErasure => Self::RustyErasure,
            Self::RustyErasure => Self::ReedSolomonErasure,
        };
        for backend in [self, other] {
            let why = match backend.is_supported() {
                false => "this processor has no AVX2".to_owned(),
                true => match known::holds(|d, p| backend.code(d, p)) {
                    Ok(true) => return Ok(backend),
                    Ok(false) => "it computes wrongly on this processor".to_owned(),
                    Err(error) => error.to_string(),
                },
            };
            tracing::warn!(?backend, why, "erasure code cannot be used");
        }
        Err(CodecError("none that works on this processor".into()))
    }

    fn is_supported(self) -> bool {
        self == Self::RustyErasure || simd::is_supported()
    }

    fn code(self, d: usize, p: usize) -> Result<Arc<dyn Code>, CodecError> {
        Ok(match self {
            Self::ReedSolomonErasure => Arc::new(simd::Simd::new(d, p)?),
            Self::RustyErasure => Arc::new(portable::Portable::new(d, p)?),
        })
    }
}

/// The matrix cannot be made or the cells do not fit it: our own mistake.
#[derive(Clone, Debug, thiserror::Error)]
#[error("erasure code: {0}")]
pub struct CodecError(String);

/// Encodes and decodes stripes of one geometry with d >= 2 and p >= 1. All
/// cells of a stripe have the same length.
trait Code: Send + Sync {
    /// Adds the data cell of `chunk` to the parity cells, which are zeros before
    /// chunk 0, the first.
    fn add(&self, chunk: usize, cell: &[u8], parity: &mut [&mut [u8]]) -> Result<(), CodecError>;
    /// Makes the data cells that are missing, in their order, in place of the first
    /// parity cells that are there: at least as many, all cells equally long.
    fn decode(
        &self,
        data: &[Option<&[u8]>],
        parity: &mut [Option<&mut [u8]>],
    ) -> Result<(), CodecError>;
}

/// Codes for every geometry that is met.
#[derive(Clone)]
pub struct Codec {
    backend: Backend,
    codes: Arc<RwLock<HashMap<Geometry, Arc<dyn Code>>>>,
}

impl Codec {
    /// Codes for d = 1 to `full`'s, all with its p. Others, of objects that were
    /// written with other settings, are made when they are needed.
    pub fn new(full: Geometry, backend: Backend) -> Result<Self, CodecError> {
        let codec = Self {
            backend: backend.or_other()?,
            codes: Arc::default(),
        };
        for d in 2..=full.data_u8() {
            if let (Ok(geometry), 1..) = (Geometry::new(d, full.parity_u8()), full.parity()) {
                codec.code(geometry)?;
            }
        }
        Ok(codec)
    }

    fn code(&self, geometry: Geometry) -> Result<Arc<dyn Code>, CodecError> {
        if let Some(code) = self.codes.read().get(&geometry) {
            return Ok(code.clone());
        }
        let code = self.backend.code(geometry.data(), geometry.parity())?;
        self.codes.write().insert(geometry, code.clone());
        Ok(code)
    }

    /// Begins the parity of a stripe whose cells have `cell_len` bytes.
    pub fn begin(&self, geometry: Geometry, cell_len: usize) -> Result<Parity, CodecError> {
        let coded = geometry.data() > 1 && geometry.parity() > 0;
        Ok(Parity {
            code: coded.then(|| self.code(geometry)).transpose()?,
            cells: (0..geometry.parity())
                .filter(|_| coded)
                .map(|_| BytesMut::zeroed(cell_len))
                .collect(),
            copies: Vec::new(),
            geometry,
            next: 0,
        })
    }

    /// The parity cells of a stripe, from its d equally long data cells.
    pub fn parity(&self, geometry: Geometry, data: &[Bytes]) -> Result<Vec<Bytes>, CodecError> {
        let mut parity = self.begin(geometry, data.first().map_or(0, Bytes::len))?;
        data.iter().try_for_each(|cell| parity.add(cell))?;
        Ok(parity.finish())
    }

    /// The data cells of a stripe that are missing, in their order, from any d of its
    /// d + p cells. They take the memory of parity cells; what is there is only read.
    pub fn rebuild(
        &self,
        geometry: Geometry,
        data: &[Option<&[u8]>],
        parity: Vec<Option<BytesMut>>,
    ) -> Result<Vec<BytesMut>, CodecError> {
        let missing = data.iter().filter(|cell| cell.is_none()).count();
        let mut parity = parity;
        let there = parity.iter().flatten().count();
        if (data.len(), parity.len()) != (geometry.data(), geometry.parity()) || there < missing {
            return Err(CodecError("too few cells".into()));
        }
        let known = data.iter().flatten().map(|cell| cell.len());
        let mut lens = known.chain(parity.iter().flatten().map(BytesMut::len));
        if let Some(len) = lens.next()
            && lens.any(|other| other != len)
        {
            return Err(CodecError("cells of different lengths".into()));
        }
        // with d = 1 parity is what is missing
        if missing > 0 && geometry.data() > 1 {
            let mut cells: Vec<Option<&mut [u8]>> =
                parity.iter_mut().map(Option::as_deref_mut).collect();
            self.code(geometry)?.decode(data, &mut cells)?;
        }
        Ok(parity.into_iter().flatten().take(missing).collect())
    }
}

/// The parity of a stripe while its data cells come: each is added when it has
/// just been read, since it is in the processor's cache then.
pub struct Parity {
    /// None if nothing is to be computed.
    code: Option<Arc<dyn Code>>,
    cells: Vec<BytesMut>,
    /// With d = 1.
    copies: Vec<Bytes>,
    geometry: Geometry,
    next: usize,
}

impl Parity {
    /// The next data cell of the stripe.
    pub fn add(&mut self, cell: &Bytes) -> Result<(), CodecError> {
        if let Some(code) = &self.code {
            let mut cells: Vec<&mut [u8]> = self.cells.iter_mut().map(|c| &mut c[..]).collect();
            code.add(self.next, cell, &mut cells)?;
        } else if self.geometry.data() == 1 {
            self.copies = vec![cell.clone(); self.geometry.parity()];
        }
        self.next += 1;
        Ok(())
    }

    /// The p parity cells, when all d data cells have come.
    pub fn finish(self) -> Vec<Bytes> {
        let coded = self.cells.into_iter().map(BytesMut::freeze);
        coded.chain(self.copies).collect()
    }
}

#[cfg(test)]
mod tests;
