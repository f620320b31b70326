//! Which versions of payloads, reports and links a side speaks, and which of them
//! both do. One number counts all three.
//!
//! A release speaks its own version and the one before. Who is asked cannot know
//! what a later release says, so these rules hold for every version to come:
//!
//! - Payload and report are JSON objects with `speaks`, two numbers: the oldest and
//!   the newest version. It is read before anything else. If both sides have no
//!   version in common, the report says so, and nobody dials.
//! - Otherwise the instance chooses the highest that both speak. Its report and
//!   every frame on the link, from the hello on, are of that version. Wherever else
//!   it may differ, a frame's header begins with magic and version.
//! - A payload is made before that, for all versions that it names. Fields that the
//!   reader does not know are ignored; none changes its meaning, and none is left
//!   out that one of the versions needs. What a node must not overlook goes only
//!   into payloads whose oldest version knows it. Reports: the same.
//! - Hello, welcome and reject may be longer than the reader knows: the rest is
//!   ignored. All other messages are as their version has them, to the byte.
//! - What outlives a link has no version of its own and cannot change so: a cell's
//!   checksum, and the descriptor's bytes under it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One version. 1 to 4 are those before there was any agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u8);

/// Versions that follow each other, one at least.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u8, u8)", into = "(u8, u8)")]
pub struct Versions {
    oldest: Version,
    newest: Version,
}

/// What this release speaks.
pub const SPOKEN: Versions = Versions {
    oldest: Version(5),
    newest: Version(5),
};

/// The first is to be the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the oldest version comes first")]
pub struct BadVersions;

/// Two sides cannot talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no common version: {ours} here, {theirs} there")]
pub struct NoCommon {
    /// What this side speaks.
    pub ours: Versions,
    /// What the other side speaks.
    pub theirs: Versions,
}

impl NoCommon {
    /// Whether it is this side that has to be updated.
    pub fn are_ours_older(&self) -> bool {
        self.ours.newest < self.theirs.oldest
    }
}

impl Versions {
    /// From the oldest to the newest, both included.
    pub const fn new(oldest: u8, newest: u8) -> Result<Self, BadVersions> {
        if oldest > newest {
            return Err(BadVersions);
        }
        let (oldest, newest) = (Version(oldest), Version(newest));
        Ok(Self { oldest, newest })
    }

    /// This one alone.
    pub const fn only(version: Version) -> Self {
        Self {
            oldest: version,
            newest: version,
        }
    }

    /// The oldest.
    pub const fn oldest(self) -> Version {
        self.oldest
    }

    /// The newest.
    pub const fn newest(self) -> Version {
        self.newest
    }

    /// Whether it is among them.
    pub fn has(self, version: Version) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }

    /// The highest version that both sides speak; both find the same one.
    ///
    /// # Errors
    /// There is none.
    pub fn agree(self, theirs: Self) -> Result<Version, NoCommon> {
        let highest = self.newest.min(theirs.newest);
        if self.has(highest) && theirs.has(highest) {
            Ok(highest)
        } else {
            Err(NoCommon { ours: self, theirs })
        }
    }
}

impl TryFrom<(u8, u8)> for Versions {
    type Error = BadVersions;
    fn try_from((oldest, newest): (u8, u8)) -> Result<Self, BadVersions> {
        Self::new(oldest, newest)
    }
}
impl From<Versions> for (u8, u8) {
    fn from(versions: Versions) -> Self {
        (versions.oldest.0, versions.newest.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "{}", self.newest)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}
impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_versions() -> impl Strategy<Value = Versions> {
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Versions::new(a.min(b), a.max(b)).unwrap())
    }

    fn nearby() -> impl Strategy<Value = Versions> {
        (0u8..12, 0u8..4).prop_map(|(oldest, more)| Versions::new(oldest, oldest + more).unwrap())
    }

    proptest! {
        #[test]
        fn both_sides_find_the_highest_common_one_or_none(
            a in prop_oneof![any_versions(), nearby()], b in prop_oneof![any_versions(), nearby()]
        ) {
            let common = |v: &Version| a.has(*v) && b.has(*v);
            let highest = (0..=u8::MAX).rev().map(Version).find(common);
            prop_assert_eq!(a.agree(b).ok(), highest);
            prop_assert_eq!(b.agree(a).ok(), highest);
            prop_assert_eq!(a.agree(a), Ok(a.newest()));
            if let (Err(here), Err(there)) = (a.agree(b), b.agree(a)) {
                prop_assert_eq!((here.ours, here.theirs), (there.theirs, there.ours));
                prop_assert!(here.are_ours_older() != there.are_ours_older(), "one is to be updated");
                prop_assert_eq!(here.are_ours_older(), a.newest() < b.oldest());
            }
        }

        #[test]
        fn neighbours_always_agree_and_releases_further_apart_never(release in 1u8..250, on in 1u8..5) {
            let speaks = |newest: u8| Versions::new(newest - 1, newest).unwrap();
            let agreed = speaks(release).agree(speaks(release + on));
            prop_assert_eq!(agreed.ok(), (on == 1).then_some(Version(release)));
        }

        #[test]
        fn it_is_two_numbers_in_json(a: u8, b: u8) {
            let read = serde_json::from_str::<Versions>(&format!("[{a},{b}]"));
            prop_assert_eq!(read.is_ok(), a <= b);
            if let Ok(versions) = read {
                prop_assert_eq!(serde_json::to_string(&versions).unwrap(), format!("[{a},{b}]"));
            }
        }
    }

    #[test]
    fn who_has_to_be_updated_is_said() {
        let [old, new] = [(3, 4), (6, 7)].map(|(a, b)| Versions::new(a, b).unwrap());
        let text = old.agree(new).unwrap_err().to_string();
        assert_eq!(text, "no common version: 3 to 4 here, 6 to 7 there");
        assert!(old.agree(new).unwrap_err().are_ours_older());
        assert_eq!(SPOKEN.to_string(), "5");
        assert_eq!(Versions::new(2, 1), Err(BadVersions));
    }
}
