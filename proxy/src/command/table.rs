//! The command table: what each command is called, how many arguments it
//! takes, where its keys are, and how it is parsed.
//!
//! Shapes and values are those of Redis 7.0.15's COMMAND INFO, which a test
//! compares with a real server where one is installed.

use std::{collections::HashMap, ops::Range, sync::LazyLock};

use super::args::{Args, excerpt};
use super::{
    Command, CommandError, acl, bits, cluster, connection, hashes, inspect, keys, pubsub, scripts,
    server, strings, transactions,
};
use crate::value::Value;

/// The longest key that is kept. Keys stay in the index, in memory; the journal
/// takes no longer ones, with a byte for the database.
pub const MAX_KEY_BYTES: usize = 65_534;

/// Properties of a command, in the order in which Redis lists them.
pub mod flags {
    /// Changes data.
    pub const WRITE: u32 = 1;
    /// Reads data and changes none.
    pub const READONLY: u32 = 1 << 1;
    /// Needs memory: refused when there is none left.
    pub const DENYOOM: u32 = 1 << 2;
    /// Administers the server.
    pub const ADMIN: u32 = 1 << 3;
    /// About channels.
    pub const PUBSUB: u32 = 1 << 4;
    /// Not for scripts.
    pub const NOSCRIPT: u32 = 1 << 5;
    /// Allowed while the server is loading.
    pub const LOADING: u32 = 1 << 6;
    /// Allowed while data may be stale.
    pub const STALE: u32 = 1 << 7;
    /// Not shown by MONITOR.
    pub const SKIP_MONITOR: u32 = 1 << 8;
    /// Not in the slow log.
    pub const SKIP_SLOWLOG: u32 = 1 << 9;
    /// Takes constant or logarithmic time.
    pub const FAST: u32 = 1 << 10;
    /// Allowed before AUTH.
    pub const NO_AUTH: u32 = 1 << 11;
    /// May change data, or what others get.
    pub const MAY_REPLICATE: u32 = 1 << 12;
    /// May have no keys.
    pub const NO_MANDATORY_KEYS: u32 = 1 << 13;
    /// Allowed while a script runs too long.
    pub const ALLOW_BUSY: u32 = 1 << 14;
    /// Its keys must be looked for.
    pub const MOVABLEKEYS: u32 = 1 << 15;
    /// Not allowed while the server is loading beside its work.
    pub const NO_ASYNC_LOADING: u32 = 1 << 16;

    /// The names of the above, lowest bit first.
    pub(in crate::command) const NAMES: [&str; 17] = [
        "write",
        "readonly",
        "denyoom",
        "admin",
        "pubsub",
        "noscript",
        "loading",
        "stale",
        "skip_monitor",
        "skip_slowlog",
        "fast",
        "no_auth",
        "may_replicate",
        "no_mandatory_keys",
        "allow_busy",
        "movablekeys",
        "no_async_loading",
    ];
}

/// The family that a command belongs to in documentation and ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Any key.
    Generic,
    /// String values.
    String,
    /// Hashes.
    Hash,
    /// Bits of string values.
    Bitmap,
    /// The connection.
    Connection,
    /// The proxies that share the slots.
    Cluster,
    /// The server.
    Server,
    /// Several commands as one.
    Transactions,
    /// Channels.
    PubSub,
    /// Scripts.
    Scripting,
}

/// Where a command's keys are among its arguments, its name being number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The first key's place; 0: there are no keys.
    pub first: usize,
    /// The last key's place; negative: from the end, -1 being the last.
    pub last: isize,
    /// From one key to the next.
    pub step: usize,
    /// What is done with them, as in Redis's key specifications.
    pub access: &'static [&'static str],
    /// The same of the second of two keys, where it differs.
    pub second_access: &'static [&'static str],
    /// The place of their number, with the keys behind it; 0: there is none.
    pub count: usize,
}

impl Keys {
    /// No keys.
    pub(super) const NONE: Self = Self {
        first: 0,
        last: 0,
        step: 0,
        access: &[],
        second_access: &[],
        count: 0,
    };

    /// What is done with key number `number`, from 0.
    pub fn access_of(&self, number: usize) -> &'static [&'static str] {
        match number {
            1.. if !self.second_access.is_empty() => self.second_access,
            _ => self.access,
        }
    }

    /// Whether a request has as many keys as it says.
    pub fn are_there(&self, request: &[Value]) -> bool {
        let behind = request.len().saturating_sub(self.count + 1);
        self.count == 0 || self.counted(request) <= behind
    }

    /// How many keys a request says that it has.
    fn counted(&self, request: &[Value]) -> usize {
        let number = request.get(self.count).cloned().unwrap_or_default();
        let number = crate::resp::number::parse_i64(&number.into_contiguous());
        number.and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }

    /// The places of the keys in a request.
    pub fn places(&self, request: &[Value]) -> impl Iterator<Item = usize> + use<> {
        self.places_from(request, 0).1
    }

    /// The places from this one on; and the number, among all keys, of the first.
    pub fn places_from(
        &self,
        request: &[Value],
        from: usize,
    ) -> (usize, impl Iterator<Item = usize> + use<>) {
        let (range, step) = self.range(request);
        let passed = from.saturating_sub(range.start).div_ceil(step);
        let start = range.start.saturating_add(passed.saturating_mul(step));
        (passed, (start..range.end.max(start)).step_by(step))
    }

    fn range(&self, request: &[Value]) -> (Range<usize>, usize) {
        let argc = request.len();
        if self.count > 0 {
            let first = self.count + 1;
            let end = first.saturating_add(self.counted(request));
            return (first..end.min(argc), 1);
        }
        let last = match usize::try_from(self.last) {
            Ok(last) => last,
            Err(_) => argc.saturating_sub(self.last.unsigned_abs()),
        };
        let end = if self.first == 0 {
            0
        } else {
            (last + 1).min(argc)
        };
        (self.first..end, self.step.max(1))
    }
}

/// One entry of the table.
#[derive(Debug)]
pub struct CommandSpec {
    /// In lower case; `command|subcommand` for a subcommand.
    pub name: &'static str,
    /// Arguments, the name included (and the subcommand's); `-n`: at least n.
    pub arity: isize,
    /// See [`flags`].
    pub flags: u32,
    /// Where the keys are.
    pub keys: Keys,
    /// The first value to be stored; 0: there is none. Others follow at the
    /// distance of the keys.
    pub(super) value: usize,
    /// From this place on arguments may be of any length; 0: none.
    pub(super) long_from: usize,
    /// The family.
    pub group: Group,
    /// The version of Redis that had it first.
    pub since: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// ACL categories that do not follow from flags and group.
    pub(super) acl: &'static [&'static str],
    /// Redis's hints for clients of clusters.
    pub(super) tips: &'static [&'static str],
    /// A remark in the key specification.
    pub(super) keys_note: &'static str,
    /// The subcommands of a container.
    pub subcommands: &'static [CommandSpec],
    pub(super) parse: Parse,
}

/// Parses what follows the command's (and the subcommand's) name.
pub(super) type Parse = fn(Args) -> Result<Command, CommandError>;

impl CommandSpec {
    pub(super) const fn new(
        name: &'static str,
        arity: isize,
        flags: u32,
        group: Group,
        parse: Parse,
    ) -> Self {
        Self {
            name,
            arity,
            flags,
            keys: Keys::NONE,
            value: 0,
            long_from: 0,
            group,
            since: "",
            summary: "",
            acl: &[],
            tips: &[],
            keys_note: "",
            subcommands: &[],
            parse,
        }
    }

    pub(super) const fn doc(mut self, since: &'static str, summary: &'static str) -> Self {
        self.since = since;
        self.summary = summary;
        self
    }

    pub(super) const fn keys(
        mut self,
        last: isize,
        step: usize,
        access: &'static [&'static str],
    ) -> Self {
        self.keys = Keys {
            first: 1,
            last,
            step,
            access,
            second_access: &[],
            count: 0,
        };
        self
    }

    pub(super) const fn counted_keys(
        mut self,
        count: usize,
        access: &'static [&'static str],
    ) -> Self {
        self.keys = Keys {
            count,
            access,
            ..Keys::NONE
        };
        self
    }

    pub(super) const fn first_key(mut self, place: usize) -> Self {
        self.keys.first = place;
        self
    }

    /// Whether it makes a key's value from what it was.
    pub fn changes(&self) -> bool {
        let reads = self.keys.access.first() == Some(&"RW");
        // SET may read, but at the moment at which it writes
        reads && self.name != "set"
    }

    pub(super) const fn second_key(mut self, access: &'static [&'static str]) -> Self {
        self.keys.second_access = access;
        self
    }

    pub(super) const fn value(mut self, place: usize) -> Self {
        self.value = place;
        self
    }

    pub(super) const fn long_from(mut self, place: usize) -> Self {
        self.long_from = place;
        self
    }

    pub(super) const fn keys_note(mut self, note: &'static str) -> Self {
        self.keys_note = note;
        self
    }

    pub(super) const fn acl(mut self, categories: &'static [&'static str]) -> Self {
        self.acl = categories;
        self
    }

    pub(super) const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.tips = tips;
        self
    }

    pub(super) const fn subcommands(mut self, subcommands: &'static [CommandSpec]) -> Self {
        self.subcommands = subcommands;
        self
    }

    /// Whether argument `place` is a value that is to be stored under a key.
    pub(super) fn stores(&self, place: usize) -> bool {
        match place.checked_sub(self.value) {
            Some(distance) if self.value > 0 => {
                distance == 0 || (self.keys.last < 0 && distance % self.keys.step.max(1) == 0)
            }
            _ => false,
        }
    }

    /// Whether argument `place` may have `len` bytes, more than keys and words have.
    pub fn takes_long(&self, place: usize, len: u64) -> bool {
        let is_script = self.group == Group::Scripting && place == self.long_from;
        let fits = !is_script || len <= scripts::MAX_TEXT_BYTES;
        fits && (self.stores(place) || (self.long_from > 0 && place >= self.long_from))
    }

    /// What is done with key number `number` of this request, from 0: some options
    /// say more than the table.
    pub fn access_in(&self, request: &[Value], number: usize) -> &'static [&'static str] {
        let access = self.keys.access_of(number);
        if !access.contains(&"variable_flags") {
            return access;
        }
        match self.name {
            "set" if !strings::set_reads(request) => &["OW", "update"],
            "bitfield" if bits::only_reads(request) => &["RO", "access"],
            _ => access,
        }
    }

    /// Whether it has all of these [`flags`].
    pub fn is(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Whether a request may have `argc` arguments.
    pub fn accepts(&self, argc: usize) -> bool {
        match usize::try_from(self.arity) {
            Ok(exact) => argc == exact,
            Err(_) => argc >= self.arity.unsigned_abs(),
        }
    }

    /// The name without that of the container.
    pub(super) fn short_name(&self) -> &'static str {
        self.name
            .split_once('|')
            .map_or(self.name, |(_, short)| short)
    }

    /// The entry that a request belongs to (the subcommand's, where there is one),
    /// whatever its number of arguments.
    pub fn named(request: &[Value]) -> Result<&'static Self, CommandError> {
        Self::entry(request.first().and_then(named), request)
    }

    /// The same where the command that it names has been looked up.
    fn entry(
        named: Option<&'static Self>,
        request: &[Value],
    ) -> Result<&'static Self, CommandError> {
        let command = named.ok_or_else(|| unknown_command(request))?;
        match request.get(1) {
            Some(name) if !command.subcommands.is_empty() => {
                command
                    .subcommand(name)
                    .ok_or_else(|| CommandError::UnknownSubcommand {
                        command: command.name,
                        name: excerpt(name, EXCERPT_BYTES),
                    })
            }
            _ => Ok(command),
        }
    }

    /// The same, once its number of arguments is right.
    pub fn of(request: &[Value]) -> Result<&'static Self, CommandError> {
        Self::of_named(request.first().and_then(named), request)
    }

    /// The same where the command that it names has been looked up.
    pub(super) fn of_named(
        named: Option<&'static Self>,
        request: &[Value],
    ) -> Result<&'static Self, CommandError> {
        let spec = Self::entry(named, request)?;
        match spec.name {
            _ if spec.accepts(request.len()) => Ok(spec),
            "exec" => Err(CommandError::ExecArity),
            command => Err(CommandError::Arity { command }),
        }
    }

    /// The entry of a request of `argc` arguments of which these are here; `None`
    /// if there is none, or it does not take so many.
    pub fn begun(args_so_far: &[Value], argc: usize) -> Option<&'static Self> {
        let command = args_so_far.first().and_then(named)?;
        let spec = match args_so_far.get(1) {
            _ if command.subcommands.is_empty() => command,
            Some(name) => command.subcommand(name)?,
            None => return None,
        };
        spec.accepts(argc).then_some(spec)
    }

    fn subcommand(&self, name: &Value) -> Option<&'static Self> {
        let [name] = name.segments() else { return None };
        self.subcommands
            .iter()
            .find(|s| name.eq_ignore_ascii_case(s.short_name().as_bytes()))
    }
}

/// How much of a name or of all arguments together Redis quotes in an error.
const EXCERPT_BYTES: usize = 128;

fn unknown_command(request: &[Value]) -> CommandError {
    let name = request
        .first()
        .map(|n| excerpt(n, EXCERPT_BYTES))
        .unwrap_or_default();
    let mut args = String::new();
    // What is cut off counts in bytes as sent, not as shown.
    let mut quoted = 0;
    for arg in request.iter().skip(1) {
        if quoted >= EXCERPT_BYTES {
            break;
        }
        let room = EXCERPT_BYTES - quoted;
        args.push_str(&format!("'{}' ", excerpt(arg, room)));
        quoted += room.min(usize::try_from(arg.len()).unwrap_or(room)) + "'' ".len();
    }
    CommandError::UnknownCommand { name, args }
}

/// All commands, sorted by name.
pub fn commands() -> &'static [&'static CommandSpec] {
    static SORTED: LazyLock<Vec<&'static CommandSpec>> = LazyLock::new(|| {
        let families = [
            acl::COMMANDS,
            bits::COMMANDS,
            cluster::COMMANDS,
            connection::COMMANDS,
            hashes::COMMANDS,
            inspect::COMMANDS,
            keys::COMMANDS,
            pubsub::COMMANDS,
            scripts::COMMANDS,
            server::COMMANDS,
            strings::COMMANDS,
            transactions::COMMANDS,
        ];
        let mut all: Vec<&'static CommandSpec> = families.into_iter().flatten().collect();
        all.sort_unstable_by_key(|spec| spec.name);
        all
    });
    &SORTED
}

type ByName = HashMap<&'static [u8], &'static CommandSpec, foldhash::fast::FixedState>;

static BY_NAME: LazyLock<ByName> = LazyLock::new(|| {
    let named = |spec: &&'static CommandSpec| (spec.name.as_bytes(), *spec);
    commands().iter().map(named).collect()
});

/// The command of this name, in any case. Allocates nothing.
pub fn lookup(name: &[u8]) -> Option<&'static CommandSpec> {
    let mut lower = [0; 32];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    BY_NAME.get(&*lower).copied()
}

/// The entry by `command` or `command|subcommand`.
pub fn lookup_full(name: &[u8]) -> Option<&'static CommandSpec> {
    let Some(bar) = name.iter().position(|b| *b == b'|') else {
        return lookup(name);
    };
    let (command, sub) = name.split_at(bar);
    lookup(command)?
        .subcommands
        .iter()
        .find(|s| sub[1..].eq_ignore_ascii_case(s.short_name().as_bytes()))
}

pub(super) fn named(name: &Value) -> Option<&'static CommandSpec> {
    match name.segments() {
        [name] => lookup(name),
        _ => None,
    }
}
