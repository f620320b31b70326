//! Commands that took long, for SLOWLOG: the newest ones, in bounded memory.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{
    command::table::{self, flags},
    value::Value,
};

/// Arguments of an entry that are kept, as Redis keeps them.
const MAX_ARGUMENTS: usize = 32;
/// Bytes of an argument that are kept, likewise.
const MAX_ARGUMENT_BYTES: u64 = 128;
/// All entries together, however many are allowed.
const MAX_BYTES: usize = 16 << 20;
/// What an argument takes besides its bytes.
const ARGUMENT_BYTES: usize = 48;

/// What the slow log takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Commands that took so many microseconds or more; negative: none.
    pub slower_than_us: i64,
    /// So many of them.
    pub max_len: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slower_than_us: 10_000,
            max_len: 128,
        }
    }
}

/// A command that took long.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Counted from the start.
    pub id: u64,
    /// When it ended, in seconds since 1970.
    pub unix_s: u64,
    /// How long it took.
    pub took: Duration,
    /// It, and its arguments, cut.
    pub arguments: Vec<Bytes>,
    /// The client's address.
    pub peer: String,
    /// The client's name.
    pub name: Bytes,
}

impl Entry {
    fn bytes(&self) -> usize {
        let arguments = self.arguments.iter().map(|a| a.len() + ARGUMENT_BYTES);
        let head = size_of::<Self>() + self.peer.len() + self.name.len();
        head + arguments.sum::<usize>()
    }
}

/// The entries, and what becomes one.
#[derive(Default)]
pub struct SlowLog {
    slower_than_us: AtomicI64,
    max_len: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// The newest first.
    entries: VecDeque<Entry>,
    bytes: usize,
    next_id: u64,
}

impl Log {
    fn cut(&mut self, max_len: u64) {
        while self.entries.len() as u64 > max_len || self.bytes > MAX_BYTES {
            let Some(oldest) = self.entries.pop_back() else {
                return;
            };
            self.bytes -= oldest.bytes();
        }
    }
}

/// A request that may turn out to take long.
pub struct Suspect(SmallVec<[Bytes; 4]>);

impl SlowLog {
    /// An empty one.
    pub fn new(settings: Settings) -> Self {
        let log = Self::default();
        log.set(settings);
        log
    }

    /// What it takes at the moment.
    pub fn settings(&self) -> Settings {
        Settings {
            slower_than_us: self.slower_than_us.load(Ordering::Relaxed),
            max_len: self.max_len.load(Ordering::Relaxed),
        }
    }

    /// Takes something else from now on.
    pub fn set(&self, settings: Settings) {
        let Settings {
            slower_than_us,
            max_len,
        } = settings;
        self.slower_than_us.store(slower_than_us, Ordering::Relaxed);
        self.max_len.store(max_len, Ordering::Relaxed);
        self.log.lock().cut(max_len);
    }

    /// Whether a command that took so long becomes an entry.
    pub fn takes(&self, took: Duration) -> bool {
        let slower_than_us = self.slower_than_us.load(Ordering::Relaxed);
        u128::try_from(slower_than_us).is_ok_and(|least| took.as_micros() >= least)
    }

    /// Keeps of a request what an entry would need, before it is carried out.
    pub fn suspect(&self, request: &[Value]) -> Option<Suspect> {
        let is_on = self.slower_than_us.load(Ordering::Relaxed) >= 0;
        is_on.then(|| Suspect(cut(request)))
    }

    /// Makes a request an entry, if it is not one that never is.
    pub fn enter(&self, suspect: Suspect, took: Duration, unix_s: u64, peer: String, name: Bytes) {
        let named = suspect.0.first().and_then(|name| table::lookup(name));
        if named.is_some_and(|spec| spec.is(flags::SKIP_SLOWLOG)) {
            return;
        }
        let max_len = self.max_len.load(Ordering::Relaxed);
        let mut log = self.log.lock();
        // copied: they are slices of the buffer that they were read with
        let copied = suspect.0.iter().map(|a| Bytes::copy_from_slice(a));
        let entry = Entry {
            id: log.next_id,
            unix_s,
            took,
            arguments: copied.collect(),
            peer,
            name,
        };
        log.next_id += 1;
        log.bytes += entry.bytes();
        log.entries.push_front(entry);
        log.cut(max_len);
    }

    /// The newest entries first, at most so many.
    pub fn newest(&self, count: Option<u64>) -> Vec<Entry> {
        let count = count.and_then(|count| usize::try_from(count).ok());
        let log = self.log.lock();
        let entries = log.entries.iter();
        entries.take(count.unwrap_or(usize::MAX)).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.log.lock().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops all of them.
    pub fn reset(&self) {
        let mut log = self.log.lock();
        log.entries.clear();
        log.bytes = 0;
    }
}

/// As Redis cuts them; what may be a password is left out.
fn cut(request: &[Value]) -> SmallVec<[Bytes; 4]> {
    let shown = match request.len() {
        ..=MAX_ARGUMENTS => request.len(),
        // the last one says how many more there are
        _ => MAX_ARGUMENTS - 1,
    };
    let cut_one = |(place, argument): (usize, &Value)| {
        if is_secret(request, place) {
            return Bytes::from_static(b"(redacted)");
        }
        let start = argument.start(MAX_ARGUMENT_BYTES);
        match argument.len() - start.len() as u64 {
            0 => start,
            more => {
                let mut kept = start.to_vec();
                kept.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
                kept.into()
            }
        }
    };
    let arguments = request.iter().enumerate().take(shown).map(cut_one);
    let more = request.len() - shown;
    let rest = (more > 0).then(|| format!("... ({more} more arguments)").into());
    arguments.chain(rest).collect()
}

/// Settings whose values are passwords.
const SECRET_SETTINGS: [&[u8]; 5] = [
    b"requirepass",
    b"masterauth",
    b"masteruser",
    b"tls-key-file-pass",
    b"tls-client-key-file-pass",
];

/// Whether an argument may be a password, or say something about one: as Redis
/// redacts them.
pub fn is_secret(request: &[Value], place: usize) -> bool {
    let is = |place: usize, word: &[u8]| match request.get(place).map(Value::segments) {
        Some([one]) => one.eq_ignore_ascii_case(word),
        _ => false,
    };
    if is(0, b"auth") {
        return place >= 1;
    }
    if is(0, b"hello") && place >= 2 {
        // none means so much: it is not looked through again and again
        if place >= MAX_ARGUMENTS {
            return true;
        }
        let mut at = 2;
        loop {
            let after = match () {
                () if is(at, b"auth") => at + 3,
                // a name may be called so, too
                () if is(at, b"setname") => at + 2,
                // not understood: a part of a password, perhaps
                () => return (1..place).any(|before| is(before, b"auth")),
            };
            if place < after {
                return place > at && is(at, b"auth");
            }
            at = after;
        }
    }
    if is(0, b"acl") && is(1, b"setuser") {
        return place >= 2;
    }
    let is_value = place >= 3 && place % 2 == 1;
    is(0, b"config")
        && is(1, b"set")
        && is_value
        && SECRET_SETTINGS.iter().any(|name| is(place - 1, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: &[&str]) -> Vec<Value> {
        let word = |w: &&str| Value::from(Bytes::copy_from_slice(w.as_bytes()));
        words.iter().map(word).collect()
    }

    fn log(max_len: u64) -> SlowLog {
        SlowLog::new(Settings {
            slower_than_us: 0,
            max_len,
        })
    }

    fn enter(log: &SlowLog, words: &[&str]) {
        let suspect = log.suspect(&request(words)).unwrap();
        log.enter(suspect, Duration::ZERO, 7, "p".into(), Bytes::new());
    }

    #[test]
    fn arguments_are_cut_and_secrets_left_out() {
        let log = log(10);
        let (long, many) = ("x".repeat(130), vec!["del"; 33]);
        enter(&log, &["set", &long, ""]);
        enter(&log, &many);
        enter(&log, &["auth", "me", "secret"]);
        enter(&log, &["hello", "3", "AUTH", "me", "secret"]);
        let entries = log.newest(None);
        let texts = |i: usize| -> Vec<String> {
            let text = |a: &Bytes| String::from_utf8_lossy(a).into_owned();
            entries[i].arguments.iter().map(text).collect()
        };
        assert_eq!(texts(0), ["hello", "3", "AUTH", "(redacted)", "(redacted)"]);
        assert_eq!(texts(1), ["auth", "(redacted)", "(redacted)"]);
        assert_eq!(
            (texts(2).len(), texts(2)[31].as_str()),
            (32, "... (2 more arguments)")
        );
        assert_eq!(
            texts(3)[1],
            format!("{}... (2 more bytes)", "x".repeat(128))
        );
        assert_eq!(texts(3)[2], "");
        assert_eq!(entries[0].id, 3);
    }

    #[test]
    fn no_password_is_kept() {
        let log = log(10);
        enter(&log, &["ACL", "SETUSER", "al", "on", ">pw"]);
        enter(
            &log,
            &["config", "SET", "timeout", "5", "REQUIREPASS", "pw"],
        );
        enter(&log, &["HELLO", "3", "SETNAME", "n", "AUTH", "al", "pw"]);
        enter(
            &log,
            &["hello", "3", "auth", "al", "pw", "setname", "auth", "x"],
        );
        enter(
            &log,
            &["hello", "3", "auth", "al", "pw", "oops", "al", "pw"],
        );
        enter(&log, &["HELLO", "3", "oops", "AUTH", "al", "pw"]);
        enter(&log, &["HELLO", "AUTH", "al", "pw"]);
        let texts: Vec<String> = log
            .newest(None)
            .iter()
            .map(|entry| entry.arguments.join(&b" "[..]))
            .map(|text| String::from_utf8(text).unwrap())
            .collect();
        assert_eq!(
            texts,
            [
                "HELLO AUTH (redacted) (redacted)",
                "HELLO 3 oops AUTH (redacted) (redacted)",
                "hello 3 auth (redacted) (redacted) (redacted) (redacted) (redacted)",
                "hello 3 auth (redacted) (redacted) setname auth (redacted)",
                "HELLO 3 SETNAME n AUTH (redacted) (redacted)",
                "config SET timeout 5 REQUIREPASS (redacted)",
                "ACL SETUSER (redacted) (redacted) (redacted)",
            ]
        );
    }

    #[test]
    fn a_long_hello_is_soon_looked_through() {
        let words = request(&vec!["hello"; 200_000]);
        let secrets = (0..words.len()).filter(|place| is_secret(&words, *place));
        assert_eq!(secrets.count(), 200_000 - MAX_ARGUMENTS);
    }

    #[test]
    fn it_keeps_to_its_bounds() {
        let log = log(3);
        (0..5).for_each(|_| enter(&log, &["get", "k"]));
        assert_eq!(log.len(), 3);
        log.set(Settings {
            slower_than_us: 0,
            max_len: u64::MAX,
        });
        let long = "x".repeat(128);
        let many = vec![long.as_str(); 32];
        (0..4000).for_each(|_| enter(&log, &many));
        assert!(log.len() < 4000 && log.log.lock().bytes <= MAX_BYTES);
        log.reset();
        assert!(log.is_empty());
        log.set(Settings {
            slower_than_us: -1,
            max_len: 1,
        });
        assert!(log.suspect(&request(&["get", "k"])).is_none());
        assert!(!log.takes(Duration::from_secs(9)));
    }

    #[test]
    fn exec_is_not_in_it() {
        let log = log(1);
        enter(&log, &["EXEC"]);
        assert!(log.is_empty());
    }
}
