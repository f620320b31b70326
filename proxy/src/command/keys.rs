//! Commands about keys, whatever they hold: existence, expiry, iteration.

use bytes::Bytes;

use super::args::{Args, excerpt, integer, is};
use super::expiry::Unit;
pub use super::expiry::{ExpireCondition, TtlQuery};
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError, Expiry, glob};

/// A command about keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyCommand {
    /// DEL and UNLINK: how many existed. A key that occurs twice counts once.
    Del {
        /// At least one.
        keys: Vec<Bytes>,
    },
    /// EXISTS: how many exist. A key that occurs twice counts twice.
    Exists {
        /// At least one.
        keys: Vec<Bytes>,
    },
    /// TOUCH: like EXISTS, and they count as used.
    Touch {
        /// At least one.
        keys: Vec<Bytes>,
    },
    /// TYPE: `string` or `none`.
    Type {
        /// The key.
        key: Bytes,
    },
    /// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT: 1, or 0 if there is no such key
    /// or the condition does not hold.
    Expire {
        /// The key.
        key: Bytes,
        /// `In` or `At`; a time that is past deletes the key.
        expiry: Expiry,
        /// When it is done.
        condition: ExpireCondition,
    },
    /// TTL, PTTL, EXPIRETIME, PEXPIRETIME.
    Ttl {
        /// The key.
        key: Bytes,
        /// What is asked for.
        query: TtlQuery,
    },
    /// PERSIST: 1 if the key had an expiry, which is gone now, else 0.
    Persist {
        /// The key.
        key: Bytes,
    },
    /// SCAN: some keys and a cursor to go on from.
    Scan(Scan),
    /// KEYS: all keys that match.
    Keys {
        /// A glob, see [`super::glob::matches`].
        pattern: Bytes,
    },
    /// RANDOMKEY: some key, or null.
    RandomKey,
    /// RENAME and RENAMENX: the value and its expiry have another key.
    Rename {
        /// The key that goes.
        from: Bytes,
        /// The key that comes; what it named is gone.
        to: Bytes,
        /// RENAMENX: only if there is no such key; the reply is 1 or 0.
        if_absent: bool,
    },
    /// COPY: 1, or 0 if there was nothing to copy, or the other key exists.
    Copy {
        /// The key to be copied, with its expiry.
        from: Bytes,
        /// The key of the copy.
        to: Bytes,
        /// Its database, if not the same.
        db: Option<u8>,
        /// Whether what is there is overwritten.
        replace: bool,
    },
}

/// One step of an iteration over all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// 0 to begin, else what the last step returned.
    pub cursor: u64,
    /// Only keys that match this glob.
    pub pattern: Option<Bytes>,
    /// How much work to do, about; at least 1, Redis's default is 10.
    pub count: u64,
    /// Only keys that hold a value of this type (`string` is the one we have).
    pub kind: Option<Bytes>,
}

const MULTI_SUM: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];
const DEL: &[&str] = &["RM", "delete"];
const UPDATE: &[&str] = &["RW", "update"];
const READ: &[&str] = &["RO", "access"];

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    parse: super::table::Parse,
) -> CommandSpec {
    CommandSpec::new(name, arity, flags, Group::Generic, parse)
}

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[
    spec("del", -2, WRITE, del)
        .keys(-1, 1, DEL)
        .tips(MULTI_SUM)
        .doc("1.0.0", "Deletes keys."),
    spec("unlink", -2, WRITE | FAST, del)
        .keys(-1, 1, DEL)
        .tips(MULTI_SUM)
        .doc("4.0.0", "Deletes keys and frees their memory later."),
    spec("exists", -2, READONLY | FAST, exists)
        .keys(-1, 1, &["RO"])
        .tips(MULTI_SUM)
        .doc("1.0.0", "Counts which of the keys exist."),
    spec("touch", -2, READONLY | FAST, touch)
        .keys(-1, 1, &["RO"])
        .tips(MULTI_SUM)
        .doc(
            "3.2.1",
            "Counts which of the keys exist and marks them as used.",
        ),
    spec("type", 2, READONLY | FAST, kind)
        .keys(1, 1, &["RO"])
        .doc("1.0.0", "Returns the type of a value."),
    spec("expire", -3, WRITE | FAST, expire)
        .keys(1, 1, UPDATE)
        .doc("1.0.0", "Sets the expiry of a key in seconds from now."),
    spec("pexpire", -3, WRITE | FAST, pexpire)
        .keys(1, 1, UPDATE)
        .doc(
            "2.6.0",
            "Sets the expiry of a key in milliseconds from now.",
        ),
    spec("expireat", -3, WRITE | FAST, expireat)
        .keys(1, 1, UPDATE)
        .doc(
            "1.2.0",
            "Sets the expiry of a key to a Unix time in seconds.",
        ),
    spec("pexpireat", -3, WRITE | FAST, pexpireat)
        .keys(1, 1, UPDATE)
        .doc(
            "2.6.0",
            "Sets the expiry of a key to a Unix time in milliseconds.",
        ),
    spec("ttl", 2, READONLY | FAST, ttl)
        .keys(1, 1, READ)
        .tips(&["nondeterministic_output"])
        .doc("1.0.0", "Returns the time to live of a key in seconds."),
    spec("pttl", 2, READONLY | FAST, pttl)
        .keys(1, 1, READ)
        .tips(&["nondeterministic_output"])
        .doc(
            "2.6.0",
            "Returns the time to live of a key in milliseconds.",
        ),
    spec("expiretime", 2, READONLY | FAST, expiretime)
        .keys(1, 1, READ)
        .doc(
            "7.0.0",
            "Returns the expiry of a key as a Unix time in seconds.",
        ),
    spec("pexpiretime", 2, READONLY | FAST, pexpiretime)
        .keys(1, 1, READ)
        .doc(
            "7.0.0",
            "Returns the expiry of a key as a Unix time in milliseconds.",
        ),
    spec("persist", 2, WRITE | FAST, persist)
        .keys(1, 1, UPDATE)
        .doc("2.2.0", "Removes the expiry of a key."),
    spec("scan", -2, READONLY, scan)
        .tips(&["nondeterministic_output", "request_policy:special"])
        .doc("2.8.0", "Iterates over the keys of a database."),
    spec("keys", 2, READONLY, keys)
        .acl(&["@dangerous"])
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .doc("1.0.0", "Returns all keys that match a pattern."),
    spec("rename", 3, WRITE, |args| rename(args, false))
        .keys(2, 1, &["RW", "access", "delete"])
        .second_key(&["OW", "update"])
        .doc("1.0.0", "Renames a key."),
    spec("renamenx", 3, WRITE | FAST, |args| rename(args, true))
        .keys(2, 1, &["RW", "access", "delete"])
        .second_key(&["OW", "insert"])
        .doc(
            "1.0.0",
            "Renames a key, if there is none of the other name.",
        ),
    spec("copy", -3, WRITE | DENYOOM, copy)
        .keys(2, 1, READ)
        .second_key(&["OW", "update"])
        .doc("6.2.0", "Copies the value of a key to another key."),
    spec("randomkey", 1, READONLY, randomkey)
        .tips(&["request_policy:all_shards", "nondeterministic_output"])
        .doc("1.0.0", "Returns some key."),
];

fn del(mut args: Args) -> Result<Command, CommandError> {
    Ok(Command::Key(KeyCommand::Del { keys: args.keys()? }))
}

fn exists(mut args: Args) -> Result<Command, CommandError> {
    Ok(Command::Key(KeyCommand::Exists { keys: args.keys()? }))
}

fn touch(mut args: Args) -> Result<Command, CommandError> {
    Ok(Command::Key(KeyCommand::Touch { keys: args.keys()? }))
}

fn kind(mut args: Args) -> Result<Command, CommandError> {
    Ok(Command::Key(KeyCommand::Type { key: args.key()? }))
}

fn persist(mut args: Args) -> Result<Command, CommandError> {
    Ok(Command::Key(KeyCommand::Persist { key: args.key()? }))
}

fn keys(mut args: Args) -> Result<Command, CommandError> {
    Ok(Command::Key(KeyCommand::Keys {
        pattern: args.pattern()?,
    }))
}

fn rename(mut args: Args, if_absent: bool) -> Result<Command, CommandError> {
    let (from, to) = (args.key()?, args.key()?);
    Ok(Command::Key(KeyCommand::Rename {
        from,
        to,
        if_absent,
    }))
}

fn copy(mut args: Args) -> Result<Command, CommandError> {
    let (from, to) = (args.key()?, args.key()?);
    let (mut db, mut replace) = (None, false);
    while let Some(option) = args.option()? {
        if is(&option, "REPLACE") {
            replace = true;
        } else if is(&option, "DB") {
            let number = integer(&args.operand()?)?;
            let number = u8::try_from(number).ok();
            let number = number.filter(|db| usize::from(*db) < crate::keyspace::DATABASES);
            db = Some(number.ok_or(CommandError::DbIndex)?);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(Command::Key(KeyCommand::Copy {
        from,
        to,
        db,
        replace,
    }))
}

fn randomkey(_: Args) -> Result<Command, CommandError> {
    Ok(Command::Key(KeyCommand::RandomKey))
}

fn expire(args: Args) -> Result<Command, CommandError> {
    set_expiry(args, Unit::EX)
}

fn pexpire(args: Args) -> Result<Command, CommandError> {
    set_expiry(args, Unit::PX)
}

fn expireat(args: Args) -> Result<Command, CommandError> {
    set_expiry(args, Unit::EXAT)
}

fn pexpireat(args: Args) -> Result<Command, CommandError> {
    set_expiry(args, Unit::PXAT)
}

fn set_expiry(mut args: Args, unit: Unit) -> Result<Command, CommandError> {
    let (key, number) = (args.key()?, args.token()?);
    let condition = expire_condition(&mut args)?;
    let expiry = unit.any(integer(&number)?, &args)?;
    Ok(Command::Key(KeyCommand::Expire {
        key,
        expiry,
        condition,
    }))
}

fn expire_condition(args: &mut Args) -> Result<ExpireCondition, CommandError> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    while args.len() > 0 {
        let option = args.value()?;
        let unsupported = || CommandError::UnsupportedOption(excerpt(&option, 128));
        let [word] = option.segments() else {
            return Err(unsupported());
        };
        match word {
            w if is(w, "NX") => nx = true,
            w if is(w, "XX") => xx = true,
            w if is(w, "GT") => gt = true,
            w if is(w, "LT") => lt = true,
            _ => return Err(unsupported()),
        }
    }
    match (nx, xx, gt, lt) {
        (true, true, _, _) | (true, _, true, _) | (true, _, _, true) => {
            Err(CommandError::NxWithOthers)
        }
        (_, _, true, true) => Err(CommandError::GtWithLt),
        (true, ..) => Ok(ExpireCondition::IfNone),
        (_, _, true, _) => Ok(ExpireCondition::IfLater),
        (_, true, _, true) => Ok(ExpireCondition::IfSomeAndEarlier),
        (_, _, _, true) => Ok(ExpireCondition::IfEarlier),
        (_, true, ..) => Ok(ExpireCondition::IfSome),
        _ => Ok(ExpireCondition::Always),
    }
}

fn ttl(args: Args) -> Result<Command, CommandError> {
    ask_expiry(
        args,
        TtlQuery {
            absolute: false,
            millis: false,
        },
    )
}

fn pttl(args: Args) -> Result<Command, CommandError> {
    ask_expiry(
        args,
        TtlQuery {
            absolute: false,
            millis: true,
        },
    )
}

fn expiretime(args: Args) -> Result<Command, CommandError> {
    ask_expiry(
        args,
        TtlQuery {
            absolute: true,
            millis: false,
        },
    )
}

fn pexpiretime(args: Args) -> Result<Command, CommandError> {
    ask_expiry(
        args,
        TtlQuery {
            absolute: true,
            millis: true,
        },
    )
}

fn ask_expiry(mut args: Args, query: TtlQuery) -> Result<Command, CommandError> {
    Ok(Command::Key(KeyCommand::Ttl {
        key: args.key()?,
        query,
    }))
}

fn scan(mut args: Args) -> Result<Command, CommandError> {
    let cursor = cursor(&args.token()?)?;
    let scan = scan_options(cursor, &mut args, true)?;
    Ok(Command::Key(KeyCommand::Scan(scan)))
}

/// What follows the cursor; types only where keys are iterated over.
pub(super) fn scan_options(
    cursor: u64,
    args: &mut Args,
    has_types: bool,
) -> Result<Scan, CommandError> {
    let mut scan = Scan {
        cursor,
        pattern: None,
        count: 10,
        kind: None,
    };
    while let Some(option) = args.option()? {
        let operand = args.operand()?;
        if is(&option, "COUNT") {
            let count = u64::try_from(integer(&operand)?).unwrap_or(0);
            scan.count = if count > 0 {
                count
            } else {
                return Err(CommandError::Syntax);
            };
        } else if is(&option, "MATCH") {
            if !glob::is_sane(&operand) {
                return Err(CommandError::PatternTooLong);
            }
            scan.pattern = Some(operand);
        } else if has_types && is(&option, "TYPE") {
            scan.kind = Some(operand);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(scan)
}

/// Redis takes whatever `strtoul` takes; we take plain digits, which is what
/// it hands out.
pub(super) fn cursor(digits: &[u8]) -> Result<u64, CommandError> {
    let digits = std::str::from_utf8(digits)
        .ok()
        .filter(|d| !d.starts_with('+'));
    digits
        .and_then(|d| d.parse().ok())
        .ok_or(CommandError::InvalidCursor)
}
