//! ACL. Users come from the configuration: what would change them is refused.

use bytes::Bytes;

use super::args::{Args, integer, is};
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError};
use crate::value::Value;

/// ACL and its subcommands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclCommand {
    /// WHOAMI: the connection's user.
    WhoAmI,
    /// LIST: all users, as in an ACL file.
    List,
    /// USERS: their names.
    Users,
    /// GETUSER: one of them, as a map; or null.
    GetUser {
        /// Its name.
        name: Bytes,
    },
    /// CAT: all categories, or all commands of one.
    Cat {
        /// Without its `@`.
        category: Option<Bytes>,
    },
    /// GENPASS: random hexadecimal digits.
    GenPass {
        /// So many bits, rounded up to whole digits.
        bits: u16,
    },
    /// DRYRUN: whether a user may have this done.
    DryRun {
        /// The user.
        name: Bytes,
        /// The command and its arguments.
        request: Vec<Value>,
    },
    /// SETUSER, DELUSER, LOAD, SAVE.
    Unchangeable,
    /// LOG: nothing is kept.
    Log,
    /// HELP.
    Help,
}

const ASK: u16 = 256;
const MAX_BITS: i64 = 4096;
const FREE: u32 = NOSCRIPT | LOADING | STALE;
const FOR_ADMINS: u32 = ADMIN | NOSCRIPT | LOADING | STALE;

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    parse: super::table::Parse,
) -> CommandSpec {
    CommandSpec::new(name, arity, flags, Group::Server, parse)
}

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[spec("acl", -2, 0, Args::incomplete)
    .subcommands(ACL_COMMANDS)
    .doc("6.0.0", "Commands about users.")];

static ACL_COMMANDS: &[CommandSpec] = &[
    spec("acl|whoami", 2, FREE, |_| command(AclCommand::WhoAmI))
        .doc("6.0.0", "Returns this connection's user."),
    spec("acl|list", 2, FOR_ADMINS, |_| command(AclCommand::List))
        .doc("6.0.0", "Lists all users with their rules."),
    spec("acl|users", 2, FOR_ADMINS, |_| command(AclCommand::Users))
        .doc("6.0.0", "Lists the names of all users."),
    spec("acl|getuser", 3, FOR_ADMINS, |mut args| {
        let name = args.token()?;
        command(AclCommand::GetUser { name })
    })
    .doc("6.0.0", "Describes a user."),
    spec("acl|cat", -2, FREE, |mut args| {
        let category = args.option()?;
        if args.len() > 0 {
            return Err(args.wrong_subcommand());
        }
        command(AclCommand::Cat { category })
    })
    .doc("6.0.0", "Lists categories, or the commands of one."),
    spec("acl|genpass", -2, FREE, genpass).doc("6.0.0", "Makes a password."),
    spec("acl|dryrun", -4, FOR_ADMINS, |mut args| {
        let name = args.token()?;
        let request = args.values();
        command(AclCommand::DryRun { name, request })
    })
    .long_from(3)
    .doc(
        "7.0.0",
        "Tells whether a user may have a command carried out.",
    ),
    spec("acl|setuser", -3, FOR_ADMINS, |_| {
        command(AclCommand::Unchangeable)
    })
    .doc("6.0.0", "Refused: users come from the configuration."),
    spec("acl|deluser", -3, FOR_ADMINS, |_| {
        command(AclCommand::Unchangeable)
    })
    .doc("6.0.0", "Refused: users come from the configuration."),
    spec("acl|load", 2, FOR_ADMINS, |_| {
        command(AclCommand::Unchangeable)
    })
    .doc("6.0.0", "Refused: users come from the configuration."),
    spec("acl|save", 2, FOR_ADMINS, |_| {
        command(AclCommand::Unchangeable)
    })
    .doc("6.0.0", "Refused: users come from the configuration."),
    spec("acl|log", -2, FOR_ADMINS, log)
        .doc("6.0.0", "Returns nothing: refusals are in the metrics."),
    spec("acl|help", 2, LOADING | STALE, |_| {
        command(AclCommand::Help)
    })
    .doc("6.0.0", "Lists the subcommands."),
];

fn command(command: AclCommand) -> Result<Command, CommandError> {
    Ok(Command::Acl(command))
}

fn log(mut args: Args) -> Result<Command, CommandError> {
    match (args.len(), args.option()?) {
        (0, _) => {}
        (1, Some(option)) if is(&option, "RESET") => {}
        (1, Some(option)) => {
            integer(&option)?;
        }
        _ => return Err(args.wrong_subcommand()),
    }
    command(AclCommand::Log)
}

fn genpass(mut args: Args) -> Result<Command, CommandError> {
    let bits = match args.len() {
        0 => return command(AclCommand::GenPass { bits: ASK }),
        1 => args.integer()?,
        _ => return Err(args.wrong_subcommand()),
    };
    let bits = Some(bits).filter(|bits| (1..=MAX_BITS).contains(bits));
    let bits = bits.ok_or(CommandError::GenPassBits)?;
    command(AclCommand::GenPass { bits: bits as u16 })
}
