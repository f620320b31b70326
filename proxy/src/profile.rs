//! What was measured of a platform (`scatterhoard probe`), as a file of JSON, and the
//! defaults that follow from it. Settings that are given go before them. Pure, but for
//! reading and writing the file.
//!
//! The bench reads the file by [`Profile::read`], too.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Version of the file.
pub const VERSION: u32 = 1;
/// What an invoke of a warm instance takes by the literature (FAST 2020), which the value
/// of a spared wait was chosen for.
const USUAL_INVOKE_MS: f64 = 13.0;
/// A file may say what it likes: nothing is changed by more than this.
const MOST_CHANGE: f64 = 10.0;
/// Read asks for parity after so many ms, unless ordinary answers take longer.
const USUAL_HEDGE_MS: u64 = 50;
const LONGEST_HEDGE_MS: u64 = 500;
/// No silence is planned for that is longer.
const LONGEST_SILENCE_S: u64 = 1_800;
/// A silence that was kept so often without a loss is taken to be safe.
const PROVEN: u32 = 3;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is no profile.
    #[error("{path}: {error}; make it anew with `scatterhoard probe`")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: serde_json::Error,
    },
    /// It is of another release.
    #[error(
        "{path}: version {version}, expected {VERSION}; make it anew with `scatterhoard probe`"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// A figure that cannot have been measured.
    #[error("{path}: {what} is not a positive number")]
    Figure {
        /// The file.
        path: PathBuf,
        /// Which.
        what: &'static str,
    },
}

/// How figures of one kind are spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// So many.
    pub samples: u32,
    /// The median.
    pub p50: f64,
    /// One in ten is above.
    pub p90: f64,
    /// One in a hundred is above.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these figures; none of none.
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let rank = (share * figures.len() as f64).ceil() as usize;
            figures.get(rank.saturating_sub(1)).copied()
        };
        Some(Self {
            samples: u32::try_from(figures.len()).unwrap_or(u32::MAX),
            p50: rank(0.5)?,
            p90: rank(0.9)?,
            p99: rank(0.99)?,
            max: *figures.last()?,
        })
    }

    fn is_sound(&self) -> bool {
        [self.p50, self.p90, self.p99, self.max]
            .iter()
            .all(|x| x.is_finite() && *x > 0.0)
    }
}

/// What became of instances that were left alone for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The silence, in seconds.
    pub gap_s: u64,
    /// Instances that were there after it.
    pub kept: u32,
    /// Instances that were not.
    pub lost: u32,
}

/// A platform as it was measured. Times in milliseconds unless they say otherwise, rates
/// in MB (a million bytes) a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`VERSION`].
    pub version: u32,
    /// When it was measured, `2026-11-22T12:00:00Z`.
    pub date: String,
    /// Where: `aws`, or the endpoint.
    pub platform: String,
    /// Functions that were measured.
    pub functions: u32,
    /// Their memory in MB.
    pub memory_mb: u32,
    /// How long it took, in minutes.
    pub minutes: f64,
    /// An invoke of a warm instance, there and back.
    pub warm_invoke_ms: Option<Spread>,
    /// An invoke that had to start an instance, there and back.
    pub cold_invoke_ms: Option<Spread>,
    /// From an invoke of a warm instance until its link is open.
    pub wake_ms: Option<Spread>,
    /// A cell of 4 KiB over an open link.
    pub get_ms: Option<Spread>,
    /// Bytes to one function.
    pub put_mb_s: Option<Spread>,
    /// Bytes from one function.
    pub get_mb_s: Option<Spread>,
    /// Silences, each length once, the shortest first.
    pub gaps: Vec<Gap>,
}

/// Defaults that follow from a profile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Advice {
    /// What sparing a request the wait for an invoke is worth, in US dollars.
    pub usd_per_wait: f64,
    /// Longest silence before a ping at first, in seconds.
    pub warm_interval_s: u64,
    /// Longest at all, in seconds.
    pub warm_interval_max_s: u64,
    /// How long a read waits before it asks for parity.
    pub hedge_after_ms: u64,
    /// How long instances live that are kept busy.
    pub lifetime: Option<Duration>,
}

impl Profile {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let io = |error| ProfileError::Io {
            path: path.to_owned(),
            error,
        };
        let bytes = std::fs::read(path).map_err(io)?;
        let profile: Self = serde_json::from_slice(&bytes).map_err(|error| ProfileError::Json {
            path: path.to_owned(),
            error,
        })?;
        if profile.version != VERSION {
            return Err(ProfileError::Version {
                path: path.to_owned(),
                version: profile.version,
            });
        }
        match profile.unsound() {
            Some(what) => Err(ProfileError::Figure {
                path: path.to_owned(),
                what,
            }),
            None => Ok(profile),
        }
    }

    /// Writes a file, in place of one that is there.
    ///
    /// # Errors
    /// [`ProfileError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ProfileError> {
        let io = |error| ProfileError::Io {
            path: path.to_owned(),
            error,
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| io(e.into()))?;
        text.push(b'\n');
        std::fs::write(path, text).map_err(io)
    }

    fn unsound(&self) -> Option<&'static str> {
        let spreads = [
            ("warm_invoke_ms", self.warm_invoke_ms),
            ("cold_invoke_ms", self.cold_invoke_ms),
            ("wake_ms", self.wake_ms),
            ("get_ms", self.get_ms),
            ("put_mb_s", self.put_mb_s),
            ("get_mb_s", self.get_mb_s),
        ];
        let bad = spreads
            .into_iter()
            .find(|(_, spread)| spread.is_some_and(|s| !s.is_sound()));
        let gaps = self.gaps.iter().any(|gap| gap.gap_s == 0);
        bad.map(|(name, _)| name).or(gaps.then_some("gap_s"))
    }

    /// What it advises, where `usd_per_wait` and `warm_interval_s` are the defaults
    /// without one.
    pub fn advice(&self, usd_per_wait: f64, warm_interval_s: u64) -> Advice {
        let slower = self.wake_ms.map_or(1.0, |wake| wake.p50 / USUAL_INVOKE_MS);
        let slower = slower.clamp(1.0 / MOST_CHANGE, MOST_CHANGE);
        let hedge = self.get_ms.map_or(0, |get| (2.0 * get.p99).ceil() as u64);
        let least = match self.shortest_loss_s() {
            Some(loss) => warm_interval_s.min(loss / 2).max(1),
            None => warm_interval_s,
        };
        let proven = self.longest_kept_s().unwrap_or(0) * 3 / 4;
        Advice {
            usd_per_wait: usd_per_wait * slower,
            warm_interval_s: least,
            warm_interval_max_s: proven.min(LONGEST_SILENCE_S).max(least),
            hedge_after_ms: hedge.clamp(USUAL_HEDGE_MS, LONGEST_HEDGE_MS),
            lifetime: self.lifetime(),
        }
    }

    /// The shortest silence that costs half of the instances.
    pub fn shortest_loss_s(&self) -> Option<u64> {
        let costly = |gap: &&Gap| gap.lost > 0 && gap.lost >= gap.kept;
        self.gaps.iter().filter(costly).map(|gap| gap.gap_s).min()
    }

    /// The longest silence, shorter than that, which was kept often enough and without
    /// a loss.
    pub fn longest_kept_s(&self) -> Option<u64> {
        let below = self.shortest_loss_s().unwrap_or(u64::MAX);
        let proven = |gap: &&Gap| gap.gap_s < below && gap.lost == 0 && gap.kept >= PROVEN;
        self.gaps.iter().filter(proven).map(|gap| gap.gap_s).max()
    }

    /// How long instances live that are not left alone for too long: their time over
    /// their losses.
    pub fn lifetime(&self) -> Option<Duration> {
        let below = self.shortest_loss_s().unwrap_or(u64::MAX);
        let (mut lived_s, mut lost) = (0, 0);
        for gap in self.gaps.iter().filter(|gap| gap.gap_s < below) {
            let instances = u64::from(gap.kept) + u64::from(gap.lost);
            lived_s += gap.gap_s.saturating_mul(instances);
            lost += u64::from(gap.lost);
        }
        // under a minute it is the platform that is broken, or the file
        let lifetime = lived_s.checked_div(lost)?;
        Some(Duration::from_secs(lifetime.clamp(60, 7 * 86_400)))
    }
}

/// A time since 1970 as `2026-11-22T12:00:00Z`.
pub fn date(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // days from 0000-03-01 in eras of 400 years (Hinnant, "chrono-compatible low-level date
    // algorithms")
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(p50: f64) -> Option<Spread> {
        Spread::of(vec![p50])
    }

    fn gap(gap_s: u64, kept: u32, lost: u32) -> Gap {
        Gap { gap_s, kept, lost }
    }

    fn measured() -> Profile {
        Profile {
            version: VERSION,
            date: date(Duration::from_secs(1_795_348_800)),
            platform: "aws".into(),
            functions: 4,
            memory_mb: 1536,
            minutes: 30.0,
            warm_invoke_ms: spread(20.0),
            cold_invoke_ms: spread(300.0),
            wake_ms: spread(26.0),
            get_ms: spread(3.0),
            put_mb_s: spread(70.0),
            get_mb_s: spread(75.0),
            gaps: vec![
                gap(60, 9, 1),
                gap(240, 5, 0),
                gap(480, 2, 0),
                gap(960, 1, 3),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.json");
        measured().write(&path).unwrap();
        assert_eq!(Profile::read(&path).unwrap(), measured());
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.json");
        assert!(matches!(Profile::read(&path), Err(ProfileError::Io { .. })));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(
            Profile::read(&path),
            Err(ProfileError::Json { .. })
        ));
        let mut old = measured();
        old.version = 0;
        old.write(&path).unwrap();
        assert!(matches!(
            Profile::read(&path),
            Err(ProfileError::Version { .. })
        ));
        let mut wrong = measured();
        wrong.wake_ms = spread(-1.0);
        wrong.write(&path).unwrap();
        let error = Profile::read(&path).unwrap_err().to_string();
        assert!(error.contains("wake_ms"), "{error}");
    }

    #[test]
    fn nothing_measured_changes_nothing() {
        let advice = Profile::default().advice(1.5e-6, 45);
        let expected = Advice {
            usd_per_wait: 1.5e-6,
            warm_interval_s: 45,
            warm_interval_max_s: 45,
            hedge_after_ms: 50,
            lifetime: None,
        };
        assert_eq!(advice, expected);
    }

    #[test]
    fn defaults_follow_from_what_was_measured() {
        let advice = measured().advice(1.5e-6, 45);
        assert!((advice.usd_per_wait - 3.0e-6).abs() < 1e-12);
        assert_eq!(advice.warm_interval_s, 45);
        // 480 s were kept twice only, 960 s were not
        assert_eq!(advice.warm_interval_max_s, 180);
        assert_eq!(advice.hedge_after_ms, 50);
        // 10 of 60 s, 5 of 240 s, 2 of 480 s, and one loss
        assert_eq!(
            advice.lifetime,
            Some(Duration::from_secs(600 + 1_200 + 960))
        );
        let mut slow = measured();
        slow.gaps = vec![gap(30, 1, 4)];
        slow.get_ms = spread(80.0);
        slow.wake_ms = spread(1e9);
        let advice = slow.advice(1.5e-6, 45);
        assert_eq!(
            (advice.warm_interval_s, advice.warm_interval_max_s),
            (15, 15)
        );
        assert_eq!(advice.hedge_after_ms, 160);
        assert!((advice.usd_per_wait - 15e-6).abs() < 1e-12);
    }

    #[test]
    fn ranks_of_a_spread() {
        let spread = Spread::of((1..=200).rev().map(f64::from).collect()).unwrap();
        assert_eq!(
            (spread.samples, spread.p50, spread.p90),
            (200, 100.0, 180.0)
        );
        assert_eq!((spread.p99, spread.max), (198.0, 200.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn dates_as_people_write_them() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_348_800, "2026-11-22T12:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(date(Duration::from_secs(seconds)), text);
        }
    }
}
