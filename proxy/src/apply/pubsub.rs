//! SUBSCRIBE, PUBLISH and their relatives.

use bytes::Bytes;

use super::{Outcome, Scope};
use crate::{
    clients::Client,
    command::{CommandError, PubSubCommand, describe},
    pubsub::{Message, Topic},
    resp::{Protocol, Reply},
    value::Value,
};

pub(super) fn apply(scope: Scope<'_>, client: &mut Client, command: PubSubCommand) -> Outcome {
    let hub = &scope.context.hub;
    let reply = match command {
        PubSubCommand::Subscribe { topic, names } => {
            if !client.subscriptions.have_room_for(&names) {
                return CommandError::TooManySubscriptions.into();
            }
            // copied: they outlive the request
            let names = names.iter().map(|name| Bytes::copy_from_slice(name));
            let subscribe = |name: Bytes| {
                client.subscriptions.add(topic, &name);
                let count = client.subscriptions.count(topic);
                confirmation(verb(topic, true), Some(name), count)
            };
            return Outcome::Subscribed(names.map(subscribe).collect());
        }
        PubSubCommand::Unsubscribe { topic, names } => {
            let names = match names.is_empty() {
                true => client.subscriptions.names(topic),
                false => names,
            };
            if names.is_empty() {
                let count = client.subscriptions.count(topic);
                return Outcome::Pushes(vec![confirmation(verb(topic, false), None, count)]);
            }
            let unsubscribe = |name: Bytes| {
                client.subscriptions.remove(topic, &name);
                let count = client.subscriptions.count(topic);
                confirmation(verb(topic, false), Some(name), count)
            };
            return Outcome::Pushes(names.into_iter().map(unsubscribe).collect());
        }
        PubSubCommand::Publish {
            to_shard,
            channel,
            payload,
        } => {
            // copied: whoever is slow keeps them
            let channel = Bytes::copy_from_slice(&channel);
            let payload = Bytes::copy_from_slice(&payload);
            if let Some(transaction) = scope.view.transaction() {
                return Outcome::Publish(transaction.publishes(channel, payload, to_shard));
            }
            count(match to_shard {
                false => hub.publish(&channel, &payload),
                true => hub.publish_to_shard(&channel, &payload),
            })
        }
        PubSubCommand::Channels { topic, pattern } => {
            let names = hub.active(topic, pattern.as_deref());
            Reply::Array(names.into_iter().map(bulk).collect())
        }
        PubSubCommand::NumSub { topic, names } => {
            let pair = |name: Bytes| [bulk(name.clone()), count(hub.subscribers(topic, &name))];
            Reply::Array(names.into_iter().flat_map(pair).collect())
        }
        PubSubCommand::NumPat => count(hub.active(Topic::Pattern, None).len()),
        PubSubCommand::Help => describe::help("pubsub"),
    };
    reply.into()
}

/// A message as it is sent, if it is, to a connection that speaks this protocol, and
/// may have subscriptions.
pub fn push(message: Message, protocol: Protocol, subscribed: bool) -> Option<Reply> {
    let is_new = protocol == Protocol::Resp3;
    Some(Reply::Push(match message {
        // as a status, whatever the protocol
        Message::Monitored(line) => return Some(Reply::Simple(line.to_string().into())),
        Message::Invalidate { key, redirected } => {
            let keys = key.map_or(Reply::Null, |key| Reply::Array(vec![bulk(key)]));
            match is_new {
                true => vec![word("invalidate"), keys],
                false if redirected && subscribed => {
                    vec![word("message"), word("__redis__:invalidate"), keys]
                }
                false => return None,
            }
        }
        Message::RedirectBroken(id) if is_new => {
            let id = Reply::Integer(id.cast_signed());
            vec![word("tracking-redir-broken"), id]
        }
        Message::RedirectBroken(_) => return None,
        Message::Channel { channel, payload } => {
            vec![word("message"), bulk(channel), bulk(payload)]
        }
        Message::Pattern {
            pattern,
            channel,
            payload,
        } => vec![
            word("pmessage"),
            bulk(pattern),
            bulk(channel),
            bulk(payload),
        ],
        Message::Shard { channel, payload } => {
            vec![word("smessage"), bulk(channel), bulk(payload)]
        }
    }))
}

fn verb(topic: Topic, begins: bool) -> &'static str {
    match (topic, begins) {
        (Topic::Channel, true) => "subscribe",
        (Topic::Channel, false) => "unsubscribe",
        (Topic::Pattern, true) => "psubscribe",
        (Topic::Pattern, false) => "punsubscribe",
        (Topic::Shard, true) => "ssubscribe",
        (Topic::Shard, false) => "sunsubscribe",
    }
}

fn confirmation(verb: &'static str, name: Option<Bytes>, subscriptions: usize) -> Reply {
    let name = name.map_or(Reply::Null, bulk);
    Reply::Push(vec![word(verb), name, count(subscriptions)])
}

fn word(word: &'static str) -> Reply {
    Reply::Bulk(word.into())
}

fn bulk(bytes: Bytes) -> Reply {
    Reply::Bulk(Value::from(bytes))
}

fn count(n: usize) -> Reply {
    Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}
