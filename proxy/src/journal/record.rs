//! What the journal says of a key, as bytes. Pure.
//!
//! A key is its database and its bytes. An entry is, in little-endian fields: a
//! version; the write id; d, p, cell length and size of the layout; where the
//! bytes are and of which kind the value is; the expiry in milliseconds since
//! 1970, 0 for none; and the value itself, as long as no node has it.

use bytes::{Buf, BufMut, Bytes, TryGetError};
use scatterhoard_wire::{Epoch, Geometry, Layout, NodeId, WriteId};

use crate::keyspace::{KeyRef, Kind, Object, Place};

/// Raised when entries change; those of the version before are still read.
pub const VERSION: u8 = 1;
const CHUNKS: u8 = 0;
const PACKED: u8 = 1;
/// The kind is in the upper half of the byte that says where the bytes are.
const KIND_SHIFT: u8 = 4;
/// In place of a node: nobody holds this chunk.
const NOBODY: u16 = u16::MAX;

/// What a key means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it names.
    pub object: Object,
    /// When it expires, in milliseconds since 1970.
    pub expires_unix_ms: Option<u64>,
    /// The value, if no node has it yet.
    pub value: Option<Bytes>,
}

/// The bytes are no entry of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Too short.
    #[error("entry is cut off")]
    Short,
    /// Written by another version.
    #[error("entry of version {0}, not {VERSION}")]
    Version(u8),
    /// A field that cannot be.
    #[error("entry with a wrong {0}")]
    Wrong(&'static str),
}

impl From<TryGetError> for RecordError {
    fn from(_: TryGetError) -> Self {
        Self::Short
    }
}

/// A key as the journal sorts it.
pub fn encode_key(key: KeyRef<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.key.len());
    out.put_u8(key.db);
    out.put_slice(key.key);
    out
}

/// What [`encode_key`] made; none for something else.
pub fn decode_key(bytes: &[u8]) -> Option<KeyRef<'_>> {
    let (&db, key) = bytes.split_first()?;
    (usize::from(db) < crate::keyspace::DATABASES).then_some(KeyRef { db, key })
}

/// A write id as the journal sorts it.
pub fn encode_write_id(id: WriteId) -> [u8; 16] {
    (u128::from(id.epoch.0) << 64 | u128::from(id.counter)).to_be_bytes()
}

fn put_write_id(out: &mut Vec<u8>, id: WriteId) {
    out.put_u64_le(id.epoch.0);
    out.put_u64_le(id.counter);
}

fn get_write_id(rest: &mut &[u8]) -> Result<WriteId, RecordError> {
    Ok(WriteId {
        epoch: Epoch(rest.try_get_u64_le()?),
        counter: rest.try_get_u64_le()?,
    })
}

impl Entry {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let value = self.value.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(80 + value.len());
        out.put_u8(VERSION);
        let layout = &self.object.layout;
        put_write_id(&mut out, self.object.write_id);
        out.put_u8(layout.geometry().data_u8());
        out.put_u8(layout.geometry().parity_u8());
        out.put_u32_le(layout.cell_bytes());
        out.put_u64_le(layout.size_bytes());
        let kind = self.object.kind().code() << KIND_SHIFT;
        match self.object.place() {
            None => {
                out.put_u8(CHUNKS | kind);
                out.put_u8(self.object.chunks() as u8);
                for index in 0..self.object.chunks() {
                    out.put_u16_le(self.object.node(index).map_or(NOBODY, |node| node.0));
                }
            }
            Some(place) => {
                out.put_u8(PACKED | kind);
                put_write_id(&mut out, place.segment);
                out.put_u32_le(place.offset_bytes);
            }
        }
        out.put_u64_le(self.expires_unix_ms.unwrap_or(0));
        out.put_slice(value);
        out
    }

    /// What [`Entry::encode`] made. Checks that it can be.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let rest = &mut { bytes };
        let version = rest.try_get_u8()?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let write_id = get_write_id(rest)?;
        let (data, parity) = (rest.try_get_u8()?, rest.try_get_u8()?);
        let cell_bytes = rest.try_get_u32_le()?;
        let size_bytes = rest.try_get_u64_le()?;
        let geometry = Geometry::new(data, parity).map_err(|_| RecordError::Wrong("geometry"))?;
        let layout = Layout::new(geometry, size_bytes, cell_bytes)
            .map_err(|_| RecordError::Wrong("layout"))?;
        let home = rest.try_get_u8()?;
        let kind = Kind::of_code(home >> KIND_SHIFT).ok_or(RecordError::Wrong("kind"))?;
        let object = match home & ((1 << KIND_SHIFT) - 1) {
            CHUNKS => {
                let count = usize::from(rest.try_get_u8()?);
                if count != 0 && count != geometry.total() {
                    return Err(RecordError::Wrong("number of chunks"));
                }
                let mut nodes = Vec::with_capacity(count);
                for _ in 0..count {
                    let node = rest.try_get_u16_le()?;
                    nodes.push(Some(NodeId(node)).filter(|_| node != NOBODY));
                }
                Object::new(write_id, layout, nodes)
            }
            PACKED => {
                let place = Place {
                    segment: get_write_id(rest)?,
                    offset_bytes: rest.try_get_u32_le()?,
                };
                Object::packed(write_id, layout, place)
            }
            _ => return Err(RecordError::Wrong("home")),
        };
        let expires = rest.try_get_u64_le()?;
        let value = match rest.len() as u64 {
            0 => None,
            len if len == size_bytes => Some(Bytes::copy_from_slice(rest)),
            _ => return Err(RecordError::Wrong("length")),
        };
        Ok(Self {
            object: object.of_kind(kind),
            expires_unix_ms: Some(expires).filter(|at| *at != 0),
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn write_id() -> impl Strategy<Value = WriteId> {
        (any::<u64>(), any::<u64>()).prop_map(|(epoch, counter)| WriteId {
            epoch: Epoch(epoch),
            counter,
        })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let home = prop_oneof![
            (write_id(), any::<u32>()).prop_map(Some),
            Just(None::<(WriteId, u32)>)
        ];
        let shape = (1u8..=20, 0u8..=4, 0u64..5000, 1u32..300_000);
        // without any: no node ever had it
        let nodes = prop_oneof![3 => vec(any::<u16>(), 24), 1 => Just(Vec::new())];
        let rest = (any::<Option<u64>>(), any::<bool>(), nodes);
        let kind = proptest::sample::select(&Kind::ALL[..]);
        (write_id(), shape, home, rest, kind).prop_map(
            |(write_id, (d, p, size, cell), home, (expires, inline, nodes), kind)| {
                let geometry = Geometry::new(d, p).unwrap();
                let layout = Layout::new(geometry, size, cell).unwrap();
                let nodes = nodes.get(..geometry.total()).unwrap_or_default().iter();
                let nodes = nodes.map(|n| Some(NodeId(*n)).filter(|_| *n != NOBODY));
                let object = match home {
                    Some((segment, offset_bytes)) => {
                        let place = Place {
                            segment,
                            offset_bytes,
                        };
                        Object::packed(write_id, layout, place)
                    }
                    None => Object::new(write_id, layout, nodes.collect()),
                };
                Entry {
                    object: object.of_kind(kind),
                    expires_unix_ms: expires.filter(|at| *at != 0),
                    value: (inline && size > 0).then(|| Bytes::from(vec![7; size as usize])),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_and_no_part_of_it_does(entry in entry(), cut in 0.0f64..1.0) {
            let bytes = entry.encode();
            prop_assert_eq!(Entry::decode(&bytes), Ok(entry.clone()));
            let part = &bytes[..(cut * bytes.len() as f64) as usize];
            // a value that is not there at all is an entry without one
            let cut_value = entry.value.is_some() && Entry::decode(part).is_ok_and(|e| e.value.is_none());
            prop_assert!(Entry::decode(part).is_err() || cut_value);
        }

        #[test]
        fn garbage_is_refused_or_read_without_harm(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(entry) = Entry::decode(&bytes) {
                prop_assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
            }
        }

        #[test]
        fn keys_come_back(db in 0u8..16, key in vec(any::<u8>(), 0..50)) {
            let bytes = encode_key(KeyRef { db, key: &key });
            prop_assert_eq!(decode_key(&bytes), Some(KeyRef { db, key: &key }));
        }
    }
}
