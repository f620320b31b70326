//! What can be wrong with a command, in Redis's words.

use super::table::MAX_KEY_BYTES;
use crate::resp::{ProtocolError, Reply};

/// Why a command was not understood, or is refused whatever the state of the
/// server. The client has to change the command; sending it again is no use.
///
/// The texts are those of Redis 7.0.15, code first, as far as Redis has them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such command. Name and arguments are cut as Redis cuts them.
    #[error("ERR unknown command '{name}', with args beginning with: {args}")]
    UnknownCommand {
        /// The first 128 bytes of the name.
        name: String,
        /// The first arguments, each in quotes and followed by a space.
        args: String,
    },
    /// The command has subcommands, but not this one.
    #[error("ERR unknown subcommand '{name}'. Try {} HELP.", command.to_uppercase())]
    UnknownSubcommand {
        /// The command.
        command: &'static str,
        /// The first 128 bytes of what should be a subcommand.
        name: String,
    },
    /// The subcommand takes fewer arguments, or more.
    #[error("ERR unknown subcommand or wrong number of arguments for '{name}'. Try {} HELP.", command.to_uppercase())]
    SubcommandArity {
        /// The command.
        command: &'static str,
        /// The first 128 bytes of the subcommand, as sent.
        name: String,
    },
    /// Too few or too many arguments, or one of a pair is missing.
    #[error("ERR wrong number of arguments for '{command}' command")]
    Arity {
        /// The command; `name|subcommand` where it has one.
        command: &'static str,
    },
    /// Options that do not exist, miss their argument or exclude each other.
    #[error("ERR syntax error")]
    Syntax,
    /// An argument should be a 64-bit number in plain decimal digits.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// A number that does not fit into 32 bits where it has to.
    #[error("ERR value is out of range, value must between -2147483648 and 2147483647")]
    OutOfIntRange,
    /// The expiry is not positive, or too far in the future to be counted.
    #[error("ERR invalid expire time in '{command}' command")]
    InvalidExpire {
        /// The command.
        command: &'static str,
    },
    /// EXPIRE: an option that does not exist.
    #[error("ERR Unsupported option {0}")]
    UnsupportedOption(String),
    /// EXPIRE: NX with another condition.
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    NxWithOthers,
    /// EXPIRE: GT with LT.
    #[error("ERR GT and LT options at the same time are not compatible")]
    GtWithLt,
    /// SCAN: the cursor is not a number.
    #[error("ERR invalid cursor")]
    InvalidCursor,
    /// SETRANGE: before the beginning.
    #[error("ERR offset is out of range")]
    Offset,
    /// SELECT: no such database.
    #[error("ERR DB index is out of range")]
    DbIndex,
    /// HELLO: the version is not a number.
    #[error("ERR Protocol version is not an integer or out of range")]
    ProtocolVersion,
    /// HELLO: a version other than 2 and 3.
    #[error("NOPROTO unsupported protocol version")]
    NoProto,
    /// HELLO: an option that does not exist or misses its arguments.
    #[error("ERR Syntax error in HELLO option '{0}'")]
    HelloOption(String),
    /// HELLO before AUTH on a server that wants a password.
    #[error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
    )]
    HelloNoAuth,
    /// A name with spaces, line ends or bytes that are not printable ASCII.
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    ClientName,
    /// CLIENT SETINFO: the same rule for its values.
    #[error("ERR {0} cannot contain spaces, newlines or special characters.")]
    ClientInfo(&'static str),
    /// CLIENT SETINFO: neither lib-name nor lib-ver.
    #[error("ERR Unrecognized option '{0}'")]
    UnrecognizedOption(String),
    /// CLIENT LIST: no such kind of client.
    #[error("ERR Unknown client type '{0}'")]
    ClientType(String),
    /// CLIENT LIST ID: not a number above 0.
    #[error("ERR Invalid client ID")]
    ClientId,
    /// CLIENT KILL ID: the same.
    #[error("ERR client-id should be greater than 0")]
    ClientIdAboveZero,
    /// CLIENT KILL with an address alone: nobody has it.
    #[error("ERR No such client")]
    NoSuchClient,
    /// CLIENT KILL USER: nobody is called so.
    #[error("ERR No such user '{0}'")]
    NoSuchUser(String),
    /// CLIENT PAUSE: no number.
    #[error("ERR timeout is not an integer or out of range")]
    Timeout,
    /// CLIENT PAUSE: below 0.
    #[error("ERR timeout is negative")]
    NegativeTimeout,
    /// CLIENT UNBLOCK: neither TIMEOUT nor ERROR.
    #[error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")]
    UnblockReason,
    /// CLIENT PAUSE: neither WRITE nor ALL.
    #[error("ERR CLIENT PAUSE mode must be WRITE or ALL")]
    PauseMode,
    /// AUTH with a password alone where none is set.
    #[error(
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"
    )]
    NoPasswordConfigured,
    /// AUTH with the wrong name or password.
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    WrongPass,
    /// Any command before AUTH on a server that wants a password.
    #[error("NOAUTH Authentication required.")]
    NoAuth,
    /// COMMAND GETKEYS: no such command.
    #[error("ERR Invalid command specified")]
    GetKeysCommand,
    /// COMMAND GETKEYS: not enough or too many arguments for the command.
    #[error("ERR Invalid number of arguments specified for command")]
    GetKeysArity,
    /// COMMAND GETKEYS: the command takes no keys.
    #[error("ERR The command has no key arguments")]
    GetKeysNone,
    /// MONITOR in a transaction.
    #[error("ERR MONITOR isn't allowed for DENY BLOCKING client")]
    MonitorInTransaction,
    /// A connection that watches all commands asks for keys or sends messages.
    #[error("ERR Replica can't interact with the keyspace")]
    Monitoring,
    /// MULTI after MULTI.
    #[error("ERR MULTI calls can not be nested")]
    NestedMulti,
    /// EXEC or DISCARD without MULTI.
    #[error("ERR {0} without MULTI")]
    WithoutMulti(&'static str),
    /// WATCH of more keys than a client may watch.
    #[error("ERR too many keys are watched by this client")]
    TooManyWatched,
    /// WATCH after MULTI.
    #[error("ERR WATCH inside MULTI is not allowed")]
    WatchInMulti,
    /// Something else than about subscriptions, from a subscriber that speaks RESP2.
    #[error(
        "ERR Can't execute '{0}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
    )]
    Subscribed(String),
    /// EXEC after something that could not be queued.
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    ExecAbort,
    /// EXEC with arguments: nothing is carried out.
    #[error(
        "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"
    )]
    ExecArity,
    /// INCR: the sum is no 64-bit number.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// DECRBY: the decrement has no negative.
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    /// HINCRBY: the field holds no number.
    #[error("ERR hash value is not an integer")]
    HashNotAnInteger,
    /// A number that is too large for what it counts.
    #[error("ERR value is out of range")]
    OutOfRange,
    /// A number that has no negative.
    #[error(
        "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
    )]
    OutOfNegatableRange,
    /// The value would be longer than values that are no strings may be.
    #[error("ERR value is too long for its kind (structure_max_mb)")]
    StructureTooLong,
    /// Our own mistake.
    #[error("ERR internal error: {0}")]
    Internal(String),
    /// INCRBYFLOAT: the value or the increment.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// HINCRBYFLOAT: the increment is infinite.
    #[error("ERR value is NaN or Infinity")]
    InfiniteIncrement,
    /// HINCRBYFLOAT: the field holds no number.
    #[error("ERR hash value is not a float")]
    HashNotAFloat,
    /// INCRBYFLOAT: the sum is no number.
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    /// LCS: LEN and IDX.
    #[error("ERR If you want both the length and indexes, please just use IDX.")]
    LcsLengthAndMatches,
    /// LCS: of what is no string.
    #[error("ERR The specified keys must contain string values")]
    LcsKind,
    /// LCS: of values that are too long.
    #[error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")]
    LcsTooLong,
    /// SETBIT and its relatives: no number, or beyond the longest value.
    #[error("ERR bit offset is not an integer or out of range")]
    BitOffset,
    /// SETBIT: neither 0 nor 1.
    #[error("ERR bit is not an integer or out of range")]
    Bit,
    /// BITPOS: neither 0 nor 1.
    #[error("ERR The bit argument must be 1 or 0.")]
    BitWanted,
    /// BITOP NOT: of several keys.
    #[error("ERR BITOP NOT must be called with a single source key.")]
    BitopNot,
    /// BITFIELD: an integer of no such format.
    #[error(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
    )]
    BitfieldType,
    /// BITFIELD: no such treatment of overflows.
    #[error("ERR Invalid OVERFLOW type specified")]
    OverflowType,
    /// BITFIELD_RO: SET or INCRBY.
    #[error("ERR BITFIELD_RO only supports the GET subcommand")]
    BitfieldReadOnly,
    /// OBJECT FREQ: nobody counts.
    #[error(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust."
    )]
    NoFrequency,
    /// CONFIG SET: no such setting.
    #[error("ERR Unknown option or number of arguments for CONFIG SET - '{0}'")]
    UnknownSetting(String),
    /// CONFIG SET: a setting that cannot be changed, or not to this.
    #[error("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")]
    ConfigSet {
        /// The setting.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// SWAPDB: no number.
    #[error("ERR invalid {0} DB index")]
    SwapIndex(&'static str),
    /// SWAPDB with other commands that belong together.
    #[error("ERR SWAPDB is not supported in transactions and scripts")]
    SwapInTransaction,
    /// SWAPDB where there is one database.
    #[error("ERR SWAPDB is not allowed in cluster mode")]
    SwapInCluster,
    /// CLIENT TRACKING: no such connection.
    #[error("ERR The client ID you want redirect to does not exist")]
    NoRedirect,
    /// CLIENT TRACKING: REDIRECT twice.
    #[error("ERR A client can only redirect to a single other client")]
    SeveralRedirects,
    /// CLIENT TRACKING: prefixes are for BCAST.
    #[error("ERR PREFIX option requires BCAST mode to be enabled")]
    PrefixWithoutBcast,
    /// CLIENT TRACKING: it is on already, in another mode.
    #[error(
        "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode."
    )]
    SwitchesBcast,
    /// The same.
    #[error(
        "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode."
    )]
    SwitchesOptIn,
    /// CLIENT TRACKING: OPTIN with OPTOUT.
    #[error("ERR You can't specify both OPTIN mode and OPTOUT mode")]
    OptInAndOut,
    /// CLIENT TRACKING: either with BCAST.
    #[error("ERR OPTIN and OPTOUT are not compatible with BCAST")]
    OptInOfBcast,
    /// CLIENT TRACKING: no prefix of a connection begins with another one.
    #[error(
        "ERR Prefix '{prefix}' overlaps with {which} prefix '{other}'. Prefixes for a single client must not overlap."
    )]
    PrefixOverlaps {
        /// The one.
        prefix: String,
        /// Whether the other one was there before.
        which: &'static str,
        /// The other one.
        other: String,
    },
    /// CLIENT TRACKING: they are bounded.
    #[error("ERR a client has at most 1024 prefixes")]
    TooManyPrefixes,
    /// CLIENT CACHING without TRACKING.
    #[error(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
    )]
    CachingWithoutTracking,
    /// CLIENT CACHING YES without OPTIN.
    #[error("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")]
    CachingYes,
    /// CLIENT CACHING NO without OPTOUT.
    #[error("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")]
    CachingNo,
    /// SLOWLOG GET: below -1, or no number.
    #[error("ERR count should be greater than or equal to -1")]
    SlowLogCount,
    /// RENAME: there is nothing to be renamed.
    #[error("ERR no such key")]
    NoSuchKey,
    /// COPY onto itself.
    #[error("ERR source and destination objects are the same")]
    SameObject,
    /// The keys are in several slots.
    #[error("CROSSSLOT Keys in request don't hash to the same slot")]
    CrossSlot,
    /// Another proxy owns the slot.
    #[error("MOVED {slot} {to}")]
    Moved {
        /// The slot.
        slot: u16,
        /// The address of its owner.
        to: String,
    },
    /// CLUSTER of a proxy on its own.
    #[error("ERR This instance has cluster support disabled")]
    NoCluster,
    /// SELECT, or COPY to another database, where there is but one.
    #[error("ERR {0} is not allowed in cluster mode")]
    NotInCluster(&'static str),
    /// The user may not use the command.
    #[error("NOPERM this user has no permissions to run the '{0}' command")]
    NoCommandPermission(&'static str),
    /// The user may not use one of the keys.
    #[error("NOPERM this user has no permissions to access one of the keys used as arguments")]
    NoKeyPermission,
    /// The user may not use one of the channels.
    #[error("NOPERM this user has no permissions to access one of the channels used as arguments")]
    NoChannelPermission,
    /// ACL CAT: no such category.
    #[error("ERR Unknown category '{0}'")]
    UnknownCategory(String),
    /// ACL GENPASS: too many bits, or none.
    #[error(
        "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096"
    )]
    GenPassBits,
    /// EVALSHA: no such script.
    #[error("NOSCRIPT No matching script. Please use EVAL.")]
    NoScript,
    /// SUBSCRIBE and its relatives: beyond what one connection may have.
    #[error(
        "ERR a client has at most {} subscriptions, and {} bytes of names of them",
        crate::pubsub::MAX_SUBSCRIPTIONS,
        crate::pubsub::MAX_NAME_BYTES
    )]
    TooManySubscriptions,
    /// A glob that would take too long.
    #[error(
        "ERR pattern with a star is longer than {} bytes",
        super::glob::MAX_STARRED_BYTES
    )]
    PatternTooLong,
    /// HRANDFIELD with repetitions: a reply that would be too long.
    #[error("ERR the fields and values asked for are too long together")]
    TooManyFields,
    /// COMMAND INFO and DOCS: more names than there are commands.
    #[error("ERR too many names: at most {} at a time", super::describe::MAX_NAMES)]
    TooManyNames,
    /// A script longer than those that are run.
    #[error("ERR script is longer than {} bytes", super::scripts::MAX_TEXT_BYTES)]
    ScriptTooLong,
    /// An argument that is too long for what the command does with it.
    #[error("ERR argument is too long for '{command}' command")]
    ArgumentTooLong {
        /// The command.
        command: &'static str,
    },
    /// EVAL: more keys than arguments.
    #[error("ERR Number of keys can't be greater than number of args")]
    TooManyKeys,
    /// EVAL: fewer than none.
    #[error("ERR Number of keys can't be negative")]
    NegativeKeys,
    /// SCRIPT FLUSH: neither SYNC nor ASYNC.
    #[error("ERR SCRIPT FLUSH only support SYNC|ASYNC option")]
    ScriptFlushMode,
    /// The key holds a value of another kind.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// A key longer than we keep.
    #[error("ERR key is longer than {MAX_KEY_BYTES} bytes")]
    KeyTooLong,
}

/// The one place where errors of commands become replies.
impl From<CommandError> for Reply {
    fn from(error: CommandError) -> Self {
        Self::Error(error.to_string().into())
    }
}

/// The same for errors of the protocol, after which the connection closes.
impl From<ProtocolError> for Reply {
    fn from(error: ProtocolError) -> Self {
        Self::Error(format!("ERR {error}").into())
    }
}
