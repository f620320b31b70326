//! What sockets alone cost: a server that passes values on to 12 processes and back
//! as a proxy does (10 + 2, cells of 256 KiB), with nothing else: no event loop, no
//! index but a map, no quorum, no layout by size. Blocking sockets, a thread for each
//! connection. With `checked` it also computes parity, and checksums that nodes verify
//! and, for reads, the relay; without, two cells of each stripe are sent twice instead.
//! With `nodes=N` each value that is written goes to 12 of N processes, drawn at random;
//! what it replaces is freed. With `lost=K` (and `checked`) reads do without K data
//! chunks of each value and compute them from parity.
//!
//! ```sh
//! cargo run --release -p scatterhoard-bench --example floor 7000 [checked] [nodes=N] [lost=K] &
//! target/release/scatterhoard-bench load --target redis=127.0.0.1:6379 --target floor=127.0.0.1:7000 \
//!   --pid floor=$! --sizes 1m,10m,100m --ops set,get
//! ```

mod code;
mod node;

use std::{
    collections::HashMap,
    env,
    io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use code::Checker;
use crc_fast::CrcAlgorithm::Crc32Iscsi;
use rand::{SeedableRng as _, rngs::SmallRng, seq::index};
use socket2::{Domain, Socket, Type};

const DATA: usize = 10;
const PARITY: usize = 2;
const CELL_BYTES: usize = 256 << 10;
const CHUNKS: usize = DATA + PARITY;
/// Cells that a client's or a node's bytes are read into, in turn.
const RING_CELLS: usize = 6 * DATA;
const HEADER_BYTES: usize = 33;
const MOST_BYTES: usize = 1 << 30;

#[derive(Clone, Copy)]
struct Settings {
    port: u16,
    checked: bool,
    nodes: usize,
    lost: usize,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments == ["--node"] {
        return node::run();
    }
    let settings = settings(&arguments).ok_or_else(|| {
        let usage = "usage: floor PORT [checked] [nodes=N] [lost=K]; N 12 to 500, \
                     K 0 to 2 and only with checked";
        io::Error::other(usage)
    })?;
    relay(settings)
}

fn settings(arguments: &[String]) -> Option<Settings> {
    let (port, rest) = arguments.split_first()?;
    let mut settings = Settings {
        port: port.parse().ok()?,
        checked: false,
        nodes: CHUNKS,
        lost: 0,
    };
    for argument in rest {
        match argument.split_once('=') {
            None if argument == "checked" => settings.checked = true,
            Some(("nodes", n)) => settings.nodes = n.parse().ok()?,
            Some(("lost", k)) => settings.lost = k.parse().ok()?,
            _ => return None,
        }
    }
    let is_good = (CHUNKS..=500).contains(&settings.nodes)
        && settings.lost <= PARITY
        && (settings.checked || settings.lost == 0);
    is_good.then_some(settings)
}

/// A socket that nothing paces, as those of scatterhoard (`node/src/socket.rs`).
fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let _ = socket.set_tcp_congestion(b"reno");
    Ok(socket)
}

fn listen(port: u16) -> io::Result<Socket> {
    let socket = socket()?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(128)?;
    Ok(socket)
}

/// Serves connections for ever, a thread each.
fn accept(
    listener: &Socket,
    serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<()> {
    loop {
        let stream = TcpStream::from(listener.accept()?.0);
        stream.set_nodelay(true)?;
        let serve = serve.clone();
        // a connection that breaks ends itself alone
        thread::spawn(move || drop(serve(stream)));
    }
}

struct Nodes {
    ports: Vec<u16>,
    /// What each may free, in the words that it is told by, with the next cell it gets.
    garbage: Vec<Mutex<Vec<u8>>>,
    /// Links to all nodes that no session uses now.
    idle: Mutex<Vec<Vec<TcpStream>>>,
    last_id: AtomicU64,
    _children: Vec<Child>,
}

/// Where a value is.
#[derive(Clone)]
struct Stored {
    id: u64,
    len: usize,
    /// Of its chunks, in order.
    nodes: Vec<usize>,
}

type Index = Arc<Mutex<HashMap<Vec<u8>, Stored>>>;

fn relay(settings: Settings) -> io::Result<()> {
    let (mut ports, mut children) = (Vec::new(), Vec::new());
    for _ in 0..settings.nodes {
        let mut child = Command::new(env::current_exe()?)
            .arg("--node")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let out = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no output"))?;
        BufReader::new(out).read_line(&mut line)?;
        ports.push(line.trim().parse().map_err(io::Error::other)?);
        children.push(child);
    }
    let nodes = Arc::new(Nodes {
        garbage: ports.iter().map(|_| Mutex::default()).collect(),
        ports,
        idle: Mutex::default(),
        last_id: AtomicU64::new(0),
        _children: children,
    });
    let index = Index::default();
    accept(&listen(settings.port)?, move |stream| {
        serve(stream, &nodes, &index, settings)
    })
}

impl Nodes {
    fn links(&self) -> io::Result<Vec<TcpStream>> {
        let dial = |port: &u16| {
            let socket = socket()?;
            socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).into())?;
            socket.set_tcp_nodelay(true)?;
            Ok(TcpStream::from(socket))
        };
        let idle = locked(&self.idle).pop();
        idle.map_or_else(|| self.ports.iter().map(dial).collect(), Ok)
    }

    /// On nodes drawn at random.
    fn place(&self, len: usize) -> Stored {
        let id = self.last_id.fetch_add(1, Relaxed);
        let mut rng = SmallRng::seed_from_u64(id);
        let nodes = index::sample(&mut rng, self.ports.len(), CHUNKS).into_vec();
        Stored { id, len, nodes }
    }

    fn free(&self, old: &Stored) {
        for node in &old.nodes {
            locked(&self.garbage[*node]).extend(header(b'd', old.id, 0, 0, 0));
        }
    }

    /// What the node may free, header and cell in one write, as long as the socket takes
    /// all of them.
    fn send(
        &self,
        links: &mut [TcpStream],
        node: usize,
        header: [u8; HEADER_BYTES],
        cell: &[u8],
    ) -> io::Result<()> {
        let mut head = std::mem::take(&mut *locked(&self.garbage[node]));
        head.extend(header);
        let link = &mut links[node];
        let sent = link.write_vectored(&[IoSlice::new(&head), IoSlice::new(cell)])?;
        if sent < head.len() {
            link.write_all(&head[sent..])?;
        }
        link.write_all(&cell[sent.saturating_sub(head.len())..])
    }
}

struct Session<'a> {
    client: BufReader<TcpStream>,
    nodes: &'a Nodes,
    links: Vec<TcpStream>,
    ring: Vec<u8>,
    checker: Option<Checker>,
    lost: usize,
}

fn serve(stream: TcpStream, nodes: &Nodes, index: &Index, settings: Settings) -> io::Result<()> {
    let mut session = Session {
        client: BufReader::with_capacity(16 << 10, stream),
        links: nodes.links()?,
        nodes,
        ring: vec![0; RING_CELLS * CELL_BYTES],
        checker: settings.checked.then(Checker::new).transpose()?,
        lost: settings.lost,
    };
    while !session.client.fill_buf()?.is_empty() {
        session.request(index)?;
    }
    // a session that ends between two requests leaves nothing on its links
    locked(&nodes.idle).push(session.links);
    Ok(())
}

impl Session<'_> {
    fn request(&mut self, index: &Index) -> io::Result<()> {
        let count = self.number(b'*')?;
        let mut words = Vec::new();
        for _ in 0..count.min(2) {
            words.push(self.word()?);
        }
        let name = words
            .first()
            .map(|w| w.to_ascii_uppercase())
            .unwrap_or_default();
        match (&name[..], count) {
            (b"SET", 3) => {
                let len = self.number(b'$')?;
                let new = self.nodes.place(len);
                self.set(&new)?;
                if let Some(old) = locked(index).insert(words.remove(1), new) {
                    self.nodes.free(&old);
                }
                self.reply(b"+OK\r\n")
            }
            (b"GET", 2) => {
                let found = locked(index).get(&words[1]).cloned();
                self.get(found)
            }
            _ => {
                for _ in words.len()..count {
                    self.word()?;
                }
                self.reply(b"+OK\r\n")
            }
        }
    }

    fn number(&mut self, kind: u8) -> io::Result<usize> {
        let mut line = Vec::new();
        self.client.read_until(b'\n', &mut line)?;
        let text = line
            .strip_prefix(&[kind])
            .and_then(|l| std::str::from_utf8(l).ok());
        let number = text.and_then(|t| t.trim().parse().ok());
        number
            .filter(|n| *n <= MOST_BYTES)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn word(&mut self) -> io::Result<Vec<u8>> {
        let mut word = vec![0; self.number(b'$')? + 2];
        self.client.read_exact(&mut word)?;
        word.truncate(word.len() - 2);
        Ok(word)
    }

    fn reply(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.client.get_mut().write_all(bytes)
    }

    /// Each cell goes to its node as soon as it has come.
    fn set(&mut self, new: &Stored) -> io::Result<()> {
        let cells = new.len.div_ceil(CELL_BYTES);
        for i in 0..cells {
            let at = i % RING_CELLS * CELL_BYTES;
            let cell = &mut self.ring[at..][..CELL_BYTES.min(new.len - i * CELL_BYTES)];
            self.client.read_exact(cell)?;
            let (stripe, chunk) = (i / DATA, i % DATA);
            let mut send = |chunk: usize, header, cell: &[u8]| {
                let node = new.nodes[chunk];
                self.nodes.send(&mut self.links, node, header, cell)
            };
            // the last cell of each chunk is answered
            let put = |i: usize, cell: &[u8], checksum| {
                let op = if i + DATA >= cells { b'S' } else { b's' };
                header(op, new.id, stripe, cell.len(), checksum)
            };
            let Some(checker) = &mut self.checker else {
                send(chunk, put(i, cell, 0), cell)?;
                if chunk < PARITY {
                    send(DATA + chunk, put(i, cell, 0), cell)?;
                }
                continue;
            };
            let checksum = crc_fast::checksum(Crc32Iscsi, cell);
            send(chunk, put(i, cell, checksum), cell)?;
            checker.add(chunk, cell)?;
            if chunk + 1 == DATA || i + 1 == cells {
                let longest = if chunk > 0 { CELL_BYTES } else { cell.len() };
                let parity = checker.parity.iter().enumerate();
                for (which, parity) in parity.take(cells.min(PARITY)) {
                    let parity = &parity[..longest];
                    let checksum = crc_fast::checksum(Crc32Iscsi, parity);
                    // answered if it is the chunk's last
                    let place = if i + 1 == cells { cells } else { stripe * DATA };
                    send(DATA + which, put(place, parity, checksum), parity)?;
                }
            }
        }
        let used = cells.min(DATA);
        for chunk in (0..used).chain(DATA..DATA + used.min(PARITY)) {
            self.links[new.nodes[chunk]].read_exact(&mut [0])?;
        }
        self.client.read_exact(&mut [0; 2])
    }

    /// All cells are asked for at once, and handed on in order.
    fn get(&mut self, found: Option<Stored>) -> io::Result<()> {
        let Some(Stored { id, len, nodes }) = found else {
            return self.reply(b"$-1\r\n");
        };
        self.reply(format!("${len}\r\n").as_bytes())?;
        let cells = len.div_ceil(CELL_BYTES);
        let stripes = || (0..cells).step_by(DATA).map(|i| i..cells.min(i + DATA));
        let cell_len = |i: usize| CELL_BYTES.min(len - i * CELL_BYTES);
        let lost = |stripe: usize, chunk: usize| {
            // parity of a value of one cell is not written
            (0..self.lost.min(cells - 1)).find(|k| {
                let which = (id as usize + 5 * k) % DATA;
                chunk == which && stripe * DATA + which < cells
            })
        };
        for (stripe, cells) in stripes().enumerate() {
            for (chunk, i) in cells.clone().enumerate() {
                let (asked, len) = match lost(stripe, chunk) {
                    Some(k) => (DATA + k, cell_len(cells.start)),
                    None => (chunk, cell_len(i)),
                };
                let ask = header(b'g', id, stripe, len, 0);
                self.links[nodes[asked]].write_all(&ask)?;
            }
        }
        let mut parity: [Vec<u8>; PARITY] = match &mut self.checker {
            Some(checker) => std::mem::take(&mut checker.parity),
            None => Default::default(),
        };
        for (stripe, cells) in stripes().enumerate() {
            let at = stripe * DATA % RING_CELLS * CELL_BYTES;
            let ring = &mut self.ring[at..][..DATA * CELL_BYTES];
            let first_lost = (0..cells.len()).find(|chunk| lost(stripe, *chunk).is_some());
            for (chunk, i) in cells.clone().enumerate() {
                let own = &mut ring[chunk * CELL_BYTES..];
                let (asked, cell) = match lost(stripe, chunk) {
                    Some(k) => (DATA + k, &mut parity[k][..cell_len(cells.start)]),
                    None => (chunk, &mut own[..cell_len(i)]),
                };
                let link = &mut self.links[nodes[asked]];
                let mut checksum = [0; 8];
                link.read_exact(&mut checksum)?;
                link.read_exact(cell)?;
                check(cell, u64::from_le_bytes(checksum))?;
                if first_lost.is_none_or(|first| chunk < first) {
                    self.client.get_mut().write_all(cell)?;
                }
            }
            if let (Some(first), Some(checker)) = (first_lost, &self.checker) {
                // what a short stripe lacks is zero
                ring[(cells.len() - 1) * CELL_BYTES + cell_len(cells.end - 1)..].fill(0);
                let stand_in = |chunk| lost(stripe, chunk);
                checker.decode(ring, &parity, cell_len(cells.start), stand_in)?;
                for (chunk, i) in cells.clone().enumerate().skip(first) {
                    let cell = &ring[chunk * CELL_BYTES..][..cell_len(i)];
                    self.client.get_mut().write_all(cell)?;
                }
            }
        }
        if let Some(checker) = &mut self.checker {
            checker.parity = parity;
        }
        self.reply(b"\r\n")
    }
}

fn header(op: u8, id: u64, stripe: usize, len: usize, checksum: u64) -> [u8; HEADER_BYTES] {
    let mut header = [op; HEADER_BYTES];
    let words = [id, (stripe * CELL_BYTES) as u64, len as u64, checksum];
    for (field, word) in header[1..].chunks_mut(8).zip(words) {
        field.copy_from_slice(&word.to_le_bytes());
    }
    header
}

/// A checksum of 0 is none.
fn check(cell: &[u8], checksum: u64) -> io::Result<()> {
    match checksum == 0 || crc_fast::checksum(Crc32Iscsi, cell) == checksum {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
