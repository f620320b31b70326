//! The connection that small requests share. One task has it: connects when
//! there is something to do, writes what is queued in batches, hands replies out
//! in order. A caller that has given up is still answered, into nothing.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Failure, Incoming, closed, member::Place, send, socket::connect};
use crate::{
    Error, Options,
    protocol::{Encoded, Reply},
};

/// Requests that wait to be written; then callers wait.
pub(crate) const QUEUE: usize = 1024;
/// Requests that wait for their reply; then nothing is written.
const UNDER_WAY: usize = 1024;
/// What is written at once, about.
const BATCH_BYTES: u64 = 256 << 10;
const BATCH: usize = 64;

type Answer = oneshot::Sender<Result<Reply, Error>>;

/// A request and where its reply goes.
pub(crate) struct Call {
    pub(crate) request: Encoded,
    pub(crate) answer: Answer,
}

impl Call {
    fn fail(self, error: Error) {
        // who has given up does not mind
        let _ = self.answer.send(Err(error));
    }
}

/// Serves calls until there is nobody who could make any, or `stop`.
pub(crate) async fn run(
    place: Arc<Place>,
    mut calls: mpsc::Receiver<Call>,
    stop: CancellationToken,
) {
    while let Some(first) = next(&mut calls, &stop).await {
        if first.answer.is_closed() {
            continue;
        }
        match connect(&place).await {
            Ok(connection) => {
                let error = serve(connection, first, &mut calls, &stop, &place.options).await;
                if error.is_some() {
                    place.lost_one();
                }
                tracing::debug!(
                    error = error.map(tracing::field::display),
                    "connection ended"
                );
            }
            Err(error) => {
                tracing::debug!(%error, "no connection");
                first.fail(error.clone());
                while let Ok(call) = calls.try_recv() {
                    call.fail(error.clone());
                }
            }
        }
    }
}

/// The next call. After `stop` those that are queued, and no more.
async fn next(calls: &mut mpsc::Receiver<Call>, stop: &CancellationToken) -> Option<Call> {
    tokio::select! {
        biased;
        call = calls.recv() => call,
        () = stop.cancelled() => {
            calls.close();
            calls.recv().await
        }
    }
}

async fn serve(
    connection: Incoming<Box<dyn super::socket::Stream>>,
    first: Call,
    calls: &mut mpsc::Receiver<Call>,
    stop: &CancellationToken,
    options: &Options,
) -> Option<Error> {
    let (reader, mut writer) = tokio::io::split(connection.io);
    let mut incoming = Incoming {
        io: reader,
        parser: connection.parser,
        input: connection.input,
    };
    let (register, mut answers) = mpsc::channel(UNDER_WAY);
    let error = {
        let mut reading = pin!(read(&mut incoming, &mut answers, options));
        let writing = pin!(write(&mut writer, first, register, calls, stop, options));
        tokio::select! {
            biased;
            result = &mut reading => result.err(),
            result = writing => match result {
                Ok(()) => reading.await.err(),
                Err(failure) => Some(failure.into_error(true)),
            },
        }
    };
    if error.is_none() {
        // the end of TLS is said; no more than a moment for a server that does not read
        let _ = timeout(Duration::from_secs(1), writer.shutdown()).await;
    }
    while let Ok(answer) = answers.try_recv() {
        let error = error.clone().unwrap_or_else(|| Error::ended(true));
        let _: Result<_, _> = Answer::send(answer, Err(error));
    }
    error
}

async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    first: Call,
    register: mpsc::Sender<Answer>,
    calls: &mut mpsc::Receiver<Call>,
    stop: &CancellationToken,
    options: &Options,
) -> Result<(), Failure> {
    let mut segments = VecDeque::new();
    let mut next_call = Some(first);
    while let Some(call) = next_call {
        let (mut batch, mut bytes) = (0, 0);
        let mut current = Some(call);
        while let Some(call) = current {
            // not yet sent: who has given up needs no reply
            if !call.answer.is_closed() {
                bytes += call.request.bytes();
                batch += 1;
                if let Err(gone) = register.send(call.answer).await {
                    let _ = gone.0.send(Err(Error::ended(false)));
                    return Ok(());
                }
                segments.extend(call.request.segments);
            }
            let is_full = batch >= BATCH || bytes >= BATCH_BYTES;
            current = if is_full { None } else { calls.try_recv().ok() };
        }
        send(writer, &mut segments, options.request_timeout).await?;
        next_call = next(calls, stop).await;
    }
    Ok(())
}

async fn read(
    incoming: &mut Incoming<impl AsyncRead + Unpin>,
    answers: &mut mpsc::Receiver<Answer>,
    options: &Options,
) -> Result<(), Error> {
    loop {
        let answer = tokio::select! {
            biased;
            answer = answers.recv() => answer,
            failure = unasked(incoming) => return Err(failure.into_error(false)),
        };
        let Some(answer) = answer else { return Ok(()) };
        let reply = incoming
            .reply(options.request_timeout, options.value_limit_bytes)
            .await;
        let reply = reply.map_err(|failure| failure.into_error(true));
        let error = reply.as_ref().err().cloned();
        let _ = answer.send(reply);
        if let Some(error) = error {
            return Err(error);
        }
    }
}

/// Takes pushes while there is no request, and notices the end.
async fn unasked(incoming: &mut Incoming<impl AsyncRead + Unpin>) -> Failure {
    loop {
        match incoming.parser.next(&mut incoming.input) {
            Ok(Some(crate::protocol::Event::Reply(Reply::Push(_)))) => {}
            // a reply without a request, such as an error before the end
            Ok(Some(_)) => return Failure::Io(closed()),
            Ok(None) => {
                if let Err(error) = incoming.fill().await {
                    return Failure::Io(error);
                }
            }
            Err(error) => return Failure::Protocol(error),
        }
    }
}
