//! Examples; the laws are in `tests/resp_properties.rs`.

use bytes::{Buf, Bytes, BytesMut};

use super::fuzzing::{Parsed, drain, parse};
use super::number::parse_i64;
use super::reply::{bulk_end, bulk_header};
use super::{Limits, OutBuffer, Protocol, ProtocolError, Reply, RequestParser, Step, inline};
use crate::value::Value;

fn whole(bytes: &[u8]) -> Parsed {
    parse([bytes], Limits::default())
}

fn error(bytes: &[u8]) -> String {
    whole(bytes)
        .error
        .map(|e| e.to_string())
        .unwrap_or_default()
}

fn args(words: &[&'static str]) -> Vec<Value> {
    words.iter().map(|word| Value::from(*word)).collect()
}

#[test]
fn pipelined_requests_come_out_in_order() {
    let parsed =
        whole(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*1\r\n$0\r\n\r\n*2\r\n$4\r\nECHO\r\n");
    assert_eq!(
        parsed.requests,
        [args(&["GET", "k"]), args(&["PING"]), vec![Value::Empty]]
    );
    assert_eq!((parsed.error, parsed.idle), (None, false));
}

#[test]
fn empty_lines_and_arrays_are_passed_over() {
    let parsed = whole(b"\r\n\n  \r\n*0\r\n*-1\r\n*-7\r\nPING\n");
    assert_eq!(
        parsed,
        Parsed {
            requests: vec![args(&["PING"])],
            error: None,
            idle: true
        }
    );
}

#[test]
fn errors_have_the_texts_of_redis() {
    let length = "Protocol error: invalid multibulk length";
    for bad in [
        "*x\r\n",
        "*1048577\r\n",
        "*\r\n",
        "*+1\r\n",
        "*01\r\n",
        "*1\n",
        "*99999999999999999999\r\n",
    ] {
        assert_eq!(error(bad.as_bytes()), length, "{bad:?}");
    }
    let length = "Protocol error: invalid bulk length";
    for bad in ["$x", "$-1", "$536870913", "$", "$1 "] {
        assert_eq!(
            error(format!("*1\r\n{bad}\r\n").as_bytes()),
            length,
            "{bad:?}"
        );
    }
    assert_eq!(
        error(b"*1\r\n:1\r\n"),
        "Protocol error: expected '$', got ':'"
    );
    assert_eq!(
        error(b"*1\r\n*1\r\n"),
        "Protocol error: expected '$', got '*'"
    );
    assert_eq!(
        error(b"*1\r\n$5\r\nhelloXX"),
        "Protocol error: expected CRLF after bulk"
    );
    assert_eq!(
        error(b"GET \"k\r\n"),
        "Protocol error: unbalanced quotes in request"
    );
    assert_eq!(
        error(b"GET \"k\"v\r\n"),
        "Protocol error: unbalanced quotes in request"
    );
}

#[test]
fn lines_are_bounded() {
    let long = vec![b'1'; 70_000];
    let after = |head: &[u8]| error(&[head, &long].concat());
    assert_eq!(after(b""), "Protocol error: too big inline request");
    assert_eq!(after(b"*"), "Protocol error: too big mbulk count string");
    assert_eq!(
        after(b"*1\r\n$"),
        "Protocol error: too big bulk count string"
    );
    // also when the line does end, later
    assert_eq!(
        error(&[&long[..], b"\r\n"].concat()),
        "Protocol error: too big inline request"
    );
    let fits = [&long[..64 * 1024], b"\r\n"].concat();
    assert_eq!(whole(&fits).requests.len(), 1);
}

#[test]
fn a_browser_is_not_a_client() {
    assert_eq!(
        whole(b"POST / HTTP/1.1\r\nSET k v\r\n").error,
        Some(ProtocolError::Http)
    );
    assert_eq!(
        whole(b"GET / HTTP/1.1\r\nHost: x\r\n").error,
        Some(ProtocolError::Http)
    );
}

#[test]
fn small_arguments_are_bounded_together() {
    let limits = Limits {
        max_small_bytes: 10,
        ..Limits::default()
    };
    let request = b"*3\r\n$4\r\naaaa\r\n$6\r\nbbbbbb\r\n$1\r\nc\r\n";
    assert_eq!(
        parse([&request[..]], limits).error,
        Some(ProtocolError::TooManyBytes)
    );
    let twice = b"*1\r\n$8\r\naaaaaaaa\r\n*1\r\n$8\r\naaaaaaaa\r\n";
    assert_eq!(parse([&twice[..]], limits).requests.len(), 2);
}

#[test]
fn a_claimed_count_reserves_nothing() {
    let mut parser = RequestParser::new(Limits::default());
    let mut buf = BytesMut::from(&b"*1048576\r\n$3\r\nDEL\r\n"[..]);
    assert_eq!(parser.step(&mut buf), Ok(Step::NeedMore));
    assert!(parser.args.capacity() < 16);
    assert_eq!(parser.args_missing(), 1_048_575);
}

#[test]
fn large_arguments_bypass_the_parser() {
    let mut parser = RequestParser::new(Limits::default());
    let mut buf = BytesMut::from(&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$65536\r\nbody"[..]);
    assert_eq!(parser.step(&mut buf), Ok(Step::LargeBulk { len: 65_536 }));
    assert_eq!(parser.args_so_far(), args(&["SET", "k"]));
    assert_eq!((parser.args_missing(), parser.is_idle()), (1, false));
    // the bytes are the caller's: the parser touches none of them
    assert_eq!(parser.step(&mut buf), Ok(Step::NeedMore));
    assert_eq!(&buf[..], b"body");
    buf.clear();
    let body = Value::from(Bytes::from(vec![7; 65_536]));
    parser.large_done(body.clone());
    buf.extend_from_slice(b"\r");
    assert_eq!(parser.step(&mut buf), Ok(Step::NeedMore));
    buf.extend_from_slice(b"\n+");
    let request = vec!["SET".into(), "k".into(), body];
    assert_eq!(parser.step(&mut buf), Ok(Step::Request(request)));
    assert!(parser.is_idle());
}

#[test]
fn work_is_linear_in_pieces() {
    // a quadratic parser takes minutes
    let requests = |pieces: std::slice::Chunks<'_, u8>| {
        let mut parser = RequestParser::new(Limits::default());
        let mut buf = BytesMut::new();
        pieces
            .filter(|piece| {
                buf.extend_from_slice(piece);
                matches!(parser.step(&mut buf), Ok(Step::Request(_)))
            })
            .count()
    };
    assert_eq!(requests(vec![b'a'; 65_000].chunks(1)), 0);
    let many = [&b"*200000\r\n"[..], &b"$1\r\nk\r\n".repeat(200_000)].concat();
    assert_eq!(requests(many.chunks(7)), 1);
}

#[test]
fn inline_words_are_split_as_redis_splits_them() {
    let split = |line: &str| inline::split(line.as_bytes());
    let words = |words: &[&[u8]]| Some(words.iter().map(|w| w.to_vec()).collect::<Vec<_>>());
    assert_eq!(split("  SET k\tv \r"), words(&[b"SET", b"k", b"v"]));
    assert_eq!(split(r#"a"b c""#), words(&[b"ab c"]));
    assert_eq!(
        split(r#""\x00\xfF\n\r\t\a\b\\\"\z" ''"#),
        words(&[b"\x00\xff\n\r\t\x07\x08\\\"z", b""])
    );
    assert_eq!(split(r#""\x0g""#), words(&[b"x0g"]));
    assert_eq!(split(r"'it\'s \n'"), words(&[br"it's \n"]));
    for unbalanced in ["\"", "'", "\"a\"b", "'a'b", "\"a\\\"", "'a\\'", "a 'b"] {
        assert_eq!(split(unbalanced), None, "{unbalanced:?}");
    }
}

#[test]
fn numbers_are_plain() {
    for number in [0, 1, -1, 42, i64::MAX, i64::MIN] {
        assert_eq!(parse_i64(number.to_string().as_bytes()), Some(number));
    }
    let others = [
        "",
        "-",
        "+1",
        "-0",
        "00",
        "01",
        " 1",
        "1 ",
        "1.0",
        "0x1",
        "9223372036854775808",
        "-9223372036854775809",
    ];
    for other in others {
        assert_eq!(parse_i64(other.as_bytes()), None, "{other:?}");
    }
}

fn encoded(reply: &Reply) -> (String, String) {
    let bytes = |protocol| {
        let mut out = OutBuffer::new();
        reply.clone().encode(protocol, &mut out);
        String::from_utf8_lossy(&drain(out)).into_owned()
    };
    (bytes(Protocol::Resp2), bytes(Protocol::Resp3))
}

#[test]
fn replies_look_as_redis_sends_them() {
    let map = Reply::Map(vec![(Reply::Bulk("k".into()), Reply::Boolean(true))]);
    let cases = [
        (Reply::OK, "+OK\r\n", "+OK\r\n"),
        (
            Reply::Error("ERR a\r\nb".into()),
            "-ERR a  b\r\n",
            "-ERR a  b\r\n",
        ),
        (
            Reply::Integer(i64::MIN),
            ":-9223372036854775808\r\n",
            ":-9223372036854775808\r\n",
        ),
        (Reply::Bulk(Value::Empty), "$0\r\n\r\n", "$0\r\n\r\n"),
        (Reply::Null, "$-1\r\n", "_\r\n"),
        (Reply::NullArray, "*-1\r\n", "_\r\n"),
        (map, "*2\r\n$1\r\nk\r\n:1\r\n", "%1\r\n$1\r\nk\r\n#t\r\n"),
        (
            Reply::Set(vec![Reply::Null]),
            "*1\r\n$-1\r\n",
            "~1\r\n_\r\n",
        ),
        (Reply::Push(Vec::new()), "*0\r\n", ">0\r\n"),
        (Reply::Double(-1.5), "$4\r\n-1.5\r\n", ",-1.5\r\n"),
        (Reply::Double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n"),
        (
            Reply::Double(f64::NEG_INFINITY),
            "$4\r\n-inf\r\n",
            ",-inf\r\n",
        ),
        (Reply::Boolean(false), ":0\r\n", "#f\r\n"),
        (Reply::BigNumber("12".into()), "$2\r\n12\r\n", "(12\r\n"),
        (
            Reply::Verbatim("hi".into()),
            "$2\r\nhi\r\n",
            "=6\r\ntxt:hi\r\n",
        ),
    ];
    for (reply, resp2, resp3) in cases {
        assert_eq!(
            encoded(&reply),
            (resp2.to_owned(), resp3.to_owned()),
            "{reply:?}"
        );
    }
}

#[test]
fn large_segments_are_not_copied() {
    let segment = Bytes::from(vec![1; OutBuffer::LARGE_BYTES]);
    let value = Value::from_segments(vec![segment.clone(), segment.clone()]);
    let mut out = OutBuffer::new();
    Reply::OK.encode(Protocol::Resp2, &mut out);
    Reply::Bulk(value).encode(Protocol::Resp2, &mut out);
    Reply::OK.encode(Protocol::Resp2, &mut out);
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    // status and header, two segments, line end and status
    assert_eq!(out.chunks_vectored(&mut slices), 4);
    assert_eq!(slices[1].as_ptr(), segment.as_ptr());
    assert_eq!(slices[2].as_ptr(), segment.as_ptr());
    assert_eq!(
        out.pending_bytes(),
        5 + 7 + 2 * OutBuffer::LARGE_BYTES + 2 + 5
    );
    out.advance(5 + 7 + OutBuffer::LARGE_BYTES + 1);
    assert_eq!(out.chunk().len(), OutBuffer::LARGE_BYTES - 1);
    assert_eq!(out.pending_bytes(), OutBuffer::LARGE_BYTES - 1 + 2 + 5);
    assert!(drain(out).ends_with(b"\r\n+OK\r\n"));
}

#[test]
fn streamed_bulks_have_a_header_and_an_end() {
    let mut out = OutBuffer::new();
    bulk_header(u64::MAX, &mut out);
    bulk_end(&mut out);
    assert_eq!(drain(out), b"$18446744073709551615\r\n\r\n");
}
