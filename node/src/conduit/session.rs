//! One TLS connection over a socket that does not block.
//!
//! Both halves share it under a lock that is held for a record or a write at a
//! time. Bounds: ciphertext waits for at most [`SEALED_BYTES`], and nothing is
//! encrypted while some waits; nothing is read while plaintext waits. The rest is
//! rustls's: one record, or 64 KiB of handshake.

use std::{
    io::{self, BufRead, IoSlice, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::BufMut;
use parking_lot::Mutex;
use rustls::Connection;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Plaintext encrypted at once: whole records, and little enough to be in the
/// cache still when the socket copies it.
const SEALED_BYTES: usize = 8 * RECORD_BYTES;
/// The most that a record carries.
const RECORD_BYTES: usize = 16 << 10;

/// The reading half.
pub struct Reader {
    tls: Arc<Mutex<Tls>>,
    socket: OwnedReadHalf,
}

/// The writing half.
pub struct Writer {
    tls: Arc<Mutex<Tls>>,
    socket: OwnedWriteHalf,
}

struct Tls {
    /// Boxed: some KB, which would be moved from future to future.
    connection: Box<Connection>,
    /// A write found no more room in the socket, and ciphertext waits.
    blocked: bool,
    /// Came behind bytes that were handed out first.
    failed: Option<io::Error>,
}

/// Shakes hands. What is left to say then goes out with the first bytes that are
/// written: it costs no packet of its own.
pub(super) async fn open(
    mut connection: Box<Connection>,
    stream: TcpStream,
) -> io::Result<(Reader, Writer)> {
    connection.set_buffer_limit(Some(SEALED_BYTES));
    let mut tls = Tls {
        connection,
        blocked: false,
        failed: None,
    };
    let (mut reader, writer) = stream.into_split();
    tls.handshake(&mut reader, &writer)
        .await
        .map_err(|e| io::Error::new(e.kind(), format!("TLS handshake: {e}")))?;
    // nobody waits for the rest: the next write takes it along
    tls.blocked = false;
    let tls = Arc::new(Mutex::new(tls));
    let reader = Reader {
        tls: tls.clone(),
        socket: reader,
    };
    let socket = writer;
    Ok((reader, Writer { tls, socket }))
}

impl Tls {
    async fn handshake(
        &mut self,
        reader: &mut OwnedReadHalf,
        writer: &OwnedWriteHalf,
    ) -> io::Result<()> {
        while self.connection.is_handshaking() {
            match self.flush(writer.as_ref()) {
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                _ => {}
            }
            let blocked = self.blocked;
            let n = tokio::select! {
                filled = std::future::poll_fn(|cx| self.poll_fill(reader, cx)) => filled?,
                ready = writer.writable(), if blocked => {
                    ready?;
                    continue;
                }
            };
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Reads from the socket, at most a record, and decrypts what is whole; says
    /// how many bytes came, 0 at the end.
    fn poll_fill(
        &mut self,
        socket: &mut OwnedReadHalf,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut inlet = Inlet {
            socket: &mut *socket,
            cx,
        };
        let n = match self.connection.read_tls(&mut inlet) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(e) => return Poll::Ready(Err(e)),
        };
        if let Err(error) = self.connection.process_new_packets() {
            // an alert tells the peer why, if the socket takes it
            let _ = self.connection.write_tls(&mut Outlet((*socket).as_ref()));
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(n))
    }

    /// Hands out plaintext that is there.
    fn take(&mut self, into: &mut impl BufMut) -> usize {
        let mut taken = 0;
        let mut plaintext = self.connection.reader();
        while into.has_remaining_mut() {
            // an error says only that there is none: reading finds out why
            let chunk = plaintext.fill_buf().unwrap_or_default();
            let n = chunk.len().min(into.remaining_mut());
            if n == 0 {
                break;
            }
            into.put_slice(&chunk[..n]);
            plaintext.consume(n);
            taken += n;
        }
        taken
    }

    /// Writes ciphertext until none waits, or the socket takes no more.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Outlet(socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) => {
                    self.blocked = e.kind() == io::ErrorKind::WouldBlock;
                    return Err(e);
                }
            }
        }
        self.blocked = false;
        Ok(())
    }
}

impl Reader {
    /// Fills `into` with what is there; pending only if that is nothing.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        loop {
            // let go for every record: others want to write
            let mut tls = self.tls.lock();
            if let Some(error) = tls.failed.take() {
                return Poll::Ready(Err(error));
            }
            taken += tls.take(into);
            if !into.has_remaining_mut() {
                return Poll::Ready(Ok(taken));
            }
            match tls.poll_fill(&mut self.socket, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(taken)),
                // what TLS itself has to say (a ticket, a new key) goes along with
                // the next write: only who writes can wait for the socket
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if taken > 0 => {
                    tls.failed = Some(error);
                    return Poll::Ready(Ok(taken));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if taken > 0 => return Poll::Ready(Ok(taken)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Writer {
    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = self.socket.as_ref();
        let mut tls = self.tls.lock();
        if tls.blocked {
            tls.flush(socket)?;
        }
        let n = tls.connection.writer().write_vectored(slices)?;
        match tls.flush(socket) {
            // taken, if not sent
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && n > 0 => Ok(n),
            Err(e) => Err(e),
            Ok(()) => Ok(n),
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.tls.lock().blocked
    }

    /// Whether the handshake went by a ticket.
    #[cfg(test)]
    pub(super) fn is_resumed(&self) -> bool {
        let kind = self.tls.lock().connection.handshake_kind();
        kind == Some(rustls::HandshakeKind::Resumed)
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    pub(super) fn close(&self) {
        let mut tls = self.tls.lock();
        tls.connection.send_close_notify();
        let _ = tls.flush(self.socket.as_ref());
    }
}

/// The socket as rustls reads it. Goes through `poll_read`, which takes a short
/// read for what it is: nobody asks the socket again.
struct Inlet<'a, 'b, 'c> {
    socket: &'a mut OwnedReadHalf,
    cx: &'b mut Context<'c>,
}

impl Read for Inlet<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer) {
            Poll::Ready(done) => done.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The socket as rustls writes to it.
struct Outlet<'a>(&'a TcpStream);

impl Write for Outlet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
