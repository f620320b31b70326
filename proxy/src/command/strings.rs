//! GET, SET and their relatives.

use bytes::Bytes;

use super::args::{Args, integer, is};
use super::expiry::Unit;
use super::lcs::{Lcs, lcs};
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError, Expiry};
use crate::strings::extended::Extended;
use crate::value::Value;

/// A command about string values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringCommand {
    /// GET: the value, or null.
    Get {
        /// Of this key.
        key: Bytes,
    },
    /// SET, SETEX, PSETEX, SETNX, GETSET.
    Set(Set),
    /// GETDEL: like GET, and the key is gone.
    GetDel {
        /// The key.
        key: Bytes,
    },
    /// GETEX: like GET, and the expiry changes.
    GetEx {
        /// The key.
        key: Bytes,
        /// `Keep` without options; `None` for PERSIST. A number that is out of
        /// range is an error only if there is such a key.
        expiry: Result<Expiry, CommandError>,
    },
    /// MGET: one value or null for each key, in order.
    MGet {
        /// At least one.
        keys: Vec<Bytes>,
    },
    /// MSET and MSETNX: all or nothing. A key may occur twice: the last wins.
    MSet {
        /// At least one.
        pairs: Vec<(Bytes, Value)>,
        /// MSETNX: only if none of the keys exists; the reply is 1 or 0.
        if_none_exist: bool,
    },
    /// GETRANGE and SUBSTR: a part of the value.
    GetRange {
        /// Of this key.
        key: Bytes,
        /// The first byte; negative: from the end.
        start: i64,
        /// The last byte, included; negative: from the end.
        end: i64,
    },
    /// SETRANGE and APPEND: the reply is the new length.
    Edit(Edit),
    /// INCR, DECR, INCRBY, DECRBY: the reply is the sum.
    Add {
        /// The key; if it does not exist its value is 0.
        key: Bytes,
        /// What is added.
        increment: i64,
    },
    /// INCRBYFLOAT: the reply is the sum, as text.
    AddFloat {
        /// The key; if it does not exist its value is 0.
        key: Bytes,
        /// What is added. What is wrong with it matters only if the key holds a
        /// string, or nothing.
        increment: Result<Extended, CommandError>,
    },
    /// LCS.
    Lcs(Lcs),
    /// STRLEN: the value's length, 0 if there is none.
    StrLen {
        /// Of this key.
        key: Bytes,
    },
}

/// Bytes put into a value, which is written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The key; if it does not exist its value is empty.
    pub key: Bytes,
    /// Where they go.
    pub place: Place,
    /// The bytes.
    pub value: Value,
}

/// Where bytes go that are put into a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// From this byte on; zeros fill what is before it.
    At(u64),
    /// Behind the end.
    End,
}

/// One write of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The key.
    pub key: Bytes,
    /// The value, in the segments it arrived in.
    pub value: Value,
    /// Whether the write takes place.
    pub condition: SetCondition,
    /// The new object's expiry. `At` may be past: the key is gone then.
    pub expiry: Expiry,
    /// The reply that the client expects.
    pub answer: SetAnswer,
}

/// When a SET takes place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCondition {
    /// Always.
    #[default]
    Always,
    /// If the key does not exist (NX).
    IfAbsent,
    /// If the key exists (XX).
    IfPresent,
}

/// What a SET answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetAnswer {
    /// OK, or null if the condition did not hold.
    #[default]
    Ok,
    /// The value before, or null, whether or not the condition held (GET).
    OldValue,
    /// 1, or 0 if the condition did not hold (SETNX).
    Count,
}

const RW: &[&str] = &["RW", "access", "update"];
const OVERWRITE: &[&str] = &["OW", "update"];
const INSERT: &[&str] = &["OW", "insert"];
const READ: &[&str] = &["RO", "access"];

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    parse: super::table::Parse,
) -> CommandSpec {
    CommandSpec::new(name, arity, flags, Group::String, parse)
}

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[
    spec("get", 2, READONLY | FAST, get)
        .keys(1, 1, READ)
        .doc("1.0.0", "Returns the value of a key."),
    spec("set", -3, WRITE | DENYOOM, set)
        .value(2)
        .keys(1, 1, &["RW", "access", "update", "variable_flags"])
        .keys_note("RW and ACCESS due to the optional `GET` argument")
        .doc("1.0.0", "Sets the value of a key."),
    spec("setex", 4, WRITE | DENYOOM, setex)
        .value(3)
        .keys(1, 1, OVERWRITE)
        .doc(
            "2.0.0",
            "Sets the value of a key and its expiry in seconds.",
        ),
    spec("psetex", 4, WRITE | DENYOOM, psetex)
        .value(3)
        .keys(1, 1, OVERWRITE)
        .doc(
            "2.6.0",
            "Sets the value of a key and its expiry in milliseconds.",
        ),
    spec("setnx", 3, WRITE | DENYOOM | FAST, setnx)
        .value(2)
        .keys(1, 1, INSERT)
        .doc("1.0.0", "Sets the value of a key that does not exist."),
    spec("getset", 3, WRITE | DENYOOM | FAST, getset)
        .value(2)
        .keys(1, 1, RW)
        .doc(
            "1.0.0",
            "Sets the value of a key and returns the one before.",
        ),
    spec("getdel", 2, WRITE | FAST, getdel)
        .keys(1, 1, &["RW", "access", "delete"])
        .doc("6.2.0", "Returns the value of a key and deletes it."),
    spec("getex", -2, WRITE | FAST, getex)
        .keys(1, 1, RW)
        .keys_note("RW and UPDATE because it changes the TTL")
        .doc(
            "6.2.0",
            "Returns the value of a key and changes its expiry.",
        ),
    spec("mget", -2, READONLY | FAST, mget)
        .keys(-1, 1, READ)
        .tips(&["request_policy:multi_shard"])
        .doc("1.0.0", "Returns the values of several keys."),
    spec("mset", -3, WRITE | DENYOOM, mset)
        .value(2)
        .keys(-1, 2, OVERWRITE)
        .tips(&[
            "request_policy:multi_shard",
            "response_policy:all_succeeded",
        ])
        .doc("1.0.1", "Sets the values of several keys."),
    spec("msetnx", -3, WRITE | DENYOOM, msetnx)
        .value(2)
        .keys(-1, 2, INSERT)
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .doc(
            "1.0.1",
            "Sets the values of several keys if none of them exists.",
        ),
    spec("getrange", 4, READONLY, getrange)
        .keys(1, 1, READ)
        .doc("2.4.0", "Returns a part of a value."),
    spec("substr", 4, READONLY, getrange)
        .keys(1, 1, READ)
        .doc("1.0.0", "Returns a part of a value."),
    spec("setrange", 4, WRITE | DENYOOM, setrange)
        .long_from(3)
        .keys(1, 1, &["RW", "update"])
        .doc("2.2.0", "Overwrites a part of a value."),
    spec("append", 3, WRITE | DENYOOM | FAST, append)
        .long_from(2)
        .keys(1, 1, &["RW", "insert"])
        .doc("2.0.0", "Adds bytes to the end of a value."),
    spec("incr", 2, WRITE | DENYOOM | FAST, |args| add(args, 1))
        .keys(1, 1, RW)
        .doc("1.0.0", "Adds one to a number."),
    spec("decr", 2, WRITE | DENYOOM | FAST, |args| add(args, -1))
        .keys(1, 1, RW)
        .doc("1.0.0", "Takes one from a number."),
    spec("incrby", 3, WRITE | DENYOOM | FAST, incrby)
        .keys(1, 1, RW)
        .doc("1.0.0", "Adds to a number."),
    spec("decrby", 3, WRITE | DENYOOM | FAST, decrby)
        .keys(1, 1, RW)
        .doc("1.0.0", "Takes from a number."),
    spec("incrbyfloat", 3, WRITE | DENYOOM | FAST, incrbyfloat)
        .keys(1, 1, RW)
        .doc("2.6.0", "Adds to a number that need not be whole."),
    spec("lcs", -3, READONLY, lcs).keys(2, 1, READ).doc(
        "7.0.0",
        "Finds the longest common subsequence of two values.",
    ),
    spec("strlen", 2, READONLY | FAST, strlen)
        .keys(1, 1, &["RO"])
        .doc("2.2.0", "Returns the length of a value."),
];

/// Whether SET returns the old value, as Redis finds out for its ACLs.
pub(super) fn set_reads(request: &[Value]) -> bool {
    let is_get = |option: &Value| matches!(option.segments(), [word] if is(word, "GET"));
    request.iter().skip(3).any(is_get)
}

fn get(mut args: Args) -> Result<Command, CommandError> {
    Ok(Command::String(StringCommand::Get { key: args.key()? }))
}

fn getdel(mut args: Args) -> Result<Command, CommandError> {
    Ok(Command::String(StringCommand::GetDel { key: args.key()? }))
}

fn add(mut args: Args, increment: i64) -> Result<Command, CommandError> {
    let key = args.key()?;
    Ok(Command::String(StringCommand::Add { key, increment }))
}

fn incrby(mut args: Args) -> Result<Command, CommandError> {
    let (key, increment) = (args.key()?, args.integer()?);
    Ok(Command::String(StringCommand::Add { key, increment }))
}

fn decrby(mut args: Args) -> Result<Command, CommandError> {
    let (key, decrement) = (args.key()?, args.integer()?);
    let increment = decrement
        .checked_neg()
        .ok_or(CommandError::DecrementOverflow)?;
    Ok(Command::String(StringCommand::Add { key, increment }))
}

fn incrbyfloat(mut args: Args) -> Result<Command, CommandError> {
    let (key, increment) = (args.key()?, args.token()?);
    let increment = Extended::parse(&increment).ok_or(CommandError::NotAFloat);
    Ok(Command::String(StringCommand::AddFloat { key, increment }))
}

fn strlen(mut args: Args) -> Result<Command, CommandError> {
    Ok(Command::String(StringCommand::StrLen { key: args.key()? }))
}

fn getrange(mut args: Args) -> Result<Command, CommandError> {
    let (key, start, end) = (args.key()?, args.integer()?, args.integer()?);
    Ok(Command::String(StringCommand::GetRange { key, start, end }))
}

fn setrange(mut args: Args) -> Result<Command, CommandError> {
    let (key, offset) = (args.key()?, args.integer()?);
    let offset = u64::try_from(offset).map_err(|_| CommandError::Offset)?;
    edit(key, Place::At(offset), args.value()?)
}

fn append(mut args: Args) -> Result<Command, CommandError> {
    let (key, value) = (args.key()?, args.value()?);
    edit(key, Place::End, value)
}

fn edit(key: Bytes, place: Place, value: Value) -> Result<Command, CommandError> {
    let edit = Edit { key, place, value };
    Ok(Command::String(StringCommand::Edit(edit)))
}

fn mget(mut args: Args) -> Result<Command, CommandError> {
    Ok(Command::String(StringCommand::MGet { keys: args.keys()? }))
}

fn set(mut args: Args) -> Result<Command, CommandError> {
    let (key, value) = (args.key()?, args.value()?);
    let (mut condition, mut answer) = (SetCondition::Always, SetAnswer::Ok);
    let mut expiry = ExpiryOption::None;
    while let Some(option) = args.option()? {
        if is(&option, "NX") && condition != SetCondition::IfPresent {
            condition = SetCondition::IfAbsent;
        } else if is(&option, "XX") && condition != SetCondition::IfAbsent {
            condition = SetCondition::IfPresent;
        } else if is(&option, "GET") {
            answer = SetAnswer::OldValue;
        } else {
            expiry = expiry.and(&option, "KEEPTTL", &mut args)?;
        }
    }
    let expiry = expiry.resolve(Expiry::None, Expiry::Keep, &args)?;
    Ok(Command::String(StringCommand::Set(Set {
        key,
        value,
        condition,
        expiry,
        answer,
    })))
}

fn getex(mut args: Args) -> Result<Command, CommandError> {
    let key = args.key()?;
    let mut expiry = ExpiryOption::None;
    while let Some(option) = args.option()? {
        expiry = expiry.and(&option, "PERSIST", &mut args)?;
    }
    let expiry = expiry.resolve(Expiry::Keep, Expiry::None, &args);
    Ok(Command::String(StringCommand::GetEx { key, expiry }))
}

/// The option about expiry that SET or GETEX has got so far. One may be
/// repeated, two may not be mixed; the number is looked at when all options
/// are known to be in order.
enum ExpiryOption {
    None,
    /// KEEPTTL or PERSIST.
    Plain,
    Time(Unit, Bytes),
}

impl ExpiryOption {
    fn and(self, option: &[u8], plain: &str, args: &mut Args) -> Result<Self, CommandError> {
        if is(option, plain) {
            return match self {
                Self::None | Self::Plain => Ok(Self::Plain),
                Self::Time(..) => Err(CommandError::Syntax),
            };
        }
        let unit = Unit::of_option(option).ok_or(CommandError::Syntax)?;
        match self {
            Self::None => {}
            Self::Time(before, _) if before == unit => {}
            _ => return Err(CommandError::Syntax),
        }
        Ok(Self::Time(unit, args.operand()?))
    }

    fn resolve(self, none: Expiry, plain: Expiry, args: &Args) -> Result<Expiry, CommandError> {
        match self {
            Self::None => Ok(none),
            Self::Plain => Ok(plain),
            Self::Time(unit, number) => unit.positive(integer(&number)?, args),
        }
    }
}

fn setex(args: Args) -> Result<Command, CommandError> {
    set_with_expiry(args, Unit::EX)
}

fn psetex(args: Args) -> Result<Command, CommandError> {
    set_with_expiry(args, Unit::PX)
}

fn set_with_expiry(mut args: Args, unit: Unit) -> Result<Command, CommandError> {
    let key = args.key()?;
    let number = args.integer()?;
    let expiry = unit.positive(number, &args)?;
    plain_set(
        key,
        args.value()?,
        SetCondition::Always,
        expiry,
        SetAnswer::Ok,
    )
}

fn setnx(mut args: Args) -> Result<Command, CommandError> {
    let (key, value) = (args.key()?, args.value()?);
    plain_set(
        key,
        value,
        SetCondition::IfAbsent,
        Expiry::None,
        SetAnswer::Count,
    )
}

fn getset(mut args: Args) -> Result<Command, CommandError> {
    let (key, value) = (args.key()?, args.value()?);
    plain_set(
        key,
        value,
        SetCondition::Always,
        Expiry::None,
        SetAnswer::OldValue,
    )
}

fn plain_set(
    key: Bytes,
    value: Value,
    condition: SetCondition,
    expiry: Expiry,
    answer: SetAnswer,
) -> Result<Command, CommandError> {
    Ok(Command::String(StringCommand::Set(Set {
        key,
        value,
        condition,
        expiry,
        answer,
    })))
}

fn mset(args: Args) -> Result<Command, CommandError> {
    pairs(args, false)
}

fn msetnx(args: Args) -> Result<Command, CommandError> {
    pairs(args, true)
}

fn pairs(mut args: Args, if_none_exist: bool) -> Result<Command, CommandError> {
    if !args.len().is_multiple_of(2) {
        return Err(args.wrong_number());
    }
    let pairs = (0..args.len() / 2)
        .map(|_| Ok((args.key()?, args.value()?)))
        .collect::<Result<_, CommandError>>()?;
    Ok(Command::String(StringCommand::MSet {
        pairs,
        if_none_exist,
    }))
}
