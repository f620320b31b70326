//! One client's connection: bytes to requests, requests in order to replies.
//!
//! Bodies of large arguments are read straight into buffers that are cut like
//! the object's cells. Large values go out as they come in from the nodes, and
//! what is not yet written is bounded.

mod body;
mod pipeline;
mod stream;

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use futures_util::{FutureExt, StreamExt, stream as streams};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admitted,
    apply::{self, Context, Outcome, Stats, ValueReply},
    clients::{Client, Silence},
    command,
    pubsub::Mailbox,
    resp::{Limits, OutBuffer, Protocol, ProtocolError, Reply, RequestParser, Step, reply},
    store::{Lookup, ObjectReader},
    value::Value,
};

pub use stream::ClientStream;

/// Read buffer of a connection: more than one ordinary request.
const READ_BYTES: usize = 16 * 1024;
/// Replies are written when so much waits, even in the middle of a pipeline.
const FLUSH_BYTES: usize = 256 * 1024;
/// Values of one MGET that are made ready ahead of the one that is sent.
const READY_AHEAD: usize = 8;
/// A client that takes nothing for so long is gone.
const WRITE_STALL: Duration = Duration::from_secs(60);

/// Why a session ended before the client wanted it to.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection broke, or the client left in the middle of something.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What it sent is not the protocol; it was told.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    /// A value could not be read to its end after its header had gone out: the
    /// connection is the only way to say so.
    #[error("value broke off: {0}")]
    BrokenValue(#[from] crate::store::ReadError),
    /// It stopped sending, or taking, for too long.
    #[error("client stalled")]
    Stalled,
    /// It was ended: killed, or too slow for its messages.
    #[error("connection ended")]
    Ended,
}

/// One connection being served.
pub struct Session {
    stream: ClientStream,
    context: Arc<Context>,
    client: Client,
    parser: RequestParser,
    /// What the parser found when it was asked ahead.
    next_step: Option<Result<Step, ProtocolError>>,
    input: BytesMut,
    output: OutBuffer,
    admitted: Admitted,
    /// Arguments of the present request that have been looked at already.
    checked: usize,
    /// Messages that it did not ask for.
    mailbox: Arc<Mailbox>,
    /// Somebody wants it gone.
    end: CancellationToken,
}

impl Session {
    /// A session for a connection just accepted.
    pub fn new(stream: ClientStream, peer: SocketAddr, context: Arc<Context>) -> Self {
        let max_bulk_bytes = context.config.proto_max_bulk_bytes;
        let defaults = Limits::default();
        let limits = Limits {
            max_bulk_bytes,
            max_large_bytes: defaults.max_large_bytes.max(max_bulk_bytes),
            ..defaults
        };
        let entry = context.clients.enter(peer);
        let end = CancellationToken::new();
        let mailbox = Arc::new(Mailbox::new(context.config.pubsub_limits, end.clone()));
        let client = Client::new(entry, context.config.acl.anybody(), &context.hub, &mailbox);
        Self {
            stream,
            context,
            client,
            parser: RequestParser::new(limits),
            next_step: None,
            input: BytesMut::with_capacity(READ_BYTES),
            output: OutBuffer::new(),
            admitted: Admitted::default(),
            checked: 0,
            mailbox,
            end,
        }
    }

    /// Serves the connection until the client leaves or `stop` asks for an end
    /// between two requests.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), SessionError> {
        loop {
            match self.step() {
                Ok(Step::Request(request)) => {
                    let ends = match self.run_of_writes(request) {
                        Ok(run) => self.answer_together(run).await?,
                        Err(request) => self.answer(request).await?,
                    };
                    if ends {
                        return self.flush().await;
                    }
                }
                Ok(Step::LargeBulk { len }) => self.take_in(len).await?,
                Ok(Step::NeedMore) => {
                    self.deliver(self.client.protocol).await?;
                    self.flush().await?;
                    if !self.read_more(&stop).await? {
                        return Ok(());
                    }
                }
                Err(error) => {
                    self.put(error.clone().into());
                    self.flush().await?;
                    return Err(error.into());
                }
            }
        }
    }

    /// Reads what is there; false at the end of the connection.
    async fn read_more(&mut self, stop: &CancellationToken) -> Result<bool, SessionError> {
        let wanted = self.parser.wanted_bytes().max(READ_BYTES / 4);
        self.input
            .reserve(wanted.min(2 * crate::resp::Limits::default().large_from_bytes));
        let idle = self.parser.is_idle() && self.input.is_empty();
        let n = tokio::select! {
            biased;
            read = self.stream.read_buf(&mut self.input) => read?,
            () = self.mailbox.arrived() => return Ok(true),
            () = self.end.cancelled() => return Err(SessionError::Ended),
            () = stop.cancelled(), if idle => return Ok(false),
        };
        if n == 0 && !idle {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(n > 0)
    }

    /// Queues or sends messages that the client did not ask for.
    async fn deliver(&mut self, protocol: Protocol) -> Result<(), SessionError> {
        while self.mailbox.has_any() {
            if let Some(message) = self.mailbox.take() {
                apply::pubsub::push(message).encode(protocol, &mut self.output);
            }
            if self.output.pending_bytes() >= FLUSH_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Carries a request out and queues or sends its reply; true if it was the
    /// last one.
    async fn answer(&mut self, request: Vec<Value>) -> Result<bool, SessionError> {
        let ends = self.carry_out(request).await?;
        self.admitted = Admitted::default();
        self.checked = 0;
        if self.client.queue.is_none() {
            // what the command did not take is garbage
            self.client.uploads.clear();
        }
        Ok(ends)
    }

    async fn carry_out(&mut self, request: Vec<Value>) -> Result<bool, SessionError> {
        Stats::count(&self.context.stats.commands);
        let context = self.context.clone();
        let before = self.client.silence;
        // what was sent before the request goes out before its reply
        let protocol = self.client.protocol;
        self.deliver(protocol).await?;
        let is_queued = self.client.queue.is_some() && !command::is_transactional(&request);
        let suspect = match is_queued {
            true => None,
            false => context.slow_log.suspect(&request),
        };
        let began = Instant::now();
        let outcome = apply::carry_out(&context, &mut self.client, request).await;
        let outcome = match outcome {
            Outcome::Lookup(lookup) => Outcome::Value(apply::ready(&context.store, lookup).await),
            other => other,
        };
        context.took(&self.client, suspect, began.elapsed());
        // what has come meanwhile, too: nothing follows the end of subscriptions
        if !outcome.begins_subscriptions() {
            self.deliver(protocol).await?;
        }
        if self.is_silent(before) {
            return Ok(matches!(outcome, Outcome::Close(_)));
        }
        if let Outcome::Several(outcomes) = outcome {
            reply::array_header(outcomes.len(), &mut self.output);
            for outcome in outcomes {
                self.put_outcome(outcome).await?;
            }
            return Ok(false);
        }
        self.put_outcome(outcome).await
    }

    /// Queues or sends a reply; true if it was the last one.
    async fn put_outcome(&mut self, outcome: Outcome) -> Result<bool, SessionError> {
        match outcome {
            Outcome::Reply(reply) => self.put(reply),
            Outcome::Close(reply) => {
                self.put(reply);
                return Ok(true);
            }
            Outcome::Lookup(lookup) => {
                let value = apply::ready(&self.context.store, lookup).await;
                self.put_value(value).await?;
            }
            Outcome::Value(value) => self.put_value(value).await?,
            Outcome::Values(lookups) => self.put_values(lookups).await?,
            Outcome::Pushes(replies) | Outcome::Subscribed(replies) => {
                replies.into_iter().for_each(|reply| self.put(reply))
            }
            Outcome::Publish(count) => {
                self.put(Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX)));
            }
            // they are not nested
            Outcome::Several(_) => self.put(Reply::NullArray),
        }
        if self.output.pending_bytes() >= FLUSH_BYTES {
            self.flush().await?;
        }
        Ok(false)
    }

    /// Whether this command's reply is held back, and what that means for the next.
    fn is_silent(&mut self, before: Silence) -> bool {
        let now = self.client.silence;
        self.client.silence = match now {
            Silence::ThisAndNext if before != Silence::ThisAndNext => Silence::This,
            Silence::This | Silence::ThisAndNext => Silence::None,
            other => other,
        };
        now != Silence::None
    }

    fn put(&mut self, reply: Reply) {
        reply.encode(self.client.protocol, &mut self.output);
    }

    async fn put_values(&mut self, lookups: Vec<Lookup>) -> Result<(), SessionError> {
        let store = self.context.store.clone();
        reply::array_header(lookups.len(), &mut self.output);
        let early = |lookup| apply::ready_early(&store, lookup);
        let mut values = streams::iter(lookups).map(early).buffered(READY_AHEAD);
        while let Some(value) = values.next().await {
            let value = match value {
                Ok(value) => value,
                Err(lookup) => apply::ready(&store, lookup).await,
            };
            match value {
                // an array of values has no place for an error: a miss
                ValueReply::Whole(Reply::Error(_)) => self.put(Reply::Null),
                value => self.put_value(value).await?,
            }
            if self.output.pending_bytes() >= FLUSH_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn put_value(&mut self, value: ValueReply) -> Result<(), SessionError> {
        match value {
            ValueReply::Whole(reply) => self.put(reply),
            ValueReply::Stream { first, rest } => {
                if let Err(error) = self.stream_value(first, *rest).await {
                    metrics::counter!("scatterhoard_broken_values_total").increment(1);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn stream_value(
        &mut self,
        first: Vec<bytes::Bytes>,
        mut rest: ObjectReader,
    ) -> Result<(), SessionError> {
        reply::bulk_header(rest.len_bytes(), &mut self.output);
        first.into_iter().for_each(|cell| self.output.push(cell));
        while let Some(cells) = {
            self.flush().await?;
            rest.next_cells().await?
        } {
            cells.into_iter().for_each(|cell| self.output.push(cell));
        }
        reply::bulk_end(&mut self.output);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SessionError> {
        while self.output.has_remaining() {
            // mostly the socket takes it: no clock is read then
            let mut write = pin!(self.stream.write_buf(&mut self.output));
            let written = match write.as_mut().now_or_never() {
                Some(written) => Ok(written),
                None => {
                    let write = timeout(WRITE_STALL, write);
                    match self.end.run_until_cancelled(write).await {
                        Some(written) => written,
                        None => return Err(SessionError::Ended),
                    }
                }
            };
            match written {
                Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(written) => written?,
                Err(_) => return Err(SessionError::Stalled),
            };
        }
        if let ClientStream::Tls(stream) = &mut self.stream {
            // what is encrypted may not be in the socket yet
            match timeout(WRITE_STALL, stream.flush()).await {
                Ok(flushed) => flushed?,
                Err(_) => return Err(SessionError::Stalled),
            }
        }
        Ok(())
    }
}
