//! Messages to one connection that it did not ask for, between the one who sends
//! them and the session that writes them out.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// What a connection may have waiting, as `client-output-buffer-limit pubsub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// More bytes end the connection at once.
    pub hard_bytes: usize,
    /// More bytes end it after [`Self::soft_for`].
    pub soft_bytes: usize,
    /// See there.
    pub soft_for: Duration,
}

/// Redis's defaults.
impl Default for Limits {
    fn default() -> Self {
        Self {
            hard_bytes: 32 << 20,
            soft_bytes: 8 << 20,
            soft_for: Duration::from_secs(60),
        }
    }
}

/// Limits of many mailboxes, which may change. Cheap to clone.
#[derive(Clone, Default)]
pub struct SharedLimits(Arc<Mutex<Limits>>);

impl From<Limits> for SharedLimits {
    fn from(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(limits)))
    }
}

impl SharedLimits {
    /// Those in force.
    pub fn get(&self) -> Limits {
        *self.0.lock()
    }

    /// Others from now on.
    pub fn set(&self, limits: Limits) {
        *self.0.lock() = limits;
    }
}

/// What a message takes besides its bytes.
const MESSAGE_BYTES: usize = 96;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Published to a channel that it subscribes to.
    Channel {
        /// The channel.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// Published to a channel that matches a pattern that it subscribes to.
    Pattern {
        /// The pattern.
        pattern: Bytes,
        /// The channel.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// A key has changed; none: any of them may have.
    Invalidate {
        /// The key.
        key: Option<Bytes>,
        /// It is for another connection, which has its messages come here.
        redirected: bool,
    },
    /// Whose messages this connection wanted to have go there is gone.
    RedirectBroken(u64),
    /// A command that was carried out, as MONITOR shows it.
    Monitored(Arc<str>),
    /// Published to a shard channel that it subscribes to.
    Shard {
        /// The channel.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
}

impl Message {
    fn bytes(&self) -> usize {
        let parts = match self {
            Self::Channel { channel, payload } | Self::Shard { channel, payload } => {
                channel.len() + payload.len()
            }
            Self::Invalidate { key, .. } => key.as_ref().map_or(0, Bytes::len),
            Self::RedirectBroken(_) => 0,
            Self::Monitored(line) => line.len(),
            Self::Pattern {
                pattern,
                channel,
                payload,
            } => pattern.len() + channel.len() + payload.len(),
        };
        parts + MESSAGE_BYTES
    }
}

/// Where a connection finds its messages.
pub struct Mailbox {
    limits: SharedLimits,
    waiting: Mutex<Waiting>,
    /// The length of the queue, for who only wants to know whether there is any.
    count: AtomicUsize,
    arrived: Notify,
    end: CancellationToken,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Since when there has been more than the soft limit.
    above_since: Option<Instant>,
}

impl Mailbox {
    /// An empty one; `end` is cancelled when it overflows.
    pub fn new(limits: impl Into<SharedLimits>, end: CancellationToken) -> Self {
        Self {
            limits: limits.into(),
            waiting: Mutex::default(),
            count: AtomicUsize::new(0),
            arrived: Notify::new(),
            end,
        }
    }

    /// Puts a message in. A connection that does not take its messages is ended.
    pub fn put(&self, message: Message) {
        self.put_at(message, Instant::now());
    }

    fn put_at(&self, message: Message, now: Instant) {
        let mut waiting = self.waiting.lock();
        if self.end.is_cancelled() {
            return;
        }
        waiting.bytes += message.bytes();
        waiting.messages.push_back(message);
        let limits = self.limits.get();
        let soft = waiting.bytes > limits.soft_bytes;
        waiting.above_since = soft.then(|| waiting.above_since.unwrap_or(now));
        let for_long = waiting
            .above_since
            .is_some_and(|since| now.duration_since(since) > limits.soft_for);
        if waiting.bytes > limits.hard_bytes || for_long {
            *waiting = Waiting::default();
            self.count.store(0, Ordering::Relaxed);
            metrics::counter!("scatterhoard_slow_subscribers_total").increment(1);
            self.end.cancel();
            return;
        }
        self.count.store(waiting.messages.len(), Ordering::Relaxed);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Whether there is a message.
    pub fn has_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Returns when there may be a message.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// The oldest message.
    pub fn take(&self) -> Option<Message> {
        let mut waiting = self.waiting.lock();
        let message = waiting.messages.pop_front()?;
        waiting.bytes -= message.bytes();
        if waiting.bytes <= self.limits.get().soft_bytes {
            waiting.above_since = None;
        }
        self.count.store(waiting.messages.len(), Ordering::Relaxed);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Message {
        Message::Channel {
            channel: Bytes::from_static(b"c"),
            payload: vec![0; len].into(),
        }
    }

    fn limits() -> Limits {
        Limits {
            hard_bytes: 10_000,
            soft_bytes: 2_000,
            soft_for: Duration::from_secs(60),
        }
    }

    #[test]
    fn what_is_put_in_comes_out_in_order() {
        let mailbox = Mailbox::new(limits(), CancellationToken::new());
        mailbox.put(message(1));
        mailbox.put(message(2));
        assert!(mailbox.has_any());
        assert_eq!(mailbox.take(), Some(message(1)));
        assert_eq!(mailbox.take(), Some(message(2)));
        assert_eq!(mailbox.take(), None);
        assert!(!mailbox.has_any());
    }

    #[test]
    fn who_takes_nothing_is_ended_at_once_or_after_a_while() {
        let end = CancellationToken::new();
        let mailbox = Mailbox::new(limits(), end.clone());
        mailbox.put(message(11_000));
        assert!(end.is_cancelled() && mailbox.take().is_none());

        let (end, start) = (CancellationToken::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mailbox = Mailbox::new(limits(), end.clone());
        mailbox.put_at(message(3_000), at(0));
        mailbox.put_at(message(1), at(59));
        assert!(!end.is_cancelled());
        // below the soft limit in between: the time begins anew
        assert!(mailbox.take().is_some());
        mailbox.put_at(message(3_000), at(62));
        mailbox.put_at(message(1), at(121));
        assert!(!end.is_cancelled());
        mailbox.put_at(message(1), at(123));
        assert!(end.is_cancelled());
    }
}
