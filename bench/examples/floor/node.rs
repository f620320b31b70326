//! A process that keeps chunks.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex},
    thread,
};

use crate::{HEADER_BYTES, accept, check, listen, locked};

#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// By offset.
    checksums: HashMap<usize, u64>,
}

#[derive(Default)]
struct Chunks {
    by_id: HashMap<u64, Arc<Mutex<Chunk>>>,
    /// Freed ones, whose memory is used again.
    free: Vec<Arc<Mutex<Chunk>>>,
}

impl Chunks {
    fn chunk(&mut self, id: u64) -> Arc<Mutex<Chunk>> {
        let free = &mut self.free;
        let new = || free.pop().unwrap_or_default();
        self.by_id.entry(id).or_insert_with(new).clone()
    }

    fn free(&mut self, id: u64) {
        if let Some(chunk) = self.by_id.remove(&id) {
            locked(&chunk).checksums.clear();
            self.free.push(chunk);
        }
    }
}

/// A process that keeps chunks; it tells its port on standard output.
pub(crate) fn run() -> io::Result<()> {
    let listener = listen(0)?;
    let port = listener.local_addr()?.as_socket().map_or(0, |a| a.port());
    writeln!(io::stdout(), "{port}")?;
    // whoever started it is gone when this ends
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let chunks = Arc::<Mutex<Chunks>>::default();
    accept(&listener, move |stream| keep(stream, &chunks))
}

fn keep(mut stream: TcpStream, chunks: &Mutex<Chunks>) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    loop {
        stream.read_exact(&mut header)?;
        let word = |i: usize| {
            let bytes = header[1 + 8 * i..].first_chunk();
            bytes.map_or(0, |b| u64::from_le_bytes(*b))
        };
        let (id, offset, len, checksum) = (word(0), word(1) as usize, word(2) as usize, word(3));
        if header[0] == b'd' {
            locked(chunks).free(id);
            continue;
        }
        let chunk = locked(chunks).chunk(id);
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
