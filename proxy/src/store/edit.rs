//! A value with some of its bytes replaced, or added behind its end.
//!
//! Objects are immutable: the edited value is written anew under another write
//! id, while the old one is read, stripe by stripe. The index then takes it only
//! if the key still means what was read.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    Broken, Lookup, ReadError, Store, View, Written,
    body::{Body, Stored},
};
use crate::value::Value;

/// Large values edited at once; more wait. Each reads and writes
/// a few stripes in memory that no budget knows, since waiting for a budget with
/// memory in hand could last for ever.
pub(super) const EDITS_AT_ONCE: usize = 8;

/// Bytes that are put into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where they begin; what is between the old end and there are zeros.
    pub at: u64,
    /// The bytes.
    pub bytes: Value,
}

impl Patch {
    /// One behind its last byte.
    pub fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes.len())
    }
}

impl Store {
    /// Writes the old value with these patches, which are in order and do not
    /// overlap, and zeros up to `least_bytes`, ready to be committed.
    pub async fn write_patched(
        self: &Arc<Self>,
        view: View<'_>,
        old: Lookup,
        patches: &[Patch],
        least_bytes: u64,
    ) -> Result<Written, Broken<ReadError>> {
        let old_bytes = old.len();
        let end = patches.last().map_or(0, Patch::end);
        let new_bytes = old_bytes.max(end).max(least_bytes);
        let mut body = Edited {
            old: Stored::new(old),
            old_bytes,
            patches,
            at: 0,
        };
        if new_bytes <= self.settings.hot_value_bytes {
            let len = new_bytes as usize;
            let bytes = body.next(len, len).await.map_err(Broken::Body)?;
            return Ok(view.write(Value::from(bytes)).await?);
        }
        // never closed
        let _turn = self.edits.acquire().await;
        self.write_from(new_bytes, body).await
    }

    /// Writes a value anew that is there already, ready to be committed.
    pub(super) async fn write_copy(
        self: &Arc<Self>,
        value: Lookup,
    ) -> Result<Written, Broken<ReadError>> {
        let bytes = value.len();
        let body = Edited {
            old: Stored::new(value),
            old_bytes: bytes,
            patches: &[],
            at: 0,
        };
        // never closed
        let _turn = self.edits.acquire().await;
        self.write_from(bytes, body).await
    }
}

/// The new value, as it is made of the old one and the patches.
struct Edited<'a> {
    old: Stored,
    old_bytes: u64,
    patches: &'a [Patch],
    /// Bytes made so far.
    at: u64,
}

impl Body for Edited<'_> {
    type Error = ReadError;

    /// Patches are in memory that was granted.
    fn is_metered(&self) -> bool {
        false
    }

    async fn next(&mut self, len: usize, padded_len: usize) -> Result<Bytes, ReadError> {
        let mut cell = BytesMut::zeroed(padded_len);
        let (start, end) = (self.at, self.at + len as u64);
        if start < self.old_bytes {
            let old = (self.old_bytes.min(end) - start) as usize;
            self.old.fill(&mut cell[..old]).await?;
        }
        let first = self.patches.partition_point(|patch| patch.end() <= start);
        let patches = self.patches[first..].iter();
        for patch in patches.take_while(|patch| patch.at < end) {
            let mut from = patch.at;
            for segment in patch.bytes.segments() {
                let to = from + segment.len() as u64;
                let (low, high) = (from.max(start), to.min(end));
                if low < high {
                    let bytes = &segment[(low - from) as usize..(high - from) as usize];
                    cell[(low - start) as usize..(high - start) as usize].copy_from_slice(bytes);
                }
                from = to;
            }
        }
        self.at = end;
        Ok(cell.freeze())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn the_new_value_is_the_old_one_with_the_patches(
            old in vec(any::<u8>(), 0..300),
            patches in vec((0u64..150, vec(vec(any::<u8>(), 1..50), 1..4)), 0..4), step in 1usize..90
        ) {
            let (mut expected, mut from) = (old.clone(), 0);
            let mut all = Vec::new();
            for (gap, segments) in patches {
                let (at, flat) = (from + gap, segments.concat());
                let end = at as usize + flat.len();
                expected.resize(end.max(expected.len()), 0);
                expected[at as usize..end].copy_from_slice(&flat);
                from = end as u64;
                let bytes = Value::from_segments(segments.into_iter().map(Bytes::from).collect());
                all.push(Patch { at, bytes });
            }
            let halves = old.len() / 2;
            let segments = vec![Bytes::copy_from_slice(&old[..halves]), Bytes::copy_from_slice(&old[halves..])];
            let mut body = Edited {
                old: Stored::new(Lookup::Here(Value::from_segments(segments))),
                old_bytes: old.len() as u64,
                patches: &all,
                at: 0,
            };
            let mut made = Vec::new();
            while made.len() < expected.len() {
                let len = step.min(expected.len() - made.len());
                let cell = body.next(len, step).now_or_never().unwrap().unwrap();
                prop_assert!(cell[len..].iter().all(|b| *b == 0) && cell.len() == step);
                made.extend_from_slice(&cell[..len]);
            }
            prop_assert_eq!(made, expected);
        }
    }
}
