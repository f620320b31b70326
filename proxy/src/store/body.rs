//! Where the bytes of a value come from that is written: from memory, from a
//! client's socket (see `session`), or from an object that is there already.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::{Lookup, ObjectReader, Pinned, ReadError};
use crate::value::Value;

/// Where the bytes of a value come from.
pub trait Body: Send {
    /// Why they do not come.
    type Error: Send;
    /// Whether memory must be granted for its bytes. Not where memory is held
    /// already that others wait for: both would wait for ever.
    fn is_metered(&self) -> bool;

    /// The next `len` bytes, with zeros behind them up to `padded_len`.
    fn next(
        &mut self,
        len: usize,
        padded_len: usize,
    ) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;
}

/// A value that is in memory already.
pub(super) struct InMemory(VecDeque<Bytes>);

impl InMemory {
    pub(super) fn new(value: &Value) -> Self {
        Self(value.segments().iter().cloned().collect())
    }
}

impl Body for InMemory {
    type Error = std::convert::Infallible;

    fn is_metered(&self) -> bool {
        false
    }

    async fn next(&mut self, len: usize, padded_len: usize) -> Result<Bytes, Self::Error> {
        Ok(take(&mut self.0, len, padded_len))
    }
}

/// Takes `len` bytes off the front, padded with zeros to `padded_len`. Copies
/// only where a segment's border or padding is in the way.
fn take(rest: &mut VecDeque<Bytes>, len: usize, padded_len: usize) -> Bytes {
    if len == padded_len
        && let Some(front) = rest.front_mut()
        && front.len() >= len
    {
        let cell = front.split_to(len);
        if front.is_empty() {
            rest.pop_front();
        }
        return cell;
    }
    let mut cell = BytesMut::with_capacity(padded_len);
    while cell.len() < len {
        let Some(front) = rest.front_mut() else { break };
        let n = front.len().min(len - cell.len());
        cell.extend_from_slice(&front[..n]);
        front.advance(n);
        if front.is_empty() {
            rest.pop_front();
        }
    }
    cell.resize(padded_len, 0);
    cell.freeze()
}

/// The bytes of a stored value, in order. It is read a few stripes ahead, in
/// memory that no budget knows: its users are few, and waiting for a budget with
/// memory in hand could last for ever.
pub(super) struct Stored {
    here: VecDeque<Bytes>,
    there: Option<ObjectReader>,
}

impl Stored {
    pub(super) fn new(lookup: Lookup) -> Self {
        let (here, there) = match lookup {
            Lookup::Missing => (VecDeque::new(), None),
            Lookup::Here(value) => (value.segments().iter().cloned().collect(), None),
            Lookup::There(pinned) => {
                let reader = ObjectReader::new(pinned).unmetered();
                (VecDeque::new(), Some(reader))
            }
        };
        Self { here, there }
    }

    /// As far as it can be read now.
    pub(super) fn for_repair(pinned: Pinned) -> Self {
        let reader = ObjectReader::new(pinned).unmetered().for_repair();
        Self {
            here: VecDeque::new(),
            there: Some(reader),
        }
    }

    /// Makes sure that there are bytes in front.
    async fn pull(&mut self) -> Result<(), ReadError> {
        while self.here.is_empty() {
            let cells = match &mut self.there {
                Some(reader) => reader.next_cells().await?,
                None => None,
            };
            // shorter than the index says: cannot be
            self.here
                .extend(cells.ok_or(ReadError::Unavailable { failed: 0 })?);
        }
        Ok(())
    }

    /// Fills `out` with the next bytes.
    pub(super) async fn fill(&mut self, mut out: &mut [u8]) -> Result<(), ReadError> {
        while !out.is_empty() {
            self.pull().await?;
            let Some(front) = self.here.front_mut() else {
                break;
            };
            let n = front.len().min(out.len());
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&front.split_to(n));
            out = later;
            if front.is_empty() {
                self.here.pop_front();
            }
        }
        Ok(())
    }
}

impl Body for Stored {
    type Error = ReadError;

    fn is_metered(&self) -> bool {
        false
    }

    async fn next(&mut self, len: usize, padded_len: usize) -> Result<Bytes, ReadError> {
        if len > 0 {
            self.pull().await?;
        }
        if let Some(cell) = self
            .here
            .pop_front_if(|front| front.len() == len && len == padded_len)
        {
            return Ok(cell);
        }
        let mut cell = BytesMut::zeroed(padded_len);
        self.fill(&mut cell[..len]).await?;
        Ok(cell.freeze())
    }
}
