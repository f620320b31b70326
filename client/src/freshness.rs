//! Whether what a cache has is good, and how long what is loaded stays so; pure.

use std::time::Duration;

use crate::Ttl;

/// How long what a loader returned is kept, for [`crate::Client::get_or_insert_with`].
///
/// ```
/// use std::time::Duration;
/// use scatterhoard_client::Keep;
/// // good for ten minutes, for another hour while somebody loads it anew
/// let keep = Keep::fresh_for(Duration::from_secs(600))
///     .then_stale_for(Duration::from_secs(3600))
///     .jitter(0.1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep {
    fresh: Duration,
    stale: Duration,
    jitter: f64,
}

impl Keep {
    /// So long it is good; then it is gone.
    #[must_use]
    pub fn fresh_for(time: Duration) -> Self {
        Self {
            fresh: time,
            stale: Duration::ZERO,
            jitter: 0.0,
        }
    }

    /// So long after that it is still returned at once, while one caller of this
    /// process loads it anew, in the background.
    #[must_use]
    pub fn then_stale_for(mut self, time: Duration) -> Self {
        self.stale = time;
        self
    }

    /// By up to this part of the time it is fresh for less, by chance: what was
    /// stored at one time does not go at one time. 0.1 is a tenth.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = if part.is_finite() {
            part.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self
    }

    /// The expiry of what is stored now; `chance` lies in 0..1. At least a
    /// millisecond.
    #[must_use]
    pub fn expiry(&self, chance: f64) -> Duration {
        let fresh = self
            .fresh
            .mul_f64(1.0 - self.jitter * chance.clamp(0.0, 1.0));
        fresh
            .saturating_add(self.stale)
            .max(Duration::from_millis(1))
    }

    /// What is to be done with a value that has so long to live.
    #[must_use]
    pub fn judge(&self, ttl: Ttl) -> Freshness {
        match ttl {
            Ttl::Missing => Freshness::Missing,
            Ttl::Forever => Freshness::Fresh,
            Ttl::In(rest) if rest > self.stale || self.stale.is_zero() => Freshness::Fresh,
            Ttl::In(_) => Freshness::Stale,
        }
    }
}

/// How good a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Good.
    Fresh,
    /// To be returned, and loaded anew.
    Stale,
    /// Not there.
    Missing,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_left_says_how_good_it_is() {
        let keep = Keep::fresh_for(10 * SECOND).then_stale_for(5 * SECOND);
        assert_eq!(keep.judge(Ttl::In(15 * SECOND)), Freshness::Fresh);
        assert_eq!(keep.judge(Ttl::In(5 * SECOND)), Freshness::Stale);
        assert_eq!(keep.judge(Ttl::In(Duration::ZERO)), Freshness::Stale);
        assert_eq!(keep.judge(Ttl::Missing), Freshness::Missing);
        assert_eq!(keep.judge(Ttl::Forever), Freshness::Fresh);
        let keep = Keep::fresh_for(10 * SECOND);
        assert_eq!(keep.judge(Ttl::In(Duration::ZERO)), Freshness::Fresh);
    }

    proptest! {
        #[test]
        fn jitter_takes_its_part_of_the_fresh_time_only(
            fresh_ms in 1_u64..10_000_000, stale_ms in 0_u64..10_000_000,
            part in 0.0..1.0, chance in 0.0..1.0,
        ) {
            let (fresh, stale) = (Duration::from_millis(fresh_ms), Duration::from_millis(stale_ms));
            let keep = Keep::fresh_for(fresh).then_stale_for(stale).jitter(part);
            let expiry = keep.expiry(chance);
            prop_assert!(expiry <= fresh + stale + Duration::from_millis(1));
            prop_assert!(expiry >= fresh.mul_f64(1.0 - part) + stale - Duration::from_micros(1));
            prop_assert_eq!(Keep::fresh_for(fresh).expiry(chance), fresh);
        }

        #[test]
        fn nothing_makes_it_panic(fresh in any::<u64>(), stale in any::<u64>(), part in any::<f64>()) {
            let keep = Keep::fresh_for(Duration::from_secs(fresh)).jitter(part);
            let keep = keep.then_stale_for(Duration::from_secs(stale));
            prop_assert!(keep.expiry(0.5) >= Duration::from_millis(1));
        }
    }
}
