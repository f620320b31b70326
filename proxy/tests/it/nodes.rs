//! A real node under a real platform, and a proxy that is none: the node serves
//! what is right, refuses what is not, and outlives all of it with what it holds.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use scatterhoard_wire::{
    Cell, ChunkDescriptor, ChunkId, Epoch, Fingerprint, Geometry, InstanceId, InvocationId, Layout,
    NodeId, SPOKEN, Token, Versions, WriteId, fuzzing,
    invoke::{Ending, Invocation, Purpose, Report},
    message::{Held, Hello, Message, Refusal},
};
use serde_json::json;

use crate::{
    contents::Random,
    link::{Heard, Link, encode},
    platform::Platform,
    server::connect,
};

const TOKEN: Token = Token(77);
/// Only tells a hang.
const SOON: Duration = Duration::from_secs(60);
/// Nobody is idle for so long, on a busy machine either.
const LONG_MS: u32 = 120_000;
const CELL: usize = 1 << 20;

/// One node's platform, and the port that the node dials.
struct World {
    platform: Platform,
    listener: TcpListener,
    invocations: u64,
    /// How long an idle node waits for requests.
    linger_ms: u32,
    /// What nodes are told to expect.
    certificate: Option<Fingerprint>,
}

/// An invocation under way.
struct Visit {
    link: Link,
    hello: Hello,
    report: JoinHandle<Report>,
}

fn world() -> World {
    World {
        platform: Platform::start(1),
        listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        invocations: 0,
        linger_ms: LONG_MS,
        certificate: None,
    }
}

fn post(lambda: SocketAddr, body: &[u8]) -> Report {
    let mut stream = connect(lambda);
    let head = format!(
        "POST /2015-03-31/functions/scatterhoard-node-000/invocations HTTP/1.1\r\nhost: lambda\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let start = answer.find('{').unwrap_or_else(|| panic!("{answer}"));
    let end = answer.rfind('}').unwrap();
    Report::from_json(&answer.as_bytes()[start..=end], SPOKEN)
        .unwrap_or_else(|e| panic!("{e}: {answer}"))
}

impl World {
    fn call(&mut self, purpose: Purpose, epoch: u64) -> JoinHandle<Report> {
        let invocation = self.invocation(purpose, epoch);
        self.send(serde_json::to_vec(&invocation).unwrap())
    }

    /// Invokes with any payload.
    fn send(&self, payload: Vec<u8>) -> JoinHandle<Report> {
        let lambda = self.platform.address();
        std::thread::spawn(move || post(lambda, &payload))
    }

    fn invocation(&mut self, purpose: Purpose, epoch: u64) -> Invocation {
        self.invocations += 1;
        Invocation {
            speaks: SPOKEN,
            purpose,
            proxy: self.listener.local_addr().unwrap(),
            token: TOKEN,
            certificate: self.certificate,
            node: NodeId(0),
            invocation: InvocationId(self.invocations),
            epoch: Epoch(epoch),
            linger_ms: self.linger_ms,
            deadline_margin_ms: 1000,
        }
    }

    /// Invokes, and lets the node dial and say hello; no answer yet.
    fn dialled(&mut self) -> Visit {
        let report = self.call(Purpose::Serve, 5);
        self.hears_of(report)
    }

    fn hears_of(&self, report: JoinHandle<Report>) -> Visit {
        let (stream, _) = self.listener.accept().unwrap();
        let mut link = Link::over(stream).unwrap();
        let Heard::Frame(frame) = link.hear(SOON) else {
            panic!("no hello");
        };
        let Message::Hello(hello) = frame.message else {
            panic!("{frame:?}");
        };
        assert_eq!((hello.token, hello.invocation.0), (TOKEN, self.invocations));
        Visit {
            link,
            hello,
            report,
        }
    }

    fn visit(&mut self) -> Visit {
        let mut visit = self.dialled();
        visit.link.say(0, &Message::Welcome, &[]).unwrap();
        visit
    }
}

impl Visit {
    /// The next message for this request.
    #[track_caller]
    fn answer(&mut self, request: u32) -> (Message, Bytes) {
        match self.link.hear(SOON) {
            Heard::Frame(frame) => {
                assert_eq!(frame.request, request, "{:?}", frame.message);
                (frame.message, frame.payload.freeze())
            }
            Heard::Nothing | Heard::Closed => panic!("no answer"),
        }
    }

    #[track_caller]
    fn ask(&mut self, request: u32, message: &Message, payload: &[u8]) -> Message {
        self.link.say(request, message, payload).unwrap();
        self.answer(request).0
    }

    #[track_caller]
    fn store(&mut self, chunk: &ChunkDescriptor, fill: u8) -> Message {
        let cell = chunk.cell(0, Bytes::from(vec![fill; CELL]));
        self.ask(1, &put(chunk, &cell, true), &cell.payload)
    }

    #[track_caller]
    fn assert_holds(&mut self, chunk: &ChunkDescriptor, fill: u8) {
        let get = Message::Get {
            chunk: chunk.id,
            first: 0,
            count: 1,
        };
        self.link.say(8, &get, &[]).unwrap();
        let (Message::Cell { stripe, checksum }, payload) = self.answer(8) else {
            panic!("no cell");
        };
        assert!(chunk.verifies(stripe, checksum, &payload) && payload[0] == fill);
    }

    /// It is let go; the report.
    #[track_caller]
    fn leave(mut self) -> Report {
        self.link.say(0, &Message::Release, &[]).unwrap();
        self.part()
    }

    /// Goodbye and goodbye-ok; the report.
    #[track_caller]
    fn part(mut self) -> Report {
        assert!(matches!(self.answer(0).0, Message::Goodbye(_)));
        self.link.say(0, &Message::GoodbyeOk, &[]).unwrap();
        self.report.join().unwrap()
    }
}

/// A chunk of `cells` full cells.
fn chunk(counter: u64, cells: usize) -> ChunkDescriptor {
    let geometry = Geometry::new(1, 0).unwrap();
    let layout = Layout::new(geometry, (cells * CELL) as u64, CELL as u32).unwrap();
    let write_id = WriteId {
        epoch: Epoch(5),
        counter,
    };
    ChunkDescriptor {
        id: ChunkId { write_id, index: 0 },
        layout,
    }
}

fn put(chunk: &ChunkDescriptor, cell: &Cell, last: bool) -> Message {
    Message::Put {
        chunk: *chunk,
        stripe: cell.stripe,
        checksum: cell.checksum,
        last,
    }
}

/// What is behind the seal is not acknowledged, so the list behind it is complete.
#[test]
fn who_is_sealed_still_gives_and_who_retires_is_gone() {
    let mut world = world();
    let [kept, late] = [1, 2].map(|n| chunk(n, 1));
    let mut visit = world.visit();
    let instance = visit.hello.instance;
    let stored = visit.store(&kept, 3);
    assert!(matches!(stored, Message::Stored { complete: true, .. }));
    visit.link.say(0, &Message::Seal, &[]).unwrap();
    let refused = visit.store(&late, 4);
    assert_eq!(refused, Message::Refused(Refusal::Returning));
    let listed = Message::Listed {
        chunks: vec![kept],
        more: false,
    };
    assert_eq!(visit.ask(2, &Message::List(None), &[]), listed);
    visit.assert_holds(&kept, 3);
    // sealed for this link only
    assert_eq!(visit.leave().instance, instance);
    let mut visit = world.visit();
    let stored = visit.store(&late, 4);
    assert!(matches!(stored, Message::Stored { complete: true, .. }));
    visit.link.say(0, &Message::Retire, &[]).unwrap();
    assert!(matches!(visit.answer(0).0, Message::Goodbye(_)));
    visit.link.say(0, &Message::GoodbyeOk, &[]).unwrap();
    assert!(visit.report.join().is_err(), "it ends without a report");
    let visit = world.visit();
    assert_ne!(visit.hello.instance, instance);
    visit.leave();
}

#[test]
fn what_is_put_is_there_in_the_next_invocation() {
    let mut world = world();
    let (chunk, mut visit) = (chunk(1, 1), world.visit());
    let instance = visit.hello.instance;
    assert!(matches!(
        visit.store(&chunk, 3),
        Message::Stored { complete: true, .. }
    ));
    assert!(matches!(
        visit.ask(2, &Message::Ping, &[]),
        Message::Pong(_)
    ));
    let report = visit.leave();
    assert_eq!(
        (report.ending, report.instance, report.chunks),
        (Ending::Released, instance, 1)
    );
    let ping = world.call(Purpose::Warm, 5).join().unwrap();
    assert_eq!(
        (ping.ending, ping.held_bytes),
        (Ending::Pinged, report.held_bytes)
    );
    let mut visit = world.visit();
    assert_eq!(visit.hello.instance, instance);
    visit.assert_holds(&chunk, 3);
    let deleted = visit.ask(4, &Message::Delete(vec![chunk.id.write_id]), &[]);
    let nothing = |held: Held| held.bytes == 0 && held.chunks == 0;
    assert!(
        matches!(deleted, Message::Deleted(held) if nothing(held)),
        "{deleted:?}"
    );
    visit.leave();
}

#[test]
fn who_is_asked_nothing_leaves() {
    let mut world = world();
    world.linger_ms = 40;
    assert_eq!(world.visit().part().ending, Ending::Idle);
}

#[test]
fn a_put_under_way_is_no_idleness() {
    const LINGER_MS: u32 = 1_000;
    let mut world = world();
    world.linger_ms = LINGER_MS;
    let (chunk, mut visit) = (chunk(1, 2), world.visit());
    let [first, second] = [0, 1].map(|stripe| chunk.cell(stripe, Bytes::from(vec![1; CELL])));
    visit
        .link
        .say(1, &put(&chunk, &first, false), &first.payload)
        .unwrap();
    // longer than the linger time: the proxy is encoding, or its client is slow
    std::thread::sleep(Duration::from_millis(u64::from(LINGER_MS) * 3 / 2));
    let stored = visit.ask(1, &put(&chunk, &second, true), &second.payload);
    assert!(
        matches!(stored, Message::Stored { complete: true, .. }),
        "{stored:?}"
    );
    visit.leave();
}

#[test]
fn whoever_else_asks_a_node_does_not_end_its_wait_for_the_rest_of_a_chunk() {
    let mut world = world();
    // far below the half second that it waits for the rest
    world.linger_ms = 40;
    let (chunk, mut visit) = (chunk(1, 2), world.visit());
    let [first, second] = [0, 1].map(|stripe| chunk.cell(stripe, Bytes::from(vec![1; CELL])));
    let stored = visit.ask(1, &put(&chunk, &first, true), &first.payload);
    assert!(matches!(
        stored,
        Message::Stored {
            complete: false,
            ..
        }
    ));
    let listed = visit.ask(2, &Message::List(None), &[]);
    assert!(matches!(listed, Message::Listed { .. }), "{listed:?}");
    // longer than the linger time: the body comes slowly
    std::thread::sleep(Duration::from_millis(100));
    let stored = visit.ask(3, &put(&chunk, &second, true), &second.payload);
    assert!(matches!(stored, Message::Stored { complete: true, .. }));
    visit.leave();
}

#[test]
fn a_link_that_goes_wrong_costs_nothing_but_the_invocation() {
    let mut world = world();
    let (chunk, mut visit) = (chunk(1, 1), world.visit());
    visit.store(&chunk, 9);
    let instance: InstanceId = visit.leave().instance;
    let ping = encode(1, &Message::Ping, &[]);
    let mut other_version = ping.clone();
    other_version[2] += 1;
    let mut huge = ping.clone();
    huge[12..16].fill(0xff);
    let mut damaged = ping.clone();
    damaged[16] ^= 1;
    let wrong: [&[u8]; 7] = [
        &Random::new(1).bytes(5_000),
        &other_version,
        &huge,
        &damaged,
        &ping[..10],
        &encode(1, &Message::Missing, &[]),
        b"",
    ];
    for (i, bytes) in wrong.iter().enumerate() {
        for welcome in [true, false] {
            let mut visit = world.dialled();
            assert_eq!(
                visit.hello.instance, instance,
                "case {i}: the instance died"
            );
            if welcome {
                visit.link.say(0, &Message::Welcome, &[]).unwrap();
            }
            visit.link.stream.write_all(bytes).unwrap();
            drop(visit.link);
            let report = visit.report.join().unwrap();
            assert_eq!(
                report.ending,
                Ending::LinkLost,
                "case {i}, welcome {welcome}"
            );
        }
    }
    let mut visit = world.dialled();
    visit
        .link
        .say(0, &Message::Reject("no".into()), &[])
        .unwrap();
    assert_eq!(visit.report.join().unwrap().ending, Ending::Rejected);
    let mut visit = world.visit();
    visit.assert_holds(&chunk, 9);
    visit.leave();
}

/// A real node under a proxy of the next release, which says more than the node knows.
#[test]
fn what_a_later_proxy_adds_does_no_harm() {
    let mut world = world();
    let newest = SPOKEN.newest().0;
    let mut payload = serde_json::to_value(world.invocation(Purpose::Serve, 5)).unwrap();
    payload["speaks"] = json!([newest, newest + 1]);
    payload["later"] = json!({"a": [1, {"b": null}]});
    let mut visit = world.hears_of(world.send(payload.to_string().into()));
    let mut welcome = encode(0, &Message::Welcome, &[]);
    fuzzing::lengthen(&mut welcome, b"and more");
    visit.link.stream.write_all(&welcome).unwrap();
    let chunk = chunk(1, 1);
    let stored = visit.store(&chunk, 3);
    assert!(matches!(stored, Message::Stored { complete: true, .. }));
    visit.assert_holds(&chunk, 3);
    let report = visit.leave();
    assert_eq!((report.ending, report.speaks), (Ending::Released, SPOKEN));
}

#[test]
fn a_proxy_too_far_away_is_told_so_and_not_dialled() {
    let mut world = world();
    world.listener.set_nonblocking(true).unwrap();
    for (oldest, newest) in [(SPOKEN.newest().0 + 1, 255), (1, SPOKEN.oldest().0 - 1)] {
        for purpose in [Purpose::Serve, Purpose::Warm] {
            let mut invocation = world.invocation(purpose, 5);
            invocation.speaks = Versions::new(oldest, newest).unwrap();
            let mut payload = serde_json::to_value(invocation).unwrap();
            // of which nothing is known but what it speaks
            payload["purpose"] = json!(["something", "new"]);
            let report = world.send(payload.to_string().into()).join().unwrap();
            assert_eq!((report.ending, report.speaks), (Ending::NoVersion, SPOKEN));
        }
    }
    let dialled = world.listener.accept().map(|_| ()).unwrap_err();
    assert_eq!(dialled.kind(), std::io::ErrorKind::WouldBlock);
    world.listener.set_nonblocking(false).unwrap();
    world.visit().leave();
}

#[test]
fn who_is_to_expect_a_certificate_says_nothing_in_plain_text() {
    let mut world = world();
    world.certificate = Some(Fingerprint([7; 32]));
    let answers: [&[u8]; 3] = [&encode(0, &Message::Welcome, &[]), b"+OK\r\n", b""];
    for answer in answers {
        let report = world.call(Purpose::Serve, 5);
        let (mut stream, _) = world.listener.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // a handshake, and behind the answer an alert at most
        let mut said = vec![0; 5];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(said[..3], [0x16, 3, 1], "{said:?}");
        let mut greeting = vec![0; u16::from_be_bytes([said[3], said[4]]).into()];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(answer).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty() || rest[0] == 0x15, "{rest:?}");
        assert_eq!(report.join().unwrap().ending, Ending::Unreachable);
    }
    world.certificate = None;
    world.visit().leave();
}

#[test]
fn bad_cells_and_what_does_not_fit_are_refused() {
    let mut world = world();
    let mut visit = world.visit();
    let kept = chunk(1, 1);
    let mut cell = kept.cell(0, Bytes::from(vec![1; CELL]));
    cell.checksum ^= 1;
    let refused = visit.ask(1, &put(&kept, &cell, true), &cell.payload);
    assert_eq!(refused, Message::Refused(Refusal::BadCell));
    // 128 MB of memory hold 96 MB of chunks
    let mut stored = 0;
    while let Message::Stored { held, .. } = visit.store(&chunk(1 + stored, 1), 2) {
        assert!(held.bytes <= held.budget_bytes);
        stored += 1;
        assert!(stored < 128);
    }
    assert!(stored > 90, "{stored} MB");
    assert_eq!(
        visit.store(&chunk(500, 1), 2),
        Message::Refused(Refusal::Full)
    );
    // one that would never fit, however short its first cell is
    let layout = Layout::new(Geometry::new(1, 0).unwrap(), 8 << 30, 1).unwrap();
    let endless = ChunkDescriptor {
        layout,
        ..chunk(501, 1)
    };
    let cell = endless.cell(0, Bytes::from_static(b"x"));
    let refused = visit.ask(1, &put(&endless, &cell, true), &cell.payload);
    assert_eq!(refused, Message::Refused(Refusal::Full));
    visit.assert_holds(&kept, 2);
    let instance = visit.leave().instance;
    let visit = world.visit();
    assert_eq!(visit.hello.instance, instance, "full, but alive");
    visit.leave();
}

#[test]
fn a_superseded_proxy_is_refused() {
    let mut world = world();
    let mut visit = world.visit();
    // the proxy counts, not who wrote the chunk: it may be repaired
    let mut old = chunk(1, 1);
    old.id.write_id.epoch = Epoch(4);
    let stored = visit.store(&old, 1);
    assert!(matches!(stored, Message::Stored { complete: true, .. }));
    visit.leave();
    for purpose in [Purpose::Serve, Purpose::Warm] {
        let report = world.call(purpose, 4).join().unwrap();
        assert_eq!(
            (report.ending, report.highest_epoch),
            (Ending::StaleEpoch, Epoch(5))
        );
    }
}

#[test]
fn a_get_of_more_than_is_sent_ahead_goes_on_to_its_end() {
    const BYTES: usize = 512 << 10;
    let mut world = world();
    let mut visit = world.visit();
    let geometry = Geometry::new(1, 0).unwrap();
    let layout = Layout::new(geometry, 12 * BYTES as u64, BYTES as u32).unwrap();
    let chunk = ChunkDescriptor {
        layout,
        ..chunk(1, 1)
    };
    for stripe in 0..12 {
        let cell = chunk.cell(stripe, Bytes::from(vec![stripe as u8; BYTES]));
        let said = visit
            .link
            .say(1, &put(&chunk, &cell, stripe == 11), &cell.payload);
        said.unwrap();
    }
    let stored = visit.answer(1).0;
    assert!(matches!(stored, Message::Stored { complete: true, .. }));
    let get = Message::Get {
        chunk: chunk.id,
        first: 0,
        count: 12,
    };
    visit.link.say(2, &get, &[]).unwrap();
    for expected in 0..12 {
        let (Message::Cell { stripe, .. }, payload) = visit.answer(2) else {
            panic!("no cell {expected}");
        };
        assert!(stripe == expected && payload[..] == vec![expected as u8; BYTES][..]);
    }
    visit.leave();
}
