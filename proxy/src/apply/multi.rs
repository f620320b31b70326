//! MULTI, EXEC and their relatives. Commands are carried out on a transaction
//! over the index, and again if something that they read has changed meanwhile.

use std::{collections::hash_map::Entry, time::Instant};

use bytes::Bytes;
use scatterhoard_node::random::HashMap;

use super::{Context, Outcome, apply as apply_one, attempts::Attempts, key, monitor, tracking};
use crate::{
    clients::{Client, Queue},
    command::{Command, CommandError, CommandSpec, TransactionCommand},
    monitor::Source,
    resp::Reply,
    store::{Announcement, Key, Lookup, Transaction, Uncommitted, View, Watch},
    value::Value,
};

/// What a queued request takes besides its arguments, in bytes.
const REQUEST_BYTES: u64 = 64;
/// The same of an argument.
const ARGUMENT_BYTES: u64 = 48;
/// What an outcome takes besides its bytes.
const OUTCOME_BYTES: u64 = 64;
/// One client watches no more keys.
const MAX_WATCHED: usize = 1 << 16;

pub(super) async fn apply(
    context: &Context,
    client: &mut Client,
    command: TransactionCommand,
) -> Outcome {
    match command {
        TransactionCommand::Multi if client.queue.is_some() => CommandError::NestedMulti.into(),
        TransactionCommand::Multi => {
            client.queue = Some(Queue {
                requests: Vec::new(),
                has_failed: false,
                room: context.queues.none(),
            });
            Reply::OK.into()
        }
        TransactionCommand::Discard if client.queue.is_none() => {
            CommandError::WithoutMulti("DISCARD").into()
        }
        TransactionCommand::Discard => {
            discard(client);
            Reply::OK.into()
        }
        TransactionCommand::Watch { .. } if client.queue.is_some() => {
            CommandError::WatchInMulti.into()
        }
        TransactionCommand::Watch { keys } => {
            for k in &keys {
                let watched = client.watches.len();
                // copied: it outlives the request
                let owned = key(client.db, &Bytes::copy_from_slice(k));
                if let Entry::Vacant(entry) = client.watches.entry(owned) {
                    if watched >= MAX_WATCHED {
                        return CommandError::TooManyWatched.into();
                    }
                    let watch = context.store.watch(entry.key().clone());
                    entry.insert(watch);
                }
            }
            Reply::OK.into()
        }
        TransactionCommand::Unwatch => {
            client.watches.clear();
            Reply::OK.into()
        }
        TransactionCommand::Exec => match client.queue.take() {
            None => CommandError::WithoutMulti("EXEC").into(),
            Some(queue) => {
                let watches = std::mem::take(&mut client.watches);
                let outcome = if queue.has_failed {
                    CommandError::ExecAbort.into()
                } else if watches.values().any(Watch::has_changed) {
                    Reply::NullArray.into()
                } else {
                    exec(context, client, queue.requests, &watches).await
                };
                client.uploads.clear();
                outcome
            }
        },
    }
}

/// Forgets what is queued and watched.
fn discard(client: &mut Client) {
    client.queue = None;
    client.watches.clear();
    client.uploads.clear();
}

/// A request that was to be carried out at once is not: EXEC is to refuse then, or has
/// if it is the one. What the client is told.
pub(super) fn refused(client: &mut Client, is_exec: bool, refusal: Reply) -> Reply {
    if let Some(queue) = &mut client.queue {
        queue.has_failed = true;
    }
    if !is_exec {
        return refusal;
    }
    discard(client);
    match refusal {
        Reply::Error(why) if why.starts_with("CROSSSLOT") || why.starts_with("MOVED") => {
            Reply::Error(why)
        }
        Reply::Error(why) if !why.starts_with("EXECABORT") => {
            let why = why.strip_prefix("ERR ").unwrap_or(&why);
            Reply::Error(format!("EXECABORT Transaction discarded because of: {why}").into())
        }
        other => other,
    }
}

/// Keeps a request until EXEC.
pub(super) fn queue(
    client: &mut Client,
    permission: Result<&'static CommandSpec, CommandError>,
    request: Vec<Value>,
    refusal: Option<Reply>,
) -> Outcome {
    let Some(queue) = &mut client.queue else {
        return CommandError::WithoutMulti("EXEC").into();
    };
    let not_there = |value: &Value| match value {
        Value::Uploaded { number, .. } => match client.uploads.get(*number as usize) {
            Some(Some(Err(error))) => Some(Reply::from(error.clone())),
            _ => None,
        },
        _ => None,
    };
    let refusal = match permission {
        Err(error) => Some(error.into()),
        Ok(_) => refusal.or_else(|| request.iter().find_map(not_there)),
    };
    if let Some(refusal) = refusal {
        queue.has_failed = true;
        return refusal.into();
    }
    let size = |value: &Value| match value {
        Value::Uploaded { start, .. } => start.len() as u64 + ARGUMENT_BYTES,
        value => value.len() + ARGUMENT_BYTES,
    };
    let bytes = REQUEST_BYTES + request.iter().map(size).sum::<u64>();
    if !queue.room.take(bytes) {
        queue.has_failed = true;
        let text = "OOM too much is queued by MULTI, by this client or by all of them";
        return Reply::Error(text.into()).into();
    }
    // copied: arguments are slices of the buffer that they were read with
    let keep = |value: Value| match value {
        Value::One(bytes) => Value::One(Bytes::copy_from_slice(&bytes)),
        other => other,
    };
    queue.requests.push(request.into_iter().map(keep).collect());
    Reply::Simple("QUEUED".into()).into()
}

async fn exec(
    context: &Context,
    client: &mut Client,
    requests: Vec<Vec<Value>>,
    watches: &HashMap<Key, Watch>,
) -> Outcome {
    let (db, store) = (client.db, &context.store);
    let source = Source::Client(client.entry.peer());
    let keys = changed_keys(db, &requests);
    // the others that read, change and write them wait; so few tries are in vain
    let _turns = store.edit_turns(keys.iter()).await;
    let mut attempts = Attempts::new(store);
    loop {
        client.db = db;
        if let Err(refusal) = attempts.next().await {
            return refusal.into();
        }
        monitor::forget(client);
        let transaction = Transaction::default();
        let mut room = context.replies.none();
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut times = Vec::with_capacity(requests.len());
        for request in &requests {
            let began = Instant::now();
            let view = View::within(store, &transaction);
            let mut words = None;
            if let Ok(spec) = CommandSpec::of(request) {
                tracking::reads(context, client, spec, request);
                words = monitor::before(client, source, spec, request);
            }
            let outcome = match Command::parse(request.clone()) {
                Ok(command) => apply_one(context, view, client, command).await,
                Err(error) => error.into(),
            };
            monitor::after(client, source, words);
            let outcome = match outcome {
                // copied: small parts would keep the whole
                Outcome::Part(reply, _) => reply.detached().into(),
                other => other,
            };
            if let Some(refusal) = transaction.refusal() {
                client.db = db;
                return Reply::Error(refusal.into()).into();
            }
            if !room.take(bytes_of(&outcome)) {
                client.db = db;
                let text = "OOM the replies of this transaction take too much memory";
                return Reply::Error(text.into()).into();
            }
            outcomes.push(outcome);
            times.push(began.elapsed());
        }
        let began = Instant::now();
        let announce = |messages| send(context, messages);
        match transaction.commit(store, watches.values(), announce).await {
            Ok(receivers) => {
                // values go to nodes at the end, for the last command as it seems
                if let Some(last) = times.last_mut() {
                    *last += began.elapsed();
                }
                for (request, took) in requests.iter().zip(times) {
                    if context.slow_log.takes(took) {
                        context.took(client, context.slow_log.suspect(request), took);
                    }
                }
                let outcomes = outcomes.into_iter();
                let outcomes = outcomes.map(|outcome| published(outcome, &receivers));
                return Outcome::Several(outcomes.collect(), room);
            }
            Err(Uncommitted::Watched) => {
                client.db = db;
                monitor::forget(client);
                return Reply::NullArray.into();
            }
            Err(Uncommitted::Write(error)) => {
                client.db = db;
                return Reply::from(error).into();
            }
            Err(Uncommitted::Conflict(uploads)) => give_back(client, uploads),
        }
    }
}

/// What an outcome takes in memory until it is sent.
fn bytes_of(outcome: &Outcome) -> u64 {
    OUTCOME_BYTES
        + match outcome {
            Outcome::Reply(reply) | Outcome::Close(reply) => reply.bytes(),
            Outcome::Lookup(Lookup::Here(value)) => value.len(),
            Outcome::Values(lookups) => lookups.iter().map(Lookup::bytes_here).sum(),
            Outcome::Pushes(replies) => replies.iter().map(Reply::bytes).sum(),
            _ => 0,
        }
}

/// Sends messages; to how many, each.
pub(super) fn send(context: &Context, messages: Vec<Announcement>) -> Vec<usize> {
    let hub = &context.hub;
    let send = |message: Announcement| match message {
        Announcement::Message {
            channel,
            payload,
            to_shard: false,
        } => hub.publish(&channel, &payload),
        Announcement::Message {
            channel, payload, ..
        } => hub.publish_to_shard(&channel, &payload),
        Announcement::Event(event) => {
            context.store.events().publish(&event);
            0
        }
    };
    messages.into_iter().map(send).collect()
}

/// A command that published a message gets its number of receivers.
fn published(outcome: Outcome, receivers: &[usize]) -> Outcome {
    match outcome {
        Outcome::Publish(number) => Outcome::Publish(receivers.get(number).copied().unwrap_or(0)),
        other => other,
    }
}

/// What came in while it was queued is used again.
fn give_back(client: &mut Client, uploads: Vec<crate::store::Written>) {
    for written in uploads {
        let slot = written.upload.and_then(|n| client.uploads.get_mut(n));
        if let Some(slot) = slot {
            *slot = Some(Ok(written));
        }
    }
}

/// Keys whose values these requests may read and change; of the database in which they
/// begin.
fn changed_keys(db: u8, requests: &[Vec<Value>]) -> Vec<Key> {
    let keys = |request: &Vec<Value>| {
        let spec = CommandSpec::of(request).ok();
        let spec = spec.filter(|spec| spec.changes());
        let places = spec.map(|spec| spec.keys.places(request));
        let places = places.into_iter().flatten();
        let key = |i: usize| request.get(i).cloned().map(Value::into_contiguous);
        let keys: Vec<Bytes> = places.filter_map(key).collect();
        keys.into_iter().map(move |bytes| Key { db, bytes })
    };
    requests.iter().flat_map(keys).collect()
}
