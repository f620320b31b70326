//! Keyspace notifications: what happens to keys, published to channels that are
//! called after the key and after the event, as Redis does.

use std::{
    fmt,
    ops::BitOr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;

use super::Hub;

/// Classes of events, by the letters of `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u32);

impl Classes {
    /// K: to channels called after keys.
    pub const KEYSPACE: Self = Self(1);
    /// E: to channels called after events.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// g: of commands on any key.
    pub const GENERIC: Self = Self(1 << 2);
    /// $
    pub const STRING: Self = Self(1 << 3);
    /// h
    pub const HASH: Self = Self(1 << 6);
    /// x: the time of keys is over.
    pub const EXPIRED: Self = Self(1 << 8);
    /// e: keys have to make room.
    pub const EVICTED: Self = Self(1 << 9);
    /// m: somebody reads a key that is not there. Not in A.
    pub const MISSED: Self = Self(1 << 12);
    /// n: a key is there that was not. Not in A.
    pub const NEW: Self = Self(1 << 13);

    /// What is wrong with letters that [`Self::parse`] refuses.
    pub const UNKNOWN: &str = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";

    /// Letters, in the order in which Redis shows them; among them those of types that
    /// no key has here: lists, sets, sorted sets, streams, modules.
    const LETTERS: [(char, u32); 14] = [
        ('g', 1 << 2),
        ('$', 1 << 3),
        ('l', 1 << 4),
        ('s', 1 << 5),
        ('h', 1 << 6),
        ('z', 1 << 7),
        ('x', 1 << 8),
        ('e', 1 << 9),
        ('t', 1 << 10),
        ('d', 1 << 11),
        ('n', 1 << 13),
        ('K', 1),
        ('E', 1 << 1),
        ('m', 1 << 12),
    ];
    /// What A stands for.
    const ALL: u32 = 0b1111_1111_1100;

    /// Understands letters in any order; none: no events.
    pub fn parse(letters: &[u8]) -> Option<Self> {
        let bits = |letter: &u8| match char::from(*letter) {
            'A' => Some(Self::ALL),
            letter => Self::LETTERS
                .iter()
                .find(|(known, _)| *known == letter)
                .map(|(_, bits)| *bits),
        };
        let mut all = 0;
        for letter in letters {
            all |= bits(letter)?;
        }
        Some(Self(all))
    }

    /// Whether events of this class are published.
    fn has(self, class: Self) -> bool {
        self.0 & class.0 != 0 && self.0 & (Self::KEYSPACE.0 | Self::KEYEVENT.0) != 0
    }

    /// Whether keys that leave on their own are to be told.
    pub fn have_departures(self) -> bool {
        self.has(Self::EXPIRED | Self::EVICTED)
    }
}

impl BitOr for Classes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// As CONFIG GET shows them.
impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0 & Self::ALL == Self::ALL;
        if all {
            f.write_str("A")?;
        }
        for (letter, bits) in Self::LETTERS {
            // Redis shows n only where it writes no A
            let is_said = all && (bits & Self::ALL != 0 || bits == Self::NEW.0);
            if self.0 & bits != 0 && !is_said {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// Something that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// The key's database.
    pub db: u8,
    /// The key.
    pub key: Bytes,
    /// Redis's name of it.
    pub name: &'static str,
}

/// Publishes what is wanted.
#[derive(Default)]
pub struct KeyEvents {
    /// Looked at with every command, mostly alone.
    classes: AtomicU32,
    hub: Arc<Hub>,
}

impl KeyEvents {
    /// Where they are published.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// What is wanted.
    pub fn classes(&self) -> Classes {
        Classes(self.classes.load(Ordering::Relaxed))
    }

    /// Others from now on.
    pub(crate) fn set(&self, classes: Classes) {
        self.classes.store(classes.0, Ordering::Relaxed);
    }

    /// Whether any of this class are wanted.
    pub fn wants(&self, class: Classes) -> bool {
        let classes = self.classes();
        classes.0 != 0 && classes.has(class)
    }

    /// Publishes one. Locks the hub.
    pub fn publish(&self, event: &KeyEvent) {
        let KeyEvent { db, key, name } = event;
        let classes = self.classes();
        let channel = |prefix: String, rest: &[u8]| {
            let mut channel = prefix.into_bytes();
            channel.extend_from_slice(rest);
            Bytes::from(channel)
        };
        if classes.0 & Classes::KEYSPACE.0 != 0 {
            let channel = channel(format!("__keyspace@{db}__:"), key);
            self.hub
                .publish(&channel, &Bytes::from_static(name.as_bytes()));
        }
        if classes.0 & Classes::KEYEVENT.0 != 0 {
            let channel = channel(format!("__keyevent@{db}__:"), name.as_bytes());
            // copied: whoever is slow keeps it
            self.hub.publish(&channel, &Bytes::copy_from_slice(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As CONFIG GET of redis-server 7.0.15 shows them.
    #[test]
    fn letters_are_shown_in_canonical_form() {
        for (letters, shown) in SHOWN {
            let classes = Classes::parse(letters.as_bytes()).unwrap();
            assert_eq!(classes.to_string(), shown, "{letters}");
        }
        assert_eq!(Classes::parse(b"KQ"), None);
    }

    const SHOWN: [(&str, &str); 9] = [
        ("", ""),
        ("EKA", "AKE"),
        ("Kmn", "nKm"),
        ("Amn", "Am"),
        ("g$lshzxetd", "A"),
        ("g$lshzxetdn", "A"),
        ("EmA", "AEm"),
        ("KKE", "KE"),
        ("txn", "xtn"),
    ];

    #[test]
    fn nothing_is_wanted_where_it_would_not_go_anywhere() {
        let events = KeyEvents::default();
        assert!(!events.wants(Classes::STRING));
        events.set(Classes::parse(b"$gx").unwrap());
        assert!(!events.wants(Classes::STRING) && !events.classes().have_departures());
        events.set(Classes::parse(b"$xE").unwrap());
        assert!(events.wants(Classes::STRING) && !events.wants(Classes::GENERIC));
        assert!(events.classes().have_departures() && !events.wants(Classes::NEW));
    }
}
