//! A token bucket. Pure: the caller brings the clock.

use std::time::Instant;

/// Tokens that come back at a steady rate, up to one second's worth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(per_second: f64, now: Instant) -> Bucket {
        Bucket {
            tokens: per_second,
            filled: now,
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, per_second: f64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * per_second).min(per_second);
        self.filled = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn gives_a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, start);
        assert_eq!((0..20).filter(|_| bucket.take(10.0, start)).count(), 10);
        let later = start + Duration::from_millis(550);
        assert_eq!((0..20).filter(|_| bucket.take(10.0, later)).count(), 5);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(
            (0..20).filter(|_| bucket.take(10.0, much_later)).count(),
            10
        );
    }
}
