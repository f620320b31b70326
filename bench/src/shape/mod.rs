//! A relay that makes loopback connections as slow as a function's network.
//!
//! Nodes dial the relay instead of the proxy. Each connection is the link of one node, and
//! gets the [`Link`]'s rate and delay in each direction; bytes and their order stay as they
//! are. Like on a real path, no more than about twice the bandwidth-delay product is on the
//! way, then the sender waits. The node's first bytes wait one round trip for the handshake
//! that a real connection would begin with; how it ends is not delayed.
//!
//! It runs on a thread and an executor of its own: the client, whose clock is read, is not
//! held up by it.

pub(crate) mod alarm;
mod line;
mod ring;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use anyhow::Result;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use alarm::{Alarm, TOLERANCE};
use line::Line;
pub(crate) use line::Link;
use ring::Ring;

/// The kernel's buffers of the relay's sockets come on top, and would grow to megabytes.
const SOCKET_BUFFER_BYTES: u32 = 128 << 10;
const BACKLOG: u32 = 1024;

/// A running relay. Dropped, it ends with all its connections.
pub(crate) struct Relay {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Forwards what dials its address to `upstream`, over `link`.
    pub(crate) fn start(upstream: SocketAddr, link: Link) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = listen(&runtime)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("relay".into())
            .spawn(move || runtime.block_on(serve(listener, upstream, link, stopped)))?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where to dial.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, which has been shown.
            let _ = thread.join();
        }
    }
}

fn listen(runtime: &Runtime) -> io::Result<TcpListener> {
    let _context = runtime.enter();
    let socket = small_socket()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(BACKLOG)
}

/// Accepted sockets inherit their listener's buffer sizes.
fn small_socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    Ok(socket)
}

async fn serve(
    listener: TcpListener,
    upstream: SocketAddr,
    link: Link,
    mut stopped: oneshot::Receiver<()>,
) {
    let grid_begin = Instant::now();
    let mut forwards = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => {
                    forwards.spawn(forward(near, upstream, link, grid_begin));
                }
                Err(error) => {
                    eprintln!("scatterhoard-bench: the relay cannot accept and ends: {error}");
                    return;
                }
            },
            // An end that breaks off breaks off the other one, too: nothing to report.
            Some(_) = forwards.join_next() => {}
        }
    }
}

async fn forward(
    near: TcpStream,
    upstream: SocketAddr,
    link: Link,
    grid_begin: Instant,
) -> io::Result<()> {
    let accepted_at = Instant::now();
    let far = small_socket()?.connect(upstream).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    let opens_at = accepted_at + link.one_way * 2;
    let up = Direction::new(link, opens_at, grid_begin)?;
    let down = Direction::new(link, accepted_at, grid_begin)?;
    tokio::try_join!(
        up.carry(near_reader, far_writer),
        down.carry(far_reader, near_writer),
    )?;
    Ok(())
}

struct Direction {
    line: Line,
    ring: Ring,
    alarm: Alarm,
}

impl Direction {
    fn new(link: Link, opens_at: Instant, grid_begin: Instant) -> io::Result<Self> {
        Ok(Self {
            line: Line::new(link, opens_at),
            ring: Ring::new(link.capacity()),
            alarm: Alarm::new(grid_begin)?,
        })
    }

    /// Until the end has gone through; then it is closed on the other side.
    async fn carry(mut self, from: OwnedReadHalf, to: OwnedWriteHalf) -> io::Result<()> {
        let mut ended = false;
        loop {
            let now = Instant::now();
            let due = self.line.due(now + TOLERANCE);
            let next_at = self.line.next_at().filter(|_| due == 0);
            tokio::select! {
                ready = from.readable(), if !ended && !self.ring.is_full() => {
                    ready?;
                    ended = self.fill(&from)?;
                }
                ready = to.writable(), if due > 0 => {
                    ready?;
                    self.drain(&to, due)?;
                }
                rung = self.alarm.ring(next_at.unwrap_or(now)), if next_at.is_some() => rung?,
                // Dropping the writing half closes it.
                else => return Ok(()),
            }
        }
    }

    /// Takes what is there; whether that was the end.
    fn fill(&mut self, from: &OwnedReadHalf) -> io::Result<bool> {
        let Some(len) = done(from.try_read(self.ring.room()))? else {
            return Ok(false);
        };
        if len == 0 {
            return Ok(true);
        }
        self.ring.filled(len);
        self.line.arrived(Instant::now(), len);
        Ok(false)
    }

    /// Passes on as much of what is due as is taken.
    fn drain(&mut self, to: &OwnedWriteHalf, due: usize) -> io::Result<()> {
        if let Some(len) = done(to.try_write_vectored(&self.ring.front(due)))? {
            self.ring.consumed(len);
            self.line.left(len);
        }
        Ok(())
    }
}

/// Nothing, if readiness was out of date.
fn done(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}
