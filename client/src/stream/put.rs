//! Storing a value that comes piece by piece.

use std::{collections::VecDeque, io, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::Instrument;

use crate::{
    Client, Error, ErrorCode, Set, SetOptions,
    client::{keyed, request_span},
    cluster::{Route, slot_of},
    command::{Lane, checked},
    connection::{pool::Lease, send},
    metrics::Watch,
    protocol::{Encoded, Reply},
    retry::Repeat,
};

/// Pieces of a reader; so much of it is in memory.
const PIECE_BYTES: usize = 256 << 10;

impl Client {
    /// Stores a value of `len` bytes that comes as a stream, over a connection of
    /// its own. No more than one piece is in memory: the source is asked for the
    /// next one when the socket has taken the last.
    ///
    /// The server carries out what is complete only: when the future is dropped,
    /// when the source has another length than `len` ([`Error::Source`]) or the
    /// connection breaks before the end, the key keeps what it had.
    ///
    /// In a cluster the member is asked first whether it has the key's slot (EXISTS),
    /// so that the source is not taken for the wrong one. Should the slot move just
    /// then, it ends with [`crate::ErrorCode::Moved`]: nothing was stored, and the
    /// same with a source from its beginning goes to the right one.
    ///
    /// # Errors
    /// See [`Error`]. It is not made again once a piece was taken:
    /// [`Error::is_retryable`] says whether that may help, with a new source.
    pub async fn put_stream(
        &self,
        key: impl AsRef<[u8]>,
        len: u64,
        source: impl Stream<Item = Bytes>,
        options: SetOptions,
    ) -> Result<Set, Error> {
        self.put(key.as_ref(), len, source.map(Ok), options)
            .instrument(request_span(b"SET", Lane::Own))
            .await
    }

    /// The same of a stream that may fail: then with [`Error::Source`], and
    /// nothing is stored.
    ///
    /// # Errors
    /// See [`Client::put_stream`].
    pub async fn put_try_stream(
        &self,
        key: impl AsRef<[u8]>,
        len: u64,
        source: impl Stream<Item = io::Result<Bytes>>,
        options: SetOptions,
    ) -> Result<Set, Error> {
        self.put(key.as_ref(), len, source, options)
            .instrument(request_span(b"SET", Lane::Own))
            .await
    }

    /// Stores the next `len` bytes of a reader, such as a file; further ones are
    /// not read. 256 KiB of it are in memory.
    ///
    /// # Errors
    /// See [`Client::put_stream`].
    pub async fn put_reader(
        &self,
        key: impl AsRef<[u8]>,
        len: u64,
        source: impl AsyncRead + Unpin,
        options: SetOptions,
    ) -> Result<Set, Error> {
        let buffer = BytesMut::new();
        let pieces = stream::try_unfold(
            (source.take(len), buffer),
            async |(mut source, mut buffer)| {
                // what was sent is free again: the same memory
                buffer.reserve(PIECE_BYTES);
                let mut place = bytes::BufMut::limit(&mut buffer, PIECE_BYTES);
                match source.read_buf(&mut place).await? {
                    0 => Ok(None),
                    _ => Ok(Some((buffer.split().freeze(), (source, buffer)))),
                }
            },
        );
        self.put(key.as_ref(), len, pieces, options)
            .instrument(request_span(b"SET", Lane::Own))
            .await
    }

    async fn put(
        &self,
        key: &[u8],
        len: u64,
        source: impl Stream<Item = io::Result<Bytes>>,
        options: SetOptions,
    ) -> Result<Set, Error> {
        let tail = options.arguments()?;
        let (front, back) = keyed("SET", key).encode_around(len, &tail);
        let watch = Watch::begin(&self.inner.options, b"SET", key.len() as u64);
        let mut route = Route::new(self, Some(slot_of(key)), Repeat::Always, watch);
        let mut lease = self.begin_put(&mut route, key, front).await?;
        let reply = async {
            let source = source.inspect_ok(|piece| route.watch.sent(piece.len() as u64));
            if let Err(error) = write(&mut lease, len, source, back).await {
                return Err(explained(&mut lease, error).await);
            }
            let options = &lease.options;
            let reply = lease
                .connection
                .reply(options.request_timeout, options.value_limit_bytes);
            reply.await.map_err(|failure| failure.into_error(true))
        };
        let reply = reply.await.inspect(|_| lease.give_back());
        match reply.and_then(checked) {
            Ok(reply) => {
                route.watch.replied(&reply);
                options.outcome(reply)
            }
            Err(error) => {
                route.fail(&error);
                Err(error)
            }
        }
    }

    /// A connection that has taken the front of the request. Nothing of the
    /// source is needed for it, and it is nothing that could be carried out: so
    /// it may be made again.
    async fn begin_put(
        &self,
        route: &mut Route<'_>,
        key: &[u8],
        front: Encoded,
    ) -> Result<Lease, Error> {
        loop {
            let begun = async {
                let mut lease = route.lease().await?;
                if self.inner.cluster.is_cluster() {
                    let has_it = lease.call(keyed("EXISTS", key).encode()).await?;
                    is_here(has_it)?;
                }
                lease.prepare().await?;
                lease.send(front.clone()).await?;
                Ok(lease)
            };
            match begun.await {
                Ok(lease) => return Ok(lease),
                Err(error) => route.after(error).await?,
            }
        }
    }
}

/// Whether the member has the slot, or says who has. What else it says (that we may
/// not ask) is no matter.
fn is_here(reply: Reply) -> Result<(), Error> {
    match checked(reply) {
        Err(error)
            if matches!(
                error.code(),
                Some(ErrorCode::Moved { .. } | ErrorCode::Ask { .. })
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Sends the source, and what follows it.
async fn write(
    lease: &mut Lease,
    len: u64,
    source: impl Stream<Item = io::Result<Bytes>>,
    back: Encoded,
) -> Result<(), Error> {
    let stall = lease.options.request_timeout;
    let wrong = |text: String| {
        let why = io::Error::new(io::ErrorKind::InvalidData, text);
        Error::Source(Arc::new(why))
    };
    let mut source = std::pin::pin!(source);
    let mut rest = len;
    while let Some(piece) = source.next().await {
        let piece = piece.map_err(|error| Error::Source(Arc::new(error)))?;
        let more = piece.len() as u64;
        rest = rest
            .checked_sub(more)
            .ok_or_else(|| wrong(format!("it has more than the {len} bytes announced")))?;
        if more > 0 {
            let mut segments = VecDeque::from([piece]);
            let sent = send(&mut lease.connection.io, &mut segments, stall).await;
            // without its end the request is not carried out
            sent.map_err(|failure| failure.into_error(false))?;
        }
    }
    if rest > 0 {
        return Err(wrong(format!(
            "{rest} of the {len} bytes announced are missing"
        )));
    }
    lease.send(back).await
}

/// A server that takes no more may have said why.
async fn explained(lease: &mut Lease, error: Error) -> Error {
    const MOMENT: std::time::Duration = std::time::Duration::from_millis(100);
    if !matches!(error, Error::Broken { .. }) {
        return error;
    }
    match lease.connection.reply(MOMENT, 1 << 16).await.map(checked) {
        Ok(Err(said)) => said,
        _ => error,
    }
}
