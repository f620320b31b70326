//! MULTI, EXEC and their relatives. Commands are carried out on a transaction
//! over the index, and again if something that they read has changed meanwhile.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::TryAcquireError;

use super::{Context, Outcome, apply as apply_one, key};
use crate::{
    clients::{Client, Queue},
    command::{Command, CommandError, CommandSpec, TransactionCommand, table::flags},
    resp::Reply,
    store::{Announcement, Key, Transaction, Uncommitted, View, Watch},
    value::Value,
};

/// What a queued request takes besides its arguments, in bytes.
const REQUEST_BYTES: u64 = 64;
/// The same of an argument.
const ARGUMENT_BYTES: u64 = 48;
/// After so many tries others are too fast.
const TRIES: usize = 100;

pub(super) async fn apply(
    context: &Context,
    client: &mut Client,
    command: TransactionCommand,
) -> Outcome {
    match command {
        TransactionCommand::Multi if client.queue.is_some() => CommandError::NestedMulti.into(),
        TransactionCommand::Multi => {
            client.queue = Some(Queue::default());
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
            let watch = |k: &Bytes| {
                // copied: it outlives the request
                let owned = Bytes::copy_from_slice(k);
                context.store.watch(key(client.db, &owned))
            };
            for k in &keys {
                let is_watched = |w: &Watch| w.is_of(client.db, k);
                if !client.watches.iter().any(is_watched) {
                    client.watches.push(watch(k));
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
                } else if watches.iter().any(|watch| watch.has_changed()) {
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

/// A request that was to be carried out at once was not understood: EXEC is to
/// refuse, or has.
pub(super) fn misunderstood(client: &mut Client, error: &CommandError) {
    if *error == CommandError::ExecArity {
        discard(client);
    }
    if let Some(queue) = &mut client.queue {
        queue.has_failed = true;
    }
}

/// Keeps a request until EXEC.
pub(super) fn queue(
    client: &mut Client,
    context: &Context,
    permission: Result<&'static CommandSpec, CommandError>,
    request: Vec<Value>,
    refusal: Option<Outcome>,
) -> Outcome {
    let Some(queue) = &mut client.queue else {
        return CommandError::WithoutMulti("EXEC").into();
    };
    let refusal = match permission {
        Err(error) => Some(error.into()),
        Ok(_) => refusal,
    };
    if let Some(refusal) = refusal {
        queue.has_failed = true;
        return refusal;
    }
    let size = |value: &Value| match value {
        Value::Uploaded { .. } => ARGUMENT_BYTES,
        value => value.len() + ARGUMENT_BYTES,
    };
    let bytes = REQUEST_BYTES + request.iter().map(size).sum::<u64>();
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    match context.queues.clone().try_acquire_many_owned(bytes) {
        Ok(room) => {
            queue.bytes += room.num_permits();
            queue.room.push(room);
        }
        Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
            queue.has_failed = true;
            let text = "OOM too much is queued by MULTI on this server";
            return Reply::Error(text.into()).into();
        }
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
    watches: &[Watch],
) -> Outcome {
    let (db, store) = (client.db, &context.store);
    let keys = written_keys(db, &requests);
    // the others that read, change and write them wait; so few tries are in vain
    let _turns = store.edit_turns(keys.iter()).await;
    for _ in 0..TRIES {
        client.db = db;
        let transaction = Transaction::default();
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut times = Vec::with_capacity(requests.len());
        for request in &requests {
            let began = Instant::now();
            let view = View::within(store, &transaction);
            let outcome = match Command::parse(request.clone()) {
                Ok(command) => apply_one(context, view, client, command).await,
                Err(error) => error.into(),
            };
            outcomes.push(outcome);
            times.push(began.elapsed());
        }
        let began = Instant::now();
        match transaction.commit(store, watches).await {
            Ok(messages) => {
                // values go to nodes at the end, for the last command as it seems
                if let Some(last) = times.last_mut() {
                    *last += began.elapsed();
                }
                for (request, took) in requests.iter().zip(times) {
                    if context.slow_log.takes(took) {
                        context.took(client, context.slow_log.suspect(request), took);
                    }
                }
                return Outcome::Several(announce(context, messages, outcomes));
            }
            Err(Uncommitted::Watched) => {
                client.db = db;
                return Reply::NullArray.into();
            }
            Err(Uncommitted::Write(error)) => {
                client.db = db;
                return Reply::from(error).into();
            }
            Err(Uncommitted::Conflict(uploads)) => give_back(client, uploads),
        }
        drop(outcomes);
        tokio::task::yield_now().await;
    }
    client.db = db;
    let text = "UNAVAILABLE others write to the keys of this transaction all the time; try again";
    Reply::Error(text.into()).into()
}

/// Sends messages; to how many, each.
pub(super) fn send(context: &Context, messages: Vec<Announcement>) -> Vec<usize> {
    let hub = &context.hub;
    let send = |m: Announcement| match m.to_shard {
        false => hub.publish(&m.channel, &m.payload),
        true => hub.publish_to_shard(&m.channel, &m.payload),
    };
    messages.into_iter().map(send).collect()
}

/// Sends messages; the commands that published them get their numbers.
fn announce(
    context: &Context,
    messages: Vec<Announcement>,
    mut outcomes: Vec<Outcome>,
) -> Vec<Outcome> {
    let receivers = send(context, messages);
    for outcome in &mut outcomes {
        if let Outcome::Publish(number) = outcome {
            *number = receivers.get(*number).copied().unwrap_or(0);
        }
    }
    outcomes
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

/// Keys that these requests may change; of the database in which they begin.
fn written_keys(db: u8, requests: &[Vec<Value>]) -> Vec<Key> {
    let keys = |request: &Vec<Value>| {
        let spec = CommandSpec::of(request).ok();
        let spec = spec.filter(|spec| spec.is(flags::WRITE));
        let places = spec.map(|spec| spec.keys.places(request));
        let places = places.into_iter().flatten();
        let key = |i: usize| request.get(i).cloned().map(Value::into_contiguous);
        let keys: Vec<Bytes> = places.filter_map(key).collect();
        keys.into_iter().map(move |bytes| Key { db, bytes })
    };
    requests.iter().flat_map(keys).collect()
}
