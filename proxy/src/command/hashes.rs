//! HSET, HGET and their relatives.

use bytes::Bytes;

use super::args::{Args, integer, is};
use super::keys::{Scan, cursor, scan_options};
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError};
use crate::strings::extended::Extended;

/// A command about a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashCommand {
    /// The hash.
    pub key: Bytes,
    /// What is done with it.
    pub action: HashAction,
}

/// What is done with a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashAction {
    /// HSET and HMSET.
    Set {
        /// Fields and their values; at least one.
        pairs: Vec<(Bytes, Bytes)>,
        /// HMSET: the reply is OK, not the number of new fields.
        says_ok: bool,
    },
    /// HSETNX: 1, or 0 if there is such a field.
    SetNew {
        /// The field.
        field: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// HGET: the value or null.
    Get {
        /// The field.
        field: Bytes,
    },
    /// HMGET: a value or null for each.
    GetSeveral {
        /// At least one.
        fields: Vec<Bytes>,
    },
    /// HGETALL.
    GetAll,
    /// HKEYS.
    Fields,
    /// HVALS.
    Values,
    /// HLEN.
    Len,
    /// HEXISTS.
    Exists {
        /// The field.
        field: Bytes,
    },
    /// HSTRLEN: the length of a value.
    StrLen {
        /// The field.
        field: Bytes,
    },
    /// HDEL: how many there were.
    Del {
        /// At least one.
        fields: Vec<Bytes>,
    },
    /// HINCRBY: the sum.
    Add {
        /// The field; if it does not exist its value is 0.
        field: Bytes,
        /// What is added.
        increment: i64,
    },
    /// HINCRBYFLOAT: the sum, as text.
    AddFloat {
        /// The field; if it does not exist its value is 0.
        field: Bytes,
        /// What is added.
        increment: Extended,
    },
    /// HRANDFIELD.
    Random {
        /// How many; negative: as many, also the same again; none: one, not in an
        /// array.
        count: Option<i64>,
        /// Whether values come with the fields.
        with_values: bool,
    },
    /// HSCAN. Wrong options are an error only if there is such a key.
    Scan(Result<Scan, CommandError>),
}

const UPDATE: &[&str] = &["RW", "update"];
const READ: &[&str] = &["RO", "access"];
const UNORDERED: &[&str] = &["nondeterministic_output_order"];
const RANDOM: &[&str] = &["nondeterministic_output"];

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    access: &'static [&'static str],
    parse: super::table::Parse,
) -> CommandSpec {
    // fields and values
    CommandSpec::new(name, arity, flags, Group::Hash, parse)
        .keys(1, 1, access)
        .long_from(2)
}

const WRITES: u32 = WRITE | DENYOOM | FAST;

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[
    spec("hset", -4, WRITES, UPDATE, |args| set(args, false))
        .doc("2.0.0", "Sets fields of a hash."),
    spec("hmset", -4, WRITES, UPDATE, |args| set(args, true))
        .doc("2.0.0", "Sets fields of a hash."),
    spec("hsetnx", 4, WRITES, &["RW", "insert"], |args| {
        with(args, |args| {
            Ok(HashAction::SetNew {
                field: args.bytes()?,
                value: args.bytes()?,
            })
        })
    })
    .doc("2.0.0", "Sets a field of a hash that does not exist."),
    spec("hget", 3, READONLY | FAST, READ, |args| {
        with(args, |args| {
            let field = args.bytes()?;
            Ok(HashAction::Get { field })
        })
    })
    .doc("2.0.0", "Returns the value of a field."),
    spec("hmget", -3, READONLY | FAST, READ, |args| {
        with(args, |args| {
            let fields = args.all_bytes();
            Ok(HashAction::GetSeveral { fields })
        })
    })
    .doc("2.0.0", "Returns the values of fields."),
    spec("hgetall", 2, READONLY, READ, |args| {
        with(args, |_| Ok(HashAction::GetAll))
    })
    .tips(UNORDERED)
    .doc("2.0.0", "Returns all fields and values."),
    spec("hkeys", 2, READONLY, READ, |args| {
        with(args, |_| Ok(HashAction::Fields))
    })
    .tips(UNORDERED)
    .doc("2.0.0", "Returns all fields."),
    spec("hvals", 2, READONLY, READ, |args| {
        with(args, |_| Ok(HashAction::Values))
    })
    .tips(UNORDERED)
    .doc("2.0.0", "Returns all values."),
    spec("hlen", 2, READONLY | FAST, &["RO"], |args| {
        with(args, |_| Ok(HashAction::Len))
    })
    .doc("2.0.0", "Counts the fields."),
    spec("hexists", 3, READONLY | FAST, &["RO"], |args| {
        with(args, |args| {
            let field = args.bytes()?;
            Ok(HashAction::Exists { field })
        })
    })
    .doc("2.0.0", "Tells whether there is a field."),
    spec("hstrlen", 3, READONLY | FAST, &["RO"], |args| {
        with(args, |args| {
            let field = args.bytes()?;
            Ok(HashAction::StrLen { field })
        })
    })
    .doc("3.2.0", "Returns the length of a field's value."),
    spec("hdel", -3, WRITE | FAST, &["RW", "delete"], |args| {
        with(args, |args| {
            let fields = args.all_bytes();
            Ok(HashAction::Del { fields })
        })
    })
    .doc("2.0.0", "Deletes fields, and the hash with its last one."),
    spec("hincrby", 4, WRITES, &["RW", "access", "update"], |args| {
        with(args, |args| {
            Ok(HashAction::Add {
                field: args.bytes()?,
                increment: args.integer()?,
            })
        })
    })
    .doc("2.0.0", "Adds to the number in a field."),
    spec(
        "hincrbyfloat",
        4,
        WRITES,
        &["RW", "access", "update"],
        |args| {
            with(args, |args| {
                Ok(HashAction::AddFloat {
                    field: args.bytes()?,
                    increment: match Extended::parse(&args.token()?) {
                        None => return Err(CommandError::NotAFloat),
                        Some(Extended::Infinite { .. }) => {
                            return Err(CommandError::InfiniteIncrement);
                        }
                        Some(finite) => finite,
                    },
                })
            })
        },
    )
    .doc(
        "2.6.0",
        "Adds to the number in a field, which need not be whole.",
    ),
    spec("hrandfield", -2, READONLY, READ, random)
        .long_from(0)
        .tips(RANDOM)
        .doc("6.2.0", "Returns fields at random."),
    spec("hscan", -3, READONLY, READ, scan)
        .long_from(0)
        .tips(RANDOM)
        .doc("2.8.0", "Iterates over fields and values."),
];

fn with(
    mut args: Args,
    action: impl FnOnce(&mut Args) -> Result<HashAction, CommandError>,
) -> Result<Command, CommandError> {
    let key = args.key()?;
    let action = action(&mut args)?;
    Ok(Command::Hash(HashCommand { key, action }))
}

fn set(args: Args, says_ok: bool) -> Result<Command, CommandError> {
    if args.len().is_multiple_of(2) {
        return Err(args.wrong_number());
    }
    with(args, |args| {
        let pairs = (0..args.len() / 2)
            .map(|_| Ok((args.bytes()?, args.bytes()?)))
            .collect::<Result<_, CommandError>>()?;
        Ok(HashAction::Set { pairs, says_ok })
    })
}

fn random(args: Args) -> Result<Command, CommandError> {
    with(args, |args| {
        let Some(count) = args.option()? else {
            return Ok(HashAction::Random {
                count: None,
                with_values: false,
            });
        };
        let count = integer(&count)?;
        if count == i64::MIN {
            return Err(CommandError::OutOfNegatableRange);
        }
        let with_values = match (args.len(), args.option()?) {
            (0, _) => false,
            (1, Some(option)) if is(&option, "WITHVALUES") => true,
            _ => return Err(CommandError::Syntax),
        };
        // as Redis, which counts fields and values together
        if with_values && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count) {
            return Err(CommandError::OutOfRange);
        }
        Ok(HashAction::Random {
            count: Some(count),
            with_values,
        })
    })
}

fn scan(args: Args) -> Result<Command, CommandError> {
    with(args, |args| {
        let cursor = cursor(&args.token()?)?;
        Ok(HashAction::Scan(scan_options(cursor, args, false)))
    })
}
