//! What programs may count: hooks that are called where something has happened.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{Error, Options, Reply};

/// What a client tells of itself: [`Options::metrics`]. Each method does nothing
/// unless it is implemented; further ones may be added.
///
/// They are called from within requests: none should wait or panic. Without hooks
/// nothing is measured, and no clock is read.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}};
/// use scatterhoard_client::{Client, Options, metrics::{Metrics, Outcome, Request}};
///
/// #[derive(Default)]
/// struct Misses(AtomicU64);
///
/// impl Metrics for Misses {
///     fn request(&self, request: &Request<'_>) {
///         if request.command == "GET" && matches!(request.outcome, Outcome::Missing) {
///             self.0.fetch_add(1, Relaxed);
///         }
///     }
/// }
///
/// let misses = Arc::new(Misses::default());
/// let options = Options::new("127.0.0.1", 6379).metrics(misses.clone());
/// ```
pub trait Metrics: Send + Sync + 'static {
    /// A request has ended, in whichever way.
    fn request(&self, request: &Request<'_>) {
        let _ = request;
    }

    /// A request is made again after this error.
    fn retry(&self, command: &str, error: &Error) {
        let _ = (command, error);
    }

    /// A request goes to another member of a cluster: the error's code is
    /// [`crate::ErrorCode::Moved`] or [`crate::ErrorCode::Ask`].
    fn redirect(&self, command: &str, error: &Error) {
        let _ = (command, error);
    }

    /// A connection is there, or could not be had.
    fn connection(&self, connection: &Connection<'_>) {
        let _ = connection;
    }

    /// A caller of [`crate::Client::get_or_insert_with`] waits for the loader of
    /// another.
    fn joined(&self) {}

    /// A loader has ended.
    fn loader(&self, loader: &Loader<'_>) {
        let _ = loader;
    }
}

/// A request that has ended: of a value that comes as a stream, when the stream has.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// Its name, in capitals.
    pub command: &'a str,
    /// How it ended.
    pub outcome: Outcome<'a>,
    /// Since it was asked for: waiting, pauses and further attempts included.
    pub elapsed: Duration,
    /// How often it was sent, redirects included; 0 if it was given up before.
    pub attempts: u32,
    /// Bytes of its arguments; of a value that is a stream, as far as it was sent.
    pub sent_bytes: u64,
    /// Bytes of the values in its reply, as far as they came.
    pub received_bytes: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// It was carried out.
    Done,
    /// It was, and there was nothing: a miss of a GET, a condition that was not met.
    Missing,
    /// It failed.
    Failed(&'a Error),
    /// Its future, or the stream, was dropped.
    GivenUp,
}

/// A connection that was asked for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Connection<'a> {
    /// Host and port.
    pub address: &'a str,
    /// It stands in for one that broke, or that was ended in the middle of a reply.
    pub is_again: bool,
    /// How long it took, handshakes included.
    pub elapsed: Duration,
    /// Why it cannot be had.
    pub error: Option<&'a Error>,
}

/// A loader that has ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Loader<'a> {
    /// How long it took.
    pub elapsed: Duration,
    /// Why it has no value.
    pub error: Option<&'a Error>,
}

/// Watches a request if anybody wants to know. Dropped, it was given up.
pub(crate) struct Watch(Option<Box<Watched>>);

struct Watched {
    metrics: Arc<dyn Metrics>,
    command: String,
    begun: Instant,
    attempts: u32,
    sent_bytes: u64,
    received_bytes: u64,
}

impl Watch {
    pub(crate) fn begin(options: &Options, command: &[u8], sent_bytes: u64) -> Self {
        let watched = options.metrics.as_ref().map(|metrics| Watched {
            metrics: Arc::clone(metrics),
            command: String::from_utf8_lossy(command).to_ascii_uppercase(),
            begun: Instant::now(),
            attempts: 0,
            sent_bytes,
            received_bytes: 0,
        });
        Self(watched.map(Box::new))
    }

    /// For what is part of another request.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn attempt(&mut self) {
        if let Some(watched) = &mut self.0 {
            watched.attempts += 1;
        }
    }

    pub(crate) fn retry(&self, error: &Error) {
        if let Some(watched) = &self.0 {
            watched.metrics.retry(&watched.command, error);
        }
    }

    pub(crate) fn redirect(&self, error: &Error) {
        if let Some(watched) = &self.0 {
            watched.metrics.redirect(&watched.command, error);
        }
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        if let Some(watched) = &mut self.0 {
            watched.sent_bytes += bytes;
        }
    }

    pub(crate) fn received(&mut self, bytes: u64) {
        if let Some(watched) = &mut self.0 {
            watched.received_bytes += bytes;
        }
    }

    /// It has ended with this reply.
    pub(crate) fn replied(&mut self, reply: &Reply) {
        if self.0.is_some() {
            self.received(payload_bytes(reply));
            self.end(match reply {
                Reply::Null => Outcome::Missing,
                _ => Outcome::Done,
            });
        }
    }

    /// It has ended; what comes later is not counted.
    pub(crate) fn end(&mut self, outcome: Outcome<'_>) {
        if let Some(watched) = self.0.take() {
            watched.metrics.request(&Request {
                command: &watched.command,
                outcome,
                elapsed: watched.begun.elapsed(),
                attempts: watched.attempts,
                sent_bytes: watched.sent_bytes,
                received_bytes: watched.received_bytes,
            });
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end(Outcome::GivenUp);
    }
}

fn payload_bytes(reply: &Reply) -> u64 {
    match reply {
        Reply::Bulk(bytes) | Reply::Verbatim { text: bytes, .. } => bytes.len() as u64,
        Reply::Array(items) | Reply::Set(items) => items.iter().map(payload_bytes).sum(),
        Reply::Map(fields) => {
            let both = |(key, value)| payload_bytes(key) + payload_bytes(value);
            fields.iter().map(|(key, value)| both((key, value))).sum()
        }
        _ => 0,
    }
}

/// Measures something that has no request, if anybody wants to know.
pub(crate) struct Clock<'a>(Option<(&'a dyn Metrics, Instant)>);

impl<'a> Clock<'a> {
    pub(crate) fn begin(options: &'a Options) -> Self {
        let metrics = options.metrics.as_deref();
        Self(metrics.map(|metrics| (metrics, Instant::now())))
    }

    pub(crate) fn connection(self, address: &str, is_again: bool, error: Option<&Error>) {
        if let Some((metrics, begun)) = self.0 {
            metrics.connection(&Connection {
                address,
                is_again,
                elapsed: begun.elapsed(),
                error,
            });
        }
    }

    pub(crate) fn loader(self, error: Option<&Error>) {
        if let Some((metrics, begun)) = self.0 {
            let elapsed = begun.elapsed();
            metrics.loader(&Loader { elapsed, error });
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn only_values_count() {
        let bulk = |len: usize| Reply::Bulk(Bytes::from(vec![0; len]));
        let list = Reply::Array(vec![bulk(3), Reply::Null, Reply::Integer(7), bulk(4)]);
        assert_eq!(payload_bytes(&list), 7);
        let map = Reply::Map(vec![(bulk(1), list), (bulk(2), bulk(5))]);
        assert_eq!(payload_bytes(&map), 15);
        assert_eq!(payload_bytes(&Reply::Null), 0);
    }
}
