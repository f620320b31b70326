//! How often a function may be invoked: a token bucket. Pure.
//!
//! Lambda serves at most 10 invokes a second per execution environment, and
//! answers the others with an error or with another, empty environment.
//! Counted is the time at which the bucket will be full again, as in the
//! generic cell rate algorithm (ITU-T I.371), so nothing drifts.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// Size and speed of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// One token comes back in so long.
    pub every: Duration,
    /// Tokens of a full bucket.
    pub burst: NonZeroU32,
}

impl Default for Settings {
    /// 10 a second, and as many at once: the limit of one environment.
    fn default() -> Self {
        Self {
            every: Duration::from_millis(100),
            burst: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
        }
    }
}

/// The tokens of one function. It begins full.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    settings: Settings,
    /// The bucket is full from then on.
    full_at: Option<Instant>,
}

impl Bucket {
    /// A full bucket.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            full_at: None,
        }
    }

    /// Whether more than half of the tokens are gone.
    pub fn is_low(&self, now: Instant) -> bool {
        let Settings { every, burst } = self.settings;
        let missing = self.full_at.map(|at| at.saturating_duration_since(now));
        missing.is_some_and(|missing| missing * 2 > every * burst.get())
    }

    /// The time in which a token comes back.
    pub fn every(&self) -> Duration {
        self.settings.every
    }

    /// Takes a token, or says when there will be one if nobody takes it before.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let Settings { every, burst } = self.settings;
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        // a token is there as soon as at most `burst - 1` are missing
        let missing_at_most = every * (burst.get() - 1);
        let wait = full_at
            .saturating_duration_since(now)
            .saturating_sub(missing_at_most);
        if wait > Duration::ZERO {
            return Err(now + wait);
        }
        self.full_at = Some(full_at + every);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn bucket(every_ms: u32, burst: u32) -> Bucket {
        Bucket::new(Settings {
            every: MS * every_ms,
            burst: NonZeroU32::new(burst).unwrap(),
        })
    }

    #[test]
    fn a_burst_and_then_ten_a_second() {
        let (mut bucket, start) = (Bucket::new(Settings::default()), Instant::now());
        for _ in 0..10 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        assert_eq!(bucket.take(start), Err(start + 100 * MS));
        assert_eq!(bucket.take(start + 99 * MS), Err(start + 100 * MS));
        assert_eq!(bucket.take(start + 100 * MS), Ok(()));
        assert_eq!(bucket.take(start + 100 * MS), Err(start + 200 * MS));
    }

    #[test]
    fn rest_fills_it_and_no_more_than_that() {
        let (mut bucket, start) = (bucket(100, 3), Instant::now());
        let later = start + Duration::from_secs(3_600);
        for now in [start, later] {
            assert!((0..3).all(|_| bucket.take(now).is_ok()));
            assert_eq!(bucket.take(now), Err(now + 100 * MS));
        }
    }

    #[test]
    fn one_without_burst_paces() {
        let (mut bucket, start) = (bucket(100, 1), Instant::now());
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start + 40 * MS), Err(start + 100 * MS));
        assert_eq!(bucket.take(start + 250 * MS), Ok(()));
        assert_eq!(bucket.take(start + 250 * MS), Err(start + 350 * MS));
    }

    #[test]
    fn time_that_seems_to_go_back_takes_nothing_away() {
        let (mut bucket, start) = (bucket(100, 1), Instant::now());
        assert_eq!(bucket.take(start + 500 * MS), Ok(()));
        assert_eq!(bucket.take(start), Err(start + 600 * MS));
        assert_eq!(bucket.take(start + 600 * MS), Ok(()));
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_sees_more_than_burst_and_rate(
            every_ms in 1u32..300,
            burst in 1u32..20,
            gaps_ms in prop::collection::vec(0u32..400, 1..200),
        ) {
            let (mut bucket, mut now) = (bucket(every_ms, burst), Instant::now());
            let mut taken: Vec<Instant> = Vec::new();
            for gap in gaps_ms {
                now += MS * gap;
                match bucket.take(now) {
                    Ok(()) => taken.push(now),
                    Err(when) => {
                        // told exactly: not a nanosecond early, and then for sure
                        let early = when - Duration::from_nanos(1);
                        prop_assert!(bucket.clone().take(early.max(now)).is_err());
                        prop_assert_eq!(bucket.clone().take(when), Ok(()));
                    }
                }
            }
            for (i, first) in taken.iter().enumerate() {
                for (count, last) in (1u32..).zip(&taken[i..]) {
                    let whole = (*last - *first).as_nanos() / (MS * every_ms).as_nanos();
                    prop_assert!(u128::from(count) <= u128::from(burst) + whole);
                }
            }
        }
    }
}
