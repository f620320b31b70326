//! Bodies of the fuzz targets, shared with the property tests so that both
//! check the same laws. Each panics when a law is broken.

use bytes::BytesMut;

use crate::{
    frame::{self, HEADER_BYTES, Header},
    invoke::{Invocation, Report},
    message::Message,
};

/// Arbitrary bytes as a frame: what decodes, encodes to the same bytes.
#[allow(clippy::panic, reason = "a broken law must stop the fuzzer")]
pub fn check_frame(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return;
    };
    let Ok(header) = Header::decode(head) else {
        return;
    };
    let Some(body) = rest.get(..header.body_len) else {
        return;
    };
    let Ok(message) = header.message(body) else {
        return;
    };
    let mut again = BytesMut::new();
    frame::encode(&message, header.request, header.payload_len, &mut again);
    assert_eq!(again, &data[..HEADER_BYTES + header.body_len]);
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
    assert_eq!(again, body);
}

/// Arbitrary bytes as invoke payload and result.
pub fn check_invoke(data: &[u8]) {
    let _ = Invocation::from_json(data);
    let _ = Report::from_json(data);
}
