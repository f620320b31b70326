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

/// Where the bytes of a patch go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patched {
    /// Length of the old value; 0 if there is none.
    pub old_bytes: u64,
    /// Where the patch begins. Between the old end and there are zeros.
    pub at: u64,
    /// Length of the new value.
    pub new_bytes: u64,
}

impl Patched {
    /// The value with `patch_bytes` at `at`.
    pub fn new(old_bytes: u64, at: u64, patch_bytes: u64) -> Self {
        let end = at.saturating_add(patch_bytes);
        Self {
            old_bytes,
            at,
            new_bytes: old_bytes.max(end),
        }
    }
}

impl Store {
    /// Writes the old value with the patch in its place, ready to be committed.
    pub async fn write_patched(
        self: &Arc<Self>,
        view: View<'_>,
        old: Lookup,
        patched: Patched,
        patch: &Value,
    ) -> Result<Written, Broken<ReadError>> {
        let mut body = Edited {
            old: Stored::new(old),
            patched,
            patch,
            at: 0,
        };
        if patched.new_bytes <= self.settings.hot_value_bytes {
            let len = patched.new_bytes as usize;
            let bytes = body.next(len, len).await.map_err(Broken::Body)?;
            return Ok(view.write(Value::from(bytes)).await?);
        }
        // never closed
        let _turn = self.edits.acquire().await;
        self.write_from(patched.new_bytes, body).await
    }

    /// Writes a value anew that is there already, ready to be committed.
    pub(super) async fn write_copy(
        self: &Arc<Self>,
        value: Lookup,
    ) -> Result<Written, Broken<ReadError>> {
        let bytes = value.len();
        let nothing = Patched::new(bytes, bytes, 0);
        let body = Edited {
            old: Stored::new(value),
            patched: nothing,
            patch: &Value::Empty,
            at: 0,
        };
        // never closed
        let _turn = self.edits.acquire().await;
        self.write_from(bytes, body).await
    }
}

/// The new value, as it is made of the old one and the patch.
struct Edited<'a> {
    old: Stored,
    patched: Patched,
    patch: &'a Value,
    /// Bytes made so far.
    at: u64,
}

impl Body for Edited<'_> {
    type Error = ReadError;

    /// The patch is in memory that was granted.
    fn is_metered(&self) -> bool {
        false
    }

    async fn next(&mut self, len: usize, padded_len: usize) -> Result<Bytes, ReadError> {
        let mut cell = BytesMut::zeroed(padded_len);
        let (start, end) = (self.at, self.at + len as u64);
        if start < self.patched.old_bytes {
            let old = (self.patched.old_bytes.min(end) - start) as usize;
            self.old.fill(&mut cell[..old]).await?;
        }
        let mut from = self.patched.at;
        for segment in self.patch.segments() {
            let to = from + segment.len() as u64;
            let (low, high) = (from.max(start), to.min(end));
            if low < high {
                let bytes = &segment[(low - from) as usize..(high - from) as usize];
                cell[(low - start) as usize..(high - start) as usize].copy_from_slice(bytes);
            }
            from = to;
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
        fn the_new_value_is_the_old_one_with_the_patch(
            old in vec(any::<u8>(), 0..300), patch in vec(vec(any::<u8>(), 1..50), 0..5),
            at in 0u64..400, step in 1usize..90
        ) {
            let flat = patch.concat();
            let mut expected = old.clone();
            let end = at as usize + flat.len();
            expected.resize(end.max(old.len()), 0);
            expected[at as usize..end].copy_from_slice(&flat);

            let patched = Patched::new(old.len() as u64, at, flat.len() as u64);
            prop_assert_eq!(patched.new_bytes, expected.len() as u64);
            let halves = old.len() / 2;
            let segments = vec![Bytes::copy_from_slice(&old[..halves]), Bytes::copy_from_slice(&old[halves..])];
            let patch = Value::from_segments(patch.into_iter().map(Bytes::from).collect());
            let mut body = Edited {
                old: Stored::new(Lookup::Here(Value::from_segments(segments))),
                patched,
                patch: &patch,
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
