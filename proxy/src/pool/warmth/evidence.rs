//! Counts that fade, the hazard that they show, and the odds of a sequential
//! test.

use std::time::Duration;

/// Chance of dying for other reasons within a silence is taken to be between
/// these: one death never proves anything alone, nor do many prove nothing.
const DYING: std::ops::RangeInclusive<f64> = 1e-4..=0.5;
/// Weight of what is expected beforehand, in deaths.
const EXPECTED: f64 = 1.0;

/// Contacts, by weight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    contacts: f64,
    deaths: f64,
    lived_s: f64,
}

impl Tally {
    /// Who died did so half-way, for all we know.
    pub(super) fn add(&mut self, silence: Duration, survived: bool) {
        let silence_s = silence.as_secs_f64();
        self.contacts += 1.0;
        self.deaths += f64::from(u8::from(!survived));
        self.lived_s += if survived { silence_s } else { silence_s / 2.0 };
    }

    pub(super) fn fade(&mut self, factor: f64) {
        self.contacts *= factor;
        self.deaths *= factor;
        self.lived_s *= factor;
    }

    /// Share of the contacts that died beyond this hazard.
    pub(super) fn excess(&self, per_s: f64) -> Option<f64> {
        (self.contacts >= 1.0)
            .then(|| ((self.deaths - per_s * self.lived_s) / self.contacts).max(0.0))
    }
}

/// The hazard that no ping prevents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hazard {
    expected_s: f64,
    seen: Tally,
}

impl Hazard {
    /// Mean lifetime to expect beforehand.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            expected_s: lifetime.as_secs_f64().max(1.0),
            seen: Tally::default(),
        }
    }

    pub(super) fn add(&mut self, silence: Duration, survived: bool) {
        self.seen.add(silence, survived);
    }

    pub(super) fn fade(&mut self, factor: f64) {
        self.seen.fade(factor);
    }

    /// Deaths per second of life: the mean of a gamma distribution.
    pub(super) fn per_s(&self) -> f64 {
        (self.seen.deaths + EXPECTED) / (self.seen.lived_s + EXPECTED * self.expected_s)
    }

    /// Chance of it, one standard deviation above the mean: the fewer deaths
    /// were seen, the less the others are blamed on silence.
    pub(super) fn of_dying_within(&self, silence: Duration) -> f64 {
        let deaths = self.seen.deaths + EXPECTED;
        let per_s = self.per_s() * (1.0 + 1.0 / deaths.sqrt());
        let chance = 1.0 - (-per_s * silence.as_secs_f64()).exp();
        chance.clamp(*DYING.start(), *DYING.end())
    }
}

/// The logarithm of a likelihood ratio.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Odds(f64);

impl Odds {
    pub(super) fn log(self) -> f64 {
        self.0
    }

    /// Wald's test: evidence for and against adds up.
    pub(super) fn add(&mut self, evidence: f64) {
        self.0 += evidence;
    }

    /// Page's test: what speaks against is forgotten, so that a change is seen
    /// as soon after a long quiet time as after a short one.
    pub(super) fn add_not_below_even(&mut self, evidence: f64) {
        self.0 = (self.0 + evidence).max(0.0);
    }
}
