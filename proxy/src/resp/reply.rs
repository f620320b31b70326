//! Replies as the commands return them, and their encoding.
//!
//! Scalars (statuses, errors, numbers, nulls, verbatim text) are encoded by
//! redis-protocol, straight from borrowed frames. Bulk strings and the headers
//! of aggregates are encoded here: its frames want a value in one piece and
//! copy it, which takes 92 us per MB where a vectored write takes none. A test
//! holds whole replies against its encoders.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use redis_protocol::{resp2, resp3};

use super::OutBuffer;
use crate::value::Value;

/// The version of RESP that a connection speaks: 2 until it says `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, which every client knows.
    #[default]
    Resp2,
    /// RESP3, with maps, sets, nulls, doubles and pushes of its own.
    Resp3,
}

/// Text that is mostly constant.
pub type Text = Cow<'static, str>;

/// One reply, whatever protocol it will be sent in.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A status such as `OK`. Must not contain line ends.
    Simple(Text),
    /// An error, its code first: `ERR syntax error`. Line ends become spaces.
    Error(Text),
    /// A number.
    Integer(i64),
    /// A string of bytes.
    Bulk(Value),
    /// No such thing (RESP2: null bulk string).
    Null,
    /// No such list (RESP2: null array; RESP3 knows one null only).
    NullArray,
    /// A list.
    Array(Vec<Reply>),
    /// Keys with values (RESP2: one flat array).
    Map(Vec<(Reply, Reply)>),
    /// Things of two parts, in order (RESP2: one flat array; RESP3: arrays of two).
    Pairs(Vec<(Reply, Reply)>),
    /// An unordered list (RESP2: array).
    Set(Vec<Reply>),
    /// A message that nobody asked for (RESP2: array).
    Push(Vec<Reply>),
    /// A floating point number (RESP2: bulk string).
    Double(f64),
    /// A truth value (RESP2: integer 1 or 0).
    Boolean(bool),
    /// A whole number of any size, in decimal digits (RESP2: bulk string).
    BigNumber(Text),
    /// Text for humans, of format `txt` (RESP2: bulk string).
    Verbatim(Text),
}

impl Reply {
    /// `OK`.
    pub const OK: Self = Self::Simple(Cow::Borrowed("OK"));

    /// The same in memory of its own.
    #[must_use]
    pub fn detached(self) -> Self {
        let all = |items: Vec<Self>| items.into_iter().map(Self::detached).collect();
        let pairs = |pairs: Vec<(Self, Self)>| {
            let pairs = pairs.into_iter();
            pairs.map(|(k, v)| (k.detached(), v.detached())).collect()
        };
        match self {
            Self::Bulk(value) => {
                let bytes = value.into_contiguous();
                Self::Bulk(Bytes::copy_from_slice(&bytes).into())
            }
            Self::Array(items) => Self::Array(all(items)),
            Self::Set(items) => Self::Set(all(items)),
            Self::Push(items) => Self::Push(all(items)),
            Self::Map(items) => Self::Map(pairs(items)),
            Self::Pairs(items) => Self::Pairs(pairs(items)),
            other => other,
        }
    }

    /// What it takes in memory, about.
    pub fn bytes(&self) -> u64 {
        let all = |items: &[Self]| items.iter().map(Self::bytes).sum::<u64>();
        let pairs = |pairs: &[(Self, Self)]| pairs.iter().map(|(k, v)| k.bytes() + v.bytes()).sum();
        let inside: u64 = match self {
            Self::Bulk(value) => value.len(),
            Self::Array(items) | Self::Set(items) | Self::Push(items) => all(items),
            Self::Map(items) | Self::Pairs(items) => pairs(items),
            Self::Simple(text)
            | Self::Error(text)
            | Self::BigNumber(text)
            | Self::Verbatim(text) => text.len() as u64,
            _ => 0,
        };
        size_of::<Self>() as u64 + inside
    }

    /// Appends the encoded reply to `out`. Large segments of values go in
    /// without a copy.
    pub fn encode(self, protocol: Protocol, out: &mut OutBuffer) {
        match protocol {
            Protocol::Resp2 => self.encode_resp2(out),
            Protocol::Resp3 => self.encode_resp3(out),
        }
    }

    fn encode_resp2(self, out: &mut OutBuffer) {
        use resp2::types::BorrowedFrame as Frame;
        let all = |items: Vec<Self>, out: &mut OutBuffer| {
            header(b'*', items.len() as u64, out);
            items.into_iter().for_each(|item| item.encode_resp2(out));
        };
        match self {
            Self::Bulk(value) => bulk(value, out),
            Self::Array(items) | Self::Set(items) | Self::Push(items) => all(items, out),
            Self::Map(pairs) | Self::Pairs(pairs) => {
                header(b'*', 2 * pairs.len() as u64, out);
                for (key, value) in pairs {
                    key.encode_resp2(out);
                    value.encode_resp2(out);
                }
            }
            Self::Simple(text) => scalar2(&Frame::SimpleString(one_line(&text).as_bytes()), out),
            Self::Error(text) => scalar2(&Frame::Error(&one_line(&text)), out),
            Self::Integer(number) => scalar2(&Frame::Integer(number), out),
            Self::Boolean(truth) => scalar2(&Frame::Integer(truth.into()), out),
            Self::Null => scalar2(&Frame::Null, out),
            Self::NullArray => out.small(b"*-1\r\n"),
            Self::Double(number) => {
                // Rust writes NaN, Redis nan
                let digits = number.to_string().to_ascii_lowercase();
                scalar2(&Frame::BulkString(digits.as_bytes()), out);
            }
            Self::BigNumber(text) | Self::Verbatim(text) => {
                scalar2(&Frame::BulkString(text.as_bytes()), out);
            }
        }
    }

    fn encode_resp3(self, out: &mut OutBuffer) {
        use resp3::types::{BorrowedFrame as Frame, VerbatimStringFormat};
        let attributes = None;
        let all = |kind, items: Vec<Self>, out: &mut OutBuffer| {
            header(kind, items.len() as u64, out);
            items.into_iter().for_each(|item| item.encode_resp3(out));
        };
        match self {
            Self::Bulk(value) => bulk(value, out),
            Self::Array(items) => all(b'*', items, out),
            Self::Pairs(pairs) => {
                header(b'*', pairs.len() as u64, out);
                for (first, second) in pairs {
                    header(b'*', 2, out);
                    first.encode_resp3(out);
                    second.encode_resp3(out);
                }
            }
            Self::Set(items) => all(b'~', items, out),
            Self::Push(items) => all(b'>', items, out),
            Self::Map(pairs) => {
                header(b'%', pairs.len() as u64, out);
                for (key, value) in pairs {
                    key.encode_resp3(out);
                    value.encode_resp3(out);
                }
            }
            Self::Simple(text) => {
                let data = &one_line(&text);
                scalar3(
                    &Frame::SimpleString {
                        data: data.as_bytes(),
                        attributes,
                    },
                    out,
                );
            }
            Self::Error(text) => {
                scalar3(
                    &Frame::SimpleError {
                        data: &one_line(&text),
                        attributes,
                    },
                    out,
                );
            }
            Self::Integer(data) => scalar3(&Frame::Number { data, attributes }, out),
            Self::Boolean(data) => scalar3(&Frame::Boolean { data, attributes }, out),
            Self::Null | Self::NullArray => scalar3(&Frame::Null, out),
            Self::Double(data) => scalar3(&Frame::Double { data, attributes }, out),
            Self::BigNumber(text) => {
                scalar3(
                    &Frame::BigNumber {
                        data: text.as_bytes(),
                        attributes,
                    },
                    out,
                );
            }
            Self::Verbatim(text) => {
                let (data, format) = (text.as_bytes(), VerbatimStringFormat::Text);
                scalar3(
                    &Frame::VerbatimString {
                        data,
                        format,
                        attributes,
                    },
                    out,
                );
            }
        }
    }
}

/// A list.
impl From<Vec<Reply>> for Reply {
    fn from(items: Vec<Reply>) -> Self {
        Self::Array(items)
    }
}

/// Appends the header of a bulk string of `len` bytes whose body the caller
/// streams; [`bulk_end`] closes it.
pub fn bulk_header(len: u64, out: &mut OutBuffer) {
    header(b'$', len, out);
}

/// Begins an array of `items` replies, which are to follow.
pub fn array_header(items: usize, out: &mut OutBuffer) {
    header(b'*', items as u64, out);
}

/// Appends the line end behind a streamed bulk string.
pub fn bulk_end(out: &mut OutBuffer) {
    out.small(b"\r\n");
}

fn bulk(value: Value, out: &mut OutBuffer) {
    bulk_header(value.len(), out);
    match value {
        Value::Empty | Value::Uploaded { .. } | Value::Refused { .. } => {}
        Value::One(bytes) => out.push(bytes),
        Value::Many(segments, _) => segments.into_iter().for_each(|segment| out.push(segment)),
    }
    bulk_end(out);
}

/// Appends a value of the hot tier as a bulk string. Short ones are copied at once: that is
/// cheaper than another owner.
pub fn hot_bulk(value: &Arc<[u8]>, out: &mut OutBuffer) {
    bulk_header(value.len() as u64, out);
    match value.len() {
        ..OutBuffer::LARGE_BYTES => out.small(value),
        _ => out.push(Bytes::from_owner(value.clone())),
    }
    bulk_end(out);
}

/// Appends [`Reply::OK`], which is the same in both protocols.
pub fn ok(out: &mut OutBuffer) {
    out.small(b"+OK\r\n");
}

/// The first line of a bulk string or of an aggregate.
fn header(kind: u8, number: u64, out: &mut OutBuffer) {
    // kind, at most 20 digits, CRLF
    let mut line = [0; 23];
    let mut at = line.len() - 2;
    line[at..].copy_from_slice(b"\r\n");
    let mut rest = number;
    loop {
        at -= 1;
        // a digit
        line[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    at -= 1;
    line[at] = kind;
    out.small(&line[at..]);
}

/// Text without line ends, which would end the reply.
fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(['\r', '\n']) {
        Cow::Owned(text.replace(['\r', '\n'], " "))
    } else {
        Cow::Borrowed(text)
    }
}

fn scalar2(frame: &resp2::types::BorrowedFrame<'_>, out: &mut OutBuffer) {
    out.encoded(|buf| resp2::encode::extend_encode_borrowed(buf, frame, false));
}

fn scalar3(frame: &resp3::types::BorrowedFrame<'_>, out: &mut OutBuffer) {
    out.encoded(|buf| resp3::encode::complete::extend_encode_borrowed(buf, frame, false));
}
