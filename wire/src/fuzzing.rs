//! Bodies of the fuzz targets, shared with the property tests so that both
//! check the same laws. Each panics when a law is broken.

use bytes::BytesMut;

use crate::{
    frame::{self, HEADER_BYTES, Header},
    invoke::{Invocation, Report},
    message::Message,
    version::SPOKEN,
};

/// A frame without payload, with more at the end of its body: as a later release may
/// send some of them.
pub fn lengthen(frame: &mut BytesMut, more: &[u8]) {
    frame.extend_from_slice(more);
    frame::seal(frame);
}

/// What decodes, encodes to the same bytes; but for what a later release may add.
fn assert_same(kind: u8, again: &[u8], body: &[u8]) {
    if Message::may_be_longer(kind) {
        assert!(body.starts_with(again));
    } else {
        assert_eq!(again, body);
    }
}

/// Arbitrary bytes as a frame.
#[allow(clippy::panic, reason = "a broken law must stop the fuzzer")]
pub fn check_frame(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return;
    };
    let Ok(header) = Header::decode(head, SPOKEN) else {
        return;
    };
    let Some(body) = rest.get(..header.body_len) else {
        return;
    };
    let Ok(message) = header.message(body) else {
        return;
    };
    let mut again = BytesMut::new();
    let (request, payload_len) = (header.request, header.payload_len);
    frame::encode(header.version, &message, request, payload_len, &mut again);
    assert_same(message.kind(), &again[HEADER_BYTES..], body);
    if again.len() == HEADER_BYTES + body.len() {
        assert_eq!(again[..HEADER_BYTES], *head);
    }
}

/// Arbitrary bytes as kind and body of a message, past the checksum.
pub fn check_message(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    let Ok(message) = Message::decode(*kind, body) else {
        return;
    };
    let mut again = BytesMut::new();
    message.encode_body(&mut again);
    assert_same(*kind, &again, body);
}

/// Arbitrary bytes as invoke payload and result.
pub fn check_invoke(data: &[u8]) {
    let _ = Invocation::from_json(data, SPOKEN);
    let _ = Report::from_json(data, SPOKEN);
}
