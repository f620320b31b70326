//! Whoever dials the link port without this invocation's token gets no link,
//! takes little, and disturbs nobody.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use redis::Commands;
use scatterhoard_wire::{
    ChunkDescriptor, ChunkId, Epoch, Geometry, InvocationId, Layout, Token, WriteId,
    message::Message,
};

use crate::{
    contents::{Random, assert_same},
    link::{Heard, Link, encode, hello},
    server::{Server, connect, free_address, until},
};

/// A hello has 5 s to come; more than that only tells a hang.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);

fn server() -> (Server, SocketAddr) {
    let links = free_address();
    let server = Server::start(&["--link-listen", &links.to_string()]);
    (server, links)
}

/// Clients are served.
#[track_caller]
fn assert_serves(server: &Server, seed: u64) {
    let (mut redis, value) = (server.client(), Random::new(seed).bytes(900_000));
    let () = redis.set("served", &value).unwrap();
    let read: Option<Vec<u8>> = redis.get("served").unwrap();
    assert_same("served", read.as_deref(), &value);
}

/// What is said of those who were refused because nothing came in time.
const TOO_LATE: &str = "timed out";

/// The log's lines about them.
fn refused(server: &Server) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("link refused"));
    lines.map(str::to_owned).collect()
}

/// Sends bytes and asserts that the link is closed, whatever is answered.
#[track_caller]
fn assert_closed(links: SocketAddr, what: &str, bytes: &[u8]) {
    let mut stream = connect(links);
    stream.set_read_timeout(Some(CLOSED_WITHIN)).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(reset, "{what}: {error}");
    }
}

fn stranger_hello() -> BytesMut {
    let token = Token(0x5eed);
    encode(0, &Message::Hello(hello(token, InvocationId(1))), &[])
}

#[test]
fn a_hello_without_the_token_is_rejected() {
    let (server, links) = server();
    for (token, invocation) in [(0, 0), (0, 1), (0x5eed, 1), (u128::MAX, 2)] {
        let mut link = Link::dial(links).unwrap();
        let hello = hello(Token(token), InvocationId(invocation));
        link.say(0, &Message::Hello(hello), &[]).unwrap();
        let Heard::Frame(answer) = link.hear(CLOSED_WITHIN) else {
            panic!("no answer to token {token:x}");
        };
        assert!(matches!(answer.message, Message::Reject(_)), "{answer:?}");
        assert!(matches!(link.hear(CLOSED_WITHIN), Heard::Closed));
        assert_serves(&server, invocation);
    }
}

#[test]
fn bytes_that_are_no_hello_close_the_link() {
    let (server, links) = server();
    let good = stranger_hello();
    let mut wrong_version = good.clone();
    wrong_version[2] = 99;
    let mut huge_length = good.clone();
    huge_length[8..12].fill(0xff);
    let mut huge_payload = good.clone();
    huge_payload[12..16].fill(0xff);
    let mut damaged = good.clone();
    damaged[30] ^= 1;
    let cases: [(&str, &[u8]); 8] = [
        ("garbage", &Random::new(3).bytes(100_000)),
        (
            "a Redis client",
            b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
        ),
        ("another version", &wrong_version),
        ("a huge body", &huge_length),
        ("a huge payload", &huge_payload),
        ("a damaged body", &damaged),
        ("another message", &encode(0, &Message::Ping, &[])),
        ("a goodbye", &encode(0, &Message::GoodbyeOk, &[])),
    ];
    for (what, bytes) in cases {
        assert_closed(links, what, bytes);
        assert_serves(&server, 1);
    }
    until("all were refused", CLOSED_WITHIN, || {
        refused(&server).len() == cases.len()
    });
    let late: Vec<String> = refused(&server)
        .into_iter()
        .filter(|line| line.contains(TOO_LATE))
        .collect();
    assert!(late.is_empty(), "not at once: {late:?}");
}

#[test]
fn half_a_hello_is_not_waited_for_long() {
    let (server, links) = server();
    let hello = stranger_hello();
    let mut idle: Vec<_> = [0, 1, 19, 20, hello.len() - 1]
        .iter()
        .map(|n| {
            let mut stream = connect(links);
            stream.write_all(&hello[..*n]).unwrap();
            stream.set_read_timeout(Some(CLOSED_WITHIN)).unwrap();
            stream
        })
        .collect();
    assert_serves(&server, 2);
    for stream in &mut idle {
        let end = stream.read(&mut [0; 100]);
        assert!(matches!(end, Ok(0)), "{end:?}");
    }
    until("each was too late", CLOSED_WITHIN, || {
        let refused = refused(&server);
        refused.len() == idle.len() && refused.iter().all(|line| line.contains(TOO_LATE))
    });
    assert_serves(&server, 3);
}

#[test]
fn a_hello_that_is_cut_off_does_not_matter() {
    let (server, links) = server();
    for n in [0, 7, 30] {
        let mut stream = connect(links);
        stream.write_all(&stranger_hello()[..n]).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    assert_serves(&server, 4);
}

#[test]
fn a_payload_instead_of_a_hello_fills_no_memory() {
    let (server, links) = server();
    let layout = Layout::new(Geometry::new(1, 0).unwrap(), 1000, 1000).unwrap();
    let write_id = WriteId {
        epoch: Epoch(1),
        counter: 1,
    };
    let chunk = ChunkDescriptor {
        id: ChunkId { write_id, index: 0 },
        layout,
    };
    let cell = chunk.cell(0, Bytes::from(vec![7; 1000]));
    let put = Message::Put {
        chunk,
        stripe: 0,
        checksum: cell.checksum,
        last: true,
    };
    let before = server.resident_bytes();
    let mut link = Link::dial(links).unwrap();
    // the payload begins behind what fits one read, and has no end
    let mut bytes = encode(1, &put, &cell.payload);
    bytes.truncate(bytes.len() - 500);
    link.stream.write_all(&bytes).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let more = vec![7; 1 << 20];
    let taken = (0..256)
        .take_while(|_| link.stream.write_all(&more).is_ok())
        .count();
    let grown = server.resident_bytes().saturating_sub(before) >> 20;
    assert!(
        taken < 64 && grown < 64,
        "took {taken} MB, grew by {grown} MB"
    );
    assert_serves(&server, 5);
}

#[test]
fn a_crowd_that_says_nothing_keeps_no_node_out() {
    let (server, links) = server();
    // more than the listener takes at once
    let crowd: Vec<_> = (0..300).map(|_| connect(links)).collect();
    assert_serves(&server, 6);
    drop(crowd);
    assert_serves(&server, 7);
}
