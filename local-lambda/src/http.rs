//! The HTTP/1.1 server under both APIs: bounded connections, bodies admitted
//! by their bytes before they are read.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) type Reply = Response<Full<Bytes>>;

/// Close the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed on purpose")]
pub(crate) struct Hangup;

/// How long open requests may take to end once a server is told to stop.
const DRAIN: Duration = Duration::from_millis(500);

/// Serves `listener` until `stop`. At most `connections` at a time; more wait
/// in the listen queue.
pub(crate) async fn serve<H, F>(
    listener: TcpListener,
    connections: usize,
    stop: CancellationToken,
    tracker: TaskTracker,
    handler: H,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Reply, Hangup>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(connections));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (handler, stop) = (handler.clone(), stop.clone());
                tracker.spawn(async move {
                    connection(stream, handler, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: those in use must be closed first.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection<H, F>(stream: TcpStream, handler: H, stop: CancellationToken)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Reply, Hangup>>,
{
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(handler);
    let mut serving = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// A reply with a JSON body.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A reply without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

/// Why a body was not taken.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// It has at least so many bytes, more than the limit.
    TooLarge(usize),
    /// The peer went away.
    Broken,
}

/// A body and the bytes it occupies of the budget.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) bytes: Bytes,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A refused body is read and thrown away up to this size, so that the sender
/// comes to read the answer.
const DISCARD_BYTES: usize = 64 << 20;

/// Reads a body of at most `limit` bytes once `budget` has room for it.
pub(crate) async fn read_body(
    body: Incoming,
    limit: usize,
    budget: &Arc<Semaphore>,
) -> Result<Admitted, BodyError> {
    let declared = body
        .size_hint()
        .exact()
        .map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if let Some(bytes) = declared.filter(|n| *n > limit) {
        return Err(BodyError::TooLarge(discard(body, 0, bytes).await));
    }
    let room = u32::try_from(declared.unwrap_or(limit)).unwrap_or(u32::MAX);
    let permit = Arc::clone(budget)
        .acquire_many_owned(room)
        .await
        .map_err(|_| BodyError::Broken)?;
    let bytes = collect(body, limit, declared.unwrap_or(0)).await?;
    Ok(Admitted { bytes, permit })
}

async fn collect(mut body: Incoming, limit: usize, capacity: usize) -> Result<Bytes, BodyError> {
    let mut first: Option<Bytes> = None;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else {
            continue;
        };
        let have = first.as_ref().map_or(rest.len(), Bytes::len);
        if have + data.len() > limit {
            return Err(BodyError::TooLarge(
                discard(body, have + data.len(), 0).await,
            ));
        }
        // Small bodies come in one piece and are not copied.
        match first.take() {
            None if rest.is_empty() => first = Some(data),
            None => rest.extend_from_slice(&data),
            Some(piece) => {
                rest.reserve(capacity.max(piece.len() + data.len()));
                rest.extend_from_slice(&piece);
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| rest.into()))
}

/// Throws the rest of a body away; says how large it was, as far as known.
async fn discard(mut body: Incoming, mut seen: usize, declared: usize) -> usize {
    if declared > DISCARD_BYTES {
        return declared;
    }
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > DISCARD_BYTES {
            break;
        }
    }
    seen.max(declared)
}
