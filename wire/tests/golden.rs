//! Every message, the payload and the report, byte for byte as nodes and proxies in
//! the field say them: one fixture for each version that is spoken. A format that
//! changes is a new version, with a fixture of its own (CONTRIBUTING.md).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::{fmt::Write as _, fs, net::SocketAddr, path::Path};

use bytes::{Bytes, BytesMut};
use scatterhoard_wire::{
    ChunkDescriptor, ChunkId, Epoch, Fingerprint, Geometry, InstanceId, InvocationId, LabelId,
    Layout, NodeId, SPOKEN, Token, Version, Versions, WriteId, checksum,
    frame::{self, HEADER_BYTES, Header},
    invoke::{Ending, Invocation, Purpose, Report},
    message::{GoodbyeReason, Held, Hello, Label, Message, Refusal},
};

const REQUEST: u32 = 0x0403_0201;
const WRITE: WriteId = WriteId {
    epoch: Epoch(0x11),
    counter: 0x1213,
};
const OTHER: WriteId = WriteId {
    epoch: Epoch(0x21),
    counter: 0x2223,
};
const CHUNK: ChunkId = ChunkId {
    write_id: WRITE,
    index: 3,
};
const HELD: Held = Held {
    bytes: 0x0102_0304_0506_0708,
    budget_bytes: 0x1112_1314_1516_1718,
    chunks: 0x2122_2324,
};
const LABEL_ID: LabelId = LabelId {
    object: WRITE,
    value: OTHER,
};

fn descriptor() -> ChunkDescriptor {
    let geometry = Geometry::new(10, 2).unwrap();
    ChunkDescriptor {
        id: CHUNK,
        layout: Layout::new(geometry, 3_000_000, 262_144).unwrap(),
    }
}

fn label() -> Label {
    Label {
        id: LABEL_ID,
        text: b"text".to_vec(),
    }
}

/// At least one of each kind; all refusals and reasons, whose numbers are pinned, too.
fn messages() -> Vec<Message> {
    let hello = Hello {
        token: Token(0xaabb),
        instance: InstanceId(0xccdd),
        invocation: InvocationId(0x31),
        birth_unix_ms: 0x32,
        highest_epoch: Epoch(0x33),
        held: HELD,
    };
    let mut all = vec![
        Message::Hello(hello),
        Message::Welcome,
        Message::Reject("why".into()),
        Message::Put {
            chunk: descriptor(),
            stripe: 1,
            checksum: 2,
            last: true,
        },
        Message::Stored {
            complete: true,
            held: HELD,
        },
        Message::Get {
            chunk: CHUNK,
            first: 4,
            count: 16,
        },
        Message::Cell {
            stripe: 1,
            checksum: 2,
        },
        Message::Missing,
        Message::Delete(vec![WRITE, OTHER]),
        Message::DeleteBelow(WRITE),
        Message::Deleted(HELD),
        Message::List(None),
        Message::List(Some(CHUNK)),
        Message::Listed {
            chunks: vec![descriptor()],
            more: true,
        },
        Message::Ping,
        Message::Pong(HELD),
        Message::Cancel,
        Message::Release,
        Message::Seal,
        Message::Retire,
        Message::Label(label()),
        Message::Unlabel(vec![WRITE]),
        Message::ListLabels(None),
        Message::ListLabels(Some(LABEL_ID)),
        Message::Labels {
            labels: vec![label()],
            more: false,
        },
        Message::SumLabels(None),
        Message::SumLabels(Some(WRITE)),
        Message::LabelSums {
            sums: vec![(WRITE, 7)],
            more: true,
        },
        Message::GoodbyeOk,
    ];
    let refusals = [
        Refusal::Returning,
        Refusal::Full,
        Refusal::StaleEpoch,
        Refusal::BadCell,
        Refusal::Busy,
    ];
    all.extend(refusals.map(Message::Refused));
    let reasons = [
        GoodbyeReason::Idle,
        GoodbyeReason::Deadline,
        GoodbyeReason::Released,
        GoodbyeReason::Retired,
    ];
    all.extend(reasons.map(Message::Goodbye));
    all
}

/// What a message is called in fixtures. A new one does not compile before it is here;
/// then [`KINDS`] wants it among [`messages`].
fn name(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "hello",
        Message::Welcome => "welcome",
        Message::Reject(_) => "reject",
        Message::Put { .. } => "put",
        Message::Stored { .. } => "stored",
        Message::Get { .. } => "get",
        Message::Cell { .. } => "cell",
        Message::Missing => "missing",
        Message::Refused(_) => "refused",
        Message::Delete(_) => "delete",
        Message::DeleteBelow(_) => "delete-below",
        Message::Deleted(_) => "deleted",
        Message::List(_) => "list",
        Message::Listed { .. } => "listed",
        Message::Ping => "ping",
        Message::Pong(_) => "pong",
        Message::Cancel => "cancel",
        Message::Release => "release",
        Message::Seal => "seal",
        Message::Retire => "retire",
        Message::Label(_) => "label",
        Message::Unlabel(_) => "unlabel",
        Message::ListLabels(_) => "list-labels",
        Message::Labels { .. } => "labels",
        Message::SumLabels(_) => "sum-labels",
        Message::LabelSums { .. } => "label-sums",
        Message::Goodbye(_) => "goodbye",
        Message::GoodbyeOk => "goodbye-ok",
    }
}

/// All that there are.
const KINDS: usize = 28;

fn invocations(version: Version) -> Vec<Invocation> {
    let invocation = Invocation {
        speaks: Versions::only(version),
        purpose: Purpose::Serve,
        proxy: SocketAddr::from(([127, 0, 0, 1], 7)),
        token: Token(1),
        certificate: None,
        node: NodeId(3),
        invocation: InvocationId(4),
        epoch: Epoch(5),
        linger_ms: 6,
        deadline_margin_ms: 7,
    };
    let pinned = Invocation {
        purpose: Purpose::Backup,
        proxy: "[::1]:8".parse().unwrap(),
        certificate: Some(Fingerprint(std::array::from_fn(|i| i as u8))),
        ..invocation.clone()
    };
    let warm = Invocation {
        purpose: Purpose::Warm,
        ..invocation.clone()
    };
    vec![invocation, pinned, warm]
}

fn reports(version: Version) -> Vec<Report> {
    let report = |ending| Report {
        speaks: Versions::only(version),
        instance: InstanceId(0xabc),
        birth_unix_ms: 2,
        highest_epoch: Epoch(3),
        held_bytes: 4,
        budget_bytes: 5,
        chunks: 6,
        ending,
    };
    let endings = [
        Ending::Pinged,
        Ending::Idle,
        Ending::Deadline,
        Ending::Released,
        Ending::Retired,
        Ending::Unreachable,
        Ending::LinkLost,
        Ending::Rejected,
        Ending::StaleEpoch,
        Ending::NoVersion,
    ];
    endings.map(report).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn encoded(version: Version, message: &Message) -> BytesMut {
    let payload_len = if message.has_payload() { 0x0102 } else { 0 };
    let mut out = BytesMut::new();
    frame::encode(version, message, REQUEST, payload_len, &mut out);
    out
}

/// As the code has it now: a line for each.
fn fixture(version: Version) -> String {
    let mut out = String::new();
    for message in messages() {
        let bytes = hex(&encoded(version, &message));
        let _ = writeln!(out, "{} {bytes}", name(&message));
    }
    for invocation in invocations(version) {
        let text = serde_json::to_string(&invocation).unwrap();
        let _ = writeln!(out, "payload {text}");
    }
    for report in reports(version) {
        let text = serde_json::to_string(&report).unwrap();
        let _ = writeln!(out, "report {text}");
    }
    out
}

fn spoken() -> impl Iterator<Item = Version> {
    (SPOKEN.oldest().0..=SPOKEN.newest().0).map(Version)
}

#[test]
fn every_version_that_is_spoken_is_as_it_was_released() {
    for version in spoken() {
        let now = fixture(version);
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{version}.txt"));
        fs::write(&made, &now).unwrap();
        let path = format!("{}/tests/golden/{version}.txt", env!("CARGO_MANIFEST_DIR"));
        let made = made.display();
        let released = fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("{path}: {e}; for a new version it is {made}"));
        let differ = now.lines().zip(released.lines()).find(|(a, b)| a != b);
        assert!(
            now == released,
            "version {version} is not what it was: a change is a new version (CONTRIBUTING.md)\nfirst: {differ:#?}\nall of it as it is now: {made}"
        );
    }
}

#[test]
fn what_was_released_is_understood() {
    let mut kinds: Vec<_> = messages().iter().map(name).collect();
    kinds.dedup();
    assert_eq!(kinds.len(), KINDS, "{kinds:?}");
    for version in spoken() {
        for message in messages() {
            let bytes = encoded(version, &message);
            let head = bytes.first_chunk::<HEADER_BYTES>().unwrap();
            let header = Header::decode(head, SPOKEN).unwrap();
            assert_eq!((header.version, header.request), (version, REQUEST));
            assert_eq!(header.message(&bytes[HEADER_BYTES..]).unwrap(), message);
        }
        for invocation in invocations(version) {
            let text = serde_json::to_vec(&invocation).unwrap();
            let read = Invocation::from_json(&text, SPOKEN).unwrap();
            assert_eq!(read, (invocation, version));
        }
        for report in reports(version) {
            let text = serde_json::to_vec(&report).unwrap();
            assert_eq!(Report::from_json(&text, SPOKEN).unwrap(), report);
        }
    }
}

/// Cells and labels outlive links: chunks are copied between instances that speak
/// different versions, and are read by later releases.
#[test]
fn what_nodes_keep_has_no_version() {
    let cell = descriptor().cell(1, Bytes::from_static(b"a cell"));
    let label = checksum::label(LABEL_ID, b"text");
    assert_eq!((cell.checksum, label), (1_075_395_000, 3_913_948_660));
}
