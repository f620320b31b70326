//! Connections: how they begin ([`handshake`], [`socket`]), the one that small
//! requests share ([`shared`]) and those that large values have for themselves
//! ([`pool`]); both together are what a server has ([`member`]).
//!
//! Invariant: replies never go to the wrong request. Whoever gives up while a
//! reply is under way leaves the shared connection its reply to throw away, and
//! ends a connection of its own.

pub(crate) mod handshake;
pub(crate) mod member;
pub(crate) mod pool;
pub(crate) mod shared;
pub(crate) mod socket;

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::{
    Error,
    protocol::{Event, Parser, ProtocolError, Reply},
};

/// What is read at once where the length is not known.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// What is reserved for a value on a server's word. Of larger ones at least half
/// has come before more is reserved.
const RESERVED_BYTES: usize = 64 << 20;
/// Segments of one vectored write.
const SEGMENTS: usize = 64;

/// Why bytes did not get through.
#[derive(Debug)]
pub(crate) enum Failure {
    Io(io::Error),
    /// Nothing moved for so long.
    Stalled(&'static str, Duration),
    Protocol(ProtocolError),
    /// A value larger than the client takes into memory.
    TooLarge(u64),
}

impl Failure {
    pub(crate) fn into_error(self, sent: bool) -> Error {
        match self {
            Self::Io(why) => {
                let why = Arc::new(why);
                Error::Broken { sent, why }
            }
            Self::Stalled(what, limit) => Error::Deadline { what, limit, sent },
            Self::Protocol(error) => Error::Protocol(error),
            Self::TooLarge(limit) => Error::Protocol(ProtocolError::TooLarge {
                what: "bytes",
                limit,
            }),
        }
    }
}

/// The reading end of a connection.
pub(crate) struct Incoming<R> {
    pub(crate) io: R,
    pub(crate) parser: Parser,
    pub(crate) input: BytesMut,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(crate) fn new(io: R, parser: Parser) -> Self {
        Self {
            io,
            parser,
            input: BytesMut::new(),
        }
    }

    /// Waits for bytes. May be dropped: none are lost.
    pub(crate) async fn fill(&mut self) -> io::Result<()> {
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES);
        }
        match self.io.read_buf(&mut self.input).await? {
            0 => Err(closed()),
            _ => Ok(()),
        }
    }

    /// The next event, pushes left out.
    pub(crate) async fn event(&mut self, stall: Duration) -> Result<Event, Failure> {
        loop {
            match self
                .parser
                .next(&mut self.input)
                .map_err(Failure::Protocol)?
            {
                Some(Event::Reply(Reply::Push(_))) => {}
                Some(event) => return Ok(event),
                None => within("reply", stall, self.fill()).await?,
            }
        }
    }

    /// The next reply, whole.
    pub(crate) async fn reply(&mut self, stall: Duration, limit: u64) -> Result<Reply, Failure> {
        match self.event(stall).await? {
            Event::Body(len) if len > limit => Err(Failure::TooLarge(limit)),
            Event::Body(len) => Ok(Reply::Bulk(self.body(len, stall).await?)),
            Event::Reply(reply) => Ok(reply),
            Event::Chunk(_) | Event::End => Err(Failure::Io(closed())),
        }
    }

    /// The rest of a body, put together: read from the socket to its place.
    async fn body(&mut self, len: u64, stall: Duration) -> Result<Bytes, Failure> {
        let too_large = |_| Failure::TooLarge(usize::MAX as u64);
        let len = usize::try_from(len).map_err(too_large)?;
        let mut whole = BytesMut::with_capacity(len.min(RESERVED_BYTES));
        loop {
            let rest = usize::try_from(self.parser.body_rest()).map_err(too_large)?;
            if self.input.is_empty() && rest > 0 {
                if whole.len() == whole.capacity() {
                    whole.reserve(rest.min(whole.len()));
                }
                let mut place = (&mut whole).limit(rest);
                let read = within("further bytes", stall, self.io.read_buf(&mut place)).await?;
                if read == 0 {
                    return Err(Failure::Io(closed()));
                }
                self.parser.body_taken(read as u64);
                continue;
            }
            match self.event(stall).await? {
                Event::Chunk(bytes) => whole.extend_from_slice(&bytes),
                Event::End => return Ok(whole.freeze()),
                Event::Body(_) | Event::Reply(_) => return Err(Failure::Io(closed())),
            }
        }
    }

    /// Whether nothing has come that nobody asked for, the end included.
    pub(crate) fn is_quiet(&mut self) -> bool {
        use futures_util::FutureExt;
        self.input.is_empty() && self.parser.is_between() && self.fill().now_or_never().is_none()
    }
}

pub(crate) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")
}

pub(crate) async fn within<T>(
    what: &'static str,
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Failure> {
    match timeout(limit, work).await {
        Ok(result) => result.map_err(Failure::Io),
        Err(_) => Err(Failure::Stalled(what, limit)),
    }
}

/// Writes all segments. Each write must get something through within `stall`.
pub(crate) async fn send(
    io: &mut (impl AsyncWrite + Unpin),
    segments: &mut VecDeque<Bytes>,
    stall: Duration,
) -> Result<(), Failure> {
    const WHAT: &str = "progress in sending";
    while !segments.is_empty() {
        let mut slices = [IoSlice::new(&[]); SEGMENTS];
        let used = segments.len().min(SEGMENTS);
        for (slice, segment) in slices.iter_mut().zip(segments.iter()) {
            *slice = IoSlice::new(segment);
        }
        let mut written = within(WHAT, stall, io.write_vectored(&slices[..used])).await?;
        if written == 0 {
            return Err(Failure::Io(io::ErrorKind::WriteZero.into()));
        }
        while let Some(first) = segments.front_mut() {
            let part = first.len().min(written);
            first.advance(part);
            written -= part;
            if !first.is_empty() {
                break;
            }
            segments.pop_front();
        }
    }
    within(WHAT, stall, io.flush()).await
}
