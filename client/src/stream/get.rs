//! Reading a value piece by piece.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, future::BoxFuture};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tracing::{Instrument, Span};

use super::resume::{Progress, Resume};
use crate::{
    Client, Error,
    client::{keyed, request_span},
    cluster::{Route, slot_of},
    command::{Lane, checked},
    connection::{Failure, closed, pool::Lease},
    metrics::{Outcome, Watch},
    protocol::{Event, Reply, Request},
    retry::{self, Repeat},
};

impl Client {
    /// The value of a key as a stream, over a connection of its own: none if
    /// there is no such key. The server sends as fast as the stream is read, and
    /// no more than 64 KiB are in memory.
    ///
    /// # Errors
    /// See [`Error`]; those of the rest come from the stream.
    pub async fn get_stream(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueStream>, Error> {
        self.get_stream_with(key, Resume::Never).await
    }

    /// The same; what happens when the connection breaks in the middle is said by
    /// `resume`.
    ///
    /// # Errors
    /// See [`Client::get_stream`].
    pub async fn get_stream_with(
        &self,
        key: impl AsRef<[u8]>,
        resume: Resume,
    ) -> Result<Option<ValueStream>, Error> {
        let key = Bytes::copy_from_slice(key.as_ref());
        let watch = Watch::begin(&self.inner.options, b"GET", key.len() as u64);
        let (request, span) = (keyed("GET", &key), request_span(b"GET", Lane::Own));
        let begun = self.begin(&key, &request, watch);
        let (begun, mut watch) = begun.instrument(span.clone()).await?;
        let Some((len, source)) = begun else {
            watch.replied(&Reply::Null);
            return Ok(None);
        };
        Ok(Some(ValueStream {
            client: self.clone(),
            key,
            progress: Progress::new(len, resume),
            state: State::Reading(Box::new(source)),
            watch,
            span,
        }))
    }

    /// Asks for a value; returns its length and where it comes from.
    async fn begin(
        &self,
        key: &[u8],
        request: &Request,
        watch: Watch,
    ) -> Result<(Option<(u64, Source)>, Watch), Error> {
        let mut route = Route::new(self, Some(slot_of(key)), Repeat::Always, watch);
        loop {
            let begun = async {
                let mut lease = route.lease().await?;
                lease.prepare().await?;
                lease.send(request.encode()).await?;
                let stall = lease.options.request_timeout;
                let event = lease.connection.event(stall).await;
                begun(lease, event.map_err(|failure| failure.into_error(true))?)
            };
            match begun.await {
                Ok(begun) => return Ok((begun, route.watch)),
                Err(error) => route.after(error).await?,
            }
        }
    }
}

fn begun(lease: Lease, event: Event) -> Result<Option<(u64, Source)>, Error> {
    let reply = match event {
        Event::Body(len) => return Ok(Some((len, Source::new(Some(lease), Bytes::new())))),
        Event::Reply(reply) => reply,
        Event::Chunk(_) | Event::End => return Err(Error::ended(true)),
    };
    lease.give_back();
    match checked(reply)? {
        Reply::Bulk(bytes) => Ok(Some((bytes.len() as u64, Source::new(None, bytes)))),
        Reply::Null => Ok(None),
        other => Err(Error::unexpected("GET", &other)),
    }
}

/// Where bytes come from: a connection in the middle of a body, or what is there.
struct Source {
    /// Until the body ends.
    lease: Option<Lease>,
    ready: Bytes,
    /// When it is given up, while nothing comes.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Source {
    fn new(lease: Option<Lease>, ready: Bytes) -> Self {
        Self {
            lease,
            ready,
            deadline: None,
        }
    }

    /// Whether the next bytes are in the socket, and belong to the body.
    fn is_direct(&self) -> bool {
        let is_body = |lease: &Lease| {
            lease.connection.input.is_empty() && lease.connection.parser.body_rest() > 0
        };
        self.ready.is_empty() && self.lease.as_ref().is_some_and(is_body)
    }

    /// Makes `ready` have something, unless it is the end.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.ready.is_empty() {
            let Some(lease) = &mut self.lease else { break };
            let connection = &mut lease.connection;
            let event = connection.parser.next(&mut connection.input);
            match event.map_err(Error::Protocol)? {
                Some(Event::Chunk(bytes)) => self.ready = bytes,
                Some(Event::End) => {
                    if let Some(lease) = self.lease.take() {
                        lease.give_back();
                    }
                }
                Some(_) => return Poll::Ready(Err(Error::ended(true))),
                None => ready!(self.poll_socket(context, None))?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the socket: into `out` if that is given and a body is at hand,
    /// otherwise into the connection's buffer.
    fn poll_socket(
        &mut self,
        context: &mut Context<'_>,
        out: Option<&mut ReadBuf<'_>>,
    ) -> Poll<Result<(), Error>> {
        let Some(lease) = &mut self.lease else {
            return Poll::Ready(Ok(()));
        };
        let connection = &mut lease.connection;
        let polled = match out {
            Some(out) => {
                let rest = usize::try_from(connection.parser.body_rest()).unwrap_or(usize::MAX);
                let len = out.remaining().min(rest);
                // callers' buffers are initialised once, whatever is read into them
                let mut part = ReadBuf::new(out.initialize_unfilled_to(len));
                let polled = Pin::new(&mut connection.io).poll_read(context, &mut part);
                let read = part.filled().len();
                connection.parser.body_taken(read as u64);
                out.advance(read);
                polled.map_ok(|()| read)
            }
            None => {
                let mut fill = std::pin::pin!(connection.fill());
                fill.as_mut().poll(context).map_ok(|()| 1)
            }
        };
        let stall = lease.options.request_timeout;
        match polled {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Failure::Io(closed()).into_error(true))),
            Poll::Ready(Ok(_)) => {
                self.deadline = None;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::Io(error).into_error(true))),
            Poll::Pending => {
                let deadline = self
                    .deadline
                    .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + stall)));
                ready!(deadline.as_mut().poll(context));
                let failure = Failure::Stalled("further bytes", stall);
                Poll::Ready(Err(failure.into_error(true)))
            }
        }
    }
}

enum State {
    Reading(Box<Source>),
    /// Asking for the rest.
    Resuming(BoxFuture<'static, Result<Source, Error>>),
    /// Nothing more comes.
    Ended,
}

/// A value that comes piece by piece: an [`AsyncRead`], and a [`Stream`] of
/// pieces of at most 64 KiB, whichever is called. Dropped before its end, it
/// ends its connection.
pub struct ValueStream {
    client: Client,
    key: Bytes,
    progress: Progress,
    state: State,
    watch: Watch,
    /// Ends with the stream.
    span: Span,
}

impl ValueStream {
    /// The length of the whole value.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.progress.len()
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much has not been delivered.
    #[must_use]
    pub fn rest(&self) -> u64 {
        self.progress.rest()
    }

    /// Waits for bytes; an error if there are none and it cannot go on.
    /// `out` is filled if bytes can go there directly, otherwise a piece of at
    /// most `limit` is returned. None at the end.
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        mut out: Option<&mut ReadBuf<'_>>,
        limit: usize,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        let span = self.span.clone();
        let _inside = span.enter();
        loop {
            match &mut self.state {
                State::Ended => return Poll::Ready(Ok(None)),
                State::Resuming(source) => match ready!(source.as_mut().poll(context)) {
                    Ok(source) => self.state = State::Reading(Box::new(source)),
                    Err(error) => self.fail(error)?,
                },
                State::Reading(source) => {
                    if self.progress.rest() == 0 {
                        // gives the connection back, if the line end is there
                        let _ = source.poll_ready(context);
                        self.watch.end(Outcome::Done);
                        self.state = State::Ended;
                        continue;
                    }
                    let polled = match &mut out {
                        Some(out) if source.is_direct() => {
                            let before = out.filled().len();
                            let polled = source.poll_socket(context, Some(out));
                            let new = out.filled().get(before..).unwrap_or_default();
                            if !new.is_empty() {
                                self.progress.deliver(new);
                                self.watch.received(new.len() as u64);
                                self.finish(context);
                                return Poll::Ready(Ok(Some(Bytes::new())));
                            }
                            polled
                        }
                        _ => source.poll_ready(context),
                    };
                    if let Err(error) = ready!(polled) {
                        self.fail(error)?;
                    } else if !source.ready.is_empty() {
                        let piece = source.ready.split_to(limit.min(source.ready.len()));
                        self.progress.deliver(&piece);
                        self.watch.received(piece.len() as u64);
                        self.finish(context);
                        return Poll::Ready(Ok(Some(piece)));
                    }
                }
            }
        }
    }

    /// Behind the last byte: gives the connection back at once where that is possible.
    fn finish(&mut self, context: &mut Context<'_>) {
        if let (0, State::Reading(source)) = (self.progress.rest(), &mut self.state) {
            let _ = source.poll_ready(context);
            self.watch.end(Outcome::Done);
        }
    }

    /// Goes on after an error, or ends with it.
    fn fail(&mut self, error: Error) -> Result<(), Error> {
        self.state = State::Ended;
        let from = match self.progress.fail(&error) {
            Some(from) => from,
            None => {
                self.watch.end(Outcome::Failed(&error));
                return Err(error);
            }
        };
        tracing::debug!(%error, from, "reading on");
        self.watch.retry(&error);
        let key = self.key.clone();
        let (client, failures) = (self.client.clone(), self.progress.failures());
        let begin = self.progress.begin();
        let resumed = async move {
            sleep(retry::backoff(failures - 1, rand::random())).await;
            let from = i64::try_from(from).map_err(|_| Error::ended(true))?;
            let request = keyed("GETRANGE", &key).number(from).number(-1);
            let (begun, _) = client.begin(&key, &request, Watch::none()).await?;
            let (len, mut source) = begun.unwrap_or((0, Source::new(None, Bytes::new())));
            let mut found = BytesMut::with_capacity(begin.overlap());
            while found.len() < begin.overlap() {
                poll_fn(|context| source.poll_ready(context)).await?;
                if source.ready.is_empty() {
                    break;
                }
                let more = source.ready.len().min(begin.overlap() - found.len());
                found.extend_from_slice(&source.ready.split_to(more));
            }
            begin.check(len, &found)?;
            Ok(source)
        };
        self.state = State::Resuming(resumed.boxed());
        Ok(())
    }
}

impl std::fmt::Debug for ValueStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValueStream")
            .field("len", &self.len())
            .field("rest", &self.rest())
            .finish()
    }
}

impl AsyncRead for ValueStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = out.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let piece = ready!(self.get_mut().poll_piece(context, Some(&mut *out), room))?;
        if let Some(piece) = piece {
            out.put_slice(&piece);
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for ValueStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut()
            .poll_piece(context, None, usize::MAX)
            .map(Result::transpose)
    }
}
