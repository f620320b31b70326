//! Commands about the connection: who the client is and how it is talked to.

use bytes::Bytes;

use super::args::{Args, choose, excerpt, integer, is};
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError};
use crate::clients::{Filter, Kind, Paused};
use crate::resp::{Protocol, number::parse_i64};
use crate::value::Value;

/// A command about the connection it came on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionCommand {
    /// PING: `PONG`, or the message.
    Ping {
        /// To be sent back.
        message: Option<Value>,
    },
    /// ECHO: the message.
    Echo {
        /// To be sent back.
        message: Value,
    },
    /// HELLO: facts about the server, as a map.
    Hello(Hello),
    /// QUIT: `OK`, then close.
    Quit,
    /// RESET: `RESET`, and the connection is as if new.
    Reset,
    /// SELECT. Answer [`CommandError::DbIndex`] where there is no such database.
    Select {
        /// From 0.
        db: u32,
    },
    /// AUTH.
    Auth(Credentials),
    /// CLIENT.
    Client(ClientCommand),
}

/// What a client says to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `None`: the default user (AUTH with a password alone).
    pub user: Option<Bytes>,
    /// The password as sent.
    pub password: Bytes,
}

/// Passwords stay out of logs.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// HELLO's arguments. They take effect together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The protocol to speak from this reply on; `None`: as before.
    pub protocol: Option<Protocol>,
    /// Log in first.
    pub auth: Option<Credentials>,
    /// The connection's new name; empty: none.
    pub name: Option<Bytes>,
}

/// CLIENT and its subcommands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCommand {
    /// ID: the connection's number.
    Id,
    /// INFO: a line about this connection.
    Info,
    /// LIST: a line about every connection that fits.
    List {
        /// Of this kind.
        kind: Option<Kind>,
        /// With one of these numbers; empty: all.
        ids: Vec<u64>,
    },
    /// GETNAME: the name or null.
    GetName,
    /// SETNAME.
    SetName {
        /// Printable ASCII without spaces; empty: no name.
        name: Bytes,
    },
    /// GETREDIR: where to; 0: nowhere, -1: nothing is tracked.
    GetRedir,
    /// TRACKINGINFO: what is tracked.
    TrackingInfo,
    /// TRACKING: with these options, or off.
    Tracking(Option<TrackingOptions>),
    /// CACHING: yes or no; none: a word that is neither, which matters only if keys
    /// are tracked.
    Caching(Option<bool>),
    /// KILL: OK, or how many were ended.
    Kill {
        /// Which.
        filter: Filter,
        /// An address alone: it must be there.
        old_form: bool,
    },
    /// PAUSE.
    Pause {
        /// What waits.
        what: Paused,
        /// For so long, in ms.
        timeout_ms: u64,
    },
    /// UNPAUSE.
    Unpause,
    /// UNBLOCK: of this connection, which is in no command that blocks.
    Unblock,
    /// SETINFO (since Redis 7.2; client libraries send it at once).
    SetInfo {
        /// What is set.
        attribute: ClientAttribute,
        /// Printable ASCII without spaces.
        value: Bytes,
    },
    /// NO-EVICT.
    NoEvict(bool),
    /// NO-TOUCH (since Redis 7.2).
    NoTouch(bool),
    /// REPLY.
    Reply(ReplyMode),
    /// HELP.
    Help,
}

/// What CLIENT SETINFO sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAttribute {
    /// The name of the client library.
    LibName,
    /// Its version.
    LibVer,
}

/// Of which keys that it reads a connection wants to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Of all.
    Always,
    /// Of those that the command behind CLIENT CACHING YES reads.
    OptIn,
    /// Of all others than the command behind CLIENT CACHING NO reads.
    OptOut,
}

/// CLIENT TRACKING ON, as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackingOptions {
    /// The connection to be told instead.
    pub redirect: Option<u64>,
    /// BCAST.
    pub broadcast: bool,
    /// NOLOOP.
    pub no_loop: bool,
    /// PREFIX.
    pub prefixes: Vec<Bytes>,
    /// OPTIN and OPTOUT, each at most once.
    pub consent: Vec<Consent>,
}

/// Whether a connection gets replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// Yes; this command answers OK.
    On,
    /// No, this command included.
    Off,
    /// Neither to this command nor to the next.
    Skip,
}

const IN_CONNECTION: u32 = LOADING | STALE | FAST;
const ALWAYS: u32 = NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY;
const CLIENT: u32 = NOSCRIPT | LOADING | STALE;

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    parse: super::table::Parse,
) -> CommandSpec {
    CommandSpec::new(name, arity, flags, Group::Connection, parse)
}

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[
    spec("ping", -1, FAST, ping)
        .long_from(1)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .doc("1.0.0", "Answers PONG, or the given message."),
    spec("echo", 2, IN_CONNECTION, echo)
        .long_from(1)
        .doc("1.0.0", "Answers the given message."),
    spec("hello", -1, ALWAYS, hello).doc("6.0.0", "Chooses the protocol and describes the server."),
    spec("quit", -1, ALWAYS, quit).doc("1.0.0", "Closes the connection."),
    spec("reset", 1, ALWAYS, reset).doc("6.2.0", "Makes the connection as if new."),
    spec("select", 2, IN_CONNECTION, select).doc("1.0.0", "Chooses the database."),
    spec("auth", -2, ALWAYS, auth).doc("1.0.0", "Logs in."),
    spec("client", -2, 0, Args::incomplete)
        .subcommands(CLIENT_COMMANDS)
        .doc("2.4.0", "Commands about connections."),
];

static CLIENT_COMMANDS: &[CommandSpec] = &[
    spec("client|id", 2, CLIENT, |_| client(ClientCommand::Id))
        .doc("5.0.0", "Returns the number of this connection."),
    spec("client|info", 2, CLIENT, |_| client(ClientCommand::Info))
        .tips(&["nondeterministic_output"])
        .doc("6.2.0", "Describes this connection."),
    spec("client|list", -2, ADMIN | CLIENT, client_list)
        .tips(&["nondeterministic_output"])
        .doc("2.4.0", "Describes all connections."),
    spec("client|getname", 2, CLIENT, |_| {
        client(ClientCommand::GetName)
    })
    .doc("2.6.9", "Returns the name of this connection."),
    spec("client|setname", 3, CLIENT, client_setname).doc("2.6.9", "Names this connection."),
    spec("client|setinfo", 4, CLIENT, client_setinfo)
        .doc("7.2.0", "Sets the client library's name or version."),
    spec("client|kill", -3, ADMIN | CLIENT, client_kill).doc("2.4.0", "Ends connections."),
    spec("client|pause", -3, ADMIN | CLIENT, client_pause).doc(
        "3.0.0",
        "Lets commands wait for a while, all or those that write.",
    ),
    spec("client|unpause", 2, ADMIN | CLIENT, |_| {
        client(ClientCommand::Unpause)
    })
    .doc("6.2.0", "Ends a pause."),
    spec("client|unblock", -3, ADMIN | CLIENT, client_unblock).doc(
        "5.0.0",
        "Ends a connection's blocking command; there are none here.",
    ),
    spec("client|getredir", 2, CLIENT, |_| {
        client(ClientCommand::GetRedir)
    })
    .doc(
        "6.0.0",
        "Returns to which connection notices of changes are redirected.",
    ),
    spec("client|tracking", -3, CLIENT, client_tracking).doc(
        "6.0.0",
        "Has this connection be told when keys change that it has read.",
    ),
    spec("client|caching", 3, CLIENT, |mut args| {
        client(ClientCommand::Caching(
            args.one_of(&[("YES", true), ("NO", false)]).ok(),
        ))
    })
    .doc("6.0.0", "Has the next command's keys be tracked, or not."),
    spec("client|trackinginfo", 2, CLIENT, |_| {
        client(ClientCommand::TrackingInfo)
    })
    .doc("6.2.0", "Tells what is tracked for this connection."),
    spec("client|no-evict", 3, ADMIN | CLIENT, |mut args| {
        client(ClientCommand::NoEvict(args.one_of(ON_OFF)?))
    })
    .doc(
        "7.0.0",
        "Exempts this connection from being closed for lack of memory.",
    ),
    spec("client|no-touch", 3, CLIENT, |mut args| {
        client(ClientCommand::NoTouch(args.one_of(ON_OFF)?))
    })
    .doc(
        "7.2.0",
        "Keeps this connection's reads from marking keys as used.",
    ),
    spec("client|reply", 3, CLIENT, client_reply)
        .doc("3.2.0", "Turns replies to this connection on or off."),
    spec("client|help", 2, LOADING | STALE, |_| {
        client(ClientCommand::Help)
    })
    .doc("5.0.0", "Lists the subcommands."),
];

const ON_OFF: &[(&str, bool)] = &[("ON", true), ("OFF", false)];

fn connection(command: ConnectionCommand) -> Result<Command, CommandError> {
    Ok(Command::Connection(command))
}

fn client(command: ClientCommand) -> Result<Command, CommandError> {
    connection(ConnectionCommand::Client(command))
}

fn ping(mut args: Args) -> Result<Command, CommandError> {
    let message = match args.len() {
        0 => None,
        1 => Some(args.value()?),
        _ => return Err(args.wrong_number()),
    };
    connection(ConnectionCommand::Ping { message })
}

fn echo(mut args: Args) -> Result<Command, CommandError> {
    connection(ConnectionCommand::Echo {
        message: args.value()?,
    })
}

fn quit(_: Args) -> Result<Command, CommandError> {
    connection(ConnectionCommand::Quit)
}

fn reset(_: Args) -> Result<Command, CommandError> {
    connection(ConnectionCommand::Reset)
}

fn select(mut args: Args) -> Result<Command, CommandError> {
    let db = i32::try_from(args.integer()?).map_err(|_| CommandError::OutOfIntRange)?;
    let db = u32::try_from(db).map_err(|_| CommandError::DbIndex)?;
    connection(ConnectionCommand::Select { db })
}

fn auth(mut args: Args) -> Result<Command, CommandError> {
    let user = match args.len() {
        1 => None,
        2 => Some(args.token()?),
        _ => return Err(CommandError::Syntax),
    };
    connection(ConnectionCommand::Auth(Credentials {
        user,
        password: args.token()?,
    }))
}

fn hello(mut args: Args) -> Result<Command, CommandError> {
    let mut hello = Hello::default();
    if let Some(version) = args.option()? {
        hello.protocol = Some(match integer(&version) {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return Err(CommandError::NoProto),
            Err(_) => return Err(CommandError::ProtocolVersion),
        });
    }
    while args.len() > 0 {
        let option = args.value()?;
        let [word] = option.segments() else {
            return Err(hello_option(&option));
        };
        if is(word, "AUTH") && args.len() >= 2 {
            let user = Some(args.token()?);
            hello.auth = Some(Credentials {
                user,
                password: args.token()?,
            });
        } else if is(word, "SETNAME") && args.len() >= 1 {
            hello.name = Some(client_name(args.token()?)?);
        } else {
            return Err(hello_option(&option));
        }
    }
    connection(ConnectionCommand::Hello(hello))
}

fn hello_option(option: &Value) -> CommandError {
    CommandError::HelloOption(excerpt(option, 128))
}

/// CLIENT LIST prints names and values between blanks and in lines.
fn is_printable(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

fn client_name(name: Bytes) -> Result<Bytes, CommandError> {
    if is_printable(&name) {
        Ok(name)
    } else {
        Err(CommandError::ClientName)
    }
}

fn client_setname(mut args: Args) -> Result<Command, CommandError> {
    client(ClientCommand::SetName {
        name: client_name(args.token()?)?,
    })
}

fn client_setinfo(mut args: Args) -> Result<Command, CommandError> {
    let (option, value) = (args.value()?, args.token()?);
    let (attribute, name) = match option.segments() {
        [word] if is(word, "LIB-NAME") => (ClientAttribute::LibName, "lib-name"),
        [word] if is(word, "LIB-VER") => (ClientAttribute::LibVer, "lib-ver"),
        _ => return Err(CommandError::UnrecognizedOption(excerpt(&option, 128))),
    };
    if !is_printable(&value) {
        return Err(CommandError::ClientInfo(name));
    }
    client(ClientCommand::SetInfo { attribute, value })
}

fn client_reply(mut args: Args) -> Result<Command, CommandError> {
    let modes = [
        ("ON", ReplyMode::On),
        ("OFF", ReplyMode::Off),
        ("SKIP", ReplyMode::Skip),
    ];
    client(ClientCommand::Reply(args.one_of(&modes)?))
}

fn client_tracking(mut args: Args) -> Result<Command, CommandError> {
    let on = args.token()?;
    let mut options = TrackingOptions::default();
    while let Some(option) = args.option()? {
        let consent = choose(
            &option,
            &[("OPTIN", Consent::OptIn), ("OPTOUT", Consent::OptOut)],
        );
        if let Some(consent) = consent {
            if !options.consent.contains(&consent) {
                options.consent.push(consent);
            }
        } else if is(&option, "REDIRECT") && args.len() > 0 {
            if options.redirect.is_some() {
                return Err(CommandError::SeveralRedirects);
            }
            let id = args.integer()?;
            // no connection has number 0
            options.redirect = Some(u64::try_from(id).unwrap_or(0));
        } else if is(&option, "PREFIX") && args.len() > 0 {
            options.prefixes.push(args.token()?);
        } else if is(&option, "BCAST") {
            options.broadcast = true;
        } else if is(&option, "NOLOOP") {
            options.no_loop = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let on = choose(&on, ON_OFF).ok_or(CommandError::Syntax)?;
    client(ClientCommand::Tracking(on.then_some(options)))
}

fn client_kill(mut args: Args) -> Result<Command, CommandError> {
    let mut filter = Filter::default();
    if args.len() == 1 {
        filter.address = Some(args.token()?);
        return client(ClientCommand::Kill {
            filter,
            old_form: true,
        });
    }
    filter.skips_me = true;
    while let Some(option) = args.option()? {
        if args.len() == 0 {
            return Err(CommandError::Syntax);
        }
        let value = args.value()?;
        let text = || excerpt(&value, 128);
        if is(&option, "ID") {
            let id = parse_i64(&value.into_contiguous()).filter(|id| *id > 0);
            filter.id = Some(id.ok_or(CommandError::ClientIdAboveZero)?.cast_unsigned());
        } else if is(&option, "TYPE") {
            filter.kind = Some(client_kind(&value)?);
        } else if is(&option, "ADDR") {
            filter.address = Some(text().into());
        } else if is(&option, "LADDR") {
            filter.local_address = Some(text().into());
        } else if is(&option, "USER") {
            filter.user = Some(text().into());
        } else if is(&option, "SKIPME") {
            let yes = choose(text().as_bytes(), &[("YES", true), ("NO", false)]);
            filter.skips_me = yes.ok_or(CommandError::Syntax)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    client(ClientCommand::Kill {
        filter,
        old_form: false,
    })
}

fn client_pause(mut args: Args) -> Result<Command, CommandError> {
    if args.len() > 2 {
        return Err(args.wrong_subcommand_as_sent());
    }
    let timeout = args.token()?;
    let timeout_ms = match parse_i64(&timeout).map(u64::try_from) {
        Some(Ok(timeout_ms)) => timeout_ms,
        Some(Err(_)) => return Err(CommandError::NegativeTimeout),
        None => return Err(CommandError::Timeout),
    };
    let modes = [("WRITE", Paused::Writes), ("ALL", Paused::All)];
    let what = match args.option()? {
        None => Paused::All,
        Some(mode) => choose(&mode, &modes).ok_or(CommandError::PauseMode)?,
    };
    client(ClientCommand::Pause { what, timeout_ms })
}

/// As Redis parses it; nothing here blocks.
fn client_unblock(mut args: Args) -> Result<Command, CommandError> {
    if args.len() > 2 {
        return Err(args.wrong_subcommand_as_sent());
    }
    let id = args.token()?;
    let reasons = [("TIMEOUT", ()), ("ERROR", ())];
    if let Some(reason) = args.option()? {
        choose(&reason, &reasons).ok_or(CommandError::UnblockReason)?;
    }
    integer(&id)?;
    client(ClientCommand::Unblock)
}

fn client_list(mut args: Args) -> Result<Command, CommandError> {
    let (mut kind, mut ids) = (None, Vec::new());
    match args.option()? {
        None => {}
        Some(o) if is(&o, "TYPE") && args.len() == 1 => kind = Some(client_kind(&args.value()?)?),
        Some(o) if is(&o, "ID") && args.len() > 0 => {
            while let Some(id) = args.option()? {
                let id = integer(&id).map_err(|_| CommandError::ClientId)?;
                // negative ones are numbers that no connection has
                ids.push(u64::try_from(id).unwrap_or(0));
            }
        }
        Some(_) => return Err(CommandError::Syntax),
    }
    client(ClientCommand::List { kind, ids })
}

fn client_kind(word: &Value) -> Result<Kind, CommandError> {
    let kinds = [
        ("normal", Kind::Normal),
        ("master", Kind::Master),
        ("slave", Kind::Replica),
        ("replica", Kind::Replica),
        ("pubsub", Kind::PubSub),
    ];
    let kind = match word.segments() {
        [word] => choose(word, &kinds),
        _ => None,
    };
    kind.ok_or_else(|| CommandError::ClientType(excerpt(word, 128)))
}
