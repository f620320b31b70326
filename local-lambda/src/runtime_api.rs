//! The Runtime API of one instance: what its process asks for and posts.
//!
//! `/next` never has an empty reply: it waits until there is an event or the
//! process is gone (runtimes panic on a reply without its headers).

use crate::answer::MAX_RESPONSE_BYTES;
use crate::http::{Admitted, BodyError, Hangup, Reply, empty, json, read_body};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore, mpsc};

/// An event on its way to the process.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) request_id: String,
    pub(crate) deadline_ms: u128,
    pub(crate) function_arn: String,
    pub(crate) trace_id: String,
    pub(crate) payload: Admitted,
}

/// What the process said.
#[derive(Debug)]
pub(crate) enum RuntimeEvent {
    /// It waits for an event.
    Parked,
    /// It has answered the current one.
    Answered(Posted),
    /// It could not initialise; its JSON says why.
    InitError(Admitted),
}

/// A posted answer.
#[derive(Debug)]
pub(crate) enum Posted {
    Response(Admitted),
    Error(Admitted),
    TooLarge,
}

#[derive(Debug, Default)]
struct Desk {
    outgoing: Option<Delivery>,
    /// The invocation being served, until its answer is accepted.
    serving: Option<String>,
}

/// Between the task of an instance and the requests of its process.
#[derive(Debug)]
pub(crate) struct Mailbox {
    desk: Mutex<Desk>,
    wake: Notify,
    events: mpsc::Sender<RuntimeEvent>,
    response_budget: Arc<Semaphore>,
}

const PREFIX: &str = "/2018-06-01/runtime/";

impl Mailbox {
    pub(crate) fn new(
        events: mpsc::Sender<RuntimeEvent>,
        response_budget: Arc<Semaphore>,
    ) -> Mailbox {
        Mailbox {
            desk: Mutex::default(),
            wake: Notify::new(),
            events,
            response_budget,
        }
    }

    /// Hands an event to the process as soon as it asks.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        let mut desk = self.desk.lock();
        desk.serving = Some(delivery.request_id.clone());
        desk.outgoing = Some(delivery);
        drop(desk);
        self.wake.notify_one();
    }

    /// Answers one request of the process.
    pub(crate) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Reply, Hangup> {
        let path = request.uri().path().to_owned();
        let path = path.strip_prefix(PREFIX).unwrap_or_default();
        let steps: Vec<&str> = path.split('/').collect();
        match (request.method(), steps.as_slice()) {
            (&Method::GET, ["invocation", "next"]) => Ok(self.next().await),
            (&Method::POST, ["invocation", id, what @ ("response" | "error")]) => {
                self.answered(id, *what == "error", request.into_body())
                    .await
            }
            (&Method::POST, ["init", "error"]) => {
                let Ok(body) = read_body(
                    request.into_body(),
                    MAX_RESPONSE_BYTES,
                    &self.response_budget,
                )
                .await
                else {
                    return Err(Hangup);
                };
                self.tell(RuntimeEvent::InitError(body)).await
            }
            _ => Ok(error(
                StatusCode::NOT_FOUND,
                "UnknownPath",
                "no such runtime path",
            )),
        }
    }

    async fn next(&self) -> Reply {
        if self.events.send(RuntimeEvent::Parked).await.is_err() {
            // The instance is being killed.
            return std::future::pending().await;
        }
        loop {
            let outgoing = self.desk.lock().outgoing.take();
            match outgoing {
                Some(delivery) => return event(delivery),
                None => self.wake.notified().await,
            }
        }
    }

    async fn answered(&self, id: &str, failed: bool, body: Incoming) -> Result<Reply, Hangup> {
        let posted = match read_body(body, MAX_RESPONSE_BYTES, &self.response_budget).await {
            Ok(body) if failed => Posted::Error(body),
            Ok(body) => Posted::Response(body),
            Err(BodyError::TooLarge(_)) => Posted::TooLarge,
            Err(BodyError::Broken) => return Err(Hangup),
        };
        let current = self
            .desk
            .lock()
            .serving
            .take_if(|serving| serving == id)
            .is_some();
        if !current {
            return Ok(error(
                StatusCode::BAD_REQUEST,
                "InvalidRequestID",
                "not the current invocation",
            ));
        }
        let too_large = matches!(posted, Posted::TooLarge);
        let accepted = self.tell(RuntimeEvent::Answered(posted)).await?;
        if too_large {
            return Ok(error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                "the response is too large",
            ));
        }
        Ok(accepted)
    }

    async fn tell(&self, event: RuntimeEvent) -> Result<Reply, Hangup> {
        self.events.send(event).await.map_err(|_| Hangup)?;
        // Without a body: a client that does not read it can use the
        // connection for `/next` at once.
        Ok(empty(StatusCode::ACCEPTED))
    }
}

fn event(delivery: Delivery) -> Reply {
    let mut reply = Response::new(Full::new(delivery.payload.bytes));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let texts = [
        ("lambda-runtime-aws-request-id", delivery.request_id),
        (
            "lambda-runtime-deadline-ms",
            delivery.deadline_ms.to_string(),
        ),
        ("lambda-runtime-invoked-function-arn", delivery.function_arn),
        ("lambda-runtime-trace-id", delivery.trace_id),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    reply
}

fn error(status: StatusCode, kind: &str, message: &str) -> Reply {
    json(
        status,
        serde_json::json!({"errorType": kind, "errorMessage": message}).to_string(),
    )
}
