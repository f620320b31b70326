//! At which age instances are taken.
//!
//! Most are seen alive only, and from some age on only: so deaths and time lived
//! are counted by age, and survival follows from the hazards, as Kaplan and
//! Meier (1958) do, with a hazard that is constant within each span of ages.

use std::time::Duration;

/// Spans of age: up to a minute, then each longer by 2^(1/4), to four days.
const SPANS: usize = 51;
const FIRST_S: f64 = 60.0;
const RATIO: f64 = 1.189_207_115_002_721;
/// Fewer deaths tell nothing.
const FEWEST_DEATHS: f64 = 3.0;
/// Fewer deaths of old ones do not show that age matters, nor does a hazard that
/// is not so many times as high as that of young ones.
const FEWEST_OLD_DEATHS: f64 = 10.0;
const FASTER: f64 = 3.0;

/// Deaths and time lived, by age.
#[derive(Clone, Debug)]
pub(super) struct Lifetimes {
    deaths: [f64; SPANS],
    lived_s: [f64; SPANS],
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            deaths: [0.0; SPANS],
            lived_s: [0.0; SPANS],
        }
    }
}

impl Lifetimes {
    /// An instance has got through the silence before `age`, or died in it: at
    /// any moment alike, for all we know.
    pub(super) fn add(&mut self, age: Duration, silence: Duration, survived: bool) {
        let silence_s = silence.as_secs_f64().max(1e-3);
        let from_s = (age.as_secs_f64() - silence_s).max(0.0);
        for span in 0..SPANS {
            let (begin_s, end_s) = bounds_s(span);
            // the part of the silence that lies within the span
            let begin = ((begin_s - from_s) / silence_s).clamp(0.0, 1.0);
            let end = ((end_s - from_s) / silence_s).clamp(0.0, 1.0);
            let (part, middle) = (end - begin, f64::midpoint(begin, end));
            let lived = if survived { 1.0 } else { 1.0 - middle };
            self.lived_s[span] += silence_s * part * lived;
            if !survived {
                self.deaths[span] += part;
            }
        }
    }

    pub(super) fn fade(&mut self, factor: f64) {
        for value in self.deaths.iter_mut().chain(&mut self.lived_s) {
            *value *= factor;
        }
    }

    /// The age by which this share has died, if those that get older die clearly
    /// faster from then on.
    pub(super) fn wearing(&self, share: f64) -> Option<Duration> {
        let age = self.quantile(share)?;
        let (mut young, mut old) = ((0.0, 0.0), (0.0, 0.0));
        for span in 0..SPANS {
            let (begin_s, end_s) = bounds_s(span);
            // by where the greater part of the span is
            let part = if f64::midpoint(begin_s, end_s) < age.as_secs_f64() {
                &mut young
            } else {
                &mut old
            };
            part.0 += self.deaths[span];
            part.1 += self.lived_s[span];
        }
        // one death more: few are no proof
        let young_per_s = (young.0 + 1.0) / young.1.max(1.0);
        let is_clear = old.0 >= FEWEST_OLD_DEATHS && old.0 > FASTER * young_per_s * old.1;
        is_clear.then_some(age)
    }

    /// The age by which this share has died.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let mut left = -(1.0 - share).ln();
        if self.deaths.iter().sum::<f64>() < FEWEST_DEATHS {
            return None;
        }
        for span in 0..SPANS {
            let (begin_s, end_s) = bounds_s(span);
            let (deaths, lived_s) = (self.deaths[span], self.lived_s[span]);
            if deaths <= 0.0 || lived_s <= 0.0 {
                continue;
            }
            let per_s = deaths / lived_s;
            let reached_s = begin_s + left / per_s;
            if reached_s <= end_s {
                return Some(Duration::from_secs_f64(reached_s));
            }
            left -= per_s * (end_s - begin_s);
        }
        None
    }
}

/// The last span has no end, but no need of one.
fn bounds_s(span: usize) -> (f64, f64) {
    let end_of = |span: usize| FIRST_S * RATIO.powi(span as i32);
    let begin_s = if span == 0 { 0.0 } else { end_of(span - 1) };
    (begin_s, end_of(span))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    /// Contacts every five minutes with 2,000 instances that die at an age which
    /// `life_s` draws; those of the first hour of life are not seen if `late`.
    fn seen(late: bool, life_s: impl Fn(&mut StdRng) -> f64) -> Lifetimes {
        let (mut rng, mut lifetimes) = (StdRng::seed_from_u64(3), Lifetimes::default());
        let silence = Duration::from_secs(300);
        for i in 0..2_000 {
            let life_s = life_s(&mut rng);
            let skipped = if late && i % 2 == 0 { 12 } else { 0 };
            for contact in 1..=60 {
                let age = silence * contact;
                let survived = age.as_secs_f64() < life_s;
                if contact > skipped {
                    lifetimes.add(age, silence, survived);
                }
                if !survived {
                    break;
                }
            }
        }
        lifetimes
    }

    fn minutes(age: Option<Duration>) -> f64 {
        age.unwrap().as_secs_f64() / 60.0
    }

    #[test]
    fn the_quantile_of_memoryless_lives_with_a_mean_of_two_hours() {
        let draw = |rng: &mut StdRng| -7_200.0 * (1.0 - rng.random::<f64>()).ln();
        // -ln(0.8) * 120 minutes = 26.8
        for late in [false, true] {
            let age = minutes(seen(late, draw).quantile(0.2));
            assert!((24.0..30.0).contains(&age), "{age}");
            assert_eq!(seen(late, draw).wearing(0.2), None, "age does not matter");
        }
        let half = minutes(seen(false, draw).quantile(0.5));
        assert!((76.0..90.0).contains(&half), "{half}");
    }

    #[test]
    fn lives_that_all_end_at_about_the_same_age() {
        let age = minutes(seen(false, |rng| rng.random_range(6_600.0..7_800.0)).quantile(0.2));
        // between the steps of the ages
        assert!((100.0..125.0).contains(&age), "{age}");
        let spread = seen(true, |rng| rng.random_range(5_400.0..9_000.0));
        let age = minutes(spread.wearing(0.2));
        assert!((85.0..115.0).contains(&age), "{age}");
        let mut few = spread;
        few.fade(1e-3);
        assert_eq!(few.wearing(0.2), None);
    }

    #[test]
    fn without_deaths_nothing_is_typical() {
        assert_eq!(Lifetimes::default().quantile(0.2), None);
        // nobody was watched for longer than five hours
        assert_eq!(seen(false, |_| 1e6).quantile(0.2), None);
        let mut few = seen(false, |_| 5_000.0);
        assert!(few.quantile(0.2).is_some());
        few.fade(1e-4);
        assert_eq!(few.quantile(0.2), None);
    }
}
