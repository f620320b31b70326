//! OBJECT, MEMORY, SLOWLOG, LASTSAVE: a look inside.

use bytes::Bytes;

use super::args::{Args, excerpt, integer, is};
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError};
use crate::resp::number::parse_i64;

/// A command that looks inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InspectCommand {
    /// OBJECT ENCODING: how Redis would keep the value.
    Encoding {
        /// Of this key.
        key: Bytes,
    },
    /// OBJECT FREQ: refused, as Redis does by default.
    Frequency {
        /// Of this key.
        key: Bytes,
    },
    /// OBJECT IDLETIME.
    IdleTime {
        /// Of this key.
        key: Bytes,
    },
    /// OBJECT REFCOUNT.
    RefCount {
        /// Of this key.
        key: Bytes,
    },
    /// MEMORY USAGE: an estimate in bytes.
    MemoryUsage {
        /// Of this key.
        key: Bytes,
    },
    /// MEMORY STATS.
    MemoryStats,
    /// MEMORY DOCTOR.
    MemoryDoctor,
    /// MEMORY MALLOC-STATS.
    MallocStats,
    /// MEMORY PURGE.
    MemoryPurge,
    /// SLOWLOG GET: the newest entries.
    SlowLogGet {
        /// So many; `None`: all.
        count: Option<u64>,
    },
    /// SLOWLOG LEN.
    SlowLogLen,
    /// SLOWLOG RESET.
    SlowLogReset,
    /// LASTSAVE: when all was on the disk last, in seconds since 1970.
    LastSave,
    /// HELP of this command.
    Help(&'static str),
}

const QUERY: u32 = LOADING | STALE;
const SLOWLOG: u32 = ADMIN | LOADING | STALE;
const VARIES: &[&str] = &["nondeterministic_output"];
const MEMORY_TIPS: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_shards",
    "response_policy:special",
];

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    parse: super::table::Parse,
) -> CommandSpec {
    CommandSpec::new(name, arity, flags, Group::Server, parse)
}

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("object", -2, 0, Group::Generic, Args::incomplete)
        .subcommands(OBJECT_COMMANDS)
        .doc("2.2.3", "Commands about what a key holds."),
    spec("memory", -2, 0, Args::incomplete)
        .subcommands(MEMORY_COMMANDS)
        .doc("4.0.0", "Commands about memory."),
    spec("slowlog", -2, 0, Args::incomplete)
        .subcommands(SLOWLOG_COMMANDS)
        .doc("2.2.12", "Commands about the slow log."),
    spec("lastsave", 1, LOADING | STALE | FAST, |_| {
        command(InspectCommand::LastSave)
    })
    .acl(&["@admin", "@dangerous"])
    .tips(VARIES)
    .doc("1.0.0", "Returns when all was on the disk last."),
];

const fn of_key(name: &'static str, parse: super::table::Parse) -> CommandSpec {
    CommandSpec::new(name, 3, READONLY, Group::Generic, parse)
        .keys(2, 1, &["RO"])
        .first_key(2)
        .tips(VARIES)
}

static OBJECT_COMMANDS: &[CommandSpec] = &[
    of_key("object|encoding", |mut args| {
        command(InspectCommand::Encoding { key: args.key()? })
    })
    .doc("2.2.3", "Returns how the value would be kept in memory."),
    of_key("object|freq", |mut args| {
        command(InspectCommand::Frequency { key: args.key()? })
    })
    .doc(
        "4.0.0",
        "Returns how often a key is used, where that is counted.",
    ),
    of_key("object|idletime", |mut args| {
        command(InspectCommand::IdleTime { key: args.key()? })
    })
    .doc("2.2.3", "Returns for how long a key has not been used."),
    of_key("object|refcount", |mut args| {
        command(InspectCommand::RefCount { key: args.key()? })
    })
    .doc("2.2.3", "Returns how many refer to the value."),
    CommandSpec::new("object|help", 2, QUERY, Group::Generic, |_| help("object"))
        .doc("6.2.0", "Lists the subcommands."),
];

static MEMORY_COMMANDS: &[CommandSpec] = &[
    spec("memory|usage", -3, READONLY, memory_usage)
        .keys(2, 1, &["RO"])
        .first_key(2)
        .doc("4.0.0", "Estimates what a key takes, in bytes."),
    spec("memory|stats", 2, 0, |_| {
        command(InspectCommand::MemoryStats)
    })
    .tips(MEMORY_TIPS)
    .doc("4.0.0", "Returns what memory is used for."),
    spec("memory|doctor", 2, 0, |_| {
        command(InspectCommand::MemoryDoctor)
    })
    .tips(MEMORY_TIPS)
    .doc("4.0.0", "Says what is wrong with memory."),
    spec("memory|malloc-stats", 2, 0, |_| {
        command(InspectCommand::MallocStats)
    })
    .tips(MEMORY_TIPS)
    .doc("4.0.0", "Returns what the allocator counts."),
    spec("memory|purge", 2, 0, |_| {
        command(InspectCommand::MemoryPurge)
    })
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .doc("4.0.0", "Asks the allocator to give memory back."),
    spec("memory|help", 2, QUERY, |_| help("memory")).doc("4.0.0", "Lists the subcommands."),
];

static SLOWLOG_COMMANDS: &[CommandSpec] = &[
    spec("slowlog|get", -2, SLOWLOG, slowlog_get)
        .tips(&["request_policy:all_nodes", "nondeterministic_output"])
        .doc("2.2.12", "Returns the newest entries of the slow log."),
    spec("slowlog|len", 2, SLOWLOG, |_| {
        command(InspectCommand::SlowLogLen)
    })
    .tips(&[
        "request_policy:all_nodes",
        "response_policy:agg_sum",
        "nondeterministic_output",
    ])
    .doc("2.2.12", "Returns how many entries the slow log has."),
    spec("slowlog|reset", 2, SLOWLOG, |_| {
        command(InspectCommand::SlowLogReset)
    })
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .doc("2.2.12", "Empties the slow log."),
    spec("slowlog|help", 2, QUERY, |_| help("slowlog")).doc("6.2.0", "Lists the subcommands."),
];

fn command(command: InspectCommand) -> Result<Command, CommandError> {
    Ok(Command::Inspect(command))
}

fn help(of: &'static str) -> Result<Command, CommandError> {
    command(InspectCommand::Help(of))
}

/// How many nested values are looked at, which SAMPLES says, is of no use: there
/// are none.
fn memory_usage(mut args: Args) -> Result<Command, CommandError> {
    let key = args.key()?;
    while let Some(option) = args.option()? {
        let samples = match is(&option, "SAMPLES") {
            true => integer(&args.operand()?)?,
            false => return Err(CommandError::Syntax),
        };
        if samples < 0 {
            return Err(CommandError::Syntax);
        }
    }
    command(InspectCommand::MemoryUsage { key })
}

fn slowlog_get(mut args: Args) -> Result<Command, CommandError> {
    if args.len() > 1 {
        let (command, name) = ("slowlog", excerpt(args.subcommand(), 128));
        return Err(CommandError::SubcommandArity { command, name });
    }
    let count = match args.option()? {
        None => Some(10),
        Some(digits) => match parse_i64(&digits) {
            Some(-1) => None,
            Some(count @ 0..) => Some(count.cast_unsigned()),
            _ => return Err(CommandError::SlowLogCount),
        },
    };
    command(InspectCommand::SlowLogGet { count })
}
