//! SUBSCRIBE, PUBLISH and their relatives.

use bytes::Bytes;

use super::args::Args;
use super::table::{CommandSpec, Group, flags::*};
use super::{Command, CommandError};
use crate::pubsub::Topic;

/// A command about channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PubSubCommand {
    /// SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE: a reply for each name.
    Subscribe {
        /// What the names are.
        topic: Topic,
        /// At least one.
        names: Vec<Bytes>,
    },
    /// UNSUBSCRIBE, PUNSUBSCRIBE, SUNSUBSCRIBE: likewise.
    Unsubscribe {
        /// What the names are.
        topic: Topic,
        /// None: all.
        names: Vec<Bytes>,
    },
    /// PUBLISH and SPUBLISH: how many got it.
    Publish {
        /// Whether the channel is one of a shard.
        to_shard: bool,
        /// The channel.
        channel: Bytes,
        /// The message.
        payload: Bytes,
    },
    /// PUBSUB CHANNELS and SHARDCHANNELS: to what somebody subscribes.
    Channels {
        /// Which of them.
        topic: Topic,
        /// A glob; none: all.
        pattern: Option<Bytes>,
    },
    /// PUBSUB NUMSUB and SHARDNUMSUB: how many subscribe to each.
    NumSub {
        /// What the names are.
        topic: Topic,
        /// The names.
        names: Vec<Bytes>,
    },
    /// PUBSUB NUMPAT: how many patterns there are.
    NumPat,
    /// PUBSUB HELP.
    Help,
}

const SUBSCRIBE: u32 = PUBSUB | NOSCRIPT | LOADING | STALE;
const PUBLISH: u32 = PUBSUB | LOADING | STALE | FAST;
const QUERY: u32 = PUBSUB | LOADING | STALE;
const NOT_KEY: &[&str] = &["not_key"];

const fn spec(
    name: &'static str,
    arity: isize,
    flags: u32,
    parse: super::table::Parse,
) -> CommandSpec {
    CommandSpec::new(name, arity, flags, Group::PubSub, parse)
}

/// This family's part of the command table.
pub(super) static COMMANDS: &[CommandSpec] = &[
    spec("subscribe", -2, SUBSCRIBE, |args| {
        subscribe(args, Topic::Channel)
    })
    .doc("2.0.0", "Subscribes to channels."),
    spec("unsubscribe", -1, SUBSCRIBE, |args| {
        unsubscribe(args, Topic::Channel)
    })
    .doc("2.0.0", "Ends subscriptions to channels."),
    spec("psubscribe", -2, SUBSCRIBE, |args| {
        subscribe(args, Topic::Pattern)
    })
    .doc("2.0.0", "Subscribes to channels that match patterns."),
    spec("punsubscribe", -1, SUBSCRIBE, |args| {
        unsubscribe(args, Topic::Pattern)
    })
    .doc("2.0.0", "Ends subscriptions to patterns."),
    spec("ssubscribe", -2, SUBSCRIBE, |args| {
        subscribe(args, Topic::Shard)
    })
    .keys(-1, 1, NOT_KEY)
    .doc("7.0.0", "Subscribes to channels of a shard."),
    spec("sunsubscribe", -1, SUBSCRIBE, |args| {
        unsubscribe(args, Topic::Shard)
    })
    .keys(-1, 1, NOT_KEY)
    .doc("7.0.0", "Ends subscriptions to channels of a shard."),
    spec("publish", 3, PUBLISH, |args| publish(args, false))
        .long_from(2)
        .doc("2.0.0", "Sends a message to a channel."),
    spec("spublish", 3, PUBLISH, |args| publish(args, true))
        .keys(1, 1, NOT_KEY)
        .long_from(2)
        .doc("7.0.0", "Sends a message to a channel of a shard."),
    spec("pubsub", -2, 0, Args::incomplete)
        .subcommands(PUBSUB_COMMANDS)
        .doc("2.8.0", "Commands about subscriptions."),
];

static PUBSUB_COMMANDS: &[CommandSpec] = &[
    spec("pubsub|channels", -2, QUERY, |args| {
        channels(args, Topic::Channel)
    })
    .doc("2.8.0", "Lists channels that have subscribers."),
    spec("pubsub|numpat", 2, QUERY, |_| {
        command(PubSubCommand::NumPat)
    })
    .doc("2.8.0", "Counts the patterns that are subscribed to."),
    spec("pubsub|numsub", -2, QUERY, |args| {
        num_sub(args, Topic::Channel)
    })
    .doc("2.8.0", "Counts the subscribers of channels."),
    spec("pubsub|shardchannels", -2, QUERY, |args| {
        channels(args, Topic::Shard)
    })
    .doc("7.0.0", "Lists channels of shards that have subscribers."),
    spec("pubsub|shardnumsub", -2, QUERY, |args| {
        num_sub(args, Topic::Shard)
    })
    .doc("7.0.0", "Counts the subscribers of channels of shards."),
    spec("pubsub|help", 2, LOADING | STALE, |_| {
        command(PubSubCommand::Help)
    })
    .doc("6.2.0", "Lists the subcommands."),
];

fn command(command: PubSubCommand) -> Result<Command, CommandError> {
    Ok(Command::PubSub(command))
}

fn subscribe(mut args: Args, topic: Topic) -> Result<Command, CommandError> {
    let names = (0..args.len()).map(|_| match topic {
        Topic::Pattern => args.pattern(),
        Topic::Channel | Topic::Shard => args.token(),
    });
    let names = names.collect::<Result<_, _>>()?;
    command(PubSubCommand::Subscribe { topic, names })
}

fn unsubscribe(mut args: Args, topic: Topic) -> Result<Command, CommandError> {
    let names = args.tokens()?;
    command(PubSubCommand::Unsubscribe { topic, names })
}

fn publish(mut args: Args, to_shard: bool) -> Result<Command, CommandError> {
    let (channel, payload) = (args.token()?, args.value()?.into_contiguous());
    command(PubSubCommand::Publish {
        to_shard,
        channel,
        payload,
    })
}

fn channels(mut args: Args, topic: Topic) -> Result<Command, CommandError> {
    if args.len() > 1 {
        return Err(args.wrong_subcommand());
    }
    let pattern = (args.len() > 0).then(|| args.pattern()).transpose()?;
    command(PubSubCommand::Channels { topic, pattern })
}

fn num_sub(mut args: Args, topic: Topic) -> Result<Command, CommandError> {
    let names = args.tokens()?;
    command(PubSubCommand::NumSub { topic, names })
}
