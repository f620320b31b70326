//! Small servers with good and bad manners: threads over a map.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy)]
pub(crate) enum Manners {
    Good,
    /// Takes 10 ms for a GET.
    Slow,
    /// Speaks another protocol.
    Http,
    /// Ends the connection within a value of so many bytes that it is asked for.
    ClosesWithin(usize),
    /// Takes no longer values than this.
    Refuses(usize),
    /// Says so before it has read them, and closes.
    RefusesAndCloses(usize),
    /// One byte of what comes back is another.
    Flips,
}

type Map = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

/// GETs so far.
type Gets = Arc<AtomicUsize>;

/// Serves until the tests end.
pub(crate) struct Server {
    port: u16,
    map: Map,
    gets: Gets,
}

impl Server {
    pub(crate) fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let map = Map::default();
        let gets = Gets::default();
        let (shared, counted) = (Arc::clone(&map), Arc::clone(&gets));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (map, gets) = (Arc::clone(&shared), Arc::clone(&counted));
                // what breaks here is what the client is to be told by its own end
                std::thread::spawn(move || serve(socket, manners, &map, &gets));
            }
        });
        Self { port, map, gets }
    }

    pub(crate) fn target(&self, name: &str) -> String {
        format!("{name}=127.0.0.1:{}", self.port)
    }

    pub(crate) fn gets(&self) -> usize {
        self.gets.load(Ordering::Relaxed)
    }

    pub(crate) fn keys(&self) -> usize {
        self.map.lock().unwrap().len()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, no executor's"
)]
fn serve(socket: TcpStream, manners: Manners, map: &Map, gets: &Gets) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut out = socket.try_clone()?;
    let mut input = BufReader::new(socket);
    if let Manners::Http = manners {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        return out.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }
    loop {
        let count = number(&mut input, b'*')?;
        let mut arguments = Vec::with_capacity(count);
        for _ in 0..count {
            let len = number(&mut input, b'$')?;
            if matches!(manners, Manners::RefusesAndCloses(most) if len > most) {
                out.write_all(b"-ERR too large for this pool\r\n")?;
                return Ok(());
            }
            let mut argument = vec![0; len + 2];
            input.read_exact(&mut argument)?;
            argument.truncate(len);
            arguments.push(argument);
        }
        let mut map = map.lock().unwrap();
        match (&arguments[0][..], &arguments[1..]) {
            (b"PING", []) => out.write_all(b"+PONG\r\n")?,
            (b"SET", [_, value]) if matches!(manners, Manners::Refuses(m) if value.len() > m) => {
                out.write_all(b"-ERR too large for this pool\r\n")?;
            }
            (b"SET", [key, value]) => {
                map.insert(key.clone(), value.clone());
                out.write_all(b"+OK\r\n")?;
            }
            (b"GET", [key]) => {
                gets.fetch_add(1, Ordering::Relaxed);
                let value = map.get(key).cloned();
                drop(map);
                if let Manners::Slow = manners {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let Some(mut value) = value else {
                    out.write_all(b"$-1\r\n")?;
                    continue;
                };
                let len = value.len();
                if let Manners::Flips = manners {
                    value[len / 2] ^= 1;
                }
                let mut reply = format!("${len}\r\n").into_bytes();
                reply.extend_from_slice(&value);
                reply.extend_from_slice(b"\r\n");
                if matches!(manners, Manners::ClosesWithin(bytes) if bytes == len) {
                    out.write_all(&reply[..len / 2])?;
                    return Ok(());
                }
                out.write_all(&reply)?;
            }
            (b"DEL", [key]) => {
                let found = u8::from(map.remove(key).is_some());
                write!(out, ":{found}\r\n")?;
            }
            _ => out.write_all(b"-ERR unknown command\r\n")?,
        }
    }
}

/// `*3` or `$5`.
fn number(input: &mut impl BufRead, sign: u8) -> io::Result<usize> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let number = line.strip_prefix(sign as char).map(str::trim_end);
    let number = number.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}
