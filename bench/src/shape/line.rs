//! The pacing of one direction of a link: when may which bytes go on? Pure: no sockets,
//! no clock, and no bytes, only how many there are.
//!
//! A link first puts bytes on the line one after the other at its rate, and each then
//! travels for the delay. Times are absolute, so a late wake-up lets more bytes go at once
//! and costs no rate; a line that was idle saves nothing up for later.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Fewer bytes than the line carries in this time go on only if no more follow at once: each
/// step costs a wake-up of both ends. A message's last bytes are not held up by that.
const BATCH_TIME: Duration = Duration::from_millis(2);

/// What a link can do, each direction alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) bytes_per_s: f64,
    pub(crate) one_way: Duration,
}

/// What a direction may hold beyond twice its bandwidth-delay product.
const SPARE_BYTES: usize = 256 << 10;

impl Link {
    /// What one direction holds at most, under way and waiting.
    pub(super) fn capacity(&self) -> usize {
        self.bytes(self.one_way * 2) + SPARE_BYTES
    }

    /// How long `len` bytes take to be put on the line.
    fn time(&self, len: usize) -> Duration {
        Duration::from_secs_f64(len as f64 / self.bytes_per_s)
    }

    /// How many bytes are put on the line in `time`. Rounded, as [`Self::time`] is: what takes
    /// that time is through when it is over.
    fn bytes(&self, time: Duration) -> usize {
        (time.as_secs_f64() * self.bytes_per_s).round() as usize
    }
}

/// Bytes that came without a pause: the line is busy with them from `begun` on.
#[derive(Debug)]
struct Burst {
    begun: Instant,
    len: usize,
}

#[derive(Debug)]
pub(super) struct Line {
    link: Link,
    batch: usize,
    /// The line is busy until then.
    free_at: Instant,
    bursts: VecDeque<Burst>,
}

impl Line {
    /// A line that takes bytes from `opens_at` on; what comes earlier waits.
    pub(super) fn new(link: Link, opens_at: Instant) -> Self {
        Self {
            link,
            // Not too much of what it can hold: the sender must be able to go on meanwhile.
            batch: link.bytes(BATCH_TIME).clamp(1, link.capacity() / 4),
            free_at: opens_at,
            bursts: VecDeque::new(),
        }
    }

    /// `len` bytes came in.
    pub(super) fn arrived(&mut self, now: Instant, len: usize) {
        let begun = now.max(self.free_at);
        self.free_at = begun + self.link.time(len);
        match self.bursts.back_mut() {
            Some(last) if begun > now => last.len += len,
            _ => self.bursts.push_back(Burst { begun, len }),
        }
    }

    /// When the next batch may go on; never, if nothing is on the way.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let first = self.bursts.front()?;
        let batch = first.len.min(self.batch);
        Some(first.begun + self.link.time(batch) + self.link.one_way)
    }

    /// How many bytes may go on; 0 before [`Self::next_at`].
    pub(super) fn due(&self, now: Instant) -> usize {
        if self.next_at().is_none_or(|at| now < at) {
            return 0;
        }
        let mut due = 0;
        for burst in &self.bursts {
            let carried = now.saturating_duration_since(burst.begun + self.link.one_way);
            let through = self.link.bytes(carried).min(burst.len);
            due += through;
            if through < burst.len {
                break;
            }
        }
        due
    }

    /// `len` of the bytes that were due went on.
    pub(super) fn left(&mut self, mut len: usize) {
        while let Some(first) = self.bursts.front_mut() {
            if len < first.len {
                first.len -= len;
                first.begun += self.link.time(len);
                return;
            }
            len -= first.len;
            self.bursts.pop_front();
        }
    }
}
