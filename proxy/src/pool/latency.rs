//! How long a node takes to answer, for the decision when to stop waiting. Pure.

use std::time::Duration;

/// Weights of the latest answer in the mean and in the deviation, and how many
/// deviations are still ordinary: as TCP judges its retransmissions (RFC 6298).
const MEAN_WEIGHT: f64 = 0.125;
const DEVIATION_WEIGHT: f64 = 0.25;
const ORDINARY_DEVIATIONS: f64 = 4.0;

/// The answers of one node so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Mean and mean deviation, in seconds.
    estimate: Option<(f64, f64)>,
}

impl Latency {
    /// An answer took so long.
    pub fn observe(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.estimate = Some(match self.estimate {
            None => (took, took / 2.0),
            Some((mean, deviation)) => {
                let error = took - mean;
                (
                    mean + MEAN_WEIGHT * error,
                    deviation + DEVIATION_WEIGHT * (error.abs() - deviation),
                )
            }
        });
    }

    /// What takes longer than this is out of the ordinary; none before the
    /// first answer.
    pub fn ordinary(&self) -> Option<Duration> {
        let (mean, deviation) = self.estimate?;
        Some(Duration::from_secs_f64(
            mean + ORDINARY_DEVIATIONS * deviation,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_answers_make_it_strict_and_a_slow_one_lenient() {
        let mut latency = Latency::default();
        assert_eq!(latency.ordinary(), None);
        (0..50).for_each(|_| latency.observe(Duration::from_millis(10)));
        let steady = latency.ordinary().unwrap();
        assert!((Duration::from_millis(10)..Duration::from_millis(11)).contains(&steady));
        latency.observe(Duration::from_millis(100));
        assert!(latency.ordinary().unwrap() > Duration::from_millis(100));
    }
}
