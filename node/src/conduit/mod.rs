//! The bytes of a link: plain TCP, or TLS with the proxy's certificate pinned.
//!
//! Both ends of a link use it, but for a node in a process of its own without TLS, which
//! has its socket to itself. Reading is a future that may be dropped at any time without
//! losing a byte. Writing never waits: it takes what there is room for, and whoever
//! writes asks [`Writer::has_unsent`] before taking what was written for sent. Plain
//! halves do what the socket does, and nothing else.

mod pin;
mod session;

use std::{
    future::poll_fn,
    io,
    io::IoSlice,
    task::{Context, Poll},
};

use bytes::BufMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

pub use pin::{Acceptor, Dialer};

/// The reading half.
pub enum Reader {
    /// As it comes.
    Plain(OwnedReadHalf),
    /// Decrypted.
    Tls(session::Reader),
    /// From within this process.
    Local(Box<dyn AsyncRead + Send + Unpin>),
}

/// The writing half. Dropping it ends the stream.
pub enum Writer {
    /// As it is.
    Plain(OwnedWriteHalf),
    /// Encrypted.
    Tls(session::Writer),
    /// To within this process.
    Local(Box<dyn Outlet>),
}

/// Where bytes go that stay in this process: the end of a pipe.
pub trait Outlet: Send + Sync {
    /// Takes as much as there is room for; `WouldBlock` when there is none.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ready when there is room, or never will be.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A connected socket as it is.
pub fn plain(stream: TcpStream) -> (Reader, Writer) {
    let (reader, writer) = stream.into_split();
    (Reader::Plain(reader), Writer::Plain(writer))
}

impl Reader {
    /// Reads what there is; 0 at the end of the stream. Whether the end was meant
    /// is for frames to say, in TLS as without. Safe to cancel.
    pub async fn read_buf(&mut self, into: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read_buf(into).await,
            Self::Tls(tls) => poll_fn(|cx| tls.poll_read(cx, into)).await,
            Self::Local(pipe) => pipe.read_buf(into).await,
        }
    }
}

impl Writer {
    /// Takes as much as there is room for; `WouldBlock` when there is none. With
    /// nothing to write it sends on what was taken before.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(slices),
            Self::Tls(tls) => tls.try_write_vectored(slices),
            Self::Local(pipe) => pipe.try_write_vectored(slices),
        }
    }

    /// Whether the socket refused something that was taken: wait until it is
    /// writable, then write again, be it nothing.
    pub fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Local(_) => false,
            Self::Tls(tls) => tls.has_unsent(),
        }
    }

    /// Waits until the socket takes more. Safe to cancel.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.writable().await,
            Self::Tls(tls) => tls.writable().await,
            Self::Local(pipe) => poll_fn(|cx| pipe.poll_writable(cx)).await,
        }
    }

    /// Writes all of it, down to the socket.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() || self.has_unsent() {
            match self.try_write_vectored(&[IoSlice::new(bytes)]) {
                Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Tells the peer that nothing more comes, if the socket takes it at once.
    pub fn close(&self) {
        match self {
            // dropping it says so
            Self::Plain(_) | Self::Local(_) => {}
            Self::Tls(tls) => tls.close(),
        }
    }
}

#[cfg(test)]
mod tests;
