//! Frames out of a byte stream, with or without garbage in it.

use bytes::{BufMut, Bytes, BytesMut};
use scatterhoard_wire::{
    ChunkDescriptor, ChunkId, Epoch, Geometry, InstanceId, InvocationId, Layout, SPOKEN, Token,
    Version, Versions, WriteId, frame, fuzzing,
    message::{GoodbyeReason, Held, Hello, Message, Refusal},
    stream::{Assembler, SendQueue},
};

use crate::input::Input;

/// Request, message and payload of each frame, and how the stream ended.
type Heard = (
    Vec<(u32, Message, Vec<u8>)>,
    Result<bool, frame::FrameError>,
);

/// Builds a stream from `data` and reads it whole and in pieces.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let cuts: Vec<usize> = (0..4).map(|_| 1 + usize::from(input.u16())).collect();
    let stream = stream(&mut input);
    let whole = read(&stream, &[stream.len().max(1)]);
    assert_eq!(whole, read(&stream, &cuts));
    assert_eq!(whole, read(&stream, &[1 + cuts[0] % 23]));
}

fn stream(input: &mut Input<'_>) -> BytesMut {
    let mut stream = BytesMut::new();
    while !input.is_empty() && stream.len() < 1 << 20 {
        let kind = input.u8();
        if kind >= 250 {
            let len = usize::from(input.u8());
            stream.put_slice(input.bytes(len));
            continue;
        }
        let message = message(kind % 14, input);
        let len = if message.has_payload() {
            usize::from(input.u16())
        } else {
            0
        };
        let request = u32::from(input.u8());
        // seldom another one than before
        let version = Version(SPOKEN.newest().0 + u8::from(request > 250));
        let mut frame = BytesMut::new();
        frame::encode(version, &message, request, len, &mut frame);
        if matches!(message, Message::Hello(_) | Message::Reject(_)) {
            // as a later release may
            let more = usize::from(input.u8());
            fuzzing::lengthen(&mut frame, input.bytes(more));
        }
        stream.put_slice(&frame);
        stream.put_bytes(kind, len);
    }
    stream
}

fn message(kind: u8, input: &mut Input<'_>) -> Message {
    let write_id = WriteId {
        epoch: Epoch(input.u8().into()),
        counter: input.u16().into(),
    };
    let id = ChunkId { write_id, index: 0 };
    let held = Held {
        bytes: input.u16().into(),
        budget_bytes: 1 << 20,
        chunks: 3,
    };
    let descriptor = |size: u16| {
        let geometry = Geometry::new(2, 1).ok()?;
        let layout = Layout::new(geometry, size.into(), 1 + u32::from(size)).ok()?;
        Some(ChunkDescriptor { id, layout })
    };
    match kind {
        0 => Message::Ping,
        1 => Message::Pong(held),
        2 => Message::Missing,
        3 => Message::Refused(Refusal::Full),
        4 => Message::Delete(vec![write_id; usize::from(input.u8())]),
        5 => Message::Deleted(held),
        6 => Message::List(Some(id)),
        7 => Message::Listed {
            chunks: descriptor(input.u16()).into_iter().collect(),
            more: true,
        },
        8 => Message::Goodbye(GoodbyeReason::Deadline),
        9 => Message::Reject(String::from_utf8_lossy(input.bytes(40)).into_owned()),
        10 => Message::Stored {
            complete: false,
            held,
        },
        11 => match descriptor(input.u16()) {
            Some(chunk) => Message::Put {
                chunk,
                stripe: 1,
                checksum: 2,
                last: true,
            },
            None => Message::Welcome,
        },
        12 => Message::Hello(Hello {
            token: Token(1),
            instance: InstanceId(2),
            invocation: InvocationId(3),
            birth_unix_ms: 4,
            highest_epoch: write_id.epoch,
            held,
        }),
        _ => Message::Cell {
            stripe: 4,
            checksum: input.u16().into(),
        },
    }
}

/// Feeds the stream in pieces of these sizes, in turn.
fn read(stream: &[u8], sizes: &[usize]) -> Heard {
    let newest = SPOKEN.newest().0;
    let Ok(spoken) = Versions::new(newest, newest + 1) else {
        return (Vec::new(), Ok(false));
    };
    let (mut assembler, mut frames) = (Assembler::new(spoken), Vec::new());
    let mut version = None;
    let (mut rest, mut sizes) = (stream, sizes.iter().cycle());
    loop {
        loop {
            match assembler.next_frame() {
                Ok(Some(frame)) => {
                    let first = *version.get_or_insert(assembler.version());
                    assert_eq!(first, assembler.version());
                    let mut again = SendQueue::default();
                    let payload = Bytes::from(frame.payload.to_vec());
                    again.push(frame.request, &frame.message, payload);
                    assert!(again.bytes() >= frame::HEADER_BYTES + frame.payload.len());
                    frames.push((frame.request, frame.message, frame.payload.to_vec()));
                }
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
        if rest.is_empty() {
            return (frames, Ok(assembler.at_border()));
        }
        let mut spare = assembler.spare();
        let size = sizes.next().copied().unwrap_or(1);
        let n = size.min(spare.remaining_mut()).min(rest.len());
        assert!(n > 0, "the stream stands still");
        spare.put_slice(&rest[..n]);
        assembler.filled(n);
        rest = &rest[n..];
    }
}
