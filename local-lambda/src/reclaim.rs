//! Which instances the platform takes away, and when. Pure; `reaper.rs` acts.

use crate::Error;
use crate::fleet::{InstanceId, InstanceState};
use crate::text;
use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An order to take instances away now, with SIGKILL and without notice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reclaim {
    /// Only these instances; all when `None`.
    pub ids: Option<Vec<InstanceId>>,
    /// Only instances of this function.
    pub function: Option<String>,
    /// Only so many of them, drawn at random; all when `None`.
    pub count: Option<usize>,
    /// Seed of the draw; `None`: the platform's generator goes on.
    pub seed: Option<u64>,
    /// Busy and starting instances too; their invocations fail.
    pub busy: bool,
}

impl Reclaim {
    /// One instance, whatever it is doing.
    pub fn instance(id: InstanceId) -> Reclaim {
        Reclaim {
            ids: Some(vec![id]),
            busy: true,
            ..Reclaim::default()
        }
    }

    /// All idle instances of a function.
    pub fn function(name: impl Into<String>) -> Reclaim {
        Reclaim {
            function: Some(name.into()),
            ..Reclaim::default()
        }
    }

    /// `count` idle instances of any function, drawn with `seed`.
    pub fn random(count: usize, seed: u64) -> Reclaim {
        Reclaim {
            count: Some(count),
            seed: Some(seed),
            ..Reclaim::default()
        }
    }

    /// Every idle instance.
    pub fn all() -> Reclaim {
        Reclaim::default()
    }

    /// Busy and starting instances too.
    pub fn and_busy(self) -> Reclaim {
        Reclaim { busy: true, ..self }
    }

    /// Chooses among `fleet` (in the order of ids).
    pub(crate) fn choose<'a>(
        &self,
        fleet: impl Iterator<Item = (InstanceId, &'a str, InstanceState)>,
        rng: &mut impl Rng,
    ) -> Vec<InstanceId> {
        let mut chosen: Vec<InstanceId> = fleet
            .filter(|(_, _, state)| self.busy || *state == InstanceState::Idle)
            .filter(|(_, name, _)| self.function.as_deref().is_none_or(|f| f == *name))
            .filter(|(id, _, _)| self.ids.as_ref().is_none_or(|ids| ids.contains(id)))
            .map(|(id, _, _)| id)
            .collect();
        if let Some(count) = self.count {
            chosen.shuffle(rng);
            chosen.truncate(count);
        }
        chosen
    }
}

/// One entry of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduled {
    /// When, counted from the moment the policy was set.
    #[serde(rename = "after_s", with = "text::seconds")]
    pub after: Duration,
    /// Only instances of this function.
    #[serde(default)]
    pub function: Option<String>,
    /// How many, drawn at random; all when `None`.
    #[serde(default)]
    pub count: Option<usize>,
}

/// A random process: so many instances a minute, drawn from a distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReclaimProcess {
    /// Reclaims in a minute -> share of minutes. Shares are relative.
    pub pmf: BTreeMap<u32, f64>,
    /// Size of this pool over that of the one observed: the number drawn is
    /// multiplied with it, keeping its mean.
    #[serde(default = "one")]
    pub scale: f64,
    /// Length of the process's minute; shorter to make time fly.
    #[serde(default = "minute", rename = "minute_s", with = "text::seconds")]
    pub minute: Duration,
}

fn one() -> f64 {
    1.0
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

/// When instances are taken besides the functions' own idle time-outs and ages.
/// The default takes none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReclaimPolicy {
    /// Scripted reclaims.
    pub schedule: Vec<Scheduled>,
    /// Reclaims at random.
    pub process: Option<ReclaimProcess>,
    /// Seed of all draws; `None`: the platform's generator goes on.
    pub seed: Option<u64>,
    /// Take busy instances too.
    pub busy: bool,
}

#[derive(Deserialize)]
struct DistributionFile {
    days: BTreeMap<String, Day>,
}

#[derive(Deserialize)]
struct Day {
    pmf: BTreeMap<String, f64>,
}

impl ReclaimProcess {
    /// Reads the distribution of `day` from a file of the form
    /// `{"days": {"2020-01-09": {"pmf": {"0": 0.2, "1": 0.8}}}}`.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read or has no such day.
    pub fn from_file(path: &Path, day: &str, scale: f64) -> Result<ReclaimProcess, Error> {
        let wrong = |reason: String| Error::File {
            path: PathBuf::from(path),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let file: DistributionFile =
            serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let Some(entry) = file.days.get(day) else {
            let days: Vec<&str> = file.days.keys().map(String::as_str).collect();
            return Err(wrong(format!(
                "no day {day:?}; there are {}",
                days.join(", ")
            )));
        };
        let mut pmf = BTreeMap::new();
        for (reclaims, share) in &entry.pmf {
            let reclaims = reclaims
                .parse()
                .map_err(|_| wrong(format!("{reclaims:?} is no number of reclaims")))?;
            if !share.is_finite() || *share < 0.0 {
                return Err(wrong(format!("{share} is no share of minutes")));
            }
            pmf.insert(reclaims, *share);
        }
        Ok(ReclaimProcess {
            pmf,
            scale,
            minute: minute(),
        })
    }

    /// How many instances go in one minute.
    pub(crate) fn draw(&self, rng: &mut impl Rng) -> usize {
        let sum: f64 = self.pmf.values().sum();
        let mut at = rng.random::<f64>() * sum;
        let mut reclaims = 0;
        for (n, share) in &self.pmf {
            reclaims = *n;
            at -= share;
            if at < 0.0 {
                break;
            }
        }
        scaled(reclaims.min(MAX_DRAW), self.scale, rng)
    }
}

/// More than any pool has; keeps a draw from a nonsensical file short.
const MAX_DRAW: u32 = 100_000;

/// `n * scale` on average, each reclaim counting or not by itself.
fn scaled(n: u32, scale: f64, rng: &mut impl Rng) -> usize {
    let scale = scale.clamp(0.0, 1e6);
    let part = scale.fract();
    (0..n)
        .map(|_| scale.trunc() as usize + usize::from(rng.random_bool(part)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const FLEET: [(InstanceId, &str, InstanceState); 4] = [
        (InstanceId(1), "a", InstanceState::Idle),
        (InstanceId(2), "a", InstanceState::Busy),
        (InstanceId(3), "b", InstanceState::Idle),
        (InstanceId(4), "b", InstanceState::Starting),
    ];

    fn chosen(order: &Reclaim) -> Vec<u64> {
        let mut ids: Vec<u64> = order
            .choose(FLEET.into_iter(), &mut StdRng::seed_from_u64(3))
            .into_iter()
            .map(|i| i.0)
            .collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn orders_choose_what_they_name() {
        assert_eq!(chosen(&Reclaim::all()), [1, 3]);
        assert_eq!(chosen(&Reclaim::all().and_busy()), [1, 2, 3, 4]);
        assert_eq!(chosen(&Reclaim::function("a")), [1]);
        assert_eq!(chosen(&Reclaim::instance(InstanceId(2))), [2]);
        assert_eq!(chosen(&Reclaim::instance(InstanceId(9))), [0u64; 0]);
        assert_eq!(chosen(&Reclaim::random(1, 0).and_busy()).len(), 1);
        assert_eq!(chosen(&Reclaim::random(9, 0)), [1, 3]);
    }

    #[test]
    fn the_sample_file_gives_a_process_with_its_mean() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/reclaims-sample.json");
        let process = ReclaimProcess::from_file(&path, "bad-day", 1.0).unwrap();
        let mean = |process: &ReclaimProcess, seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..20_000).map(|_| process.draw(&mut rng)).sum::<usize>() as f64 / 20_000.0
        };
        let expected: f64 = process.pmf.iter().map(|(n, p)| f64::from(*n) * p).sum();
        assert!((mean(&process, 1) - expected).abs() < 0.1 * expected);
        for scale in [0.03, 2.5] {
            let pool = ReclaimProcess {
                scale,
                ..process.clone()
            };
            assert!((mean(&pool, 1) - expected * scale).abs() < 0.15 * expected * scale);
        }
        assert!((mean(&process, 5) - mean(&process, 5)).abs() < f64::EPSILON);
        assert!(ReclaimProcess::from_file(&path, "no-day", 1.0).is_err());
    }
}
