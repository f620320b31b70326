use bytes::BytesMut;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    frame::{self, HEADER_BYTES, Header},
    fuzzing,
    geometry::{Geometry, Layout},
    version::{SPOKEN, Version},
};

fn any_write_id() -> impl Strategy<Value = WriteId> {
    any::<(u64, u64)>().prop_map(|(e, counter)| WriteId {
        epoch: Epoch(e),
        counter,
    })
}
fn any_chunk_id() -> impl Strategy<Value = ChunkId> {
    (any_write_id(), any::<u8>()).prop_map(|(write_id, index)| ChunkId { write_id, index })
}
fn any_descriptor() -> impl Strategy<Value = ChunkDescriptor> {
    (
        any_write_id(),
        1u8..=64,
        0u8..=32,
        0u64..=crate::limits::MAX_OBJECT_BYTES,
        1u32..1_000_000,
        any::<u8>(),
    )
        .prop_map(|(write_id, d, p, size, cell, i)| ChunkDescriptor {
            id: ChunkId {
                write_id,
                index: i % (d + p),
            },
            layout: Layout::new(Geometry::new(d, p).unwrap(), size, cell).unwrap(),
        })
}
fn any_label_id() -> impl Strategy<Value = LabelId> {
    (any_write_id(), any_write_id()).prop_map(|(object, value)| LabelId { object, value })
}
fn any_label() -> impl Strategy<Value = Label> {
    (any_label_id(), vec(any::<u8>(), 0..99)).prop_map(|(id, text)| Label { id, text })
}
fn any_held() -> impl Strategy<Value = Held> {
    any::<(u64, u64, u32)>().prop_map(|(bytes, budget_bytes, chunks)| Held {
        bytes,
        budget_bytes,
        chunks,
    })
}
fn any_hello() -> impl Strategy<Value = Message> {
    (any::<(u128, u128, u64, u64, u64)>(), any_held()).prop_map(
        |((t, i, v, birth_unix_ms, e), held)| {
            Message::Hello(Hello {
                token: Token(t),
                instance: InstanceId(i),
                invocation: InvocationId(v),
                birth_unix_ms,
                highest_epoch: Epoch(e),
                held,
            })
        },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        any_hello(),
        Just(Message::Welcome),
        ".{0,40}".prop_map(Message::Reject),
        (any_descriptor(), any::<(u32, u32, bool)>()).prop_map(
            |(chunk, (stripe, checksum, last))| Message::Put {
                chunk,
                stripe,
                checksum,
                last
            }
        ),
        (any::<bool>(), any_held()).prop_map(|(complete, held)| Message::Stored { complete, held }),
        (any_chunk_id(), any::<u32>(), 1..=MAX_WINDOW_CELLS).prop_map(|(chunk, first, count)| {
            Message::Get {
                chunk,
                first,
                count,
            }
        }),
        any::<(u32, u32)>().prop_map(|(stripe, checksum)| Message::Cell { stripe, checksum }),
        Just(Message::Missing),
        (0u8..5).prop_map(|b| Message::Refused(refusal(b).unwrap())),
        vec(any_write_id(), 0..9).prop_map(Message::Delete),
        any_write_id().prop_map(Message::DeleteBelow),
        any_held().prop_map(Message::Deleted),
        option::of(any_chunk_id()).prop_map(Message::List),
        (vec(any_descriptor(), 0..9), any::<bool>())
            .prop_map(|(chunks, more)| Message::Listed { chunks, more }),
        any_label().prop_map(Message::Label),
        vec(any_write_id(), 0..9).prop_map(Message::Unlabel),
        option::of(any_label_id()).prop_map(Message::ListLabels),
        (vec(any_label(), 0..9), any::<bool>())
            .prop_map(|(labels, more)| Message::Labels { labels, more }),
        option::of(any_write_id()).prop_map(Message::SumLabels),
        (vec((any_write_id(), any::<u32>()), 0..9), any::<bool>())
            .prop_map(|(sums, more)| Message::LabelSums { sums, more }),
        Just(Message::Ping),
        any_held().prop_map(Message::Pong),
        Just(Message::Cancel),
        Just(Message::Release),
        Just(Message::Seal),
        Just(Message::Retire),
        Just(Message::Goodbye(GoodbyeReason::Deadline)),
        Just(Message::Goodbye(GoodbyeReason::Retired)),
        Just(Message::GoodbyeOk),
    ]
}

fn decode(bytes: &[u8]) -> Result<(Header, Message), FrameError> {
    let header = Header::decode(bytes[..HEADER_BYTES].try_into().unwrap(), SPOKEN)?;
    let message = header.message(&bytes[HEADER_BYTES..])?;
    Ok((header, message))
}

proptest! {
    #[test]
    fn every_message_survives_the_round_trip(message in any_message(), request: u32) {
        let payload = if message.has_payload() { 77 } else { 0 };
        let mut out = BytesMut::new();
        frame::encode(SPOKEN.newest(), &message, request, payload, &mut out);
        let (header, back) = decode(&out).unwrap();
        prop_assert_eq!(back, message);
        prop_assert_eq!((header.request, header.payload_len), (request, payload));
    }

    #[test]
    fn a_flipped_bit_is_noticed(message in any_message(), at: prop::sample::Index, bit in 0u8..8) {
        let mut out = BytesMut::new();
        frame::encode(SPOKEN.newest(), &message, 7, 0, &mut out);
        let i = at.index(out.len());
        out[i] ^= 1 << bit;
        prop_assert!(decode(&out).is_err());
    }

    /// What a handshake says may be more than we know; nothing else may.
    #[test]
    fn only_a_handshake_may_say_more_than_is_known(
        message in any_message(), more in vec(any::<u8>(), 1..60)
    ) {
        let mut out = BytesMut::new();
        frame::encode(SPOKEN.newest(), &message, 7, 0, &mut out);
        fuzzing::lengthen(&mut out, &more);
        let is_handshake =
            matches!(message, Message::Hello(_) | Message::Welcome | Message::Reject(_));
        match decode(&out) {
            Ok((header, read)) => {
                prop_assert!(is_handshake);
                prop_assert_eq!((read, header.request), (message, 7));
            }
            Err(error) => prop_assert!(!is_handshake, "{}", error),
        }
        fuzzing::check_frame(&out);
    }

    #[test]
    fn no_bytes_panic(data in vec(any::<u8>(), 0..300)) {
        fuzzing::check_frame(&data);
        fuzzing::check_message(&data);
        fuzzing::check_invoke(&data);
    }
}

#[test]
fn the_largest_messages_fit_a_body() {
    let id = WriteId {
        epoch: Epoch(1),
        counter: 2,
    };
    let layout = Layout::new(Geometry::new(1, 0).unwrap(), 1, 1).unwrap();
    let chunk = ChunkDescriptor {
        id: ChunkId {
            write_id: id,
            index: 0,
        },
        layout,
    };
    for message in [
        Message::Delete(vec![id; DELETE_BATCH]),
        Message::Listed {
            chunks: vec![chunk; LIST_PAGE],
            more: true,
        },
        Message::Reject("é".repeat(2000)),
    ] {
        let mut out = BytesMut::new();
        frame::encode(SPOKEN.newest(), &message, 1, 0, &mut out);
        assert!(decode(&out).is_ok());
    }
}

#[test]
fn another_version_is_named() {
    let mut out = BytesMut::new();
    frame::encode(SPOKEN.newest(), &Message::Ping, 1, 0, &mut out);
    out[2] = 9;
    let refused = decode(&out).unwrap_err();
    assert_eq!(refused, FrameError::Version(Version(9), SPOKEN));
}
