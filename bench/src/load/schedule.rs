//! When requests of an open loop are due, whatever the server does.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// More requests a second than one machine sends.
pub(crate) const MAX_RATE: f64 = 10e6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrivals {
    /// At even distances.
    Constant,
    /// Independent of each other: exponential distances.
    Poisson,
}

impl Arrivals {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }
}

/// An open loop: requests a second of all clients together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct OpenLoop {
    pub(crate) rate: f64,
    pub(crate) arrivals: Arrivals,
}

/// Moments from a start on, in order, until an end.
#[derive(Debug)]
pub(crate) struct Schedule {
    open: OpenLoop,
    end_s: f64,
    rng: SmallRng,
    /// How many there were, and the latest of them.
    count: u64,
    latest_s: f64,
}

impl Schedule {
    pub(crate) fn new(open: OpenLoop, seconds: f64, seed: u64) -> Self {
        Self {
            open,
            end_s: seconds,
            rng: SmallRng::seed_from_u64(seed),
            count: 0,
            latest_s: 0.0,
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let at_s = match self.open.arrivals {
            // counted, not summed up: no error grows
            Arrivals::Constant => self.count as f64 / self.open.rate,
            Arrivals::Poisson => {
                let share = 1.0 - self.rng.random::<f64>();
                self.latest_s - share.ln() / self.open.rate
            }
        };
        self.count += 1;
        self.latest_s = at_s;
        (at_s < self.end_s).then(|| Duration::from_secs_f64(at_s))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moments(arrivals: Arrivals, rate: f64, seconds: f64, seed: u64) -> Vec<f64> {
        let schedule = Schedule::new(OpenLoop { rate, arrivals }, seconds, seed);
        schedule.map(|at| at.as_secs_f64()).collect()
    }

    proptest! {
        #[test]
        fn they_are_in_order_within_the_time_and_the_same_for_a_seed(
            rate in 1.0..50_000.0,
            seconds in 0.0..1.0,
            seed: u64,
            poisson: bool,
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let all = moments(arrivals, rate, seconds, seed);
            prop_assert!(all.is_sorted());
            prop_assert!(all.iter().all(|at| *at < seconds + 1e-9));
            prop_assert_eq!(&all, &moments(arrivals, rate, seconds, seed));
            if !poisson {
                let expected = rate * seconds;
                prop_assert!((all.len() as f64 - expected).abs() <= 1.0 + 1e-6 * expected);
            }
        }
    }

    #[test]
    fn poisson_has_its_rate_and_its_spread() {
        let all = moments(Arrivals::Poisson, 1_000.0, 100.0, 9);
        // ten standard deviations of a count of 100,000
        assert!(all.len().abs_diff(100_000) < 3_163, "{}", all.len());
        let gaps: Vec<f64> = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // exponential: the standard deviation is the mean
        let spread = variance.sqrt() / mean;
        assert!((spread - 1.0).abs() < 0.05, "{spread}");
        let long = gaps.iter().filter(|gap| **gap > 3e-3).count() as f64 / gaps.len() as f64;
        assert!((long - (-3f64).exp()).abs() < 0.005, "{long}");
    }

    #[test]
    fn even_distances_stay_even() {
        let all = moments(Arrivals::Constant, 3.0, 1_000.0, 0);
        assert_eq!(all.len(), 3_000);
        assert!((all[2_999] - 2_999.0 / 3.0).abs() < 1e-6);
    }
}
