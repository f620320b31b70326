//! MULTI and its relatives.

use bytes::Bytes;

use super::args::Args;
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError};

/// A command about several commands as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionCommand {
    /// MULTI: what follows is queued.
    Multi,
    /// EXEC: and carried out, all of it at one moment.
    Exec,
    /// DISCARD: or not at all.
    Discard,
    /// WATCH: the next EXEC does nothing if one of these keys has changed.
    Watch {
        /// At least one.
        keys: Vec<Bytes>,
    },
    /// UNWATCH: none is watched any more.
    Unwatch,
}

const ALWAYS: u32 = NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY;

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    parse: super::table::Parse,
) -> CommandSpec {
    CommandSpec::new(name, arity, flags, Group::Transactions, parse)
}

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[
    spec("multi", 1, ALWAYS, |_| command(TransactionCommand::Multi))
        .doc("1.2.0", "Queues the commands that follow."),
    spec("exec", 1, NOSCRIPT | LOADING | STALE | SKIP_SLOWLOG, |_| {
        command(TransactionCommand::Exec)
    })
    .doc("1.2.0", "Carries out all queued commands as one."),
    spec("discard", 1, ALWAYS, |_| {
        command(TransactionCommand::Discard)
    })
    .doc("2.0.0", "Forgets all queued commands."),
    spec("watch", -2, ALWAYS, watch).keys(-1, 1, &["RO"]).doc(
        "2.2.0",
        "Makes the next EXEC depend on keys staying as they are.",
    ),
    spec("unwatch", 1, ALWAYS, |_| {
        command(TransactionCommand::Unwatch)
    })
    .doc("2.2.0", "Forgets all watched keys."),
];

fn command(command: TransactionCommand) -> Result<Command, CommandError> {
    Ok(Command::Transaction(command))
}

fn watch(mut args: Args) -> Result<Command, CommandError> {
    command(TransactionCommand::Watch { keys: args.keys()? })
}
