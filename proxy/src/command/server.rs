//! Commands about the server: its commands, its state, all of its keys.

use super::args::{Args, is};
use super::describe::{CommandQuery, ListFilter};
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError};
use crate::resp::number::parse_i64;

/// A command about the server as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCommand {
    /// COMMAND: answered by [`CommandQuery::answer`].
    Command(CommandQuery),
    /// INFO.
    Info {
        /// In lower case; empty: the default ones.
        sections: Vec<String>,
    },
    /// CONFIG.
    Config(ConfigCommand),
    /// DBSIZE: the number of keys.
    DbSize,
    /// FLUSHALL and FLUSHDB.
    Flush {
        /// Every database instead of the selected one.
        all: bool,
        /// ASYNC or SYNC; `None`: the server decides.
        mode: Option<FlushMode>,
    },
    /// SWAPDB: two databases change places.
    SwapDb([i32; 2]),
    /// TIME: seconds since 1970 and microseconds, as bulk strings.
    Time,
    /// LOLWUT: the version.
    LolWut,
    /// MONITOR: from now on the connection is told of all commands.
    Monitor,
}

/// When FLUSHALL answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// When the memory is free.
    Sync,
    /// At once.
    Async,
}

/// CONFIG and its subcommands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigCommand {
    /// GET: the settings whose names match, as a map.
    Get {
        /// Globs in lower case (names have no case); at least one.
        patterns: Vec<Vec<u8>>,
    },
    /// SET: all or nothing.
    Set {
        /// Names in lower case, and values; at least one.
        pairs: Vec<(String, bytes::Bytes)>,
    },
    /// RESETSTAT.
    ResetStat,
    /// REWRITE.
    Rewrite,
    /// HELP.
    Help,
}

const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
const QUERY: u32 = LOADING | STALE;
const CONFIG: u32 = ADMIN | NOSCRIPT | LOADING | STALE;
const ORDER: &[&str] = &["nondeterministic_output_order"];

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
    spec("command", -1, QUERY, |_| query(CommandQuery::All))
        .acl(&["@connection"])
        .tips(ORDER)
        .subcommands(COMMAND_COMMANDS)
        .doc("2.8.13", "Describes all commands."),
    spec("info", -1, QUERY, info)
        .acl(&["@dangerous"])
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ])
        .doc("1.0.0", "Describes the state of the server."),
    spec("config", -2, 0, Args::incomplete)
        .subcommands(CONFIG_COMMANDS)
        .doc("2.0.0", "Commands about settings."),
    spec("dbsize", 1, READONLY | FAST, dbsize)
        .acl(&["@keyspace"])
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .doc("1.0.0", "Returns the number of keys."),
    spec("flushall", -1, WRITE, |args| flush(args, true))
        .acl(&["@keyspace", "@dangerous"])
        .tips(ALL_SHARDS)
        .doc("1.0.0", "Deletes all keys of all databases."),
    spec("flushdb", -1, WRITE, |args| flush(args, false))
        .acl(&["@keyspace", "@dangerous"])
        .tips(ALL_SHARDS)
        .doc("1.0.0", "Deletes all keys of the database."),
    spec("swapdb", 3, WRITE | FAST, swapdb)
        .acl(&["@keyspace", "@dangerous"])
        .doc("4.0.0", "Exchanges two databases."),
    spec("time", 1, LOADING | STALE | FAST, time)
        .tips(&["nondeterministic_output"])
        .doc("2.6.0", "Returns the server's time."),
    spec("lolwut", -1, READONLY | FAST, lolwut).doc("5.0.0", "Returns the version."),
    spec("monitor", 1, ADMIN | NOSCRIPT | LOADING | STALE, |_| {
        server(ServerCommand::Monitor)
    })
    .doc("1.0.0", "Shows all commands as they are carried out."),
];

fn swapdb(mut args: Args) -> Result<Command, CommandError> {
    let mut index = |which| {
        let number = parse_i64(&args.token()?).and_then(|n| i32::try_from(n).ok());
        number.ok_or(CommandError::SwapIndex(which))
    };
    let pair = [index("first")?, index("second")?];
    Ok(Command::Server(ServerCommand::SwapDb(pair)))
}

static COMMAND_COMMANDS: &[CommandSpec] = &[
    spec("command|count", 2, QUERY, |_| query(CommandQuery::Count))
        .acl(&["@connection"])
        .doc("2.8.13", "Returns the number of commands."),
    spec("command|info", -2, QUERY, |mut args| {
        query(CommandQuery::Info(args.tokens()?))
    })
    .acl(&["@connection"])
    .tips(ORDER)
    .doc("2.8.13", "Describes the named commands, or all."),
    spec("command|docs", -2, QUERY, |mut args| {
        query(CommandQuery::Docs(args.tokens()?))
    })
    .acl(&["@connection"])
    .tips(ORDER)
    .doc(
        "7.0.0",
        "Returns documentation of the named commands, or of all.",
    ),
    spec("command|list", -2, QUERY, command_list)
        .acl(&["@connection"])
        .tips(ORDER)
        .doc("7.0.0", "Returns the names of commands."),
    spec("command|getkeys", -4, QUERY, |mut args| {
        query(CommandQuery::GetKeys(args.values()))
    })
    .long_from(2)
    .acl(&["@connection"])
    .doc("2.8.13", "Returns the keys of a command."),
    spec("command|getkeysandflags", -4, QUERY, |mut args| {
        query(CommandQuery::GetKeysAndFlags(args.values()))
    })
    .long_from(2)
    .acl(&["@connection"])
    .doc(
        "7.0.0",
        "Returns the keys of a command, and what is done with each.",
    ),
    spec("command|help", 2, QUERY, |_| query(CommandQuery::Help))
        .acl(&["@connection"])
        .doc("5.0.0", "Lists the subcommands."),
];

static CONFIG_COMMANDS: &[CommandSpec] = &[
    spec("config|get", -3, CONFIG, config_get).doc("2.0.0", "Returns settings."),
    spec("config|set", -4, CONFIG, config_set)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .doc("2.0.0", "Changes settings."),
    spec("config|resetstat", 2, CONFIG, |_| {
        config(ConfigCommand::ResetStat)
    })
    .doc("2.0.0", "Sets the statistics to zero."),
    spec("config|rewrite", 2, CONFIG, |_| {
        config(ConfigCommand::Rewrite)
    })
    .doc(
        "2.8.0",
        "Writes settings to the configuration file; there is none.",
    ),
    spec("config|help", 2, QUERY, |_| config(ConfigCommand::Help))
        .doc("5.0.0", "Lists the subcommands."),
];

fn server(command: ServerCommand) -> Result<Command, CommandError> {
    Ok(Command::Server(command))
}

fn query(query: CommandQuery) -> Result<Command, CommandError> {
    server(ServerCommand::Command(query))
}

fn config(command: ConfigCommand) -> Result<Command, CommandError> {
    server(ServerCommand::Config(command))
}

fn dbsize(_: Args) -> Result<Command, CommandError> {
    server(ServerCommand::DbSize)
}

fn time(_: Args) -> Result<Command, CommandError> {
    server(ServerCommand::Time)
}

/// `LOLWUT VERSION n` draws the picture of another version; we draw none.
fn lolwut(_: Args) -> Result<Command, CommandError> {
    server(ServerCommand::LolWut)
}

fn info(mut args: Args) -> Result<Command, CommandError> {
    let sections = args.tokens()?.iter().map(|s| lower(s)).collect();
    server(ServerCommand::Info { sections })
}

fn flush(mut args: Args, all: bool) -> Result<Command, CommandError> {
    let modes = [("SYNC", FlushMode::Sync), ("ASYNC", FlushMode::Async)];
    let mode = if args.len() == 0 {
        None
    } else {
        Some(args.one_of(&modes)?)
    };
    args.finish()?;
    server(ServerCommand::Flush { all, mode })
}

fn command_list(mut args: Args) -> Result<Command, CommandError> {
    let Some(option) = args.option()? else {
        return query(CommandQuery::List(ListFilter::None));
    };
    if !is(&option, "FILTERBY") || args.len() != 2 {
        return Err(CommandError::Syntax);
    }
    let (filter, operand) = (args.token()?, args.pattern()?);
    let filter = match () {
        () if is(&filter, "MODULE") => ListFilter::Module,
        () if is(&filter, "ACLCAT") => ListFilter::AclCategory(lower(&operand)),
        () if is(&filter, "PATTERN") => ListFilter::Pattern(operand.to_ascii_lowercase()),
        () => return Err(CommandError::Syntax),
    };
    query(CommandQuery::List(filter))
}

fn config_get(mut args: Args) -> Result<Command, CommandError> {
    let count = args.len();
    let pattern = |_| Ok(args.pattern()?.to_ascii_lowercase());
    let patterns = (0..count)
        .map(pattern)
        .collect::<Result<_, CommandError>>()?;
    config(ConfigCommand::Get { patterns })
}

fn config_set(mut args: Args) -> Result<Command, CommandError> {
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let pairs = (0..args.len() / 2)
        .map(|_| Ok((lower(&args.token()?), args.token()?)))
        .collect::<Result<_, CommandError>>()?;
    config(ConfigCommand::Set { pairs })
}

fn lower(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_ascii_lowercase()
}
