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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::Buf;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn read(stream: &mut DuplexStream, input: &mut BytesMut) -> Option<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        match poll_read(stream, input, 4096, &mut cx) {
            Poll::Ready(read) => Some(read.unwrap()),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn connections_take_turns_with_a_buffer() {
        let mut memory = Vec::new();
        for text in [&b"one"[..], b"two"] {
            let (mut near, mut far) = duplex(1 << 16);
            let mut input = BytesMut::new();
            assert_eq!((read(&mut far, &mut input), input.capacity()), (None, 0));
            near.write_all(text).await.unwrap();
            assert_eq!(read(&mut far, &mut input), Some(3));
            assert_eq!(input, text);
            memory.push(input.as_ptr());
            // half a request stays where it is
            input.advance(2);
            assert_eq!(read(&mut far, &mut input), None);
            assert_eq!(input, text[2..]);
            input.advance(1);
            near.write_all(&[b'x'; READ_BYTES]).await.unwrap();
            assert_eq!(
                read(&mut far, &mut input),
                Some(READ_BYTES),
                "all of it is free"
            );
            input.clear();
            assert_eq!((read(&mut far, &mut input), input.capacity()), (None, 0));
        }
        assert_eq!(memory[0], memory[1]);
    }

    #[tokio::test]
    async fn what_a_request_keeps_is_not_overwritten() {
        let (mut near, mut far) = duplex(1 << 16);
        let mut input = BytesMut::new();
        near.write_all(b"kept").await.unwrap();
        assert_eq!(read(&mut far, &mut input), Some(4));
        let kept = input.split().freeze();
        assert_eq!(read(&mut far, &mut input), None);
        assert!(input.capacity() > 0, "the rest of it is still this one's");
        let (mut other, mut end) = duplex(1 << 16);
        let mut others = BytesMut::new();
        for (near, far, input) in [
            (&mut near, &mut far, &mut input),
            (&mut other, &mut end, &mut others),
        ] {
            near.write_all(b"others").await.unwrap();
            assert_eq!(read(far, input), Some(6));
            assert_eq!((&input[..], &kept[..]), (&b"others"[..], &b"kept"[..]));
            input.clear();
        }
        drop(kept);
        assert_eq!((read(&mut far, &mut input), input.capacity()), (None, 0));
    }

    #[tokio::test]
    async fn what_grew_is_not_kept_and_spares_are_few() {
        let mut connections = Vec::new();
        for _ in 0..2 * SPARES {
            let (mut near, mut far) = duplex(1 << 16);
            let mut input = BytesMut::new();
            near.write_all(b"x").await.unwrap();
            assert_eq!(read(&mut far, &mut input), Some(1));
            connections.push((near, far, input));
        }
        for (_near, far, input) in &mut connections {
            input.clear();
            assert_eq!((read(far, input), input.capacity()), (None, 0));
        }
        let spares = || SPARE.with_borrow(Vec::len);
        assert_eq!(spares(), SPARES);
        SPARE.with_borrow_mut(Vec::clear);
        let (_near, mut far, mut input) = connections.pop().unwrap();
        input.reserve(READ_BYTES * 3);
        assert_eq!((read(&mut far, &mut input), spares()), (None, 0));
    }
}
