//! A function endpoint of our own: its nodes keep chunks like real ones, until
//! they are told to misbehave.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use scatterhoard_node::store::ChunkStore;
use scatterhoard_wire::{
    Cell, Epoch, InstanceId, SPOKEN, Token, Versions, WriteId,
    invoke::{Ending, Invocation, Purpose, Report},
    message::{GoodbyeReason, Held, Message, Refusal},
    stream::Frame,
};
use serde_json::json;

use crate::{
    contents::Random,
    link::{Heard, Link, encode},
};

/// What a node does instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// All is well.
    Good,
    /// The invoke's answer is not a node's report.
    BadReport,
    /// The invoke fails: the function crashed.
    Crash,
    /// Reports that it is ready to hold and holds absurdly much.
    Boast,
    /// Never dials, and returns only when the platform would end it.
    Sleep,
    /// Says hello with another token.
    WrongToken,
    /// Says hello in another version than was agreed on.
    WrongVersion,
    /// Of the next release: it says more than is known here, and is well.
    Later,
    /// Of a release that has no version in common with this one, and is later.
    FarLater,
    /// The same, earlier.
    FarEarlier,
    /// Sends random bytes as soon as it is welcome.
    Garbage,
    /// Sends what only a proxy says.
    Usurper,
    /// Answers nothing.
    Mute,
    /// Answers a put with random bytes.
    PutGarbage,
    /// Answers a put before it came to its end, and again and again.
    PutFlood,
    /// Refuses all that is put.
    PutRefused,
    /// Sends cells whose bytes are not those that were stored.
    CorruptCells,
    /// Sends another stripe's cell, honestly labelled.
    OtherStripe,
    /// Sends another stripe's cell as the one that was asked for.
    MislabelledStripe,
    /// Sends far more cells than were asked for.
    TooManyCells,
    /// Sends cells that are too short.
    ShortCells,
    /// Closes the link in the middle of a cell.
    CloseMidCell,
    /// Stops in the middle of a cell.
    StallMidCell,
    /// Says that it is about to return, each time, and stays.
    EndlessGoodbye,
}

impl Manner {
    /// What it speaks that is too far from what we do.
    fn far_from_here(self) -> Option<Versions> {
        let speaks = |first: u8| Versions::new(first, first + 1).unwrap();
        match self {
            Self::FarLater => Some(speaks(SPOKEN.newest().0 + 1)),
            Self::FarEarlier => Some(speaks(SPOKEN.oldest().0 - 2)),
            _ => None,
        }
    }
}

struct Node {
    manner: Mutex<Manner>,
    store: Mutex<ChunkStore>,
    /// What its memory no longer holds as it was stored.
    rotten: Mutex<BTreeSet<WriteId>>,
    instance: InstanceId,
    invoked: AtomicUsize,
}

struct Inner {
    nodes: Vec<Node>,
    stop: AtomicBool,
    connections: AtomicUsize,
}

/// The endpoint; stops when dropped.
pub(crate) struct Fakes {
    inner: Arc<Inner>,
    address: SocketAddr,
}

const LINGER: Duration = Duration::from_millis(10);
/// What has to wait for something looks up this often.
const STEP: Duration = Duration::from_millis(20);

impl Fakes {
    pub(crate) fn start(nodes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let node = |i| Node {
            manner: Mutex::new(Manner::Good),
            store: Mutex::new(ChunkStore::new(100 << 20)),
            rotten: Mutex::default(),
            instance: InstanceId(1000 + i as u128),
            invoked: AtomicUsize::new(0),
        };
        let inner = Arc::new(Inner {
            nodes: (0..nodes).map(node).collect(),
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let served = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.stop.load(Ordering::Relaxed) {
                    return;
                }
                let inner = served.clone();
                std::thread::spawn(move || {
                    inner.connections.fetch_add(1, Ordering::Relaxed);
                    let _ = inner.answer_requests(stream);
                });
            }
        });
        Self { inner, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From their next invocations on these nodes behave so, the others well;
    /// returns when idle ones have left their links.
    pub(crate) fn misbehave(&self, nodes: &[usize], manner: Manner) {
        for (i, node) in self.inner.nodes.iter().enumerate() {
            let bad = nodes.contains(&i);
            *node.manner.lock().unwrap() = if bad { manner } else { Manner::Good };
        }
        std::thread::sleep(Duration::from_millis(50));
    }

    /// How often this node was invoked so far.
    pub(crate) fn invoked(&self, node: usize) -> usize {
        self.inner.nodes[node].invoked.load(Ordering::Relaxed)
    }

    /// Bits flip in all that this node holds now; it does not know it.
    pub(crate) fn rot(&self, node: usize) {
        let node = &self.inner.nodes[node];
        let (chunks, _) = node.store.lock().unwrap().list(None, usize::MAX);
        let ids = chunks.iter().map(|c| c.id.write_id);
        node.rotten.lock().unwrap().extend(ids);
    }
}

impl Drop for Fakes {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        // so that the listener looks up
        let _ = TcpStream::connect(self.address);
    }
}

impl Inner {
    /// Invoke requests of one connection, one after the other.
    fn answer_requests(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut out = stream.try_clone()?;
        let mut input = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if input.read_line(&mut head)? == 0 {
                    return Ok(());
                }
            }
            let lower = head.to_ascii_lowercase();
            let length = lower
                .lines()
                .find_map(|l| l.strip_prefix("content-length:"));
            let mut body = vec![0; length.map_or(0, |l| l.trim().parse().unwrap())];
            input.read_exact(&mut body)?;
            if !head.starts_with("POST ") {
                // it only runs functions
                let head = "HTTP/1.1 404 x\r\nx-amzn-errortype: UnknownOperationException\r\ncontent-length: 0\r\n\r\n";
                out.write_all(head.as_bytes())?;
                continue;
            }
            if head.contains("DryRun") {
                out.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
                continue;
            }
            let (invocation, _) = Invocation::from_json(&body, SPOKEN).unwrap();
            let node = &self.nodes[usize::from(invocation.node.0)];
            let (error, answer) = self.invoked(node, &invocation);
            let error = if error {
                "x-amz-function-error: Unhandled\r\n"
            } else {
                ""
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{error}content-length: {}\r\n\r\n",
                answer.len()
            );
            out.write_all(&[head.as_bytes(), &answer].concat())?;
        }
    }

    /// Carries an invocation out; whether it is an error, and its payload.
    fn invoked(&self, node: &Node, invocation: &Invocation) -> (bool, Vec<u8>) {
        let manner = *node.manner.lock().unwrap();
        node.invoked.fetch_add(1, Ordering::Relaxed);
        if let Some(speaks) = manner.far_from_here() {
            // the rest of it is not what we know
            let answer = json!({"speaks": speaks, "ending": {"refused": true}});
            return (false, answer.to_string().into_bytes());
        }
        if manner == Manner::Crash {
            return (true, br#"{"errorType":"Runtime.ExitError"}"#.to_vec());
        }
        let ending = match invocation.purpose {
            Purpose::Warm => Ending::Pinged,
            Purpose::Serve | Purpose::Backup => self.serve(node, invocation, manner),
        };
        let held = node.held();
        let report = Report {
            speaks: SPOKEN,
            instance: node.instance,
            birth_unix_ms: 0,
            highest_epoch: invocation.epoch,
            held_bytes: held.bytes,
            budget_bytes: held.budget_bytes,
            chunks: held.chunks,
            ending,
        };
        match manner {
            Manner::BadReport => (false, br#"{"version":1,"hello":"world"}"#.to_vec()),
            Manner::Later => {
                let mut answer = serde_json::to_value(&report).unwrap();
                answer["speaks"] = json!([SPOKEN.newest().0, SPOKEN.newest().0 + 1]);
                answer["mood"] = json!({"good": [1, null]});
                (false, answer.to_string().into_bytes())
            }
            _ => (false, serde_json::to_vec(&report).unwrap()),
        }
    }

    fn sleep(&self, limit: Duration) {
        let mut slept = Duration::ZERO;
        while slept < limit && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(STEP);
            slept += STEP;
        }
    }

    fn serve(&self, node: &Node, invocation: &Invocation, manner: Manner) -> Ending {
        if manner == Manner::Sleep {
            self.sleep(Duration::from_secs(20));
            return Ending::Unreachable;
        }
        let Ok(mut link) = Link::dial(invocation.proxy) else {
            return Ending::Unreachable;
        };
        self.serve_link(node, invocation, manner, &mut link)
            .unwrap_or(Ending::LinkLost)
    }

    fn serve_link(
        &self,
        node: &Node,
        invocation: &Invocation,
        manner: Manner,
        link: &mut Link,
    ) -> std::io::Result<Ending> {
        let mut hello = crate::link::hello(invocation.token, invocation.invocation);
        (hello.instance, hello.held) = (node.instance, node.held());
        hello.highest_epoch = invocation.epoch;
        if manner == Manner::WrongToken {
            hello.token = Token(invocation.token.0 ^ 1);
        }
        let mut bytes = encode(0, &Message::Hello(hello), &[]);
        if manner == Manner::WrongVersion {
            bytes[2] += 1;
        }
        if manner == Manner::Later {
            scatterhoard_wire::fuzzing::lengthen(&mut bytes, b"and more");
        }
        link.stream.write_all(&bytes)?;
        let limit = Duration::from_secs(3);
        match link.hear(limit) {
            Heard::Frame(frame) if frame.message == Message::Welcome => {}
            Heard::Frame(_) => return Ok(Ending::Rejected),
            Heard::Nothing | Heard::Closed => return Ok(Ending::LinkLost),
        }
        match manner {
            Manner::Garbage => link.stream.write_all(&Random::new(7).bytes(10_000))?,
            Manner::Usurper => link.say(0, &Message::DeleteBelow(max_write_id()), &[])?,
            _ => {}
        }
        loop {
            match link.hear(LINGER) {
                Heard::Closed => return Ok(Ending::LinkLost),
                Heard::Nothing if manner == Manner::Mute => self.sleep(STEP),
                Heard::Nothing => {
                    link.say(0, &Message::Goodbye(GoodbyeReason::Idle), &[])?;
                    return Ok(self.await_goodbye_ok(link));
                }
                Heard::Frame(_) if manner == Manner::Mute => {}
                Heard::Frame(frame) => {
                    if frame.message == Message::Release {
                        link.say(0, &Message::Goodbye(GoodbyeReason::Released), &[])?;
                        return Ok(self.await_goodbye_ok(link));
                    }
                    self.handle(node, manner, link, frame)?;
                }
            }
            // what it takes up later, it does from the next invocation on
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Ending::LinkLost);
            }
        }
    }

    fn await_goodbye_ok(&self, link: &mut Link) -> Ending {
        for _ in 0..100 {
            match link.hear(STEP) {
                Heard::Frame(frame) => match frame.message {
                    Message::GoodbyeOk => return Ending::Idle,
                    Message::Put { .. } | Message::Get { .. } => {
                        let _ = link.say(frame.request, &Message::Refused(Refusal::Returning), &[]);
                    }
                    _ => {}
                },
                Heard::Nothing => {}
                Heard::Closed => return Ending::LinkLost,
            }
        }
        Ending::LinkLost
    }

    fn handle(
        &self,
        node: &Node,
        manner: Manner,
        link: &mut Link,
        frame: Frame,
    ) -> std::io::Result<()> {
        let request = frame.request;
        let mut store = node.store.lock().unwrap();
        match frame.message {
            Message::Put {
                chunk,
                stripe,
                checksum,
                last,
            } => {
                let cell = Cell {
                    stripe,
                    checksum,
                    payload: frame.payload.freeze(),
                };
                let outcome = store.put(&chunk, cell);
                drop(store);
                let stored = |complete| Message::Stored {
                    complete,
                    held: node.held(),
                };
                match (manner, outcome) {
                    (Manner::PutGarbage, _) => {
                        link.stream.write_all(&Random::new(8).bytes(5_000))?;
                    }
                    (Manner::PutFlood, _) => {
                        for _ in 0..100 {
                            link.say(request, &stored(false), &[])?;
                        }
                    }
                    (Manner::PutRefused, _) => {
                        link.say(request, &Message::Refused(Refusal::BadCell), &[])?;
                    }
                    (_, Err(why)) => link.say(request, &Message::Refused(why), &[])?,
                    (_, Ok(complete)) if last => link.say(request, &stored(complete), &[])?,
                    (_, Ok(_)) => {}
                }
            }
            Message::Get {
                chunk,
                first,
                count,
            } => {
                let cells: Vec<Option<Cell>> = (first..first + count)
                    .map(|stripe| store.cell(chunk, stripe))
                    .collect();
                let other = store.cell(chunk, if first == 0 { 1 } else { 0 });
                drop(store);
                let rotten = node.rotten.lock().unwrap().contains(&chunk.write_id);
                let manner = if rotten { Manner::CorruptCells } else { manner };
                for cell in cells {
                    match cell {
                        Some(cell) => send_cell(manner, link, request, cell, other.clone())?,
                        None => return link.say(request, &Message::Missing, &[]),
                    }
                }
                if manner == Manner::StallMidCell {
                    self.sleep(Duration::from_secs(6));
                }
            }
            Message::Delete(ids) => {
                store.delete(&ids);
                node.rotten.lock().unwrap().retain(|id| !ids.contains(id));
                drop(store);
                link.say(request, &Message::Deleted(node.held()), &[])?;
            }
            Message::DeleteBelow(floor) => {
                store.delete_below(floor);
                drop(store);
                link.say(request, &Message::Deleted(node.held()), &[])?;
            }
            Message::List(after) => {
                let (chunks, more) = store.list(after, 1000);
                link.say(request, &Message::Listed { chunks, more }, &[])?;
            }
            Message::Ping => {
                drop(store);
                link.say(request, &Message::Pong(node.held()), &[])?;
            }
            _ => {}
        }
        if manner == Manner::EndlessGoodbye {
            link.say(0, &Message::Goodbye(GoodbyeReason::Deadline), &[])?;
        }
        Ok(())
    }
}

/// One cell of an answer, or what takes its place.
fn send_cell(
    manner: Manner,
    link: &mut Link,
    request: u32,
    cell: Cell,
    other: Option<Cell>,
) -> std::io::Result<()> {
    let message = |cell: &Cell| Message::Cell {
        stripe: cell.stripe,
        checksum: cell.checksum,
    };
    match manner {
        Manner::CorruptCells => {
            let mut payload = cell.payload.to_vec();
            let at = payload.len() / 2;
            payload[at] ^= 0x10;
            link.say(request, &message(&cell), &payload)
        }
        Manner::OtherStripe => {
            let other = other.unwrap_or(cell);
            link.say(request, &message(&other), &other.payload)
        }
        Manner::MislabelledStripe => {
            let mut other = other.unwrap_or(cell.clone());
            other.stripe = cell.stripe;
            other.checksum ^= u32::from(other.payload == cell.payload);
            link.say(request, &message(&other), &other.payload)
        }
        Manner::TooManyCells => (0..200).try_for_each(|i| {
            let stripe = cell.stripe + i;
            let checksum = cell.checksum;
            link.say(request, &Message::Cell { stripe, checksum }, &cell.payload)
        }),
        Manner::ShortCells => {
            let short = &cell.payload[..cell.payload.len() - 1];
            link.say(request, &message(&cell), short)
        }
        Manner::CloseMidCell | Manner::StallMidCell => {
            let bytes = encode(request, &message(&cell), &cell.payload);
            link.stream.write_all(&bytes[..bytes.len() / 2])?;
            if manner == Manner::CloseMidCell {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            Ok(())
        }
        _ => link.say(request, &message(&cell), &cell.payload),
    }
}

impl Node {
    fn held(&self) -> Held {
        if *self.manner.lock().unwrap() == Manner::Boast {
            return Held {
                bytes: u64::MAX - 1,
                budget_bytes: u64::MAX,
                chunks: u32::MAX,
            };
        }
        self.store.lock().unwrap().held()
    }
}

fn max_write_id() -> WriteId {
    WriteId {
        epoch: Epoch(u64::MAX),
        counter: u64::MAX,
    }
}
