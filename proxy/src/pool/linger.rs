//! How long an idle invocation is held open, from how long nodes of late were
//! left alone. Pure.
//!
//! Holding costs money by the millisecond; letting go costs another invoke when
//! the next request comes, and its time. Without knowledge the best is to hold
//! for as long as an invoke would cost. A node that is asked again soon after
//! that, time after time, is held until most such requests have come.

use std::time::Duration;

use tokio::time::Instant;

/// Weight of the latest gap among the remembered ones.
const WEIGHT: f64 = 0.3;
/// Held for so many typical gaps, since gaps scatter: of gaps as they come by
/// chance one in a hundred is longer, and an object asks many nodes at once.
const GAPS_HELD: f64 = 8.0;
/// Not held at all, beyond the least, if fewer than so many could be.
const FEWEST_GAPS: f64 = 4.0;

/// Bounds of the holding time.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// As long as another invoke would cost, by the prices of both.
    pub least: Duration,
    /// What sparing a client the wait for an invoke may cost.
    pub most: Duration,
}

/// The gaps between the requests to one node.
#[derive(Clone, Copy, Debug)]
pub struct Linger {
    settings: Settings,
    last_request: Option<Instant>,
    /// Typical gap among those longer than `least`, as the logarithm of
    /// milliseconds: one long night must not hide a busy day.
    typical_ln_ms: Option<f64>,
}

impl Linger {
    /// Nothing is known yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            last_request: None,
            typical_ln_ms: None,
        }
    }

    /// A request for the node.
    pub fn requested(&mut self, now: Instant) {
        let Some(last) = self.last_request.replace(now) else {
            return;
        };
        let gap = now.saturating_duration_since(last);
        if gap <= self.settings.least {
            return;
        }
        let ln_ms = (gap.as_secs_f64() * 1e3).ln();
        let typical = self
            .typical_ln_ms
            .map_or(ln_ms, |old| old + WEIGHT * (ln_ms - old));
        self.typical_ln_ms = Some(typical);
    }

    /// How long the next invocation is held open after its last request.
    pub fn hold(&self) -> Duration {
        let Settings { least, most } = self.settings;
        let typical = self.typical_ln_ms.map(|ln_ms| ln_ms.exp() / 1e3);
        match typical {
            Some(gap) if gap * FEWEST_GAPS <= most.as_secs_f64() => {
                Duration::from_secs_f64(gap * GAPS_HELD).clamp(least, most)
            }
            // it would mostly be held in vain
            _ => least,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEAST: Duration = Duration::from_millis(10);
    const MOST: Duration = Duration::from_millis(200);

    fn after(gaps_ms: &[u64]) -> Duration {
        let settings = Settings {
            least: LEAST,
            most: MOST,
        };
        let (mut linger, mut now) = (Linger::new(settings), Instant::now());
        linger.requested(now);
        for gap in gaps_ms {
            now += Duration::from_millis(*gap);
            linger.requested(now);
        }
        linger.hold()
    }

    #[test]
    fn unknown_and_rare_requests_cost_one_invoke_of_waiting() {
        assert_eq!(after(&[]), LEAST);
        assert_eq!(after(&[1, 2, 3, 9]), LEAST);
        assert_eq!(after(&[60_000, 30_000]), LEAST);
    }

    #[test]
    fn steady_requests_hold_the_node() {
        assert!(after(&[20, 20, 20]) >= Duration::from_millis(79));
        // requests in one burst say nothing about the gaps between bursts
        assert_eq!(after(&[20, 1, 1, 1]), after(&[20]));
    }

    #[test]
    fn it_learns_both_ways_within_a_few_gaps() {
        assert!(after(&[60_000, 15, 15, 15, 15, 15, 15, 15]) > LEAST);
        assert_eq!(after(&[15, 15, 15, 60_000, 60_000]), LEAST);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(gaps in prop::collection::vec(0u64..100_000_000, 0..30)) {
            let hold = after(&gaps);
            prop_assert!((LEAST..=MOST).contains(&hold));
        }
    }
}
