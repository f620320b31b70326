//! CLUSTER and its relatives. Who owns which slot comes from the configuration: what
//! would change that is refused.

use bytes::Bytes;

use super::args::Args;
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError};

/// About the proxies that share the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterCommand {
    /// INFO.
    Info,
    /// MYID.
    MyId,
    /// NODES: one line each.
    Nodes,
    /// SLOTS: who owns which range.
    Slots,
    /// SHARDS: the same, by owner.
    Shards,
    /// LINKS: there are none.
    Links,
    /// KEYSLOT: the slot of a key.
    KeySlot {
        /// The key.
        key: Bytes,
    },
    /// COUNTKEYSINSLOT.
    CountKeys {
        /// As it was said: whether that is a number is looked at where there is a cluster.
        slot: Bytes,
    },
    /// GETKEYSINSLOT.
    GetKeys {
        /// As it was said.
        slot: Bytes,
        /// At most so many.
        count: Bytes,
    },
    /// REPLICAS, SLAVES: nobody has any.
    Replicas {
        /// Of this member.
        id: Bytes,
    },
    /// COUNT-FAILURE-REPORTS: nobody reports any.
    FailureReports {
        /// Of this member.
        id: Bytes,
    },
    /// READONLY, READWRITE, ASKING: nothing is asked of a replica, or on its way.
    Mode,
    /// What would change the cluster.
    Unchangeable,
    /// HELP.
    Help,
}

const TOLD: u32 = STALE;
const ADMINS: u32 = ADMIN | STALE;

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    parse: super::table::Parse,
) -> CommandSpec {
    CommandSpec::new(name, arity, flags, Group::Cluster, parse)
}

const fn fixed(name: &'static str, arity: isize) -> CommandSpec {
    spec(name, arity, ADMINS | NO_ASYNC_LOADING, |_| {
        command(ClusterCommand::Unchangeable)
    })
    .doc(
        "3.0.0",
        "Refused: who owns which slots comes from the configuration.",
    )
}

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[
    spec("cluster", -2, 0, Args::incomplete)
        .subcommands(CLUSTER_COMMANDS)
        .doc("3.0.0", "Commands about the proxies that share the slots."),
    spec("readonly", 1, LOADING | STALE | FAST, |_| {
        command(ClusterCommand::Mode)
    })
    .acl(&["@connection"])
    .doc("3.0.0", "Does nothing: there are no replicas."),
    spec("readwrite", 1, LOADING | STALE | FAST, |_| {
        command(ClusterCommand::Mode)
    })
    .acl(&["@connection"])
    .doc("3.0.0", "Does nothing: there are no replicas."),
    spec("asking", 1, FAST, |_| command(ClusterCommand::Mode))
        .acl(&["@connection"])
        .doc("3.0.0", "Does nothing: slots do not move."),
];

const VARYING: &[&str] = &["nondeterministic_output"];

static CLUSTER_COMMANDS: &[CommandSpec] = &[
    spec("cluster|info", 2, TOLD, |_| command(ClusterCommand::Info))
        .tips(VARYING)
        .doc("3.0.0", "Tells how the cluster is."),
    spec("cluster|myid", 2, TOLD, |_| command(ClusterCommand::MyId))
        .doc("3.0.0", "Returns this proxy's id."),
    spec("cluster|nodes", 2, TOLD, |_| command(ClusterCommand::Nodes))
        .tips(VARYING)
        .doc("3.0.0", "Lists the proxies and their slots."),
    spec("cluster|slots", 2, TOLD, |_| command(ClusterCommand::Slots))
        .tips(VARYING)
        .doc("3.0.0", "Lists ranges of slots and who owns them."),
    spec("cluster|shards", 2, TOLD, |_| {
        command(ClusterCommand::Shards)
    })
    .tips(VARYING)
    .doc("7.0.0", "Lists the proxies and their slots."),
    spec("cluster|links", 2, TOLD, |_| command(ClusterCommand::Links))
        .tips(VARYING)
        .doc(
            "7.0.0",
            "Returns nothing: proxies have no links with each other.",
        ),
    spec("cluster|keyslot", 3, TOLD, |mut args| {
        let key = args.token()?;
        command(ClusterCommand::KeySlot { key })
    })
    .doc("3.0.0", "Returns the slot of a key."),
    spec("cluster|countkeysinslot", 3, TOLD, |mut args| {
        let slot = args.token()?;
        command(ClusterCommand::CountKeys { slot })
    })
    .doc("3.0.0", "Counts the keys of a slot."),
    spec("cluster|getkeysinslot", 4, TOLD, |mut args| {
        let (slot, count) = (args.token()?, args.token()?);
        command(ClusterCommand::GetKeys { slot, count })
    })
    .tips(VARYING)
    .doc("3.0.0", "Returns keys of a slot."),
    spec("cluster|replicas", 3, ADMINS, replicas)
        .tips(VARYING)
        .doc("5.0.0", "Returns nothing: there are no replicas."),
    spec("cluster|slaves", 3, ADMINS, replicas)
        .tips(VARYING)
        .doc("3.0.0", "Returns nothing: there are no replicas."),
    spec("cluster|count-failure-reports", 3, ADMINS, |mut args| {
        let id = args.token()?;
        command(ClusterCommand::FailureReports { id })
    })
    .tips(VARYING)
    .doc("3.0.0", "Returns 0: proxies do not watch each other."),
    fixed("cluster|addslots", -3),
    fixed("cluster|addslotsrange", -4),
    fixed("cluster|bumpepoch", 2).tips(VARYING),
    fixed("cluster|delslots", -3),
    fixed("cluster|delslotsrange", -4),
    fixed("cluster|failover", -2),
    fixed("cluster|flushslots", 2),
    fixed("cluster|forget", 3),
    spec("cluster|reset", -2, ADMINS | NOSCRIPT, |_| {
        command(ClusterCommand::Unchangeable)
    })
    .doc(
        "3.0.0",
        "Refused: who owns which slots comes from the configuration.",
    ),
    fixed("cluster|saveconfig", 2),
    fixed("cluster|set-config-epoch", 3),
    fixed("cluster|setslot", -4),
    spec("cluster|help", 2, LOADING | STALE, |_| {
        command(ClusterCommand::Help)
    })
    .doc("5.0.0", "Lists the subcommands."),
];

fn command(command: ClusterCommand) -> Result<Command, CommandError> {
    Ok(Command::Cluster(command))
}

fn replicas(mut args: Args) -> Result<Command, CommandError> {
    let id = args.token()?;
    command(ClusterCommand::Replicas { id })
}
