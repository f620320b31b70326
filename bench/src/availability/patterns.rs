//! How instances are taken: days that were observed, minute by minute or as
//! independent minutes of the same distribution, and patterns of our own.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Instances of the pool that was observed.
pub(crate) const OBSERVED: f64 = 400.0;

/// One day of the file of observed reclaims.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Day {
    /// Reclaims in a minute -> share of minutes.
    pmf: BTreeMap<u32, f64>,
    /// Minute of the day -> reclaims, where there were any.
    timeline: BTreeMap<usize, u32>,
}

/// No minute of a pool of 400 has more; keeps sums of a nonsensical file short.
const MAX_A_MINUTE: u32 = 100_000;

impl Day {
    fn check(&self) -> Result<()> {
        let shares = || self.pmf.values();
        if shares().any(|s| !s.is_finite() || *s < 0.0) || shares().sum::<f64>() <= 0.0 {
            bail!("pmf: expected shares of minutes, none negative, not all 0");
        }
        let counts = self.pmf.keys().chain(self.timeline.values());
        if let Some(count) = counts.max().filter(|c| **c > MAX_A_MINUTE) {
            bail!("{count} reclaims in a minute: expected {MAX_A_MINUTE} at most");
        }
        Ok(())
    }
}

/// All days of the file, by date.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Days {
    pub(crate) days: BTreeMap<String, Day>,
}

impl Days {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let days: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a file of reclaims", path.display()))?;
        for (name, day) in &days.days {
            day.check()
                .with_context(|| format!("{}: day {name}", path.display()))?;
        }
        Ok(days)
    }
}

/// What is made of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reading {
    /// Its minutes as they came.
    Timeline,
    /// Independent minutes of its distribution.
    Minutes,
}

/// When instances are taken.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    /// So many of [`OBSERVED`] in each minute, over and over.
    Timeline(Vec<u32>),
    /// Cumulated share of minutes, and reclaims of [`OBSERVED`] in them.
    Minutes(Vec<(f64, u32)>),
    /// Every instance at an age of two hours, give or take a quarter.
    TwoHours,
    /// Once an hour all instances of one function, and nothing else.
    OneNode,
}

impl Pattern {
    /// The pattern of a day, or one of our own by its name.
    pub(crate) fn of(name: &str, reading: Reading, days: Option<&Days>) -> Result<Self> {
        match name {
            TWO_HOURS => return Ok(Self::TwoHours),
            ONE_NODE => return Ok(Self::OneNode),
            _ => {}
        }
        let Some(days) = days else {
            bail!("--reclaims FILE is needed for {name}")
        };
        let Some(day) = days.days.get(name) else {
            let known: Vec<&str> = days.days.keys().map(String::as_str).collect();
            bail!(
                "no day {name}; there are {}, {TWO_HOURS}, {ONE_NODE}",
                known.join(", ")
            )
        };
        Ok(match reading {
            Reading::Timeline => {
                let minute = |m: usize| day.timeline.get(&m).copied().unwrap_or(0);
                Self::Timeline((0..1440).map(minute).collect())
            }
            Reading::Minutes => {
                let mut sum = 0.0;
                let step = |(count, share): (&u32, &f64)| {
                    sum += share;
                    (sum, *count)
                };
                Self::Minutes(day.pmf.iter().map(step).collect())
            }
        })
    }

    /// Reclaims among [`OBSERVED`] in this minute.
    pub(crate) fn reclaims(&self, minute: usize, rng: &mut impl Rng) -> u32 {
        match self {
            Self::Timeline(minutes) => minutes[minute % minutes.len()],
            Self::Minutes(shares) => {
                let total = shares.last().map_or(0.0, |(sum, _)| *sum);
                let at = rng.random_range(0.0..1.0) * total;
                let found = shares.iter().find(|(sum, _)| at < *sum);
                found.map_or(0, |(_, count)| *count)
            }
            Self::TwoHours | Self::OneNode => 0,
        }
    }
}

impl Pattern {
    /// How often an instance is taken in an hour, on the average.
    pub(crate) fn losses_per_instance_hour(&self) -> f64 {
        let of_observed = |minute: f64| minute * 60.0 / OBSERVED;
        match self {
            Self::Timeline(minutes) => {
                let all: u32 = minutes.iter().sum();
                of_observed(f64::from(all) / minutes.len().max(1) as f64)
            }
            Self::Minutes(shares) => {
                let (mut before, mut mean) = (0.0, 0.0);
                for (sum, count) in shares {
                    mean += (sum - before) * f64::from(*count);
                    before = *sum;
                }
                of_observed(mean / before.max(f64::MIN_POSITIVE))
            }
            Self::TwoHours => 0.5,
            // two of a pool's many
            Self::OneNode => 0.0,
        }
    }
}

/// Name of [`Pattern::TwoHours`].
pub(crate) const TWO_HOURS: &str = "two-hours";
/// Name of [`Pattern::OneNode`].
pub(crate) const ONE_NODE: &str = "one-node";

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    const FILE: &str = r#"{"what": "x", "days": {"2020-01-01": {"total_24h": 3,
        "pmf": {"0": 0.5, "4": 0.5}, "timeline": {"2": 7}}}}"#;

    #[test]
    fn a_day_is_played_as_it_was_or_drawn_from_its_distribution() {
        let days: Days = serde_json::from_str(FILE).unwrap();
        let mut rng = SmallRng::seed_from_u64(1);
        let as_it_was = Pattern::of("2020-01-01", Reading::Timeline, Some(&days)).unwrap();
        let counts: Vec<u32> = (0..4).map(|m| as_it_was.reclaims(m, &mut rng)).collect();
        assert_eq!(counts, [0, 0, 7, 0]);
        let drawn = Pattern::of("2020-01-01", Reading::Minutes, Some(&days)).unwrap();
        let sum: u32 = (0..10_000).map(|m| drawn.reclaims(m, &mut rng)).sum();
        assert!((19_000..21_000).contains(&sum), "{sum}");
        assert_eq!(drawn.losses_per_instance_hour(), 2.0 * 60.0 / OBSERVED);
        let of_day = as_it_was.losses_per_instance_hour();
        assert!((of_day - 7.0 / 24.0 / OBSERVED).abs() < 1e-12, "{of_day}");
    }

    #[test]
    fn nonsensical_days_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("days.json");
        let error = |day: &str| {
            std::fs::write(&path, format!(r#"{{"days": {{"d": {day}}}}}"#)).unwrap();
            format!("{:#}", Days::read(&path).unwrap_err())
        };
        for (day, expected) in [
            (r#"{"pmf": {"0": -1.0}, "timeline": {}}"#, "day d: pmf"),
            (r#"{"pmf": {"0": 0.0}, "timeline": {}}"#, "not all 0"),
            (r#"{"pmf": {}, "timeline": {}}"#, "not all 0"),
            (
                r#"{"pmf": {"4000000": 1.0}, "timeline": {}}"#,
                "4000000 reclaims",
            ),
            (r#"{"pmf": {"0": 1.0}}"#, "not a file of reclaims"),
        ] {
            let error = error(day);
            assert!(error.contains(expected), "{day}: {error}");
        }
    }

    #[test]
    fn unknown_days_are_named() {
        let days: Days = serde_json::from_str(FILE).unwrap();
        let error = Pattern::of("x", Reading::Minutes, Some(&days)).unwrap_err();
        assert!(error.to_string().contains("2020-01-01"), "{error}");
        assert!(Pattern::of(TWO_HOURS, Reading::Minutes, None).is_ok());
    }
}
