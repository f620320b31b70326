//! Commands: from the arguments of a request to a typed value that says what
//! is to be done, and Redis's own words for everything that is not right.
//!
//! Nothing is executed here and no state is read. A family of commands has one
//! file: its types, its entries in the command table, its parsing.
//!
//! REPLICAOF, SLAVEOF, MIGRATE, DEBUG and MODULE are unknown commands for ever.

pub mod acl;
pub mod args;
pub mod bits;
pub mod cluster;
pub mod connection;
pub mod describe;
pub mod error;
pub mod expiry;
pub mod glob;
pub mod hashes;
pub mod inspect;
pub mod keys;
pub mod lcs;
pub mod pubsub;
pub mod scripts;
pub mod server;
pub mod strings;
pub mod table;
pub mod transactions;

#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod tests;

use crate::value::Value;

pub use acl::AclCommand;
pub use bits::BitCommand;
pub use cluster::ClusterCommand;
pub use connection::ConnectionCommand;
pub use error::CommandError;
pub use expiry::{ExpireCondition, Expiry, TtlQuery};
pub use hashes::HashCommand;
pub use inspect::InspectCommand;
pub use keys::KeyCommand;
pub use pubsub::PubSubCommand;
pub use scripts::ScriptCommand;
pub use server::ServerCommand;
pub use strings::StringCommand;
pub use table::CommandSpec;
pub use transactions::TransactionCommand;

/// Whether the argument that comes next is a value to be stored, so that it may
/// go to nodes while it arrives.
pub fn stores_next(args_so_far: &[Value]) -> bool {
    let spec = args_so_far.first().and_then(table::named);
    spec.is_some_and(|spec| spec.stores(args_so_far.len()))
}

/// The command that a request names, looked up once.
#[derive(Clone, Copy, Debug)]
pub struct Named(Option<&'static CommandSpec>);

impl Named {
    /// That of a request; there may be none of this name.
    pub fn of(request: &[Value]) -> Self {
        Self(request.first().and_then(table::named))
    }

    fn is(self, what: impl FnOnce(&'static CommandSpec) -> bool) -> bool {
        self.0.is_some_and(what)
    }

    /// The entry of the request, see [`CommandSpec::of`].
    pub fn spec(self, request: &[Value]) -> Result<&'static CommandSpec, CommandError> {
        CommandSpec::of_named(self.0, request)
    }

    /// Whether it may change keys.
    pub fn writes(self) -> bool {
        self.is(|spec| {
            spec.is(table::flags::WRITE) || matches!(spec.name, "exec" | "eval" | "evalsha")
        })
    }

    /// Whether it waits while CLIENT PAUSE holds writes back: it may change keys, or what
    /// others get. EXEC does what is queued.
    pub fn waits_with_writes(self) -> bool {
        self.is(|spec| {
            let name = spec.name;
            spec.is(table::flags::WRITE)
                || matches!(name, "eval" | "evalsha" | "publish" | "spublish")
        })
    }

    /// Whether it is carried out at once for a client that has said MULTI.
    pub fn is_transactional(self) -> bool {
        const AT_ONCE: [&str; 6] = ["multi", "exec", "discard", "watch", "quit", "reset"];
        self.is(|spec| AT_ONCE.contains(&spec.name))
    }

    /// Whether this is EXEC.
    pub fn is_exec(self) -> bool {
        self.is(|spec| spec.name == "exec")
    }

    /// Whether a subscriber that speaks RESP2 may ask for this.
    pub fn is_for_subscribers(self) -> bool {
        self.is(|spec| {
            let name = spec.name;
            name.ends_with("subscribe") || matches!(name, "ping" | "quit" | "reset")
        })
    }
}

/// Which argument of a request is a value to be stored, if there is exactly one.
pub fn stores_one(request: &[Value]) -> Option<usize> {
    let spec = request.first().and_then(table::named)?;
    let mut stored = (1..request.len()).filter(|i| spec.stores(*i));
    stored.next().filter(|_| stored.next().is_none())
}

/// One command with its arguments understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// About the connection itself.
    Connection(ConnectionCommand),
    /// About users.
    Acl(AclCommand),
    /// About the proxies that share the slots.
    Cluster(ClusterCommand),
    /// About the server as a whole.
    Server(ServerCommand),
    /// About keys, whatever they hold.
    Key(KeyCommand),
    /// About string values.
    String(StringCommand),
    /// About hashes.
    Hash(HashCommand),
    /// About channels.
    PubSub(PubSubCommand),
    /// About scripts.
    Script(ScriptCommand),
    /// About bits of string values.
    Bit(BitCommand),
    /// A look inside.
    Inspect(InspectCommand),
    /// About what belongs together.
    Transaction(TransactionCommand),
}

impl Command {
    /// Understands a request: the command's name, then its arguments.
    ///
    /// Arguments stay slices of the buffer that they arrived in (see
    /// [`crate::resp::Step::Request`]): copy what outlives the request.
    pub fn parse(request: Vec<Value>) -> Result<Self, CommandError> {
        Self::parse_as(CommandSpec::of(&request)?, request)
    }

    /// The same of a request whose entry is known.
    pub fn parse_as(spec: &'static CommandSpec, request: Vec<Value>) -> Result<Self, CommandError> {
        let is_refused = |value: &Value| matches!(value, Value::Refused { .. });
        let is_refused = request.iter().any(is_refused);
        let command = (spec.parse)(args::Args::new(spec, request))?;
        match is_refused {
            // mostly the parser has said so in Redis's words
            true => Err(CommandError::ArgumentTooLong { command: spec.name }),
            false => Ok(command),
        }
    }
}
