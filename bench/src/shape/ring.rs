//! A byte queue of fixed size. Sockets read into it and are written from it: the bytes
//! are copied nowhere else.

use std::io::IoSlice;

pub(super) struct Ring {
    buffer: Box<[u8]>,
    begin: usize,
    len: usize,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            buffer: vec![0; capacity].into_boxed_slice(),
            begin: 0,
            len: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == self.buffer.len()
    }

    /// Room for the next bytes, as much of it as lies together.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let end = self.begin + self.len;
        match end.checked_sub(self.buffer.len()) {
            None => &mut self.buffer[end..],
            Some(wrapped) => &mut self.buffer[wrapped..self.begin],
        }
    }

    /// `len` bytes were put into the room.
    pub(super) fn filled(&mut self, len: usize) {
        self.len += len;
    }

    /// The first `len` bytes, which must be there.
    pub(super) fn front(&self, len: usize) -> [IoSlice<'_>; 2] {
        let end = self.begin + len;
        match end.checked_sub(self.buffer.len()) {
            None => [&self.buffer[self.begin..end], &[]].map(IoSlice::new),
            Some(wrapped) => {
                [&self.buffer[self.begin..], &self.buffer[..wrapped]].map(IoSlice::new)
            }
        }
    }

    /// The first `len` bytes are no longer needed.
    pub(super) fn consumed(&mut self, len: usize) {
        self.begin = (self.begin + len) % self.buffer.len();
        self.len -= len;
    }
}
