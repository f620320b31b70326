//! How fast a client sends a body or takes a value: what it is waited for holds
//! memory that others wait for. Pure.

use std::time::Duration;

/// The least that a client must move, on the average of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeastRate {
    /// Bytes a second; 0: any rate will do.
    pub(super) bytes_per_s: u64,
    /// Averaged over so long.
    pub(super) window: Duration,
}

/// What one body or value has moved so far. Only the time in which the client was
/// waited for counts, not that in which we or nodes were slow.
#[derive(Debug)]
pub(super) struct Pace {
    least: LeastRate,
    waited: Duration,
    moved_bytes: u64,
}

impl Pace {
    /// At its beginning.
    pub(super) fn new(least: LeastRate) -> Self {
        Self {
            least,
            waited: Duration::ZERO,
            moved_bytes: 0,
        }
    }

    /// How long the client may be waited for now.
    pub(super) fn patience(&self) -> Duration {
        self.least.window.saturating_sub(self.waited)
    }

    /// So many bytes were moved after such a wait; false if the client is too slow.
    #[must_use]
    pub(super) fn moved(&mut self, bytes: u64, waited: Duration) -> bool {
        self.moved_bytes = self.moved_bytes.saturating_add(bytes);
        self.waited += waited;
        if self.waited < self.least.window {
            return true;
        }
        let least = self
            .least
            .bytes_per_s
            .saturating_mul(self.least.window.as_secs());
        let is_fast = self.moved_bytes >= least.max(1);
        (self.waited, self.moved_bytes) = (Duration::ZERO, 0);
        is_fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: LeastRate = LeastRate {
        bytes_per_s: 64 << 10,
        window: Duration::from_secs(30),
    };

    fn goes_on(pieces: impl IntoIterator<Item = (u64, u64)>) -> bool {
        let mut pace = Pace::new(LEAST);
        let mut moved = |(bytes, waited_s)| pace.moved(bytes, Duration::from_secs(waited_s));
        pieces.into_iter().all(&mut moved)
    }

    #[test]
    fn who_trickles_is_too_slow_and_who_pauses_is_not() {
        // a segment every 29 s
        assert!(!goes_on([(256 << 10, 29), (256 << 10, 29)]));
        // a byte a second
        assert!(!goes_on((0..31).map(|_| (1, 1))));
        // fast enough on the average
        assert!(goes_on((0..1000).map(|_| (64 << 10, 1))));
        assert!(goes_on([(2 << 20, 29), (2 << 20, 29), (2 << 20, 29)]));
        // waited for nobody
        assert!(goes_on((0..1000).map(|_| (1, 0))));
    }

    #[test]
    fn nobody_is_waited_for_longer_than_a_window() {
        let mut pace = Pace::new(LEAST);
        assert_eq!(pace.patience(), LEAST.window);
        assert!(pace.moved(1, Duration::from_secs(10)));
        assert_eq!(pace.patience(), Duration::from_secs(20));
        let mut any = Pace::new(LeastRate {
            bytes_per_s: 0,
            ..LEAST
        });
        assert!(any.moved(1, LEAST.window) && !any.moved(0, LEAST.window));
    }
}
