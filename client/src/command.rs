//! Commands: what is asked, over which connection, whether again, and what the
//! reply means. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::{
    Error,
    error::ServerError,
    protocol::{Reply, Request},
    retry::Repeat,
};

/// Requests and replies of more bytes than this go over a connection of their own.
pub(crate) const SMALL_BYTES: u64 = 64 << 10;

/// Which connection a request goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The one that small requests share.
    Shared,
    /// One of its own, so that nobody waits behind it.
    Own,
}

impl Lane {
    pub(crate) fn of(request_bytes: u64, reply_bytes: u64) -> Self {
        match request_bytes.max(reply_bytes) > SMALL_BYTES {
            true => Self::Own,
            false => Self::Shared,
        }
    }
}

/// When a value goes away by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// When what was there before would have.
    Keep,
    /// After this time: at least a millisecond.
    In(Duration),
    /// At this time.
    At(SystemTime),
}

/// On what a set depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// On nothing.
    #[default]
    Always,
    /// There must be no value (NX).
    IfAbsent,
    /// There must be a value (XX).
    IfPresent,
}

/// How a value is set.
///
/// ```
/// use std::time::Duration;
/// use scatterhoard_client::{Condition, Expiry, SetOptions};
/// let options = SetOptions::new()
///     .expiry(Expiry::In(Duration::from_secs(60)))
///     .condition(Condition::IfAbsent);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    expiry: Expiry,
    condition: Condition,
    returns_previous: bool,
}

impl SetOptions {
    /// For ever, without conditions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// When it goes away.
    #[must_use]
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// On what it depends.
    #[must_use]
    pub fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// Return what was there before (GET). Together with
    /// [`Condition::IfAbsent`] it needs Redis 7 or Scatterhoard.
    #[must_use]
    pub fn return_previous(mut self) -> Self {
        self.returns_previous = true;
        self
    }

    /// The arguments behind the value.
    pub(crate) fn arguments(&self) -> Result<Vec<Bytes>, Error> {
        let mut all: Vec<Bytes> = Vec::new();
        let mut add = |word: &'static str| all.push(Bytes::from_static(word.as_bytes()));
        match self.condition {
            Condition::Always => {}
            Condition::IfAbsent => add("NX"),
            Condition::IfPresent => add("XX"),
        }
        if self.returns_previous {
            add("GET");
        }
        match self.expiry {
            Expiry::Never => {}
            Expiry::Keep => add("KEEPTTL"),
            Expiry::In(time) => {
                add("PX");
                all.push(positive_ms(time)?.to_string().into());
            }
            Expiry::At(time) => {
                add("PXAT");
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                all.push(positive_ms(since)?.to_string().into());
            }
        }
        Ok(all)
    }

    pub(crate) fn returns_previous(&self) -> bool {
        self.returns_previous
    }

    pub(crate) fn repeat(&self) -> Repeat {
        match (self.condition, self.returns_previous) {
            (Condition::Always, false) => Repeat::Always,
            _ => Repeat::IfNotDone,
        }
    }

    /// What the reply to SET with these options means.
    pub(crate) fn outcome(&self, reply: Reply) -> Result<Set, Error> {
        if !self.returns_previous {
            return match reply {
                Reply::Status(_) => Ok(Set::stored(true)),
                Reply::Null => Ok(Set::stored(false)),
                other => Err(Error::unexpected("SET", &other)),
            };
        }
        let previous = value("SET", reply)?;
        let stored = match self.condition {
            Condition::Always => true,
            Condition::IfAbsent => previous.is_none(),
            Condition::IfPresent => previous.is_some(),
        };
        Ok(Set { stored, previous })
    }
}

/// What a set has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Whether the condition was met, and so the value stored.
    pub stored: bool,
    /// What was there before, where that was asked for.
    pub previous: Option<Bytes>,
}

impl Set {
    fn stored(stored: bool) -> Self {
        let previous = None;
        Self { stored, previous }
    }
}

/// How long a key has to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    Missing,
    /// For ever.
    Forever,
    /// So long.
    In(Duration),
}

/// Any command, for what [`crate::Client`] has no method for.
///
/// It goes over the connection that small requests share, except with large
/// arguments, or as [`Command::own_connection`] says.
#[derive(Clone, Debug)]
pub struct Command {
    pub(crate) request: Request,
    pub(crate) repeat: Repeat,
    own: bool,
    key: Option<Bytes>,
}

impl Command {
    /// The command of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            request: Request::new(name.as_bytes().to_vec()),
            repeat: Repeat::IfNotDone,
            own: false,
            key: None,
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<Bytes>) -> Self {
        self.request = self.request.arg(argument);
        self
    }

    /// To carry it out twice is to carry it out once: it may be made again when
    /// the connection breaks.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.repeat = Repeat::Always;
        self
    }

    /// It takes long, or its reply is large: nobody else is to wait for it.
    #[must_use]
    pub fn own_connection(mut self) -> Self {
        self.own = true;
        self
    }

    /// In a cluster: send it to whoever has this key. Without, it goes by its first
    /// argument, or by the place that its key is known to have (EVAL, BITOP, XREAD and
    /// others), and to the server that the client was made for if it is one without
    /// keys (SCAN, INFO). Wherever that is wrong, the right one is found by MOVED.
    #[must_use]
    pub fn routed_by(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(Bytes::copy_from_slice(key.as_ref()));
        self
    }

    /// By which key it finds its server.
    pub(crate) fn key(&self) -> Option<&Bytes> {
        if self.key.is_some() {
            return self.key.as_ref();
        }
        let name = self.name();
        let arguments = self.request.arguments();
        let counted = |count: usize| {
            let has_keys = arguments.get(count).is_some_and(|count| count != "0");
            arguments.get(count + 1).filter(|_| has_keys)
        };
        match name.as_str() {
            name if WITHOUT_KEYS.contains(&name) => None,
            "EVAL" | "EVALSHA" | "EVAL_RO" | "EVALSHA_RO" | "FCALL" | "FCALL_RO" | "BLMPOP"
            | "BZMPOP" => counted(2),
            "SINTERCARD" | "ZDIFF" | "ZINTER" | "ZINTERCARD" | "ZUNION" | "LMPOP" | "ZMPOP" => {
                counted(1)
            }
            "BITOP" | "MEMORY" | "OBJECT" | "XGROUP" | "XINFO" => arguments.get(2),
            "XREAD" | "XREADGROUP" => {
                let is_last = |word: &Bytes| word.eq_ignore_ascii_case(b"STREAMS");
                let last = arguments.iter().position(is_last)?;
                arguments.get(last + 1)
            }
            _ => arguments.get(1),
        }
    }

    pub(crate) fn name(&self) -> String {
        let name = self.request.arguments().first();
        let name = name.map(|name| String::from_utf8_lossy(name).to_ascii_uppercase());
        name.unwrap_or_default()
    }

    /// Over which connection, or why not at all.
    pub(crate) fn lane(&self) -> Result<Lane, Error> {
        let name = self.name();
        if CHANGES_CONNECTION.contains(&name.as_str()) {
            let why = "it changes the connection, which others use";
            return Err(Error::usage(format!("{name} cannot be sent: {why}")));
        }
        let second = self.request.arguments().get(1);
        let is_mode = |word: &Bytes| {
            let words = ["REPLY", "TRACKING", "NO-EVICT", "NO-TOUCH"];
            words
                .iter()
                .any(|mode| word.eq_ignore_ascii_case(mode.as_bytes()))
        };
        if name == "CLIENT" && second.is_some_and(is_mode) {
            return Err(Error::usage(
                "CLIENT cannot change connections that others use",
            ));
        }
        match self.own || BLOCKS.contains(&name.as_str()) {
            true => Ok(Lane::Own),
            false => Ok(Lane::of(self.request.bytes(), 0)),
        }
    }
}

/// After these, replies to what others ask would be wrong.
const CHANGES_CONNECTION: &[&str] = &[
    "ASKING",
    "AUTH",
    "DISCARD",
    "EXEC",
    "HELLO",
    "MONITOR",
    "MULTI",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "RESET",
    "SELECT",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WATCH",
];

/// In a cluster these are for one member, whichever.
const WITHOUT_KEYS: &[&str] = &[
    "ACL",
    "BGREWRITEAOF",
    "BGSAVE",
    "CLIENT",
    "CLUSTER",
    "COMMAND",
    "CONFIG",
    "DBSIZE",
    "DEBUG",
    "ECHO",
    "FLUSHALL",
    "FLUSHDB",
    "FUNCTION",
    "INFO",
    "KEYS",
    "LASTSAVE",
    "LATENCY",
    "LOLWUT",
    "MODULE",
    "PING",
    "PUBLISH",
    "PUBSUB",
    "RANDOMKEY",
    "ROLE",
    "SAVE",
    "SCAN",
    "SCRIPT",
    "SHUTDOWN",
    "SLOWLOG",
    "SWAPDB",
    "TIME",
    "WAIT",
    "WAITAOF",
];

/// These let others wait.
const BLOCKS: &[&str] = &[
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "WAIT",
    "WAITAOF",
    "XREAD",
    "XREADGROUP",
];

/// An error as an error.
pub(crate) fn checked(reply: Reply) -> Result<Reply, Error> {
    match reply {
        Reply::Error(line) => Err(Error::Server(ServerError::parse(&line))),
        reply => Ok(reply),
    }
}

pub(crate) fn value(command: &str, reply: Reply) -> Result<Option<Bytes>, Error> {
    match reply {
        Reply::Bulk(bytes) => Ok(Some(bytes)),
        Reply::Null => Ok(None),
        other => Err(Error::unexpected(command, &other)),
    }
}

pub(crate) fn number(command: &str, reply: &Reply) -> Result<i64, Error> {
    match reply {
        Reply::Integer(number) => Ok(*number),
        other => Err(Error::unexpected(command, other)),
    }
}

pub(crate) fn count(command: &str, reply: &Reply) -> Result<u64, Error> {
    let number = number(command, reply)?;
    u64::try_from(number).map_err(|_| Error::unexpected(command, reply))
}

pub(crate) fn ttl(reply: &Reply) -> Result<Ttl, Error> {
    match number("PTTL", reply)? {
        -2 => Ok(Ttl::Missing),
        -1 => Ok(Ttl::Forever),
        ms => match u64::try_from(ms) {
            Ok(ms) => Ok(Ttl::In(Duration::from_millis(ms))),
            Err(_) => Err(Error::unexpected("PTTL", reply)),
        },
    }
}

pub(crate) fn values(reply: Reply, wanted: usize) -> Result<Vec<Option<Bytes>>, Error> {
    match reply {
        Reply::Array(items) if items.len() == wanted => {
            items.into_iter().map(|item| value("MGET", item)).collect()
        }
        other => Err(Error::unexpected("MGET", &other)),
    }
}

/// Milliseconds, rounded up; not none, which would delete.
pub(crate) fn positive_ms(time: Duration) -> Result<i64, Error> {
    let ms = time.as_nanos().div_ceil(1_000_000);
    match i64::try_from(ms) {
        Ok(0) => Err(Error::usage("an expiry must lie in the future")),
        Ok(ms) => Ok(ms),
        Err(_) => Err(Error::usage("an expiry lies too far in the future")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(options: SetOptions) -> String {
        let words = options.arguments().unwrap();
        words
            .iter()
            .map(|w| format!("{} ", w.escape_ascii()))
            .collect()
    }

    #[test]
    fn options_of_set() {
        let options = SetOptions::new();
        assert_eq!(words(options), "");
        assert_eq!(options.repeat(), Repeat::Always);
        let ms = |ms| Expiry::In(Duration::from_millis(ms));
        assert_eq!(words(options.expiry(ms(1500))), "PX 1500 ");
        let at = Expiry::At(UNIX_EPOCH + Duration::from_micros(1_000_500));
        assert_eq!(words(options.expiry(at)), "PXAT 1001 ");
        let options = options.condition(Condition::IfAbsent).return_previous();
        assert_eq!(words(options.expiry(Expiry::Keep)), "NX GET KEEPTTL ");
        assert_eq!(options.repeat(), Repeat::IfNotDone);
        for wrong in [ms(0), Expiry::At(UNIX_EPOCH), Expiry::In(Duration::MAX)] {
            assert!(options.expiry(wrong).arguments().is_err());
        }
    }

    #[test]
    fn what_set_has_done() {
        let old = || Reply::Bulk(Bytes::from_static(b"old"));
        let ok = || Reply::Status(Bytes::from_static(b"OK"));
        let plain = SetOptions::new();
        assert!(plain.outcome(ok()).unwrap().stored);
        assert!(!plain.outcome(Reply::Null).unwrap().stored);
        assert!(plain.outcome(old()).is_err());
        let get = plain.return_previous();
        assert!(get.outcome(Reply::Null).unwrap().stored);
        assert_eq!(get.outcome(old()).unwrap().previous.unwrap(), "old");
        let absent = get.condition(Condition::IfAbsent);
        assert!(absent.outcome(Reply::Null).unwrap().stored);
        assert!(!absent.outcome(old()).unwrap().stored);
        let present = get.condition(Condition::IfPresent);
        assert!(!present.outcome(Reply::Null).unwrap().stored);
        assert!(present.outcome(old()).unwrap().stored);
    }

    #[test]
    fn lanes() {
        assert_eq!(Command::new("GET").arg("k").lane().unwrap(), Lane::Shared);
        let large = Command::new("SET").arg("k").arg(vec![0; 100_000]);
        assert_eq!(large.lane().unwrap(), Lane::Own);
        assert_eq!(Command::new("blpop").lane().unwrap(), Lane::Own);
        assert_eq!(
            Command::new("KEYS").own_connection().lane().unwrap(),
            Lane::Own
        );
        for name in ["multi", "Subscribe", "SELECT", "hello", "AUTH"] {
            assert!(Command::new(name).lane().is_err(), "{name}");
        }
        let reply = Command::new("client").arg("reply").arg("off");
        assert!(reply.lane().is_err());
        assert!(Command::new("CLIENT").arg("LIST").lane().is_ok());
    }

    #[test]
    fn keys_by_which_commands_find_their_server() {
        for (line, wanted) in [
            ("GET k", Some("k")),
            ("hset k f v", Some("k")),
            ("EVAL s 1 k a", Some("k")),
            ("EVAL s 0 a", None),
            ("EVAL s", None),
            ("ZUNION 2 k l", Some("k")),
            ("BLMPOP 0 1 k LEFT", Some("k")),
            ("BITOP AND k a b", Some("k")),
            ("OBJECT ENCODING k", Some("k")),
            ("XREAD COUNT 2 streams k 0", Some("k")),
            ("XREAD", None),
            ("scan 0", None),
            ("CLUSTER SLOTS", None),
            ("PING", None),
            ("NONSENSE", None),
        ] {
            let mut words = line.split(' ').map(str::to_owned);
            let command = Command::new(&words.next().unwrap());
            let command = words.fold(command, Command::arg);
            let key = command.key().map(|key| str::from_utf8(key).unwrap());
            assert_eq!(key, wanted, "{line}");
            let command = command.clone().routed_by("other");
            assert_eq!(command.key().unwrap(), "other");
        }
    }

    #[test]
    fn times_to_live() {
        assert_eq!(ttl(&Reply::Integer(-2)).unwrap(), Ttl::Missing);
        assert_eq!(ttl(&Reply::Integer(-1)).unwrap(), Ttl::Forever);
        let half = Duration::from_millis(500);
        assert_eq!(ttl(&Reply::Integer(500)).unwrap(), Ttl::In(half));
        assert!(ttl(&Reply::Integer(-3)).is_err());
        assert!(ttl(&Reply::Null).is_err());
    }
}
