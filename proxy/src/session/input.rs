//! Where a client's bytes arrive: in buffers that the connections of a worker take turns
//! with. One that sends nothing has none, and the others read into memory that is in the
//! processor's cache.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Length of a buffer: a pipeline of 16 requests with 1 KB each arrives in one read.
pub(super) const READ_BYTES: usize = 32 * 1024;
/// Buffers that a worker has ready at most.
const SPARES: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Reads what is there behind what is in `input`, if any, with room for `room` bytes at
/// least. An empty `input` has memory only while there is something to read, or a part of
/// it is in use elsewhere.
pub(super) fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    room: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if input.capacity() == 0 {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        *input = spare.unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES));
    }
    let is_free = input.is_empty() && input.try_reclaim(READ_BYTES);
    input.reserve(room);
    let read = pin!(stream.read_buf(input)).poll(cx);
    if read.is_pending() && is_free {
        give_back(std::mem::take(input));
    }
    read
}

/// Leaves a buffer, which is empty, to the next connection.
fn give_back(buffer: BytesMut) {
    // a long request had it grow
    if buffer.capacity() > 2 * READ_BYTES {
        return;
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARES {
            spare.push(buffer);
        }
    });
}
