//! What sockets alone cost: a server that passes values on to 12 processes and back
//! as a proxy does (10 + 2, cells of 256 KiB), with nothing else: no event loop, no
//! index but a map, no quorum, no layout by size. Blocking sockets, a thread for each
//! connection. With `checked` it also computes parity, and checksums that nodes verify
//! and, for reads, the relay; without, two cells of each stripe are sent twice instead.
//!
//! ```sh
//! cargo run --release -p scatterhoard-bench --example floor 7000 [checked] &
//! target/release/scatterhoard-bench load --target redis=127.0.0.1:6379 --target floor=127.0.0.1:7000 \
//!   --pid floor=$! --sizes 1m,10m,100m --ops set,get
//! ```

use std::{
    collections::HashMap,
    env,
    io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crc_fast::CrcAlgorithm::Crc32Iscsi;
use rusty_erasure::{Coder, Matrix, coder};
use socket2::{Domain, Socket, Type};

const DATA: usize = 10;
const PARITY: usize = 2;
const CELL_BYTES: usize = 256 << 10;
/// Cells that a client's bytes are read into, in turn.
const RING_CELLS: usize = 64;
const HEADER_BYTES: usize = 33;
const MOST_BYTES: usize = 1 << 30;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--node"] => node(),
        [port] => relay(port.parse().map_err(io::Error::other)?, false),
        [port, "checked"] => relay(port.parse().map_err(io::Error::other)?, true),
        _ => Err(io::Error::other("usage: floor PORT [checked]")),
    }
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

// ---- node -------------------------------------------------------------------

#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// By offset.
    checksums: HashMap<usize, u64>,
}

type Chunks = Arc<Mutex<HashMap<u64, Arc<Mutex<Chunk>>>>>;

/// A process that keeps chunks; it tells its port on standard output.
fn node() -> io::Result<()> {
    let listener = listen(0)?;
    let port = listener.local_addr()?.as_socket().map_or(0, |a| a.port());
    writeln!(io::stdout(), "{port}")?;
    // whoever started it is gone when this ends
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let chunks = Chunks::default();
    accept(&listener, move |stream| keep(stream, &chunks))
}

fn keep(mut stream: TcpStream, chunks: &Chunks) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    loop {
        stream.read_exact(&mut header)?;
        let word = |i: usize| {
            let bytes = header[1 + 8 * i..].first_chunk();
            bytes.map_or(0, |b| u64::from_le_bytes(*b))
        };
        let (id, offset, len, checksum) = (word(0), word(1) as usize, word(2) as usize, word(3));
        let chunk = locked(chunks).entry(id).or_default().clone();
        let mut chunk = locked(&chunk);
        if chunk.bytes.len() < offset + len {
            chunk.bytes.resize(offset + len, 0);
        }
        if header[0] == b'g' {
            let checksum = chunk.checksums.get(&offset).copied().unwrap_or(0);
            stream.write_all(&checksum.to_le_bytes())?;
            stream.write_all(&chunk.bytes[offset..offset + len])?;
            continue;
        }
        stream.read_exact(&mut chunk.bytes[offset..offset + len])?;
        check(&chunk.bytes[offset..offset + len], checksum)?;
        chunk.checksums.insert(offset, checksum);
        if header[0] == b'S' {
            stream.write_all(b"k")?;
        }
    }
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

// ---- relay ------------------------------------------------------------------

struct Nodes {
    ports: Vec<u16>,
    _children: Vec<Child>,
}

/// Where a value is: an id that its chunks have, and its length.
type Index = Arc<Mutex<HashMap<Vec<u8>, (u64, usize)>>>;

fn relay(port: u16, checked: bool) -> io::Result<()> {
    let mut nodes = Nodes {
        ports: Vec::new(),
        _children: Vec::new(),
    };
    for _ in 0..DATA + PARITY {
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
        nodes
            .ports
            .push(line.trim().parse().map_err(io::Error::other)?);
        nodes._children.push(child);
    }
    let (nodes, index) = (Arc::new(nodes), Index::default());
    accept(&listen(port)?, move |stream| {
        serve(stream, &nodes, &index, checked)
    })
}

struct Session {
    client: BufReader<TcpStream>,
    links: Vec<TcpStream>,
    ring: Vec<u8>,
    checker: Option<Checker>,
}

struct Checker {
    coder: Coder,
    parity: [Vec<u8>; PARITY],
}

fn serve(stream: TcpStream, nodes: &Nodes, index: &Index, checked: bool) -> io::Result<()> {
    let dial = |port: &u16| {
        let socket = socket()?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).into())?;
        socket.set_tcp_nodelay(true)?;
        Ok(TcpStream::from(socket))
    };
    let mut session = Session {
        links: nodes.ports.iter().map(dial).collect::<io::Result<_>>()?,
        client: BufReader::with_capacity(16 << 10, stream),
        ring: vec![0; RING_CELLS * CELL_BYTES],
        checker: checked.then(Checker::new).transpose()?,
    };
    loop {
        let count = session.number(b'*')?;
        let mut words = Vec::new();
        for _ in 0..count.min(2) {
            words.push(session.word()?);
        }
        let name = words
            .first()
            .map(|w| w.to_ascii_uppercase())
            .unwrap_or_default();
        match (&name[..], count) {
            (b"SET", 3) => {
                let len = session.number(b'$')?;
                // an id for each key: its chunks are overwritten where they lie
                let mut index = locked(index);
                let next = index.len() as u64;
                let entry = index.entry(words.remove(1)).or_insert((next, 0));
                *entry = (entry.0, len);
                let id = entry.0;
                drop(index);
                session.set(id, len)?;
            }
            (b"GET", 2) => {
                let index = locked(index);
                let found = index.get(&words[1]).copied();
                drop(index);
                session.get(found)?;
            }
            _ => {
                for _ in words.len()..count {
                    session.word()?;
                }
                session.reply(b"+OK\r\n")?;
            }
        }
    }
}

impl Session {
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
    fn set(&mut self, id: u64, len: usize) -> io::Result<()> {
        let cells = len.div_ceil(CELL_BYTES);
        for i in 0..cells {
            let at = i % RING_CELLS * CELL_BYTES;
            let cell = &mut self.ring[at..][..CELL_BYTES.min(len - i * CELL_BYTES)];
            self.client.read_exact(cell)?;
            let (stripe, chunk) = (i / DATA, i % DATA);
            // the last cell of each chunk is answered
            let put = |i: usize, cell: &[u8], checksum| {
                let op = if i + DATA >= cells { b'S' } else { b's' };
                header(op, id, stripe, cell.len(), checksum)
            };
            let Some(checker) = &mut self.checker else {
                send(&mut self.links[chunk], put(i, cell, 0), cell)?;
                if chunk < PARITY {
                    send(&mut self.links[DATA + chunk], put(i, cell, 0), cell)?;
                }
                continue;
            };
            let checksum = crc_fast::checksum(Crc32Iscsi, cell);
            send(&mut self.links[chunk], put(i, cell, checksum), cell)?;
            checker.add(chunk, cell)?;
            if chunk + 1 == DATA || i + 1 == cells {
                let longest = if chunk > 0 { CELL_BYTES } else { cell.len() };
                let links = self.links[DATA..].iter_mut();
                for (link, parity) in links.zip(&checker.parity).take(cells.min(PARITY)) {
                    let parity = &parity[..longest];
                    let checksum = crc_fast::checksum(Crc32Iscsi, parity);
                    // answered if it is the chunk's last
                    let place = if i + 1 == cells { cells } else { stripe * DATA };
                    send(link, put(place, parity, checksum), parity)?;
                }
            }
        }
        let used = cells.min(DATA);
        for chunk in (0..used).chain(DATA..DATA + used.min(PARITY)) {
            self.links[chunk].read_exact(&mut [0])?;
        }
        self.client.read_exact(&mut [0; 2])?;
        self.reply(b"+OK\r\n")
    }

    /// All cells are asked for at once, and handed on in order.
    fn get(&mut self, found: Option<(u64, usize)>) -> io::Result<()> {
        let Some((id, len)) = found else {
            return self.reply(b"$-1\r\n");
        };
        self.reply(format!("${len}\r\n").as_bytes())?;
        let cells = len.div_ceil(CELL_BYTES);
        let cell_len = |i: usize| CELL_BYTES.min(len - i * CELL_BYTES);
        for i in 0..cells {
            let ask = header(b'g', id, i / DATA, cell_len(i), 0);
            self.links[i % DATA].write_all(&ask)?;
        }
        for i in 0..cells {
            let cell = &mut self.ring[i % RING_CELLS * CELL_BYTES..][..cell_len(i)];
            let mut checksum = [0; 8];
            self.links[i % DATA].read_exact(&mut checksum)?;
            self.links[i % DATA].read_exact(cell)?;
            check(cell, u64::from_le_bytes(checksum))?;
            self.client.get_mut().write_all(cell)?;
        }
        self.reply(b"\r\n")
    }
}

impl Checker {
    fn new() -> io::Result<Self> {
        let matrix = Matrix::cauchy(DATA, PARITY).map_err(io::Error::other)?;
        Ok(Self {
            coder: coder(matrix).map_err(io::Error::other)?,
            parity: std::array::from_fn(|_| vec![0; CELL_BYTES]),
        })
    }

    fn add(&mut self, chunk: usize, cell: &[u8]) -> io::Result<()> {
        if chunk == 0 {
            self.parity.iter_mut().for_each(|parity| parity.fill(0));
        }
        let mut parity = self.parity.each_mut().map(|p| &mut p[..cell.len()]);
        let added = self.coder.update(chunk, cell, &mut parity);
        added.map_err(io::Error::other)
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

/// Header and cell in one write, as long as the socket takes both.
fn send(link: &mut TcpStream, header: [u8; HEADER_BYTES], cell: &[u8]) -> io::Result<()> {
    let sent = link.write_vectored(&[IoSlice::new(&header), IoSlice::new(cell)])?;
    if sent < HEADER_BYTES {
        link.write_all(&header[sent..])?;
    }
    link.write_all(&cell[sent.saturating_sub(HEADER_BYTES)..])
}
