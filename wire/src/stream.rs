//! Frames to and from a byte stream, without doing any I/O: the owner of the
//! socket reads into [`Assembler::spare`] and writes out of [`SendQueue`].
//!
//! Both are safe to abandon between any two calls, so a read may be cancelled
//! by a timer at any time without losing the place in the stream.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Limit};

use crate::{
    buffer::bulk_buffer,
    frame::{self, FrameError, HEADER_BYTES, Header},
    limits::MAX_BODY_BYTES,
    message::Message,
    version::{SPOKEN, Version, Versions},
};

/// Room for headers and bodies. What is read of a payload together with them,
/// less than this, is copied once; the rest of it never.
pub const HEAD_BYTES: usize = 16 * 1024;
/// The same behind a payload longer than that, where another one is likely: all of it but
/// this much is read to where it stays.
const NEXT_HEAD_BYTES: usize = 1024;
/// Payloads up to this many bytes travel in one piece with their header.
const INLINE_BYTES: usize = 4 * 1024;

/// One received frame.
#[derive(Debug)]
pub struct Frame {
    /// Request id, as in the header.
    pub request: u32,
    /// What is said.
    pub message: Message,
    /// The payload, alone in its allocation; empty where there is none.
    pub payload: BytesMut,
}

/// A frame whose payload is still arriving.
#[derive(Debug)]
struct Pending {
    frame: Frame,
    missing: usize,
}

/// Puts frames together from what the socket gives. All must be of the same version.
#[derive(Debug)]
pub struct Assembler {
    head: BytesMut,
    pending: Option<Pending>,
    /// As soon as there was a frame: its version alone.
    expected: Versions,
    /// What a read of the next header may take with it.
    ahead_bytes: usize,
}

impl Default for Assembler {
    fn default() -> Self {
        Self::new(SPOKEN)
    }
}

impl Assembler {
    /// For a stream of frames of any one of these versions.
    pub fn new(expected: Versions) -> Self {
        Self {
            head: BytesMut::with_capacity(HEAD_BYTES),
            pending: None,
            expected,
            ahead_bytes: HEAD_BYTES,
        }
    }

    /// The version of the frames that have come; the newest that is expected before
    /// there was any.
    pub fn version(&self) -> Version {
        self.expected.newest()
    }

    /// Where the next bytes of the stream belong. Large payloads are read
    /// straight to where they stay.
    pub fn spare(&mut self) -> Limit<&mut BytesMut> {
        match &mut self.pending {
            Some(p) => (&mut p.frame.payload).limit(p.missing),
            None => {
                let room = head_room(&self.head, self.expected, self.ahead_bytes);
                self.head.reserve(room);
                (&mut self.head).limit(room)
            }
        }
    }

    /// To be told how many bytes were read into [`Self::spare`].
    pub fn filled(&mut self, n: usize) {
        if let Some(p) = &mut self.pending {
            p.missing -= n;
        }
    }

    /// Whether the stream could end here without cutting a frame.
    pub fn at_border(&self) -> bool {
        self.pending.is_none() && self.head.is_empty()
    }

    /// The frame whose payload is still arriving: its request and what it says.
    pub fn arriving(&self) -> Option<(u32, &Message)> {
        let pending = self.pending.as_ref()?;
        Some((pending.frame.request, &pending.frame.message))
    }

    /// The next whole frame, if it has arrived. An error ends the link.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        self.next_frame_into(bulk_buffer)
    }

    /// As [`Self::next_frame`], for owners that have a buffer to hand: when a
    /// payload begins, `buffer` is asked for an empty one with room for so many
    /// bytes, and the payload stays in it.
    pub fn next_frame_into(
        &mut self,
        buffer: impl FnOnce(usize) -> BytesMut,
    ) -> Result<Option<Frame>, FrameError> {
        if let Some(p) = self.pending.take_if(|p| p.missing == 0) {
            return Ok(Some(p.frame));
        }
        if self.pending.is_some() {
            return Ok(None);
        }
        let Some(head) = self.head.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::decode(head, self.expected)?;
        debug_assert!(header.body_len <= MAX_BODY_BYTES as usize);
        let body_end = HEADER_BYTES + header.body_len;
        let Some(body) = self.head.get(HEADER_BYTES..body_end) else {
            return Ok(None);
        };
        let message = header.message(body)?;
        self.expected = Versions::only(header.version);
        self.head.advance(body_end);
        self.ahead_bytes = match header.payload_len > HEAD_BYTES {
            true => NEXT_HEAD_BYTES,
            false => HEAD_BYTES,
        };
        let here = header.payload_len.min(self.head.len());
        let mut payload = match header.payload_len {
            0 => BytesMut::new(),
            len => buffer(len),
        };
        debug_assert!(payload.is_empty());
        payload.put_slice(&self.head[..here]);
        self.head.advance(here);
        let frame = Frame {
            request: header.request,
            message,
            payload,
        };
        let missing = header.payload_len - here;
        if missing == 0 {
            return Ok(Some(frame));
        }
        self.pending = Some(Pending { frame, missing });
        Ok(None)
    }
}

/// How much `head` may take now. Never all that it has room for, which long
/// bodies make more: behind a body comes a payload that would be copied.
fn head_room(head: &BytesMut, expected: Versions, ahead_bytes: usize) -> usize {
    let header = head.first_chunk().map(|h| Header::decode(h, expected));
    let body_end = match header {
        Some(Ok(header)) => HEADER_BYTES + header.body_len,
        _ => 0,
    };
    let wanted = body_end.max(ahead_bytes);
    // a read of nothing would look like the end of the stream
    wanted.saturating_sub(head.len()).max(1024)
}

/// Frames on their way out, as segments for vectored writes. Payloads beyond a
/// few KiB are not copied. Its bound is the sender's: it says how much waits.
#[derive(Debug)]
pub struct SendQueue {
    version: Version,
    segments: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
}

impl Default for SendQueue {
    fn default() -> Self {
        Self::new(SPOKEN.newest())
    }
}

impl SendQueue {
    /// For frames of this version.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            segments: VecDeque::new(),
            tail: BytesMut::new(),
            bytes: 0,
        }
    }

    /// The version of its frames.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Appends a frame.
    pub fn push(&mut self, request: u32, message: &Message, payload: Bytes) {
        let before = self.tail.len();
        frame::encode(
            self.version,
            message,
            request,
            payload.len(),
            &mut self.tail,
        );
        self.bytes += self.tail.len() - before + payload.len();
        if payload.len() <= INLINE_BYTES {
            self.tail.put_slice(&payload);
        } else {
            self.segments.push_back(self.tail.split().freeze());
            self.segments.push_back(payload);
        }
    }

    /// Bytes not yet written.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Fills `slices` with what to write next; says how many it used.
    pub fn slices<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        if !self.tail.is_empty() {
            self.segments.push_back(self.tail.split().freeze());
        }
        let mut used = 0;
        for (slot, segment) in slices.iter_mut().zip(&self.segments) {
            *slot = IoSlice::new(segment);
            used += 1;
        }
        used
    }

    /// To be told how many bytes the socket took.
    pub fn advance(&mut self, mut n: usize) {
        self.bytes -= n;
        while n > 0 {
            let Some(front) = self.segments.front_mut() else {
                return;
            };
            if front.len() > n {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        descriptor::ChunkDescriptor,
        geometry::{Geometry, Layout},
        ids::{ChunkId, Epoch, WriteId},
    };

    fn put_id() -> WriteId {
        WriteId {
            epoch: Epoch(1),
            counter: 1,
        }
    }

    fn put(len: usize) -> Message {
        let layout = Layout::new(Geometry::new(1, 0).unwrap(), len as u64, 1 << 20).unwrap();
        let id = ChunkId {
            write_id: put_id(),
            index: 0,
        };
        Message::Put {
            chunk: ChunkDescriptor { id, layout },
            stripe: 0,
            checksum: 0,
            last: true,
        }
    }

    fn drain(queue: &mut SendQueue, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = queue.slices(&mut slices);
            let chunk: Vec<u8> = slices[..used]
                .iter()
                .flat_map(|s| s.iter().copied())
                .take(step)
                .collect();
            queue.advance(chunk.len());
            out.extend(chunk);
        }
        out
    }

    /// Reads `stream` as from a socket that gives at most `most` bytes at once.
    /// The frame that comes of it, and where its payload was received: after
    /// how many bytes, and at which address.
    fn receive(
        assembler: &mut Assembler,
        stream: &[u8],
        most: usize,
    ) -> (Frame, Option<(usize, usize)>) {
        let (mut at, mut direct) = (0, None);
        loop {
            if let Some(frame) = assembler.next_frame().unwrap() {
                assert!(assembler.at_border());
                return (frame, direct);
            }
            let arriving = assembler.arriving().is_some();
            let mut spare = assembler.spare();
            if arriving && direct.is_none() {
                direct = Some((at, spare.chunk_mut().as_mut_ptr().addr()));
            }
            let n = most.min(spare.remaining_mut()).min(stream.len() - at);
            spare.put_slice(&stream[at..at + n]);
            assembler.filled(n);
            at += n;
        }
    }

    fn stream_of(message: &Message, payload: &Bytes) -> Vec<u8> {
        let mut queue = SendQueue::default();
        queue.push(1, message, payload.clone());
        drain(&mut queue, usize::MAX)
    }

    #[test]
    fn no_more_of_a_payload_is_copied_than_comes_with_its_header() {
        let payload = Bytes::from((0..300_000).map(|i| i as u8).collect::<Vec<_>>());
        let stream = stream_of(&put(payload.len()), &payload);
        let head = stream.len() - payload.len();
        let mut assembler = Assembler::default();
        let check = |assembler: &mut Assembler, most: usize, copied: usize| {
            let (frame, direct) = receive(assembler, &stream, most);
            let place = frame.payload.as_ptr().addr() + copied;
            assert_eq!(direct, Some((head + copied, place)));
            assert_eq!(frame.payload, payload);
            assert_eq!(frame.payload.capacity(), payload.len());
            assert_eq!(frame.payload.freeze().len(), payload.len());
        };
        check(&mut assembler, usize::MAX, HEAD_BYTES - head);
        // another one is likely behind it
        check(&mut assembler, usize::MAX, NEXT_HEAD_BYTES - head);
        check(&mut assembler, head, 0);
        check(&mut assembler, head + 5, 5);
        // a long body makes the buffer longer, but not what is copied
        let ids = vec![put_id(); crate::limits::DELETE_BATCH];
        let long = stream_of(&Message::Delete(ids), &Bytes::new());
        assert!(long.len() > 2 * HEAD_BYTES);
        receive(&mut assembler, &long, usize::MAX);
        check(&mut assembler, usize::MAX, HEAD_BYTES - head);
    }

    #[test]
    fn a_payload_stays_in_the_buffer_that_it_was_given() {
        let payload = Bytes::from(vec![3; 70_000]);
        let stream = stream_of(&put(payload.len()), &payload);
        let mut assembler = Assembler::default();
        let (mut at, mut given) = (0, None);
        let frame = loop {
            let buffer = |len| {
                assert_eq!(len, payload.len());
                let buffer = BytesMut::with_capacity(81_920);
                given = Some(buffer.as_ptr());
                buffer
            };
            if let Some(frame) = assembler.next_frame_into(buffer).unwrap() {
                break frame;
            }
            let mut spare = assembler.spare();
            let n = spare.remaining_mut().min(stream.len() - at);
            spare.put_slice(&stream[at..at + n]);
            assembler.filled(n);
            at += n;
        };
        assert_eq!(frame.payload, payload);
        assert_eq!(Some(frame.payload.as_ptr()), given);
        assert_eq!(frame.payload.capacity(), 81_920);
    }

    #[test]
    fn large_payloads_are_written_from_where_they_are() {
        let (small, large) = (
            Bytes::from(vec![1; INLINE_BYTES]),
            Bytes::from(vec![2; INLINE_BYTES + 1]),
        );
        let mut queue = SendQueue::default();
        queue.push(1, &put(small.len()), small.clone());
        queue.push(2, &put(large.len()), large.clone());
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(queue.slices(&mut slices), 2);
        assert!(
            slices[0].len() > small.len(),
            "in one piece with its header"
        );
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
    }

    fn heard(assembler: &mut Assembler, bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        assembler.spare().put_slice(bytes);
        assembler.filled(bytes.len());
        assembler.next_frame()
    }

    #[test]
    fn the_first_frame_says_which_version_all_are_of() {
        let frames = [5, 6, 7].map(|version| {
            let mut queue = SendQueue::new(Version(version));
            queue.push(1, &Message::Ping, Bytes::new());
            drain(&mut queue, usize::MAX)
        });
        let both = Versions::new(5, 6).unwrap();
        for (first, other) in [(0, 1), (1, 0)] {
            let mut assembler = Assembler::new(both);
            for _ in 0..2 {
                let frame = heard(&mut assembler, &frames[first]).unwrap().unwrap();
                assert_eq!((frame.request, frame.message), (1, Message::Ping));
            }
            let version = |i: usize| Version(5 + i as u8);
            assert_eq!(assembler.version(), version(first));
            let wrong = FrameError::Version(version(other), Versions::only(version(first)));
            let refused = heard(&mut assembler, &frames[other]).unwrap_err();
            assert_eq!(refused, wrong);
        }
        let refused = heard(&mut Assembler::new(both), &frames[2]).unwrap_err();
        assert_eq!(refused, FrameError::Version(Version(7), both));
        assert_eq!(refused.to_string(), "frame of version 7, expected 5 to 6");
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_frames(
            sizes in vec(0usize..40_000, 1..6), write in 1usize..70_000, read in 1usize..30_000
        ) {
            let mut queue = SendQueue::default();
            for (i, size) in sizes.iter().enumerate() {
                queue.push(i as u32, &put(*size), Bytes::from(vec![i as u8; *size]));
                queue.push(i as u32, &Message::Ping, Bytes::new());
            }
            let total = queue.bytes();
            let stream = drain(&mut queue, write);
            prop_assert_eq!(stream.len(), total);
            let (mut assembler, mut at, mut got) = (Assembler::default(), 0, Vec::new());
            while at < stream.len() {
                let mut spare = assembler.spare();
                let n = read.min(spare.remaining_mut()).min(stream.len() - at);
                spare.put_slice(&stream[at..at + n]);
                assembler.filled(n);
                at += n;
                while let Some(frame) = assembler.next_frame().unwrap() { got.push(frame) }
            }
            prop_assert!(assembler.at_border());
            prop_assert_eq!(got.len(), 2 * sizes.len());
            for (i, frame) in got.iter().enumerate() {
                prop_assert_eq!(frame.request as usize, i / 2);
                let expect = if i % 2 == 0 { vec![(i / 2) as u8; sizes[i / 2]] } else { vec![] };
                prop_assert_eq!(&frame.payload[..], &expect[..]);
            }
        }
    }
}
