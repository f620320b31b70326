//! One client's connection: bytes to requests, requests in order to replies.
//!
//! Bodies of large arguments are read straight into buffers that are cut like
//! the object's cells. Large values go out as they come in from the nodes, and
//! what is not yet written is bounded.

mod body;
mod flush;
mod hot;
mod input;
mod pace;
mod pipeline;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use futures_util::{StreamExt, stream as streams};
use tokio::{io::AsyncWriteExt, task::coop::consume_budget, time::timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use self::pace::{LeastRate, Pace};
use crate::{
    admission::Admitted,
    apply::{self, Context, Outcome, Stats, ValueReply},
    client_limits,
    clients::{Arrival, Client, Silence, Stranger},
    command::Named,
    pubsub::{Mailbox, Message},
    resp::{OutBuffer, Protocol, ProtocolError, Reply, RequestParser, Step, reply},
    store::{Lookup, ObjectReader},
    tracking,
    value::Value,
};

pub use stream::ClientStream;

/// There is room for so much at least whenever a client's bytes are read.
const LEAST_READ_BYTES: usize = 4 * 1024;
/// Replies are written when so much waits, even in the middle of a pipeline.
const FLUSH_BYTES: usize = 256 * 1024;
/// Values of one MGET that are made ready ahead of the one that is sent.
const READY_AHEAD: usize = 8;
/// A client that takes nothing for so long is gone.
const WRITE_STALL: Duration = Duration::from_secs(60);

/// Who sends or takes a large value does so at a least rate, averaged over so long: it
/// holds room that others wait for.
const PACE_WINDOW: Duration = Duration::from_secs(30);
/// The last words to a client may take so long.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

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
    /// It stopped taking replies for too long.
    #[error("client stalled")]
    Stalled,
    /// It sends a large value at less than the least rate.
    #[error("client sends too slowly")]
    SlowSender,
    /// It takes a large value at less than the least rate.
    #[error("client takes too slowly")]
    SlowReader,
    /// More waits for it than `client-output-buffer-limit` allows.
    #[error("client output buffer limit")]
    Output,
    /// It did not say who it is in time.
    #[error("stranger stayed too long")]
    Stranger,
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
    /// Requests carried out since the last read.
    since_read: usize,
    /// Arguments of the present request that have been looked at already.
    checked: usize,
    /// It has yet to say who it is.
    stranger: Option<Stranger>,
    /// How fast it takes the value that is being sent.
    taking: Option<Pace>,
    /// The server is to end.
    shutdown: CancellationToken,
    /// Messages that it did not ask for.
    mailbox: Arc<Mailbox>,
    /// Somebody wants it gone.
    end: CancellationToken,
}

/// What a session hears whenever it waits for its client. Kept for all of its life: to begin
/// and to end listening takes locks.
struct Calls<'p, 'a> {
    end: Pin<&'p mut WaitForCancellationFuture<'a>>,
    stop: Pin<&'p mut WaitForCancellationFuture<'a>>,
}

impl Session {
    /// A session for a connection just accepted.
    pub fn new(
        stream: ClientStream,
        arrival: Arrival,
        stranger: Option<Stranger>,
        context: Arc<Context>,
    ) -> Self {
        let limits = context
            .limits
            .of_requests(context.config.proto_max_bulk_bytes);
        let end = arrival.end.clone();
        let entry = context.clients.enter(arrival);
        let mailbox = Arc::new(Mailbox::new(context.limits.of_subscribers(), end.clone()));
        entry.finds_messages(&mailbox);
        let anybody = context.config.acl.anybody();
        let mut client = Client::new(entry, anybody, &context.hub, &mailbox);
        client.by_tls = matches!(stream, ClientStream::Tls(_));
        let stranger = stranger.filter(|_| client.user.is_none());
        Self {
            stream,
            context,
            client,
            parser: RequestParser::new(limits),
            next_step: None,
            input: BytesMut::new(),
            output: OutBuffer::new(),
            admitted: Admitted::default(),
            since_read: 0,
            checked: 0,
            stranger,
            taking: None,
            shutdown: CancellationToken::new(),
            mailbox,
            end,
        }
    }

    /// Serves the connection until the client leaves or `stop` asks for an end
    /// between two requests.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), SessionError> {
        self.shutdown = stop.clone();
        let end = self.end.clone();
        let (end, stop) = (pin!(end.cancelled()), pin!(stop.cancelled()));
        let mut calls = Calls { end, stop };
        let result = self.serve(&mut calls).await;
        if let Err(error) = &result {
            self.note(error);
        }
        if matches!(result, Err(SessionError::SlowSender)) {
            let text = "ERR the value came too slowly (client_min_kb_s)";
            self.put(Reply::Error(text.into()));
            let _ = timeout(GOODBYE_LIMIT, self.flush()).await;
        }
        if let ClientStream::Tls(stream) = &mut self.stream {
            // or the client takes what it got for cut off
            let _ = timeout(GOODBYE_LIMIT, stream.shutdown()).await;
        }
        result
    }

    /// Counts and logs what a client was ended for.
    fn note(&self, error: &SessionError) {
        let reason = match error {
            SessionError::SlowSender => "slow_sender",
            SessionError::SlowReader | SessionError::Stalled => "slow_reader",
            SessionError::Output => "output",
            SessionError::Stranger => "stranger",
            _ => return,
        };
        client_limits::ended_with(reason, self.client.entry.peer());
    }

    /// The least rate at which it must move large values.
    fn pace(&self) -> Pace {
        Pace::new(LeastRate {
            bytes_per_s: self.context.config.client_min_bytes_per_s,
            window: PACE_WINDOW,
        })
    }

    async fn serve(&mut self, calls: &mut Calls<'_, '_>) -> Result<(), SessionError> {
        loop {
            let carried_out = self.carry_out_in_memory().await;
            if carried_out > 0 {
                self.since_read += carried_out;
                for _ in 0..carried_out {
                    consume_budget().await;
                }
                self.flush_if_much().await?;
                continue;
            }
            match self.step() {
                Ok(Step::Request(request)) => {
                    self.since_read += 1;
                    // a pipeline lets others of its worker pass, however long it is
                    consume_budget().await;
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
                    if !self.read_more(calls).await? {
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
    async fn read_more(&mut self, calls: &mut Calls<'_, '_>) -> Result<bool, SessionError> {
        let wanted = self.parser.wanted_bytes().max(LEAST_READ_BYTES);
        let room = wanted.min(2 * crate::resp::Limits::default().large_from_bytes);
        let idle = self.parser.is_idle() && self.input.is_empty();
        self.meet();
        self.show(Some(Instant::now()));
        let deadline = self.stranger.as_ref().map(|stranger| stranger.deadline);
        // who never stops talking is late, too
        if deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now()) {
            return Err(SessionError::Stranger);
        }
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // pipelines keep a worker busy as it is, a simulation has nobody to wake, and one of
        // several workers that looks wakes the others
        let is_single = std::mem::take(&mut self.since_read) <= 1;
        let is_alone = self.context.config.threads == 1;
        let looks_out =
            idle && is_single && is_alone && !matches!(self.stream, ClientStream::Local(_));
        let n = tokio::select! {
            biased;
            () = &mut calls.end => return Err(SessionError::Ended),
            read = poll_fn(|cx| input::poll_read(&mut self.stream, &mut self.input, room, cx)) => read?,
            () = self.mailbox.arrived() => return Ok(true),
            () = &mut calls.stop, if idle => return Ok(false),
            () = late => return Err(SessionError::Stranger),
            never = self.context.clients.lookout.keep(), if looks_out => match never {},
        };
        if is_single {
            self.context.clients.lookout.heard();
        }
        self.client.entry.update(|c| c.idle_since = None);
        if n == 0 && !idle {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(n > 0)
    }

    /// Who has not said who it is must do so in time, also after RESET.
    fn meet(&mut self) {
        match &self.client.user {
            Some(_) => self.stranger = None,
            None if self.stranger.is_none() => {
                let strangers = &self.context.clients.strangers;
                self.stranger = Some(strangers.enter(self.end.clone()));
            }
            None => {}
        }
    }

    /// Makes known to others how it stands; it is waited for since `idle_since`.
    fn show(&self, idle_since: Option<Instant>) {
        self.client.show();
        // without anything in it the buffer is another connection's
        let room = match self.input.len() {
            0 => 0,
            len => self.input.capacity() - len,
        };
        let input = (self.input.len(), room);
        let arguments = self.parser.args_so_far().iter();
        // more would take long to count
        let argument_bytes = arguments.take(64).map(Value::len).sum::<u64>();
        let output_bytes = self.output.pending_bytes();
        self.client.entry.update(|c| {
            c.idle_since = idle_since;
            c.input = input;
            c.argument_bytes = usize::try_from(argument_bytes).unwrap_or(usize::MAX);
            c.output_bytes = output_bytes;
        });
    }

    /// Waits as long as CLIENT PAUSE wants it; messages go out meanwhile.
    async fn wait_out_pause(&mut self, named: Named) -> Result<(), SessionError> {
        // monitors never do, as they do nothing to keys
        let is_exempt = self.client.user.is_none() || self.client.monitoring.is_some();
        if is_exempt || self.context.clients.pause.holds(true).is_none() {
            return Ok(());
        }
        let pause = self.context.clients.pause.clone();
        let writes = match &self.client.queue {
            // what is queued waits as it does alone; EXEC for any of it
            Some(queue) if named.is_exec() => {
                let mut queued = queue.requests.iter();
                queued.any(|r| Named::of(r).waits_with_writes())
            }
            _ => named.waits_with_writes(),
        };
        while let Some(until) = pause.holds(writes) {
            self.deliver(self.client.protocol).await?;
            self.flush().await?;
            tokio::select! {
                biased;
                () = self.end.cancelled() => return Err(SessionError::Ended),
                () = self.shutdown.cancelled() => return Err(SessionError::Ended),
                () = self.mailbox.arrived() => {}
                () = pause.over(until, writes) => {}
            }
        }
        Ok(())
    }

    /// Queues or sends messages that the client did not ask for.
    async fn deliver(&mut self, protocol: Protocol) -> Result<(), SessionError> {
        while self.mailbox.has_any() {
            if let Some(message) = self.mailbox.take() {
                let is_silent = matches!(self.client.silence, Silence::Always | Silence::This);
                if is_silent && matches!(message, Message::Monitored(_)) {
                    continue;
                }
                let subscribed = self.client.subscriptions.any();
                if let Some(push) = apply::pubsub::push(message, protocol, subscribed) {
                    push.encode(protocol, &mut self.output);
                }
            }
            self.flush_if_much().await?;
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
        let named = Named::of(&request);
        self.wait_out_pause(named).await?;
        // what was sent before the request goes out before its reply
        let protocol = self.client.protocol;
        self.deliver(protocol).await?;
        let is_queued = self.client.queue.is_some() && !named.is_transactional();
        let mut suspect = None;
        if !is_queued {
            suspect = context.slow_log.suspect(&request);
            apply::monitor::begin(&context, &mut self.client, &request);
        }
        let tracked = self.client.tracking.as_ref().filter(|t| t.wish.no_loop);
        let no_loop = tracked.map(|_| self.client.entry.id());
        let began = Instant::now();
        self.client.has_remembered = false;
        let carry_out = apply::carry_out(&context, &mut self.client, named, request);
        let outcome = match no_loop {
            // boxed: there are few of them
            Some(id) => Box::pin(tracking::acting(id, carry_out)).await,
            None => carry_out.await,
        };
        let outcome = match outcome {
            Outcome::Lookup(lookup) => Outcome::Value(apply::ready(&context.store, lookup).await),
            Outcome::Range(pinned, bytes) => {
                Outcome::Value(apply::range(&context.store, pinned, bytes).await)
            }
            other => other,
        };
        if self.client.carried_out {
            context.took(&self.client, suspect, began.elapsed());
        }
        apply::monitor::end(&mut self.client);
        // what has come meanwhile, too: nothing follows the end of subscriptions
        // that keys have changed which it read, or changed itself, is told behind the
        // reply; what was carried out, too
        let tracks = self.client.tracking.is_some() && !self.client.subscriptions.any();
        let tracks = tracks || self.client.monitoring.is_some();
        if !outcome.begins_subscriptions() && !tracks && !self.client.has_remembered {
            self.deliver(protocol).await?;
        }
        if self.client.silence != Silence::None && self.client.monitoring.is_some() {
            // as its reply, what it is shown as is held back
            let silence = self.client.silence;
            if before == Silence::This {
                self.client.silence = before;
            }
            self.deliver(protocol).await?;
            self.client.silence = silence;
        }
        if self.is_silent(before) {
            return Ok(outcome.ends());
        }
        if let Outcome::Several(outcomes, _room) = outcome {
            // others may wait for its room
            let taking = self.taking.replace(self.pace());
            let ends = self.put_all(outcomes).await?;
            self.taking = taking;
            return Ok(ends);
        }
        self.put_outcome(outcome).await
    }

    /// What several commands came to, as an array; true if one of them was the last.
    async fn put_all(&mut self, outcomes: Vec<Outcome>) -> Result<bool, SessionError> {
        let mut ends = false;
        reply::array_header(outcomes.len(), &mut self.output);
        for outcome in outcomes {
            ends |= self.put_outcome(outcome).await?;
        }
        // the room is needed until all of it is gone
        self.flush().await?;
        Ok(ends)
    }

    /// Queues or sends a reply; true if it was the last one.
    async fn put_outcome(&mut self, outcome: Outcome) -> Result<bool, SessionError> {
        match outcome {
            Outcome::Reply(reply) => self.put(reply),
            Outcome::Part(reply, room) => {
                self.put(reply);
                let taking = self.taking.replace(self.pace());
                self.flush().await?;
                self.taking = taking;
                drop(room);
            }
            Outcome::Close(reply) => {
                self.put(reply);
                return Ok(true);
            }
            Outcome::Lookup(lookup) => {
                let value = apply::ready(&self.context.store, lookup).await;
                self.put_value(value).await?;
            }
            Outcome::Range(pinned, bytes) => {
                let value = apply::range(&self.context.store, pinned, bytes).await;
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
            Outcome::Several(..) => self.put(Reply::NullArray),
        }
        self.flush_if_much().await?;
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
            self.flush_if_much().await?;
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
        let taking = self.taking.replace(self.pace());
        reply::bulk_header(rest.len_bytes(), &mut self.output);
        first.into_iter().for_each(|cell| self.output.push(cell));
        loop {
            // goes out with the last bytes: the client wakes up once
            let is_last = rest.is_at_end();
            if is_last {
                reply::bulk_end(&mut self.output);
            }
            self.flush().await?;
            match rest.next_cells().await? {
                Some(cells) => cells.into_iter().for_each(|cell| self.output.push(cell)),
                None if is_last => break,
                None => {
                    reply::bulk_end(&mut self.output);
                    break;
                }
            }
        }
        self.taking = taking;
        Ok(())
    }
}
