//! What happened, in order: one seed gives one history.

use std::{cell::RefCell, collections::VecDeque, fmt::Display, time::Duration};

use tokio::time::Instant;

/// Events kept for who wants to see how it came to a failure.
const KEPT: usize = 4_000;

/// All events so far, most of them as a fingerprint only.
pub struct History {
    began: Instant,
    prints: bool,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    fingerprint: u64,
    count: u64,
    last: VecDeque<String>,
}

impl History {
    /// An empty history that begins now; with `prints` every event goes to stderr.
    pub fn new(prints: bool) -> Self {
        Self {
            began: Instant::now(),
            prints,
            inner: RefCell::default(),
        }
    }

    /// Virtual time since the beginning.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Something happened.
    #[allow(clippy::print_stderr, reason = "asked for with --trace")]
    pub fn add(&self, event: impl Display) {
        let line = format!("{:>12.6} {event}", self.now().as_secs_f64());
        let mut inner = self.inner.borrow_mut();
        inner.fingerprint = fnv(inner.fingerprint, line.as_bytes());
        inner.count += 1;
        if self.prints {
            eprintln!("{line}");
        }
        if inner.last.len() == KEPT {
            inner.last.pop_front();
        }
        inner.last.push_back(line);
    }

    /// A number that differs between histories that differ, and how many events there were.
    pub fn fingerprint(&self) -> (u64, u64) {
        let inner = self.inner.borrow();
        (inner.fingerprint, inner.count)
    }

    /// The last events that mention any of these words.
    pub fn about(&self, words: &[String], at_most: usize) -> Vec<String> {
        let inner = self.inner.borrow();
        let mentions = |line: &&String| words.iter().any(|word| line.contains(word.as_str()));
        let found = inner.last.iter().rev().filter(mentions).take(at_most);
        let mut found: Vec<String> = found.cloned().collect();
        found.reverse();
        found
    }
}

/// FNV-1a, continued.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    let start = if hash == 0 {
        0xcbf2_9ce4_8422_2325
    } else {
        hash
    };
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
