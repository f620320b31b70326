//! What must hold for any bytes: called by property tests and by `fuzz/`.
//! Every check panics where it does not hold.

use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::resp2::types::{OwnedFrame as Frame2, Resp2Frame};
use redis_protocol::resp3::types::{OwnedFrame as Frame3, Resp3Frame, VerbatimStringFormat};
use redis_protocol::{resp2, resp3};

use super::{Limits, OutBuffer, Protocol, ProtocolError, Reply, RequestParser, Step};
use crate::value::Value;

/// Small enough for a fuzzer to reach every limit.
pub const LIMITS: Limits = Limits {
    max_args: 64,
    max_bulk_bytes: 2048,
    max_line_bytes: 128,
    large_from_bytes: 256,
    max_large_bytes: 1 << 30,
    max_small_bytes: 1024,
};

/// Everything that a connection sent.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed {
    /// The requests, in order.
    pub requests: Vec<Vec<Value>>,
    /// Why it was closed, if it was.
    pub error: Option<ProtocolError>,
    /// Whether it ended between two requests.
    pub idle: bool,
}

/// Parses bytes that arrive in pieces, taking large arguments as a session does.
pub fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: Limits) -> Parsed {
    let mut parsed = Parsed::default();
    let mut parser = RequestParser::new(limits);
    let mut buf = BytesMut::new();
    let mut large: Option<(usize, Vec<Bytes>)> = None;
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            if let Some((missing, segments)) = &mut large {
                let take = buf.len().min(*missing);
                segments.push(buf.split_to(take).freeze());
                *missing -= take;
                if *missing > 0 {
                    break;
                }
                parser.large_done(Value::from_segments(std::mem::take(segments)));
                large = None;
            }
            match parser.step(&mut buf) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Request(args)) => parsed.requests.push(args),
                Ok(Step::LargeBulk { len }) => {
                    assert!(len >= limits.large_from_bytes as u64 && len <= limits.max_bulk_bytes);
                    large = Some((usize::try_from(len).unwrap_or(usize::MAX), Vec::new()));
                }
                Err(error) => {
                    parsed.error = Some(error);
                    return parsed;
                }
            }
            check_bounds(&parser, limits);
        }
        check_bounds(&parser, limits);
    }
    parsed.idle = parser.is_idle() && buf.is_empty();
    parsed
}

fn check_bounds(parser: &RequestParser, limits: Limits) {
    let args = parser.args_so_far();
    assert!(args.len() + parser.args_missing() <= limits.max_args);
    let small = args
        .iter()
        .map(Value::len)
        .filter(|len| *len < limits.large_from_bytes as u64);
    assert!(small.sum::<u64>() <= limits.max_small_bytes as u64);
}

/// Any bytes parse the same however they are cut, within limits. The first
/// bytes say where to cut.
pub fn check_request(data: &[u8]) {
    let (cuts, data) = data.split_at(data.len().min(8));
    let whole = parse([data], LIMITS);
    let bytewise = parse(data.chunks(1), LIMITS);
    assert_eq!(whole, bytewise);
    let mut rest = data;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, behind) = rest.split_at(rest.len().min(usize::from(*cut)));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    assert_eq!(whole, parse(pieces, LIMITS));
    for request in &whole.requests {
        assert!(!request.is_empty() && request.len() <= LIMITS.max_line_bytes.max(LIMITS.max_args));
    }
}

/// redis-protocol's decoder agrees: on every request that is accepted, and on
/// every request that a client could mean to send.
pub fn check_differential(data: &[u8]) {
    accepted_requests_are_resp(data);
    requests_are_accepted(data);
}

fn accepted_requests_are_resp(data: &[u8]) {
    let mut parser = RequestParser::new(Limits {
        large_from_bytes: usize::MAX,
        ..LIMITS
    });
    let mut buf = BytesMut::from(data);
    loop {
        let before = buf.clone();
        let Ok(Step::Request(args)) = parser.step(&mut buf) else {
            return;
        };
        let used = before.len() - buf.len();
        let mut oracle = &before[..used];
        // Empty arrays and lines are passed over; what is left is the request.
        let frame = loop {
            if oracle.first() != Some(&b'*') {
                let line = oracle
                    .iter()
                    .position(|b| *b == b'\n')
                    .map_or(used, |at| at + 1);
                oracle.advance(line.min(oracle.len()));
                if oracle.is_empty() {
                    // an inline command, which the oracle does not know
                    break None;
                }
                continue;
            }
            // -n, which Redis takes for a null array
            if oracle.get(1) == Some(&b'-') {
                let line = oracle
                    .iter()
                    .position(|b| *b == b'\n')
                    .map_or(used, |at| at + 1);
                oracle.advance(line.min(oracle.len()));
                continue;
            }
            let decoded = resp2::decode::decode(oracle);
            let Ok(Some((frame, len))) = decoded else {
                unreachable!("not RESP: {decoded:?} of {oracle:?}")
            };
            oracle.advance(len);
            if oracle.is_empty() {
                break Some(frame);
            }
        };
        if let Some(frame) = frame {
            assert_eq!(frame, request_frame(args));
        }
    }
}

fn request_frame(args: Vec<Value>) -> Frame2 {
    let bulk = |arg: Value| Frame2::BulkString(arg.into_contiguous().to_vec());
    Frame2::Array(args.into_iter().map(bulk).collect())
}

/// Takes the bytes for arguments, cut at every byte of 0xff.
fn requests_are_accepted(data: &[u8]) {
    let args: Vec<Value> = data
        .split(|byte| *byte == 0xff)
        .take(LIMITS.max_args)
        .map(|arg| Bytes::copy_from_slice(&arg[..arg.len().min(512)]).into())
        .collect();
    let mut encoded = BytesMut::new();
    let frame = request_frame(args.clone());
    let bytes = to_bytes2(&frame);
    encoded.extend_from_slice(&bytes);
    let limits = Limits {
        max_small_bytes: usize::MAX,
        ..LIMITS
    };
    let parsed = parse([&encoded[..]], limits);
    assert_eq!(
        parsed,
        Parsed {
            requests: vec![args],
            error: None,
            idle: true
        }
    );
}

fn to_bytes2(frame: &Frame2) -> Vec<u8> {
    let mut bytes = vec![0; frame.encode_len(false)];
    assert_eq!(
        resp2::encode::encode(&mut bytes, frame, false).ok(),
        Some(bytes.len())
    );
    bytes
}

fn to_bytes3(frame: &Frame3) -> Vec<u8> {
    let mut bytes = vec![0; frame.encode_len(false)];
    assert_eq!(
        resp3::encode::complete::encode(&mut bytes, frame, false).ok(),
        Some(bytes.len())
    );
    bytes
}

/// A reply made from any bytes is encoded as redis-protocol encodes it.
pub fn check_reply(data: &[u8]) {
    let mut rest = data;
    let reply = any_reply(&mut rest, 3);
    let mut out = OutBuffer::new();
    reply.clone().encode(Protocol::Resp2, &mut out);
    assert_eq!(drain(out), resp2_bytes(&reply));
    let mut out = OutBuffer::new();
    reply.clone().encode(Protocol::Resp3, &mut out);
    assert_eq!(drain(out), to_bytes3(&resp3_frame(&reply)));
}

/// All bytes, in uneven steps.
pub fn drain(mut out: OutBuffer) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut step = 1;
    while out.has_remaining() {
        let chunk = out.chunk();
        let take = chunk.len().min(step);
        bytes.extend_from_slice(&chunk[..take]);
        out.advance(take);
        step = (step * 2 + 1) % 10_000;
    }
    assert!(out.is_empty());
    bytes
}

fn next(data: &mut &[u8]) -> u8 {
    if data.has_remaining() {
        data.get_u8()
    } else {
        0
    }
}

fn any_reply(data: &mut &[u8], depth: u8) -> Reply {
    let kind = next(data) % if depth == 0 { 9 } else { 14 };
    let items = |data: &mut &[u8]| -> Vec<Reply> {
        (0..next(data) % 5)
            .map(|_| any_reply(data, depth - 1))
            .collect()
    };
    match kind {
        0 => Reply::Null,
        1 => Reply::Simple(any_text(data).into()),
        2 => Reply::Error(any_text(data).into()),
        3 => Reply::Integer(any_number(data).cast_signed()),
        4 => Reply::Boolean(next(data) > 127),
        5 => Reply::Double(f64::from_bits(any_number(data))),
        6 => Reply::Verbatim(any_text(data).into()),
        7 => Reply::BigNumber(any_number(data).to_string().into()),
        8 => Reply::Bulk(any_value(data)),
        9 => Reply::Array(items(data)),
        10 => Reply::Push(items(data)),
        13 => Reply::Pairs(
            (0..next(data) % 3)
                .map(|_| (any_reply(data, depth - 1), any_reply(data, depth - 1)))
                .collect(),
        ),
        // redis-protocol hashes sets and maps, which gives only single items a
        // fixed place and panics on what cannot be a key
        11 => Reply::Set(
            (0..next(data) % 2)
                .map(|_| Reply::Bulk(any_value(data)))
                .collect(),
        ),
        _ => Reply::Map(vec![(
            Reply::Bulk(any_value(data)),
            any_reply(data, depth - 1),
        )]),
    }
}

fn any_number(data: &mut &[u8]) -> u64 {
    (0..next(data) % 9).fold(0, |number, _| number << 8 | u64::from(next(data)))
}

/// Without line ends, which redis-protocol would pass on.
fn any_text(data: &mut &[u8]) -> String {
    (0..next(data) % 16)
        .map(|_| char::from(next(data) | 0x20))
        .collect()
}

fn any_value(data: &mut &[u8]) -> Value {
    let segment = |data: &mut &[u8]| {
        // around the length from which on segments are not copied
        let len = usize::from(next(data)) * 32;
        Bytes::from(vec![next(data); len])
    };
    Value::from_segments((0..next(data) % 4).map(|_| segment(data)).collect())
}

fn contiguous(value: &Value) -> Vec<u8> {
    value.clone().into_contiguous().to_vec()
}

/// redis-protocol has no null arrays of its own in RESP2, and frames can be
/// nested, so that this is a conversion followed by its encoder.
fn resp2_bytes(reply: &Reply) -> Vec<u8> {
    to_bytes2(&resp2_frame(reply))
}

fn resp2_frame(reply: &Reply) -> Frame2 {
    let bulk = |text: &str| Frame2::BulkString(text.as_bytes().to_vec());
    match reply {
        Reply::Simple(text) => Frame2::SimpleString(text.as_bytes().to_vec()),
        Reply::Error(text) => Frame2::Error(text.to_string()),
        Reply::Integer(number) => Frame2::Integer(*number),
        Reply::Boolean(truth) => Frame2::Integer((*truth).into()),
        Reply::Bulk(value) => Frame2::BulkString(contiguous(value)),
        Reply::Null | Reply::NullArray => Frame2::Null,
        Reply::Double(number) if number.is_nan() => bulk("nan"),
        Reply::Double(number) => bulk(&number.to_string()),
        Reply::BigNumber(text) | Reply::Verbatim(text) => bulk(text),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            Frame2::Array(items.iter().map(resp2_frame).collect())
        }
        Reply::Map(pairs) | Reply::Pairs(pairs) => Frame2::Array(
            pairs
                .iter()
                .flat_map(|(key, value)| [resp2_frame(key), resp2_frame(value)])
                .collect(),
        ),
    }
}

fn resp3_frame(reply: &Reply) -> Frame3 {
    let attributes = None;
    let all = |items: &[Reply]| items.iter().map(resp3_frame).collect();
    match reply {
        Reply::Simple(text) => Frame3::SimpleString {
            data: text.as_bytes().to_vec(),
            attributes,
        },
        Reply::Error(text) => Frame3::SimpleError {
            data: text.to_string(),
            attributes,
        },
        Reply::Integer(data) => Frame3::Number {
            data: *data,
            attributes,
        },
        Reply::Boolean(data) => Frame3::Boolean {
            data: *data,
            attributes,
        },
        Reply::Bulk(value) => Frame3::BlobString {
            data: contiguous(value),
            attributes,
        },
        Reply::Null | Reply::NullArray => Frame3::Null,
        Reply::Double(data) => Frame3::Double {
            data: *data,
            attributes,
        },
        Reply::BigNumber(text) => Frame3::BigNumber {
            data: text.as_bytes().to_vec(),
            attributes,
        },
        Reply::Verbatim(text) => {
            let (data, format) = (text.as_bytes().to_vec(), VerbatimStringFormat::Text);
            Frame3::VerbatimString {
                data,
                format,
                attributes,
            }
        }
        Reply::Array(items) => Frame3::Array {
            data: all(items),
            attributes,
        },
        Reply::Pairs(pairs) => {
            let pair = |(first, second): &(Reply, Reply)| Frame3::Array {
                data: vec![resp3_frame(first), resp3_frame(second)],
                attributes: None,
            };
            Frame3::Array {
                data: pairs.iter().map(pair).collect(),
                attributes,
            }
        }
        Reply::Push(items) => Frame3::Push {
            data: all(items),
            attributes,
        },
        Reply::Set(items) => Frame3::Set {
            data: items.iter().map(resp3_frame).collect(),
            attributes,
        },
        Reply::Map(pairs) => {
            let data = pairs
                .iter()
                .map(|(k, v)| (resp3_frame(k), resp3_frame(v)))
                .collect();
            Frame3::Map { data, attributes }
        }
    }
}
