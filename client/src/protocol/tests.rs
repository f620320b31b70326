use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use redis_protocol::{
    resp2,
    resp3::{self, types::OwnedFrame},
};

use super::{Event, Limits, Parser, ProtocolError, Reply, Request};

/// All replies in `input`, given in pieces of these lengths (and the rest), or
/// the error behind them. Bodies are put together.
fn parse(input: &[u8], pieces: &[usize], limits: Limits) -> (Vec<Reply>, Option<ProtocolError>) {
    let mut parser = Parser::new(limits);
    let (mut buffer, mut replies, mut body) = (BytesMut::new(), vec![], None);
    let mut rest = input;
    for piece in pieces.iter().copied().chain([usize::MAX]) {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        rest = later;
        buffer.extend_from_slice(now);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(Event::Reply(reply))) => replies.push(reply),
                Ok(Some(Event::Body(len))) => body = Some((len, BytesMut::new())),
                Ok(Some(Event::Chunk(bytes))) => {
                    body.as_mut().unwrap().1.extend_from_slice(&bytes);
                }
                Ok(Some(Event::End)) => {
                    let (len, bytes) = body.take().unwrap();
                    assert_eq!(len, bytes.len() as u64);
                    replies.push(Reply::Bulk(bytes.freeze()));
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(parser.next(&mut buffer), Err(error.clone()), "it stays so");
                    return (replies, Some(error));
                }
            }
        }
    }
    (replies, None)
}

fn small() -> Limits {
    Limits {
        line_bytes: 100,
        depth: 4,
        elements: 200,
        held_bytes: 40_000,
        body_bytes: 1_000,
        large_bytes: 50,
    }
}

fn whole(input: &[u8]) -> (Vec<Reply>, Option<ProtocolError>) {
    parse(input, &[], Limits::default())
}

fn bulk(text: &'static str) -> Reply {
    Reply::Bulk(Bytes::from_static(text.as_bytes()))
}

#[test]
fn every_kind_of_reply() {
    let input = b"+OK\r\n-ERR no \xff\r\n:-7\r\n$3\r\na\r\n\r\n$0\r\n\r\n$-1\r\n*-1\r\n_\r\n\
        *2\r\n:1\r\n*0\r\n%1\r\n+k\r\n~1\r\n#t\r\n>1\r\n+m\r\n,-inf\r\n,1.5\r\n(-123\r\n\
        =7\r\nabc:xyz\r\n!5\r\nERR x\r\n";
    let text = |text: &'static [u8]| Bytes::from_static(text);
    let wanted = vec![
        Reply::Status(text(b"OK")),
        Reply::Error(text(b"ERR no \xff")),
        Reply::Integer(-7),
        bulk("a\r\n"),
        bulk(""),
        Reply::Null,
        Reply::Null,
        Reply::Null,
        Reply::Array(vec![Reply::Integer(1), Reply::Array(vec![])]),
        Reply::Map(vec![(
            Reply::Status(text(b"k")),
            Reply::Set(vec![Reply::Boolean(true)]),
        )]),
        Reply::Push(vec![Reply::Status(text(b"m"))]),
        Reply::Double(f64::NEG_INFINITY),
        Reply::Double(1.5),
        Reply::BigNumber(text(b"-123")),
        Reply::Verbatim {
            format: *b"abc",
            text: text(b"xyz"),
        },
        Reply::Error(text(b"ERR x")),
    ];
    assert_eq!(whole(input), (wanted, None));
}

#[test]
fn attributes_are_left_out_wherever_they_are() {
    let input =
        b"|1\r\n+a\r\n*1\r\n|1\r\n+b\r\n+c\r\n:1\r\n*2\r\n|0\r\n:1\r\n|1\r\n+d\r\n_\r\n:2\r\n";
    let list = Reply::Array(vec![Reply::Integer(1), Reply::Integer(2)]);
    assert_eq!(whole(input), (vec![list], None));
}

#[test]
fn maps_keep_their_order_and_keys_may_be_lists() {
    let input = b"%2\r\n*1\r\n:9\r\n:1\r\n*1\r\n:9\r\n:2\r\n";
    let key = || Reply::Array(vec![Reply::Integer(9)]);
    let map = Reply::Map(vec![(key(), Reply::Integer(1)), (key(), Reply::Integer(2))]);
    assert_eq!(whole(input), (vec![map], None));
}

#[test]
fn what_is_not_resp_is_refused() {
    for input in [
        &b"OK\r\n"[..],
        b"\r\n",
        b"\n",
        b"+OK\n",
        b":1x\r\n",
        b":\r\n",
        b"#x\r\n",
        b"_x\r\n",
        b",1.2.3\r\n",
        b"(1x\r\n",
        b"(\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"$+1\r\n",
        b"$\r\n",
        b"$?\r\n",
        b"$99999999999999999999\r\n",
        b"*-2\r\n",
        b"%-1\r\n",
        b">-1\r\n",
        b"$2\r\nabXX",
        b"$2\r\nab\rX",
        b"=2\r\nab\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
    ] {
        let (replies, error) = whole(input);
        assert_eq!(replies, vec![], "{}", input.escape_ascii());
        assert!(
            matches!(error, Some(ProtocolError::Malformed(_))),
            "{}: {error:?}",
            input.escape_ascii()
        );
    }
}

#[test]
fn beyond_the_limits() {
    let deep = b"*1\r\n".repeat(5);
    let many = b"*201\r\n".to_vec();
    let nested = [&b"*150\r\n"[..], b"*60\r\n"].concat();
    let line = [&b"+"[..], &[b'x'; 200]].concat();
    for (input, what) in [
        (&deep[..], "levels"),
        (&many, "elements"),
        (&nested, "elements"),
        (b"%101\r\n", "elements"),
        (b"*999999999999999999\r\n", "elements"),
        (&line, "bytes of a line"),
        (b"$1001\r\n", "bytes"),
        (b"*1\r\n$40000\r\n", "bytes"),
        (b"=999999999999999999\r\n", "bytes"),
        (b"|1\r\n+a\r\n|1\r\n$50000\r\n", "bytes"),
    ] {
        let (_, error) = parse(input, &[], small());
        let found = error.unwrap();
        assert!(
            matches!(found, ProtocolError::TooLarge { what: w, .. } if w == what),
            "{found}"
        );
    }
    // attributes without end count, too
    let attributes = b"|1\r\n+a\r\n:1\r\n".repeat(101);
    let (replies, error) = parse(&attributes, &[], small());
    assert!(replies.is_empty() && error.is_some());
    // a reply within does not count for the next
    let (replies, error) = parse(b"*50\r\n", &[], small());
    assert!(replies.is_empty() && error.is_none());
    let list = [&b"*50\r\n"[..], &b":1\r\n".repeat(50)].concat();
    let (replies, error) = parse(&list.repeat(10), &[], small());
    assert_eq!((replies.len(), error), (10, None));
}

#[test]
fn deep_nesting_of_a_hostile_server_ends_nothing() {
    let (_, error) = whole(&b"*1\r\n".repeat(1_000_000));
    assert!(matches!(
        error,
        Some(ProtocolError::TooLarge { what: "levels", .. })
    ));
}

#[test]
fn a_body_is_handed_on_without_being_held() {
    let mut parser = Parser::new(Limits::default());
    let mut input = BytesMut::from(&b"$1000000000000\r\nabc"[..]);
    assert_eq!(
        parser.next(&mut input),
        Ok(Some(Event::Body(1_000_000_000_000)))
    );
    let chunk = Event::Chunk(Bytes::from_static(b"abc"));
    assert_eq!(parser.next(&mut input), Ok(Some(chunk)));
    assert_eq!(parser.next(&mut input), Ok(None));
    parser.body_taken(999_999_999_990);
    assert_eq!(parser.body_rest(), 7);
    input.extend_from_slice(b"1234567\r");
    let chunk = Event::Chunk(Bytes::from_static(b"1234567"));
    assert_eq!(parser.next(&mut input), Ok(Some(chunk)));
    assert_eq!(parser.next(&mut input), Ok(None));
    assert!(!parser.is_between());
    input.extend_from_slice(b"\n:1\r\n");
    assert_eq!(parser.next(&mut input), Ok(Some(Event::End)));
    assert!(parser.is_between());
    let one = Event::Reply(Reply::Integer(1));
    assert_eq!(parser.next(&mut input), Ok(Some(one)));
}

#[test]
fn a_request_copies_small_arguments_only() {
    let large = Bytes::from(vec![b'x'; 10_000]);
    let request = Request::new("SET").arg("k").arg(large.clone()).number(-3);
    let encoded = request.encode();
    assert_eq!(encoded.segments.len(), 3);
    assert_eq!(encoded.segments[1].as_ptr(), large.as_ptr());
    assert_eq!(&encoded.segments[2][..], b"\r\n$2\r\n-3\r\n");
    assert_eq!(encoded.bytes(), encoded.segments.concat().len() as u64);
}

fn replies() -> impl Strategy<Value = OwnedFrame> {
    let text = || proptest::collection::vec(32_u8..127, 0..20);
    let attributes = None;
    let leaf = prop_oneof![
        text().prop_map(|data| OwnedFrame::SimpleString {
            data,
            attributes: None
        }),
        "[ -~]{0,20}".prop_map(|data| OwnedFrame::SimpleError {
            data,
            attributes: None
        }),
        any::<i64>().prop_map(|data| OwnedFrame::Number {
            data,
            attributes: None
        }),
        any::<bool>().prop_map(|data| OwnedFrame::Boolean {
            data,
            attributes: None
        }),
        (-1e9_f64..1e9).prop_map(|data| OwnedFrame::Double {
            data,
            attributes: None
        }),
        Just(OwnedFrame::Null),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|data| OwnedFrame::BlobString {
            data,
            attributes: None
        }),
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(|data| OwnedFrame::BlobError {
            data,
            attributes: None
        }),
    ];
    leaf.prop_recursive(3, 40, 6, move |inner| {
        let attributes = attributes.clone();
        proptest::collection::vec(inner, 0..6).prop_map(move |data| OwnedFrame::Array {
            data,
            attributes: attributes.clone(),
        })
    })
}

/// What we make of a frame of redis-protocol.
fn ours(frame: OwnedFrame) -> Reply {
    match frame {
        OwnedFrame::SimpleString { data, .. } => Reply::Status(data.into()),
        OwnedFrame::SimpleError { data, .. } => Reply::Error(data.into()),
        OwnedFrame::Number { data, .. } => Reply::Integer(data),
        OwnedFrame::Boolean { data, .. } => Reply::Boolean(data),
        OwnedFrame::Double { data, .. } => Reply::Double(data),
        OwnedFrame::BlobString { data, .. } => Reply::Bulk(data.into()),
        OwnedFrame::BlobError { data, .. } => Reply::Error(data.into()),
        OwnedFrame::Null => Reply::Null,
        OwnedFrame::Array { data, .. } => Reply::Array(data.into_iter().map(ours).collect()),
        other => panic!("{other:?} is not made here"),
    }
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_what_redis_protocol_encoded(
        frames in proptest::collection::vec(replies(), 0..6),
        pieces in proptest::collection::vec(0_usize..60, 0..200),
    ) {
        let mut bytes = vec![];
        for frame in &frames {
            let mut buffer = vec![0; resp3::types::Resp3Frame::encode_len(frame, false)];
            let len = resp3::encode::complete::encode(&mut buffer, frame, false).unwrap();
            bytes.extend_from_slice(&buffer[..len]);
        }
        let wanted: Vec<_> = frames.into_iter().map(ours).collect();
        let limits = Limits { large_bytes: 50, ..Limits::default() };
        prop_assert_eq!(parse(&bytes, &pieces, limits), (wanted, None));
    }

    #[test]
    fn any_split_of_any_bytes_ends_alike(
        input in proptest::collection::vec(
            prop_oneof![
                Just(b"\r\n".to_vec()), Just(b"*2\r\n".to_vec()), Just(b"$3\r\n".to_vec()),
                Just(b"$60\r\n".to_vec()), Just(b"%1\r\n".to_vec()), Just(b"|1\r\n".to_vec()),
                Just(b":1\r\n".to_vec()), Just(b"abc\r\n".to_vec()), Just(b"$-1\r\n".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..70),
            ], 0..40),
        pieces in proptest::collection::vec(0_usize..30, 0..200),
    ) {
        let input = input.concat();
        prop_assert_eq!(
            comparable(parse(&input, &pieces, small())),
            comparable(parse(&input, &[], small()))
        );
    }

    #[test]
    fn requests_are_read_alike_by_redis_protocol(
        arguments in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..6000), 1..8),
    ) {
        use resp2::types::OwnedFrame as Frame;
        let wanted = Frame::Array(arguments.iter().cloned().map(Frame::BulkString).collect());
        let mut all = arguments.into_iter();
        let mut request = Request::new(all.next().unwrap());
        for argument in all {
            request = request.arg(argument);
        }
        let encoded = request.encode();
        prop_assert!(encoded.segments.iter().all(|part| !part.is_empty()));
        let bytes = encoded.segments.concat();
        let (frame, len) = resp2::decode::decode(&bytes).unwrap().unwrap();
        prop_assert_eq!((frame, len), (wanted, bytes.len()));
    }

    #[test]
    fn a_request_around_a_body_is_the_same(
        body in proptest::collection::vec(any::<u8>(), 0..6000),
        tail in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..4),
    ) {
        let tail: Vec<Bytes> = tail.into_iter().map(Bytes::from).collect();
        let request = Request::new("SET").arg("key");
        let (front, back) = request.encode_around(body.len() as u64, &tail);
        let around = [front.segments.concat(), body.clone(), back.segments.concat()].concat();
        let mut whole = request.arg(body);
        for argument in tail {
            whole = whole.arg(argument);
        }
        prop_assert_eq!(around, whole.encode().segments.concat());
    }
}

/// Errors quote what was there, which differs with the split; NaN differs from itself.
fn comparable((replies, error): (Vec<Reply>, Option<ProtocolError>)) -> (String, Option<String>) {
    let error = error.map(|error| match error {
        ProtocolError::Malformed(text) => text.split(',').next().unwrap().to_owned(),
        other => other.to_string(),
    });
    (format!("{replies:?}"), error)
}
