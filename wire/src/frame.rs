//! Link frames: a fixed header, a short control body, an optional payload.
//!
//! ```text
//!  0  u16 magic 0x5348 ("HS")   2  u8 version   3  u8 kind
//!  4  u32 request id            8  u32 body length
//! 12  u32 payload length       16  u32 CRC-32C of bytes 0..16 and the body
//! 20  body, then payload
//! ```
//! All little-endian. The payload is covered by the cell checksum in the body. The
//! version is the one that both ends agreed on, see [`crate::version`].
//! A frame that breaks a rule ends the link: its borders can no longer be trusted.

use bytes::{BufMut, BytesMut};

use crate::{
    checksum,
    limits::{MAX_BODY_BYTES, MAX_CELL_BYTES},
    message::Message,
    version::{Version, Versions},
};

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 20;
const MAGIC: u16 = 0x5348;

/// Why a peer's bytes are not a frame. Close the link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not our protocol.
    #[error("not a link frame (magic {0:#06x})")]
    Magic(u16),
    /// Another version of it than was agreed on.
    #[error("frame of version {0}, expected {1}")]
    Version(Version, Versions),
    /// Longer than any frame may be.
    #[error("frame of {0} + {1} bytes is beyond the limit")]
    TooLong(u32, u32),
    /// Damaged header or body.
    #[error("frame checksum does not match")]
    Checksum,
    /// A kind of message that this version does not know.
    #[error("unknown kind of message {0}")]
    Kind(u8),
    /// The body ends too early.
    #[error("message is truncated")]
    Truncated,
    /// A field has an impossible value.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
}

/// A decoded header: how much to read before [`Header::message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; HEADER_BYTES],
    /// What the frame is of.
    pub version: Version,
    kind: u8,
    /// Correlates a reply with its request on one link; 0 where there is none.
    pub request: u32,
    /// Length of the control body in bytes.
    pub body_len: usize,
    /// Length of the payload in bytes.
    pub payload_len: usize,
}

impl Header {
    /// Reads a header of one of these versions; says what else belongs to the frame.
    pub fn decode(bytes: &[u8; HEADER_BYTES], expected: Versions) -> Result<Self, FrameError> {
        let u32_at =
            |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let magic = u16::from_le_bytes([bytes[0], bytes[1]]);
        if magic != MAGIC {
            return Err(FrameError::Magic(magic));
        }
        let version = Version(bytes[2]);
        if !expected.has(version) {
            return Err(FrameError::Version(version, expected));
        }
        let (body, payload) = (u32_at(8), u32_at(12));
        if body > MAX_BODY_BYTES || payload > MAX_CELL_BYTES {
            return Err(FrameError::TooLong(body, payload));
        }
        Ok(Self {
            bytes: *bytes,
            version,
            kind: bytes[3],
            request: u32_at(4),
            body_len: body as usize,
            payload_len: payload as usize,
        })
    }

    /// Checks the body and decodes the message. The payload, if the kind has
    /// one, is still to be read from the link.
    pub fn message(&self, body: &[u8]) -> Result<Message, FrameError> {
        let stated = u32::from_le_bytes([
            self.bytes[16],
            self.bytes[17],
            self.bytes[18],
            self.bytes[19],
        ]);
        if body.len() != self.body_len || stated != checksum::frame(&self.bytes[..16], body) {
            return Err(FrameError::Checksum);
        }
        let message = Message::decode(self.kind, body)?;
        if self.payload_len > 0 && !message.has_payload() {
            return Err(FrameError::Malformed("payload where none belongs"));
        }
        Ok(message)
    }
}

/// Appends header and body of a message to `out`, in this version; the caller sends
/// `payload_len` bytes of payload right behind.
pub fn encode(
    version: Version,
    message: &Message,
    request: u32,
    payload_len: usize,
    out: &mut BytesMut,
) {
    debug_assert!(payload_len == 0 || message.has_payload());
    let start = out.len();
    out.put_u16_le(MAGIC);
    out.put_u8(version.0);
    out.put_u8(message.kind());
    out.put_u32_le(request);
    out.put_u32_le(0);
    out.put_u32_le(payload_len as u32);
    out.put_u32_le(0);
    message.encode_body(out);
    debug_assert!(payload_len as u32 <= MAX_CELL_BYTES);
    seal(&mut out[start..]);
}

/// Sets length and checksum of the frame whose header and body these are.
pub(crate) fn seal(frame: &mut [u8]) {
    let body_len = (frame.len() - HEADER_BYTES) as u32;
    debug_assert!(body_len <= MAX_BODY_BYTES);
    frame[8..12].copy_from_slice(&body_len.to_le_bytes());
    let crc = checksum::frame(&frame[..16], &frame[HEADER_BYTES..]);
    frame[16..20].copy_from_slice(&crc.to_le_bytes());
}
