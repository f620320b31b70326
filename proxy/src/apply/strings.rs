//! GET, SET and their relatives.

use futures_util::{StreamExt, TryStreamExt};
use scatterhoard_wire::WriteId;

use super::{Context, Outcome, Stats, ValueReply, key, ranges, ready};
use crate::{
    clients::Client,
    clock,
    command::{
        CommandError, Expiry, StringCommand,
        strings::{Set, SetAnswer, SetCondition},
    },
    keyspace::{Condition, NewExpiry},
    resp::Reply,
    store::{Key, Lookup, WriteError, Written},
    value::Value,
};

/// Values of one MSET on their way to nodes at once.
const AT_ONCE: usize = 32;

pub(super) async fn apply(
    context: &Context,
    client: &mut Client,
    command: StringCommand,
) -> Outcome {
    let db = client.db;
    match command {
        StringCommand::Get { key: k } => {
            let lookup = look_up(context, key(db, &k));
            Outcome::Value(ready(&context.store, lookup).await)
        }
        StringCommand::MGet { keys } => {
            Outcome::Values(keys.iter().map(|k| look_up(context, key(db, k))).collect())
        }
        StringCommand::GetDel { key: k } => get_del(context, key(db, &k)).await,
        StringCommand::GetEx { key: k, expiry } => get_ex(context, key(db, &k), expiry).await,
        StringCommand::Set(command) => set(context, client, command).await,
        StringCommand::GetRange { key: k, start, end } => {
            let lookup = look_up(context, key(db, &k));
            ranges::get_range(context, lookup, start, end).await
        }
        StringCommand::Edit(command) => ranges::edit(context, db, command).await,
        StringCommand::MSet {
            pairs,
            if_none_exist,
        } => mset(context, client, pairs, if_none_exist).await,
        StringCommand::StrLen { key: k } => {
            let found = context
                .store
                .index()
                .get(key(db, &k).as_ref(), clock::unix_ms());
            let len = found.map_or(0, |f| f.object.size_bytes());
            Reply::Integer(i64::try_from(len).unwrap_or(i64::MAX)).into()
        }
    }
}

fn look_up(context: &Context, key: Key) -> Lookup {
    look_up_named(context, key).map_or(Lookup::Missing, |(_, lookup)| lookup)
}

fn look_up_named(context: &Context, key: Key) -> Option<(WriteId, Lookup)> {
    let found = context.store.look_up_named(key);
    let stats = &context.stats;
    Stats::count(if found.is_some() {
        &stats.hits
    } else {
        &stats.misses
    });
    found
}

/// The value is confirmed first and the key removed then, unless it was written
/// again meanwhile: then the new value is the one to be taken.
async fn get_del(context: &Context, key: Key) -> Outcome {
    let store = &context.store;
    loop {
        let Some((write_id, lookup)) = look_up_named(context, key.clone()) else {
            return Reply::Null.into();
        };
        let value = ready(store, lookup).await;
        if !is_value(&value) || store.remove_if(&key, write_id) {
            return Outcome::Value(value);
        }
        tokio::task::yield_now().await;
    }
}

/// The expiry goes to the value that is answered, not to a later one.
async fn get_ex(context: &Context, key: Key, expiry: Result<Expiry, CommandError>) -> Outcome {
    let store = &context.store;
    loop {
        let Some((write_id, lookup)) = look_up_named(context, key.clone()) else {
            return Reply::Null.into();
        };
        let expiry = match &expiry {
            Ok(expiry) => *expiry,
            Err(error) => return error.clone().into(),
        };
        let value = ready(store, lookup).await;
        if expiry == Expiry::Keep || !is_value(&value) {
            return Outcome::Value(value);
        }
        if store.expire_if(&key, write_id, expiry.deadline(clock::unix_ms(), None)) {
            return Outcome::Value(value);
        }
        tokio::task::yield_now().await;
    }
}

fn is_value(value: &ValueReply) -> bool {
    !matches!(value, ValueReply::Whole(Reply::Error(_) | Reply::Null))
}

fn condition(condition: SetCondition) -> Condition {
    match condition {
        SetCondition::Always => Condition::Always,
        SetCondition::IfAbsent => Condition::Absent,
        SetCondition::IfPresent => Condition::Present,
    }
}

async fn set(context: &Context, client: &mut Client, command: Set) -> Outcome {
    let store = &context.store;
    let Set {
        key: k,
        value,
        condition: when,
        expiry,
        answer,
    } = command;
    let key = key(client.db, &k);
    // known in advance not to hold: nothing need be written
    let present = store.index().peek(key.as_ref(), clock::unix_ms()).is_some();
    let hopeless = match when {
        SetCondition::Always => false,
        SetCondition::IfAbsent => present,
        SetCondition::IfPresent => !present,
    };
    if hopeless {
        return match answer {
            SetAnswer::Ok => Reply::Null.into(),
            SetAnswer::Count => Reply::Integer(0).into(),
            SetAnswer::OldValue => Outcome::Value(ready(store, look_up(context, key)).await),
        };
    }
    let written = match uploaded(client, &value) {
        Some(upload) => upload,
        None => store.write(value).await,
    };
    let written = match written {
        Ok(written) => written,
        Err(error) => {
            tracing::warn!(%error, "write failed");
            metrics::counter!("scatterhoard_write_errors_total").increment(1);
            return Reply::from(error).into();
        }
    };
    let now = clock::unix_ms();
    let new_expiry = match expiry {
        Expiry::Keep => NewExpiry::Keep,
        other => NewExpiry::Set(other.deadline(now, None)),
    };
    let want_previous = answer == SetAnswer::OldValue;
    let outcome = store.commit(key, written, condition(when), new_expiry, want_previous);
    match answer {
        SetAnswer::Ok if outcome.done => Reply::OK.into(),
        SetAnswer::Ok => Reply::Null.into(),
        SetAnswer::Count => Reply::Integer(outcome.done.into()).into(),
        SetAnswer::OldValue => {
            let counter = match outcome.previous {
                Lookup::Missing => &context.stats.misses,
                Lookup::Here(_) | Lookup::There(_) => &context.stats.hits,
            };
            Stats::count(counter);
            Outcome::Value(ready(store, outcome.previous).await)
        }
    }
}

/// The value, if the session sent it to nodes while it arrived.
fn uploaded(client: &mut Client, value: &Value) -> Option<Result<Written, WriteError>> {
    match value {
        Value::Uploaded { number, .. } => client.uploads.get_mut(*number)?.take(),
        _ => None,
    }
}

async fn mset(
    context: &Context,
    client: &mut Client,
    pairs: Vec<(bytes::Bytes, Value)>,
    if_none_exist: bool,
) -> Outcome {
    let (store, db) = (&context.store, client.db);
    let now = clock::unix_ms();
    let exists = |k: &bytes::Bytes| store.index().peek(key(db, k).as_ref(), now).is_some();
    if if_none_exist && pairs.iter().any(|(k, _)| exists(k)) {
        return Reply::Integer(0).into();
    }
    let write = |(k, value): (bytes::Bytes, Value)| {
        let (store, key) = (store.clone(), key(db, &k));
        let upload = uploaded(client, &value);
        async move {
            let written = match upload {
                Some(upload) => upload,
                None => store.write_through(value).await,
            };
            written.map(|written| (key, written))
        }
    };
    let writes = futures_util::stream::iter(pairs.into_iter().map(write)).buffered(AT_ONCE);
    let writes: Vec<_> = match writes.try_collect().await {
        Ok(writes) => writes,
        // what was written so far is garbage as it is dropped
        Err(error) => return Reply::from(error).into(),
    };
    let done = store.commit_all(writes, if_none_exist);
    if if_none_exist {
        Reply::Integer(done.into()).into()
    } else {
        Reply::OK.into()
    }
}
