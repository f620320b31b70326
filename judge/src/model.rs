//! What each key may hold, whatever happened: a read is judged by what was asked and
//! acknowledged before it. Pure; time is counted from the start of the run.
//!
//! A key has one writer and any number of readers. Every write attempt is a version. The
//! *candidates* are those that may be the current one: the last that was acknowledged or
//! seen, and those behind it that were interrupted or are under way. A read may bring any
//! candidate of the moment when it began, or a version begun since; nothing else, ever.

use std::time::Duration;

use crate::bodies::Bodies;

/// The server decides expiry by its wall clock, the judge by a steady one.
const CLOCKS_DIFFER_BY: Duration = Duration::from_millis(50);

/// What a write wants the key to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is deleted.
    Nothing,
    /// So many bytes, perhaps for a time.
    Value {
        /// Bytes.
        len: usize,
        /// How long.
        ttl: Option<Duration>,
    },
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It took effect.
    Acknowledged,
    /// With an error: it took effect or not, and does so no more.
    Refused,
    /// The connection or the patience ended: the same, and it may do so yet.
    Unknown,
}

#[derive(Debug)]
struct Version {
    content: Content,
    begun: Duration,
    /// None while it may take effect.
    ended: Option<Duration>,
}

/// All versions of one key.
#[derive(Debug)]
pub struct Key {
    number: usize,
    versions: Vec<Version>,
    candidates: Vec<usize>,
}

/// A read under way.
#[derive(Debug)]
pub struct Read {
    begun: Duration,
    candidates: Vec<usize>,
    /// Versions from here on were begun since.
    next: usize,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A value that may be there.
    Hit,
    /// Nil, as it may be: deleted or expired.
    Absent,
    /// Nil, though a value is stored that was begun to be written then.
    Miss {
        /// When.
        written: Duration,
    },
    /// A value that was the key's once, and is so no more.
    Stale {
        /// Which.
        version: usize,
    },
    /// Bytes that were never the key's.
    Wrong,
}

impl Key {
    /// A key that holds nothing.
    pub fn new(number: usize) -> Self {
        let nothing = Version {
            content: Content::Nothing,
            begun: Duration::ZERO,
            ended: Some(Duration::ZERO),
        };
        Self {
            number,
            versions: vec![nothing],
            candidates: vec![0],
        }
    }

    /// A write begins; its version.
    pub fn begin_write(&mut self, content: Content, now: Duration) -> usize {
        self.versions.push(Version {
            content,
            begun: now,
            ended: None,
        });
        let version = self.versions.len() - 1;
        self.candidates.push(version);
        version
    }

    /// A write is over, as far as can be said.
    pub fn end_write(&mut self, version: usize, ending: Ending, now: Duration) {
        if ending != Ending::Unknown {
            self.versions[version].ended = Some(now);
        }
        if ending == Ending::Acknowledged {
            self.candidates.retain(|candidate| *candidate >= version);
        }
    }

    /// The bytes of a version.
    pub fn body<'a>(&self, version: usize, bodies: &'a Bodies) -> &'a [u8] {
        match self.versions[version].content {
            Content::Nothing => &[],
            Content::Value { len, .. } => bodies.body(self.number, version as u32, len),
        }
    }

    /// A read begins.
    pub fn begin_read(&self, now: Duration) -> Read {
        Read {
            begun: now,
            candidates: self.candidates.clone(),
            next: self.versions.len(),
        }
    }

    /// Judges what a read brought; what it saw binds those that begin after it.
    pub fn end_read(
        &mut self,
        read: &Read,
        value: Option<&[u8]>,
        bodies: &Bodies,
        now: Duration,
    ) -> Verdict {
        let possible = || {
            let begun_since = read.next..self.versions.len();
            read.candidates.iter().copied().chain(begun_since)
        };
        let Some(value) = value else {
            let may_be_gone = |version: usize| self.versions[version].may_be_gone(now);
            if possible().any(may_be_gone) {
                return Verdict::Absent;
            }
            let written = possible().map(|version| self.versions[version].begun);
            return Verdict::Miss {
                written: written.min().unwrap_or(now),
            };
        };
        let is =
            |version: usize| self.versions[version].holds() && self.body(version, bodies) == value;
        let seen = possible().find(|version| is(*version));
        match seen {
            Some(version) if !self.versions[version].must_be_gone(read.begun) => {
                self.saw(version, read.begun);
                Verdict::Hit
            }
            Some(version) => Verdict::Stale { version },
            None => match (0..self.versions.len()).find(|version| is(*version)) {
                Some(version) => Verdict::Stale { version },
                None => Verdict::Wrong,
            },
        }
    }

    /// What is older is over; so is what had failed before the read began.
    fn saw(&mut self, seen: usize, begun: Duration) {
        if !self.candidates.contains(&seen) {
            return;
        }
        let versions = &self.versions;
        let had_failed = |version: usize| versions[version].ended.is_some_and(|at| at <= begun);
        self.candidates
            .retain(|version| *version == seen || *version > seen && !had_failed(*version));
    }
}

impl Version {
    fn holds(&self) -> bool {
        self.content != Content::Nothing
    }

    fn may_be_gone(&self, now: Duration) -> bool {
        match self.content {
            Content::Nothing => true,
            Content::Value { ttl, .. } => {
                ttl.is_some_and(|ttl| self.begun + ttl <= now + CLOCKS_DIFFER_BY)
            }
        }
    }

    fn must_be_gone(&self, now: Duration) -> bool {
        match (self.content, self.ended) {
            (Content::Value { ttl: Some(ttl), .. }, Some(ended)) => {
                ended + ttl + CLOCKS_DIFFER_BY < now
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 1000;
    const VALUE: Content = Content::Value {
        len: LEN,
        ttl: None,
    };

    struct World {
        key: Key,
        bodies: Bodies,
        clock: Duration,
    }

    impl World {
        fn new() -> Self {
            Self {
                key: Key::new(3),
                bodies: Bodies::new(LEN, 1),
                clock: Duration::ZERO,
            }
        }

        fn tick(&mut self) -> Duration {
            self.clock += Duration::from_millis(1);
            self.clock
        }

        fn write(&mut self, content: Content, ending: Ending) -> usize {
            let begun = self.tick();
            let version = self.key.begin_write(content, begun);
            let ended = self.tick();
            self.key.end_write(version, ending, ended);
            version
        }

        fn read(&mut self, brought: Option<usize>) -> Verdict {
            let begun = self.tick();
            let read = self.key.begin_read(begun);
            self.end_read(&read, brought)
        }

        fn end_read(&mut self, read: &Read, brought: Option<usize>) -> Verdict {
            let ended = self.tick();
            let body = brought.map(|version| self.key.body(version, &self.bodies).to_vec());
            self.key
                .end_read(read, body.as_deref(), &self.bodies, ended)
        }
    }

    #[test]
    fn what_was_acknowledged_is_never_followed_by_what_was_before() {
        let mut world = World::new();
        let old = world.write(VALUE, Ending::Acknowledged);
        assert_eq!(world.read(Some(old)), Verdict::Hit);
        let new = world.write(VALUE, Ending::Acknowledged);
        assert_eq!(world.read(Some(old)), Verdict::Stale { version: old });
        assert_eq!(world.read(Some(new)), Verdict::Hit);
        world.write(Content::Nothing, Ending::Acknowledged);
        assert_eq!(world.read(Some(new)), Verdict::Stale { version: new });
        assert_eq!(world.read(None), Verdict::Absent);
    }

    #[test]
    fn an_interrupted_write_leaves_old_or_new_and_then_that() {
        let mut world = World::new();
        let old = world.write(VALUE, Ending::Acknowledged);
        let new = world.write(VALUE, Ending::Refused);
        assert_eq!(world.read(Some(new)), Verdict::Hit);
        assert_eq!(world.read(Some(old)), Verdict::Stale { version: old });
        let refused = world.write(VALUE, Ending::Refused);
        assert_eq!(world.read(Some(new)), Verdict::Hit);
        assert_eq!(
            world.read(Some(refused)),
            Verdict::Stale { version: refused }
        );
        let unknown = world.write(VALUE, Ending::Unknown);
        assert_eq!(world.read(Some(new)), Verdict::Hit);
        assert_eq!(world.read(Some(unknown)), Verdict::Hit);
        assert_eq!(world.read(Some(new)), Verdict::Stale { version: new });
    }

    #[test]
    fn a_mixture_is_wrong() {
        let mut world = World::new();
        let old = world.write(VALUE, Ending::Acknowledged);
        let new = world.write(VALUE, Ending::Refused);
        let mut mixed = world.key.body(old, &world.bodies).to_vec();
        mixed[LEN / 2..].copy_from_slice(&world.key.body(new, &world.bodies)[LEN / 2..]);
        let now = world.tick();
        let read = world.key.begin_read(now);
        let verdict = world.key.end_read(&read, Some(&mixed), &world.bodies, now);
        assert_eq!(verdict, Verdict::Wrong);
    }

    #[test]
    fn a_read_may_bring_what_was_current_while_it_lasted() {
        let mut world = World::new();
        let old = world.write(VALUE, Ending::Acknowledged);
        let now = world.tick();
        let (first, second) = (world.key.begin_read(now), world.key.begin_read(now));
        let new = world.write(VALUE, Ending::Acknowledged);
        assert_eq!(world.end_read(&first, Some(new)), Verdict::Hit);
        assert_eq!(world.end_read(&second, Some(old)), Verdict::Hit);
        assert_eq!(world.read(Some(old)), Verdict::Stale { version: old });
    }

    #[test]
    fn nil_is_a_miss_unless_deleted_or_expired() {
        let mut world = World::new();
        assert_eq!(world.read(None), Verdict::Absent);
        world.write(VALUE, Ending::Refused);
        assert_eq!(world.read(None), Verdict::Absent);
        world.write(VALUE, Ending::Acknowledged);
        let written = world.clock - Duration::from_millis(1);
        assert_eq!(world.read(None), Verdict::Miss { written });
        let content = Content::Value {
            len: LEN,
            ttl: Some(Duration::from_secs(1)),
        };
        let brief = world.write(content, Ending::Acknowledged);
        assert!(matches!(world.read(None), Verdict::Miss { .. }));
        assert_eq!(world.read(Some(brief)), Verdict::Hit);
        world.clock += Duration::from_secs(1);
        assert_eq!(world.read(None), Verdict::Absent);
        world.clock += Duration::from_secs(1);
        assert_eq!(world.read(Some(brief)), Verdict::Stale { version: brief });
    }
}
