//! Counts the copies of a large value on its way through the proxy: none,
//! between the buffer that the socket was read into and the one that is written
//! to the other socket. (The kernel copies twice; reading also copies what came
//! in one piece with a frame's header, see `wire`.) Only tests live here.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use scatterhoard_wire::{
    Epoch, Geometry, GeometryPolicy, WriteId, message::Message, stream::SendQueue,
};

use super::{
    body::{Body, InMemory},
    cut::Stripes,
    gather::Gather,
};
use crate::{
    admission::Permit,
    codec::{Backend, Codec},
    resp::OutBuffer,
    value::Value,
};

const SIZE: u64 = 5 << 20;

fn codec() -> (GeometryPolicy, Codec) {
    let geometry = Geometry::new(10, 2).unwrap();
    let codec = Codec::new(geometry, Backend::RustyErasure).unwrap();
    (GeometryPolicy::with_full(geometry), codec)
}

/// Where the slices of a vectored write begin.
fn written(out: &OutBuffer) -> Vec<*const u8> {
    let mut slices = [std::io::IoSlice::new(&[]); 64];
    let used = out.chunks_vectored(&mut slices);
    slices[..used].iter().map(|s| s.as_ptr()).collect()
}

#[test]
fn a_value_that_is_read_is_written_from_where_it_was_received() {
    let (policy, codec) = codec();
    let layout = policy.layout(SIZE).unwrap();
    let (mut gather, mut out) = (Gather::new(layout, 0..SIZE), OutBuffer::new());
    let mut received = Vec::new();
    for stripe in 0..layout.stripes() {
        for chunk in 0..layout.geometry().data() {
            let cell = BytesMut::zeroed(layout.cell_len(stripe));
            received.push(cell.as_ptr());
            gather.keep(stripe, chunk, cell);
        }
    }
    while !gather.is_done() {
        let cells = gather.take(&codec, |_| false).unwrap();
        cells.into_iter().for_each(|cell| out.push(cell));
    }
    assert_eq!(out.remaining() as u64, SIZE);
    assert_eq!(written(&out), received);
}

#[test]
fn a_value_that_is_stored_is_written_from_where_it_was_received() {
    let (policy, codec) = codec();
    let layout = policy.layout(SIZE).unwrap();
    let d = layout.geometry().data();
    let write_id = WriteId {
        epoch: Epoch(1),
        counter: 1,
    };
    let stripes = Stripes::new(write_id, layout, &codec);
    let mut received = Vec::new();
    let segments: Vec<Bytes> = (0..layout.stripes() as usize * d)
        .map(|i| Bytes::from(vec![i as u8; layout.cell_len((i / d) as u32)]))
        .collect();
    let mut body = InMemory::new(&Value::from_segments(segments.clone()));
    let mut link = SendQueue::default();
    for stripe in 0..layout.stripes() {
        stripes.begin(Permit::default());
        for chunk in 0..d {
            let len = layout.cell_len(stripe);
            let Ok(cell) = body.next(len, len).now_or_never().unwrap();
            stripes.push(cell).unwrap();
            received.push(segments[stripe as usize * d + chunk].as_ptr());
        }
    }
    for stripe in 0..layout.stripes() {
        for chunk in 0..d {
            let cell = stripes
                .cell(stripe, chunk)
                .now_or_never()
                .flatten()
                .unwrap();
            let message = Message::Cell {
                stripe,
                checksum: 0,
            };
            link.push(1, &message, cell.payload);
        }
    }
    let mut slices = [std::io::IoSlice::new(&[]); 64];
    let used = link.slices(&mut slices);
    let payloads = slices[..used].iter().filter(|s| s.len() > 1000);
    let sent: Vec<*const u8> = payloads.map(|s| s.as_ptr()).collect();
    assert_eq!(sent, received);
}
