//! A user and what it may do, from rules as Redis writes them. Pure.

use std::collections::BTreeSet;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use super::elsewhere::ELSEWHERE;

use crate::command::{
    CommandSpec,
    describe::{CATEGORIES, categories},
    glob,
    table::{commands, lookup, lookup_full},
};

/// SHA-256 of a password.
type Digest = [u8; 32];

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    enabled: bool,
    /// Any password will do.
    nopass: bool,
    passwords: Vec<Digest>,
    keys: Patterns<KeyPattern>,
    channels: Patterns<String>,
    /// Names of commands that it may use; `command|subcommand` for subcommands.
    allowed: BTreeSet<&'static str>,
    /// The rules about commands, as they are listed.
    command_rules: Vec<String>,
    /// It may do everything.
    unrestricted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Patterns<P> {
    All,
    These(Vec<P>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    reads: bool,
    writes: bool,
    glob: String,
}

/// A rule that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// There is no such rule, or it has no sense here.
    #[error("rule '{0}' is not understood")]
    Unknown(String),
    /// No such command or category.
    #[error("rule '{0}' names no command or category that is known")]
    NoCommand(String),
    /// Keys after all of them.
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
    )]
    AfterAllKeys,
    /// Channels after all of them.
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    AfterAllChannels,
    /// `#` without 64 hexadecimal digits.
    #[error("a password hash has 64 hexadecimal digits in lower case")]
    Hash,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It holds.
    Understood,
    /// It names a command that is not there: nobody could use it anyway.
    Ignored,
}

/// Commands of Redis 7.0 that are not here, which files of users may name.
fn is_of_no_use(rule: &str) -> bool {
    let (allows, name) = match (rule.strip_prefix('+'), rule.strip_prefix('-')) {
        (Some(name), _) => (true, name),
        (None, Some(name)) => (false, name),
        (None, None) => return false,
    };
    let is_name = !name.is_empty() && !name.starts_with('@');
    let name = name.to_ascii_lowercase();
    let command = name.split('|').next().unwrap_or_default();
    is_name
        && lookup_full(name.as_bytes()).is_none()
        && (!allows
            || ELSEWHERE.binary_search(&command).is_ok()
            || lookup(command.as_bytes()).is_some_and(|spec| !spec.subcommands.is_empty()))
}

/// What a user asks for, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The command.
    pub spec: &'static CommandSpec,
    /// Its keys, and what is done with each, as in Redis's key specifications.
    pub keys: Vec<(Bytes, &'a [&'a str])>,
    /// Its channels.
    pub channels: Vec<Bytes>,
    /// Whether these are patterns, which only the same pattern allows.
    pub are_patterns: bool,
}

/// Why a user may not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The command.
    Command,
    /// One of its keys: the number of it among them.
    Key(usize),
    /// One of its channels.
    Channel(usize),
}

impl User {
    /// A user that may do nothing.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            enabled: false,
            nopass: false,
            passwords: Vec::new(),
            keys: Patterns::These(Vec::new()),
            channels: Patterns::These(Vec::new()),
            allowed: BTreeSet::new(),
            command_rules: vec!["-@all".into()],
            unrestricted: false,
        }
    }

    /// The default user as long as nothing is configured: it may do everything,
    /// without a password or with this one.
    pub fn default_with(password: Option<&str>) -> Self {
        let mut user = Self::new("default");
        for rule in ["on", "~*", "&*", "+@all"] {
            // known to be understood
            let _ = user.apply(rule);
        }
        match password {
            Some(password) => user.passwords.push(hash(password.as_bytes())),
            None => user.nopass = true,
        }
        user
    }

    /// Changes the user by one rule of Redis's ACL files.
    pub fn apply(&mut self, rule: &str) -> Result<Applied, RuleError> {
        if is_of_no_use(rule) {
            return Ok(Applied::Ignored);
        }
        self.apply_rule(rule)?;
        let all = self.keys == Patterns::All && self.channels == Patterns::All;
        self.unrestricted = all && all_names().all(|(name, _)| self.allowed.contains(name));
        Ok(Applied::Understood)
    }

    fn apply_rule(&mut self, rule: &str) -> Result<(), RuleError> {
        let unknown = || RuleError::Unknown(rule.to_owned());
        // words have no case; what stands behind a sign has
        let lower = rule.to_ascii_lowercase();
        match lower.as_str() {
            "on" => self.enabled = true,
            "off" => self.enabled = false,
            "nopass" => {
                self.nopass = true;
                self.passwords.clear();
            }
            "resetpass" => {
                self.nopass = false;
                self.passwords.clear();
            }
            "reset" => *self = Self::new(&self.name),
            "allkeys" | "~*" => self.keys = Patterns::All,
            "resetkeys" => self.keys = Patterns::These(Vec::new()),
            "allchannels" | "&*" => self.channels = Patterns::All,
            "resetchannels" => self.channels = Patterns::These(Vec::new()),
            "allcommands" => return self.apply_rule("+@all"),
            "nocommands" => return self.apply_rule("-@all"),
            // values are not taken over from others
            "sanitize-payload" | "skip-sanitize-payload" => {}
            // there are none
            "clearselectors" => {}
            _ => {
                let mut rest = rule.chars();
                let first = rest.next().ok_or_else(unknown)?;
                let rest = rest.as_str();
                match first {
                    '>' => self.add_password(hash(rest.as_bytes())),
                    '#' => self.add_password(unhex(rest).ok_or(RuleError::Hash)?),
                    '<' => {
                        let gone = hash(rest.as_bytes());
                        self.passwords.retain(|p| *p != gone);
                    }
                    '!' => {
                        let gone = unhex(rest).ok_or(RuleError::Hash)?;
                        self.passwords.retain(|p| *p != gone);
                    }
                    '~' | '%' if self.keys == Patterns::All => {
                        return Err(RuleError::AfterAllKeys);
                    }
                    '~' => self.add_keys(true, true, rest),
                    '%' => {
                        let (access, glob) = rest.split_once('~').ok_or_else(unknown)?;
                        let (reads, writes) = match access.to_ascii_uppercase().as_str() {
                            "R" => (true, false),
                            "W" => (false, true),
                            "RW" | "WR" => (true, true),
                            _ => return Err(unknown()),
                        };
                        self.add_keys(reads, writes, glob);
                    }
                    '&' => match &mut self.channels {
                        Patterns::All => return Err(RuleError::AfterAllChannels),
                        Patterns::These(globs) => globs.push(rest.to_owned()),
                    },
                    '+' => self.allow(rule, rest, true)?,
                    '-' => self.allow(rule, rest, false)?,
                    _ => return Err(unknown()),
                }
            }
        }
        Ok(())
    }

    fn add_password(&mut self, password: Digest) {
        self.nopass = false;
        if !self.passwords.contains(&password) {
            self.passwords.push(password);
        }
    }

    fn add_keys(&mut self, reads: bool, writes: bool, glob: &str) {
        let pattern = KeyPattern {
            reads,
            writes,
            glob: glob.to_owned(),
        };
        match &mut self.keys {
            Patterns::All => {}
            Patterns::These(globs) if !globs.contains(&pattern) => globs.push(pattern),
            Patterns::These(_) => {}
        }
    }

    fn allow(&mut self, rule: &str, what: &str, yes: bool) -> Result<(), RuleError> {
        let what = what.to_ascii_lowercase();
        let names: Vec<&'static str> = match what.strip_prefix('@') {
            Some("all") => {
                self.command_rules.clear();
                all_names().map(|(name, _)| name).collect()
            }
            Some(category) => {
                let category = format!("@{category}");
                if !CATEGORIES.contains(&&category[..]) {
                    return Err(RuleError::NoCommand(rule.to_owned()));
                }
                let belongs = |spec: &CommandSpec| categories(spec).any(|c| c == category);
                let names = all_names().filter(|(_, spec)| belongs(spec));
                names.map(|(name, _)| name).collect()
            }
            None => {
                let spec = lookup_full(what.as_bytes());
                let spec = spec.ok_or_else(|| RuleError::NoCommand(rule.to_owned()))?;
                let subcommands = spec.subcommands.iter().map(|sub| sub.name);
                std::iter::once(spec.name).chain(subcommands).collect()
            }
        };
        for name in names {
            if yes {
                self.allowed.insert(name);
            } else {
                self.allowed.remove(name);
            }
        }
        let sign = if yes { '+' } else { '-' };
        let other = if yes { '-' } else { '+' };
        let same = |r: &String| r[1..] == what && (r.starts_with(sign) || r.starts_with(other));
        self.command_rules.retain(|r| !same(r));
        self.command_rules.push(format!("{sign}{what}"));
        Ok(())
    }

    /// Whether this is its password, and it may log in. The time that takes says
    /// nothing about the password.
    pub fn admits(&self, password: &[u8]) -> bool {
        let given = hash(password);
        let matches = self
            .passwords
            .iter()
            .fold(0, |any, known| any | known.ct_eq(&given).unwrap_u8());
        self.enabled && (self.nopass || matches == 1)
    }

    /// Whether a connection is this user without a word.
    pub fn needs_no_password(&self) -> bool {
        self.enabled && self.nopass
    }

    /// Whether it may do everything.
    pub fn is_unrestricted(&self) -> bool {
        self.unrestricted
    }

    /// Whether it may have this done.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Denied> {
        if !self.allowed.contains(request.spec.name) {
            return Err(Denied::Command);
        }
        if let Patterns::These(globs) = &self.keys {
            for (number, (key, access)) in request.keys.iter().enumerate() {
                let (reads, writes) = needs(access);
                let fits = |p: &KeyPattern| {
                    (p.reads || !reads)
                        && (p.writes || !writes)
                        && glob::matches(p.glob.as_bytes(), key)
                };
                if !access.contains(&"not_key") && !globs.iter().any(fits) {
                    return Err(Denied::Key(number));
                }
            }
        }
        if let Patterns::These(globs) = &self.channels {
            for (number, channel) in request.channels.iter().enumerate() {
                let fits = |g: &String| match request.are_patterns {
                    true => g.as_bytes() == channel,
                    false => glob::matches(g.as_bytes(), channel),
                };
                if !globs.iter().any(fits) {
                    return Err(Denied::Channel(number));
                }
            }
        }
        Ok(())
    }

    /// Its flags in ACL GETUSER.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.nopass {
            flags.push("nopass");
        }
        flags
    }

    /// SHA-256 of its passwords, in hexadecimal digits.
    pub fn hashes(&self) -> Vec<String> {
        self.passwords.iter().map(hex).collect()
    }

    /// The rules about commands.
    pub fn command_rules(&self) -> String {
        self.command_rules.join(" ")
    }

    /// The rules about keys.
    pub fn key_rules(&self) -> String {
        match &self.keys {
            Patterns::All => "~*".into(),
            Patterns::These(globs) => {
                let rule = |p: &KeyPattern| match (p.reads, p.writes) {
                    (true, false) => format!("%R~{}", p.glob),
                    (false, true) => format!("%W~{}", p.glob),
                    _ => format!("~{}", p.glob),
                };
                globs.iter().map(rule).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// The rules about channels.
    pub fn channel_rules(&self) -> String {
        match &self.channels {
            Patterns::All => "&*".into(),
            Patterns::These(globs) => {
                let rules: Vec<String> = globs.iter().map(|g| format!("&{g}")).collect();
                rules.join(" ")
            }
        }
    }
}

/// As in ACL LIST and in ACL files.
impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "user {} {}", self.name, self.flags().join(" "))?;
        for hash in self.hashes() {
            write!(f, " #{hash}")?;
        }
        let keys = self.key_rules();
        if !keys.is_empty() {
            write!(f, " {keys}")?;
        }
        let channels = self.channel_rules();
        if self.channels != Patterns::All {
            write!(f, " resetchannels")?;
        }
        if !channels.is_empty() {
            write!(f, " {channels}")?;
        }
        write!(f, " {}", self.command_rules())
    }
}

/// Whether a key is read, and whether it is changed, by Redis's key specifications.
/// EXISTS, TYPE and the like do neither: any pattern allows them.
fn needs(access: &[&str]) -> (bool, bool) {
    let has = |flag| access.contains(&flag);
    (
        has("access"),
        has("insert") || has("update") || has("delete"),
    )
}

fn all_names() -> impl Iterator<Item = (&'static str, &'static CommandSpec)> {
    let all = commands().iter().copied();
    let with_subcommands = all.flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
    with_subcommands.map(|spec| (spec.name, spec))
}

fn hash(password: &[u8]) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, password).as_ref());
    hash
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    let is_plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 64 || !digits.bytes().all(is_plain) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(rules: &str) -> User {
        let mut user = User::new("al");
        for rule in rules.split_whitespace() {
            user.apply(rule).unwrap();
        }
        user
    }

    fn may(user: &User, command: &str, keys: &[&str], channels: &[&str]) -> Result<(), Denied> {
        let spec = lookup_full(command.as_bytes()).unwrap();
        let bytes = |name: &&str| Bytes::copy_from_slice(name.as_bytes());
        let access = |number| spec.keys.access_of(number);
        user.check(&Request {
            spec,
            keys: (0..)
                .zip(keys)
                .map(|(i, k)| (bytes(k), access(i)))
                .collect(),
            channels: channels.iter().map(bytes).collect(),
            are_patterns: command == "psubscribe",
        })
    }

    #[test]
    fn rules_say_what_a_user_may_do() {
        let user = user(
            "on >pw ~c:* %R~d:* &ch* +@read -mget +config|get -@all +get +set +exists \
             +publish +subscribe +psubscribe +@hash -hdel",
        );
        type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Result<(), Denied>);
        let cases: [Case<'_>; 12] = [
            ("get", &["x"], &[], Err(Denied::Key(0))),
            ("get", &["c:1"], &[], Ok(())),
            ("get", &["d:1"], &[], Ok(())),
            ("set", &["c:1"], &[], Ok(())),
            ("set", &["d:1"], &[], Err(Denied::Key(0))),
            ("exists", &["c:1", "x"], &[], Err(Denied::Key(1))),
            ("mget", &["c:1"], &[], Err(Denied::Command)),
            ("hget", &["c:1"], &[], Ok(())),
            ("hdel", &["c:1"], &[], Err(Denied::Command)),
            ("publish", &[], &["ch1"], Ok(())),
            ("publish", &[], &["x"], Err(Denied::Channel(0))),
            ("config|get", &[], &[], Err(Denied::Command)),
        ];
        for (command, keys, channels, expected) in cases {
            assert_eq!(
                may(&user, command, keys, channels),
                expected,
                "{command} {keys:?}"
            );
        }
        assert_eq!(may(&user, "psubscribe", &[], &["ch*"]), Ok(()));
        assert_eq!(
            may(&user, "psubscribe", &[], &["c*"]),
            Err(Denied::Channel(0))
        );
        // the same words as redis-server's for these rules
        assert_eq!(
            user.to_string(),
            "user al on #30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4 \
             ~c:* %R~d:* resetchannels &ch* -@all +get +set +exists +publish +subscribe \
             +psubscribe +@hash -hdel"
        );
    }

    #[test]
    fn words_have_no_case_and_all_is_enough() {
        let user = user("ON NoPass AllKeys +@ALL ResetChannels");
        assert!(user.needs_no_password());
        assert_eq!(user.key_rules(), "~*");
        for (first, second, error) in [
            ("~*", "~foo", RuleError::AfterAllKeys),
            ("allkeys", "%R~foo", RuleError::AfterAllKeys),
            ("&*", "&foo", RuleError::AfterAllChannels),
        ] {
            let mut user = User::new("al");
            user.apply(first).unwrap();
            assert_eq!(user.apply(second), Err(error), "{first} {second}");
        }
    }

    #[test]
    fn commands_that_are_not_here_may_be_named() {
        let mut user = user("+@all");
        for rule in [
            "-debug",
            "-nothing",
            "+lpush",
            "+XADD",
            "-cluster|meet",
            "+cluster|meet",
        ] {
            assert_eq!(user.apply(rule), Ok(Applied::Ignored), "{rule}");
        }
        assert_eq!(user.apply("-get"), Ok(Applied::Understood));
        assert!(user.apply("+nothing").is_err() && user.apply("-@nothing").is_err());
        assert!(ELSEWHERE.is_sorted());
        let here: Vec<_> = ELSEWHERE
            .iter()
            .filter(|n| lookup(n.as_bytes()).is_some())
            .collect();
        assert!(here.is_empty(), "{here:?}");
    }

    #[test]
    fn passwords_are_compared_by_their_hashes() {
        let mut al = user("on >one >two ~* +@all");
        assert!(al.admits(b"one") && al.admits(b"two") && !al.admits(b"three"));
        al.apply("<one").unwrap();
        assert!(!al.admits(b"one") && al.admits(b"two"));
        al.apply("off").unwrap();
        assert!(!al.admits(b"two"));
        al.apply("on").unwrap();
        al.apply("nopass").unwrap();
        assert!(al.admits(b"anything") && al.needs_no_password());
        let hashed = user("on #30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4");
        assert!(hashed.admits(b"pw") && !hashed.needs_no_password());
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for rule in ["", "x", "+nothing", "-@nothing", "#12", "%X~a", "(~a +get)"] {
            assert!(User::new("al").apply(rule).is_err(), "{rule}");
        }
    }

    #[test]
    fn the_default_user_may_do_everything() {
        let user = User::default_with(None);
        assert_eq!(user.to_string(), "user default on nopass ~* &* +@all");
        for spec in commands() {
            assert_eq!(may(&user, spec.name, &["k"], &["c"]), Ok(()));
        }
        assert!(lookup(b"get").is_some());
        let user = User::default_with(Some("secret"));
        assert!(user.admits(b"secret") && !user.admits(b"") && !user.needs_no_password());
    }
}
