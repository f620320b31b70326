//! EVAL, SCRIPT and their relatives.

use bytes::Bytes;

use super::args::{Args, integer, is};
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError};

/// A command about scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptCommand {
    /// EVAL, EVALSHA, EVAL_RO, EVALSHA_RO: what the script returns.
    Eval(Eval),
    /// SCRIPT LOAD: the script's name.
    Load {
        /// Its text.
        source: Bytes,
    },
    /// SCRIPT EXISTS: 1 or 0 for each.
    Exists {
        /// Names.
        names: Vec<Bytes>,
    },
    /// SCRIPT FLUSH.
    Flush,
    /// SCRIPT KILL: ends all that run.
    Kill,
    /// SCRIPT DEBUG: there is no debugger.
    Debug,
    /// SCRIPT HELP.
    Help,
}

/// One run of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eval {
    /// Its text, or its name.
    pub script: Bytes,
    /// Whether that is its name.
    pub by_name: bool,
    /// Its KEYS.
    pub keys: Vec<Bytes>,
    /// Its ARGV.
    pub argv: Vec<Bytes>,
    /// Whether it may write.
    pub read_only: bool,
}

/// A name is a SHA-1 in hexadecimal digits.
const NAME_DIGITS: usize = 40;
const EVAL: u32 = NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | MOVABLEKEYS;
/// The longest script.
pub(super) const MAX_TEXT_BYTES: u64 = 4 << 20;

const ANY: &[&str] = &["RW", "access", "update"];
const ANY_READ: &[&str] = &["RO", "access"];
const NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
const SCRIPTING: &[&str] = &["@scripting"];

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    parse: super::table::Parse,
) -> CommandSpec {
    CommandSpec::new(name, arity, flags, Group::Scripting, parse)
}

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[
    spec("eval", -3, EVAL, |args| eval(args, false, false))
        .counted_keys(2, ANY)
        .long_from(1)
        .acl(SCRIPTING)
        .keys_note("We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")
        .doc("2.6.0", "Runs a script."),
    spec("evalsha", -3, EVAL, |args| eval(args, true, false))
        .counted_keys(2, ANY)
        .long_from(1)
        .acl(SCRIPTING)
        .doc("2.6.0", "Runs a script that was loaded."),
    spec("eval_ro", -3, READONLY | EVAL, |args| {
        eval(args, false, true)
    })
    .counted_keys(2, ANY_READ)
    .long_from(1)
    .acl(SCRIPTING)
    .keys_note("We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")
    .doc("7.0.0", "Runs a script that does not write."),
    spec("evalsha_ro", -3, READONLY | EVAL, |args| {
        eval(args, true, true)
    })
    .counted_keys(2, ANY_READ)
    .long_from(1)
    .acl(SCRIPTING)
    .doc("7.0.0", "Runs a script that was loaded and does not write."),
    spec("script", -2, 0, Args::incomplete)
        .subcommands(SCRIPT_COMMANDS)
        .doc("2.6.0", "Commands about scripts."),
];

static SCRIPT_COMMANDS: &[CommandSpec] = &[
    spec("script|load", 3, NOSCRIPT | STALE, |mut args| {
        let source = text(&mut args)?;
        command(ScriptCommand::Load { source })
    })
    .long_from(2)
    .acl(SCRIPTING)
    .tips(NODES)
    .doc("2.6.0", "Keeps a script, to be run by its name."),
    spec("script|exists", -3, NOSCRIPT, |mut args| {
        let names = args.tokens()?;
        command(ScriptCommand::Exists { names })
    })
    .acl(SCRIPTING)
    .tips(&[
        "request_policy:all_shards",
        "response_policy:agg_logical_and",
    ])
    .doc("2.6.0", "Tells which scripts are kept."),
    spec("script|flush", -2, NOSCRIPT, flush)
        .acl(SCRIPTING)
        .tips(NODES)
        .doc("2.6.0", "Forgets all scripts."),
    spec("script|kill", 2, NOSCRIPT | ALLOW_BUSY, |_| {
        command(ScriptCommand::Kill)
    })
    .acl(SCRIPTING)
    .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
    .doc("2.6.0", "Ends the scripts that run; nothing of them stays."),
    spec("script|debug", 3, NOSCRIPT, |_| {
        command(ScriptCommand::Debug)
    })
    .acl(SCRIPTING)
    .doc("3.2.0", "Refused: there is no debugger."),
    spec("script|help", 2, LOADING | STALE, |_| {
        command(ScriptCommand::Help)
    })
    .acl(SCRIPTING)
    .doc("5.0.0", "Lists the subcommands."),
];

fn command(command: ScriptCommand) -> Result<Command, CommandError> {
    Ok(Command::Script(command))
}

/// A script, or its name.
fn text(args: &mut Args) -> Result<Bytes, CommandError> {
    let text = args.value()?;
    if text.len() > MAX_TEXT_BYTES {
        return Err(CommandError::ScriptTooLong);
    }
    Ok(text.into_contiguous())
}

fn eval(mut args: Args, by_name: bool, read_only: bool) -> Result<Command, CommandError> {
    let script = text(&mut args)?;
    if by_name && script.len() != NAME_DIGITS {
        return Err(CommandError::NoScript);
    }
    let count = integer(&args.token()?)?;
    if usize::try_from(count).is_ok_and(|count| count > args.len()) {
        return Err(CommandError::TooManyKeys);
    }
    let count = usize::try_from(count).map_err(|_| CommandError::NegativeKeys)?;
    let keys = (0..count).map(|_| args.key()).collect::<Result<_, _>>()?;
    command(ScriptCommand::Eval(Eval {
        script,
        by_name,
        keys,
        argv: args.all_bytes(),
        read_only,
    }))
}

fn flush(mut args: Args) -> Result<Command, CommandError> {
    match (args.len(), args.option()?) {
        (0, _) => {}
        (1, Some(mode)) if is(&mode, "SYNC") || is(&mode, "ASYNC") => {}
        _ => return Err(CommandError::ScriptFlushMode),
    }
    command(ScriptCommand::Flush)
}
