//! The bytes that wait to be written to a client.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// A queue of encoded bytes. Small pieces are copied together; large ones are
/// queued as they are, so that a value goes from the nodes' buffers to the
/// socket without a copy.
///
/// It is a [`Buf`] with vectored chunks: `AsyncWriteExt::write_buf` drains it.
/// It has no bound of its own: stop making replies while
/// [`OutBuffer::pending_bytes`] is above the connection's limit.
#[derive(Debug, Default)]
pub struct OutBuffer {
    segments: VecDeque<Bytes>,
    segments_bytes: usize,
    tail: BytesMut,
}

impl OutBuffer {
    /// Pieces from this length on are queued without copying: below it a copy
    /// is cheaper than another entry in a vectored write.
    pub const LARGE_BYTES: usize = 4096;

    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes not written yet.
    pub fn pending_bytes(&self) -> usize {
        self.segments_bytes + self.tail.len()
    }

    /// Whether everything is written.
    pub fn is_empty(&self) -> bool {
        self.pending_bytes() == 0
    }

    /// Everything that waits, if it is in one piece.
    pub fn only_chunk(&self) -> Option<&[u8]> {
        match (self.segments.len(), self.tail.is_empty()) {
            (0, _) => Some(&self.tail),
            (1, true) => self.segments.front().map(|segment| &segment[..]),
            _ => None,
        }
    }

    /// Appends a copy of `bytes`.
    pub fn small(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Appends `bytes`, without a copy if they are many.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() < Self::LARGE_BYTES {
            self.small(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            let small = self.tail.split().freeze();
            self.queue(small);
        }
        self.queue(bytes);
    }

    /// Appends what an encoder of redis-protocol appends. It fails only when a
    /// buffer is too short, and these make their own room; were it to fail, the
    /// client would rather see no reply than half of one.
    pub(super) fn encoded<E: std::fmt::Debug>(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> Result<usize, E>,
    ) {
        let before = self.tail.len();
        let result = encode(&mut self.tail);
        debug_assert!(result.is_ok(), "{result:?}");
        if result.is_err() {
            self.tail.truncate(before);
        }
    }

    fn queue(&mut self, bytes: Bytes) {
        self.segments_bytes += bytes.len();
        self.segments.push_back(bytes);
    }
}

impl Buf for OutBuffer {
    fn remaining(&self) -> usize {
        self.pending_bytes()
    }

    fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&self.tail, |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let segments = self.segments.iter().map(|segment| &segment[..]);
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        let chunks = segments.chain(tail);
        slices
            .iter_mut()
            .zip(chunks)
            .map(|(slice, chunk)| *slice = IoSlice::new(chunk))
            .count()
    }

    fn advance(&mut self, count: usize) {
        let mut count = count;
        while let Some(front) = self.segments.front_mut() {
            let step = count.min(front.len());
            front.advance(step);
            self.segments_bytes -= step;
            count -= step;
            if !front.is_empty() {
                return;
            }
            self.segments.pop_front();
        }
        self.tail.advance(count);
    }
}
