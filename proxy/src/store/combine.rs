//! BITOP: a value made of the bytes of others, in bounded memory.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    Broken, Lookup, ObjectReader, Pinned, ReadError, Store, View, Written,
    body::{Body, Stored},
};
use crate::{strings::bits::Operation, value::Value};

/// Large values that are read as streams, each some stripes ahead. Of further ones
/// just the bytes that are due are read, again and again.
const STREAMS: usize = 3;

/// Which of the values cannot be read, and why.
pub struct BrokenSource {
    /// Its place among them.
    pub source: usize,
    /// Why.
    pub error: ReadError,
}

impl Store {
    /// Writes what comes of the values, ready to be committed; they are not all
    /// empty.
    pub async fn write_combined(
        self: &Arc<Self>,
        view: View<'_>,
        operation: Operation,
        values: Vec<Lookup>,
    ) -> Result<Written, Broken<BrokenSource>> {
        let new_bytes = values.iter().map(Lookup::len).max().unwrap_or(0);
        let mut body = Combined {
            operation,
            small: None,
            large: Vec::new(),
            at: 0,
            new_bytes,
        };
        for (source, value) in values.into_iter().enumerate() {
            let broken = |error| Broken::Body(BrokenSource { source, error });
            body.add(self, source, value).await.map_err(broken)?;
        }
        if new_bytes <= self.settings.hot_value_bytes {
            let len = new_bytes as usize;
            let bytes = body.next(len, len).await.map_err(Broken::Body)?;
            return Ok(view.write(Value::from(bytes)).await?);
        }
        // never closed
        let _turn = self.edits.acquire().await;
        self.write_from(new_bytes, body).await
    }
}

struct Combined {
    operation: Operation,
    /// What comes of the small ones.
    small: Option<BytesMut>,
    large: Vec<Large>,
    /// Bytes made so far.
    at: u64,
    new_bytes: u64,
}

struct Large {
    source: usize,
    len: u64,
    bytes: Reading,
}

enum Reading {
    Stream(Box<Stored>),
    Parts(Pinned),
}

impl Combined {
    async fn add(
        &mut self,
        store: &Arc<Store>,
        source: usize,
        value: Lookup,
    ) -> Result<(), ReadError> {
        let len = value.len();
        let is_small = len <= store.settings.hot_value_bytes;
        let small = match value {
            Lookup::Missing => Value::Empty,
            Lookup::Here(value) if is_small => value,
            Lookup::There(pinned) if is_small => store.read_whole(pinned).await?,
            large => {
                let bytes = match large {
                    Lookup::There(pinned) if self.large.len() >= STREAMS => Reading::Parts(pinned),
                    other => Reading::Stream(Box::new(Stored::new(other))),
                };
                self.large.push(Large { source, len, bytes });
                return Ok(());
            }
        };
        self.add_small(&small);
        Ok(())
    }

    fn add_small(&mut self, value: &Value) {
        let value = value.clone().into_contiguous();
        match &mut self.small {
            None => self.small = Some(BytesMut::from(&value[..])),
            Some(all) => {
                all.resize(all.len().max(value.len()), 0);
                self.operation.combine(all, &value);
            }
        }
    }
}

impl Large {
    async fn read(&mut self, at: u64, out: &mut [u8]) -> Result<(), BrokenSource> {
        let read = match &mut self.bytes {
            Reading::Stream(stored) => stored.fill(out).await,
            Reading::Parts(pinned) => {
                let part = at..at + out.len() as u64;
                let again = pinned.store.again(pinned);
                fill(ObjectReader::range(again, part).unmetered(), out).await
            }
        };
        let source = self.source;
        read.map_err(|error| BrokenSource { source, error })
    }
}

async fn fill(mut reader: ObjectReader, mut out: &mut [u8]) -> Result<(), ReadError> {
    while let Some(cells) = reader.next_cells().await? {
        for cell in cells {
            let n = cell.len().min(out.len());
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&cell[..n]);
            out = later;
        }
    }
    match out.is_empty() {
        true => Ok(()),
        // shorter than the index says: cannot be
        false => Err(ReadError::Unavailable { failed: 0 }),
    }
}

impl Body for Combined {
    type Error = BrokenSource;

    fn is_metered(&self) -> bool {
        false
    }

    async fn next(&mut self, len: usize, padded_len: usize) -> Result<Bytes, BrokenSource> {
        let mut cell = BytesMut::zeroed(padded_len);
        let mut is_first = true;
        let mut take = |cell: &mut BytesMut, bytes: &[u8]| {
            match std::mem::take(&mut is_first) {
                true => cell[..bytes.len()].copy_from_slice(bytes),
                false => self.operation.combine(&mut cell[..len], bytes),
            };
        };
        if let Some(small) = &self.small {
            let start = usize::try_from(self.at)
                .unwrap_or(usize::MAX)
                .min(small.len());
            let end = start.saturating_add(len).min(small.len());
            take(&mut cell, &small[start..end]);
        }
        let mut bytes = vec![0; len];
        for large in &mut self.large {
            let there = large.len.saturating_sub(self.at).min(len as u64) as usize;
            let bytes = &mut bytes[..there];
            if !bytes.is_empty() {
                large.read(self.at, bytes).await?;
            }
            take(&mut cell, bytes);
        }
        self.operation.finish(&mut cell[..len]);
        self.at = (self.at + len as u64).min(self.new_bytes);
        Ok(cell.freeze())
    }
}
