//! The erasure code behind a seam: cells of one stripe in, cells out.
//!
//! Both backends use the same matrix, so what one encodes the other decodes
//! (property-tested). With d = 1 a parity chunk is a copy and no code is run.

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
    /// What runs here: the AVX2 build is not attempted without AVX2, since it
    /// would end the process with an illegal instruction.
    pub fn available(self) -> Self {
        if self == Self::ReedSolomonErasure && !simd::is_supported() {
            tracing::warn!(
                "this processor has no AVX2: using the portable erasure code, which is slower"
            );
            return Self::RustyErasure;
        }
        self
    }
}

/// The matrix cannot be made or the cells do not fit it: our own mistake.
#[derive(Clone, Debug, thiserror::Error)]
#[error("erasure code: {0}")]
pub struct CodecError(String);

/// Encodes and decodes stripes of one geometry with d >= 2 and p >= 1. All
/// cells of a stripe have the same length.
trait Code: Send + Sync {
    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), CodecError>;
    /// Fills in the missing ones of the first d cells from any d cells.
    fn decode(&self, cells: &mut [Option<BytesMut>], cell_len: usize) -> Result<(), CodecError>;
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
            backend: backend.available(),
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
        let (d, p) = (geometry.data(), geometry.parity());
        let code: Arc<dyn Code> = match self.backend {
            Backend::ReedSolomonErasure => Arc::new(simd::Simd::new(d, p)?),
            Backend::RustyErasure => Arc::new(portable::Portable::new(d, p)?),
        };
        self.codes.write().insert(geometry, code.clone());
        Ok(code)
    }

    /// The parity cells of a stripe, from its d equally long data cells.
    pub fn parity(&self, geometry: Geometry, data: &[Bytes]) -> Result<Vec<Bytes>, CodecError> {
        if geometry.data() == 1 {
            return Ok(vec![
                data.first().cloned().unwrap_or_default();
                geometry.parity()
            ]);
        }
        if geometry.parity() == 0 {
            return Ok(Vec::new());
        }
        let len = data.first().map_or(0, Bytes::len);
        let mut parity: Vec<BytesMut> = (0..geometry.parity())
            .map(|_| BytesMut::zeroed(len))
            .collect();
        let data: Vec<&[u8]> = data.iter().map(|c| &c[..]).collect();
        let mut out: Vec<&mut [u8]> = parity.iter_mut().map(|c| &mut c[..]).collect();
        self.code(geometry)?.encode(&data, &mut out)?;
        Ok(parity.into_iter().map(BytesMut::freeze).collect())
    }

    /// The d data cells of a stripe, from any d of its d + p cells.
    pub fn data(
        &self,
        geometry: Geometry,
        mut cells: Vec<Option<BytesMut>>,
        cell_len: usize,
    ) -> Result<Vec<Bytes>, CodecError> {
        let d = geometry.data();
        if d == 1 {
            let any = cells.into_iter().flatten().next();
            let any = any.ok_or_else(|| CodecError("no cell at all".into()))?;
            return Ok(vec![any.freeze()]);
        }
        if cells.iter().take(d).any(Option::is_none) {
            self.code(geometry)?.decode(&mut cells, cell_len)?;
        }
        let data: Vec<Bytes> = cells
            .into_iter()
            .take(d)
            .flatten()
            .map(BytesMut::freeze)
            .collect();
        if data.len() == d {
            Ok(data)
        } else {
            Err(CodecError("too few cells".into()))
        }
    }
}

#[cfg(test)]
mod tests;
