//! GET, SET and their relatives.

use super::{Memory, Outcome, Scope, Stats, ValueReply, key, keys, lcs, numbers, ranges, ready_in};
use crate::{
    clients::Client,
    clock,
    command::{
        CommandError, Expiry, StringCommand,
        strings::{Set, SetAnswer, SetCondition},
    },
    keyspace::{Condition, Kind, NewExpiry},
    pubsub::Classes,
    resp::Reply,
    store::{Key, Looked, Lookup, WriteError, Written},
    value::Value,
};
use futures_util::{StreamExt, TryStreamExt};

/// Values of one MSET on their way to nodes at once.
const AT_ONCE: usize = 32;

pub(super) async fn apply(
    scope: Scope<'_>,
    client: &mut Client,
    command: StringCommand,
) -> Outcome {
    let db = scope.db;
    match command {
        StringCommand::Get { key: k } => match look_up(scope, key(db, &k)) {
            Ok(looked) => Outcome::Lookup(value_of(looked)),
            Err(error) => error.into(),
        },
        StringCommand::MGet { keys } => {
            let keys: Vec<Key> = keys.iter().map(|k| key(db, k)).collect();
            let looked = scope.view.look_up_all(keys.clone()).into_iter();
            // a value of another kind is no string: none
            let value = |(looked, key): (_, &Key)| {
                value_of(counted(scope, key, looked).unwrap_or_default())
            };
            Outcome::Values(looked.zip(&keys).map(value).collect())
        }
        StringCommand::GetDel { key: k } => get_del(scope, key(db, &k)).await,
        StringCommand::GetEx { key: k, expiry } => get_ex(scope, key(db, &k), expiry).await,
        StringCommand::Set(command) => set(scope, client, command).await,
        StringCommand::GetRange { key: k, start, end } => match look_up(scope, key(db, &k)) {
            Ok(looked) => ranges::get_range(scope, value_of(looked), start, end).await,
            Err(error) => error.into(),
        },
        StringCommand::Edit(command) => ranges::edit(scope, command).await,
        StringCommand::Add { key, increment } => numbers::add(scope, &key, increment).await,
        StringCommand::AddFloat { key, increment } => {
            numbers::add_float(scope, &key, increment).await
        }
        StringCommand::Lcs(command) => lcs::lcs(scope, &command).await,
        StringCommand::MSet {
            pairs,
            if_none_exist,
        } => mset(scope, client, pairs, if_none_exist).await,
        StringCommand::StrLen { key: k } => {
            let (k, now) = (key(db, &k), clock::unix_ms());
            let found = scope.view.names(|n| n.get(k.as_ref(), now));
            if found.is_none() {
                scope.missed(&k);
            }
            match found {
                Some(found) if found.object.kind() != Kind::String => {
                    CommandError::WrongType.into()
                }
                found => {
                    let len = found.map_or(0, |f| f.object.size_bytes());
                    Reply::Integer(i64::try_from(len).unwrap_or(i64::MAX)).into()
                }
            }
        }
    }
}

/// A string, or nothing; counted as a hit or a miss.
pub(super) fn look_up(scope: Scope<'_>, key: Key) -> Result<Option<Looked>, CommandError> {
    counted(scope, &key, scope.view.look_up_named(key.clone()))
}

fn counted(
    scope: Scope<'_>,
    key: &Key,
    found: Option<Looked>,
) -> Result<Option<Looked>, CommandError> {
    if found.is_none() {
        scope.missed(key);
    }
    let stats = &scope.context.stats;
    Stats::count(if found.is_some() {
        &stats.hits
    } else {
        &stats.misses
    });
    match found {
        Some(looked) if looked.kind != Kind::String => Err(CommandError::WrongType),
        found => Ok(found),
    }
}

fn value_of(looked: Option<Looked>) -> Lookup {
    looked.map_or(Lookup::Missing, |looked| looked.lookup)
}

/// The value is confirmed first and the key removed then, unless it was written
/// again meanwhile: then the new value is the one to be taken.
async fn get_del(scope: Scope<'_>, key: Key) -> Outcome {
    loop {
        let looked = match look_up(scope, key.clone()) {
            Ok(Some(looked)) => looked,
            Ok(None) => return Reply::Null.into(),
            Err(error) => return error.into(),
        };
        let (value, is_there) = confirmed(scope, looked.lookup).await;
        if !is_there {
            return value;
        }
        if scope.view.remove_if(&key, looked.write_id) {
            scope.notify(Classes::GENERIC, "del", &key);
            return value;
        }
        tokio::task::yield_now().await;
    }
}

/// The expiry goes to the value that is answered, not to a later one.
async fn get_ex(scope: Scope<'_>, key: Key, expiry: Result<Expiry, CommandError>) -> Outcome {
    loop {
        let looked = match look_up(scope, key.clone()) {
            Ok(Some(looked)) => looked,
            Ok(None) => return Reply::Null.into(),
            Err(error) => return error.into(),
        };
        let expiry = match &expiry {
            Ok(expiry) => *expiry,
            Err(error) => return error.clone().into(),
        };
        let (value, is_there) = confirmed(scope, looked.lookup).await;
        if expiry == Expiry::Keep || !is_there {
            return value;
        }
        let now = clock::unix_ms();
        let at = expiry.deadline(now, None);
        if scope.view.expire_if(&key, looked.write_id, at) {
            if at.is_some() || looked.expires_unix_ms.is_some() {
                scope.notify(Classes::GENERIC, keys::expiry_event(at, now), &key);
            }
            return value;
        }
        tokio::task::yield_now().await;
    }
}

/// A value ready to be sent, and whether it could be had. In a transaction it is not
/// kept open: the others must not wait for memory that it has, nor it for theirs.
async fn confirmed(scope: Scope<'_>, lookup: Lookup) -> (Outcome, bool) {
    let again = match &lookup {
        Lookup::There(pinned) if scope.view.transaction().is_some() => {
            Some(scope.store().again(pinned))
        }
        _ => None,
    };
    let memory = match again {
        Some(_) => Memory::Extra,
        None => Memory::Shared,
    };
    let value = ready_in(scope.store(), lookup, memory).await;
    match (is_value(&value), again) {
        (true, Some(pinned)) => (Outcome::Lookup(Lookup::There(pinned)), true),
        (is_there, _) => (Outcome::Value(value), is_there),
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

async fn set(scope: Scope<'_>, client: &mut Client, command: Set) -> Outcome {
    let view = scope.view;
    let Set {
        key: k,
        value,
        condition: when,
        expiry,
        answer,
    } = command;
    let key = key(scope.db, &k);
    // known in advance not to hold: nothing need be written
    let hopeless = if when == SetCondition::Always && answer != SetAnswer::OldValue {
        false
    } else {
        let found = view.names(|names| names.peek(key.as_ref(), clock::unix_ms()));
        let is_string = found
            .as_ref()
            .is_none_or(|f| f.object.kind() == Kind::String);
        if answer == SetAnswer::OldValue && !is_string {
            return CommandError::WrongType.into();
        }
        match when {
            SetCondition::Always => false,
            SetCondition::IfAbsent => found.is_some(),
            SetCondition::IfPresent => found.is_none(),
        }
    };
    if hopeless {
        return match answer {
            SetAnswer::Ok => Reply::Null.into(),
            SetAnswer::Count => Reply::Integer(0).into(),
            SetAnswer::OldValue => match look_up(scope, key) {
                Ok(looked) => Outcome::Lookup(value_of(looked)),
                Err(error) => error.into(),
            },
        };
    }
    let written = match uploaded(client, &value) {
        Some(upload) => upload,
        None => view.write(value).await,
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
    let outcome = view.commit(
        key.clone(),
        written,
        condition(when),
        new_expiry,
        want_previous,
    );
    if want_previous && matches!(outcome.previous, Lookup::Missing) {
        scope.missed(&key);
    }
    if outcome.done {
        scope.notify_written(Classes::STRING, "set", &key, outcome.is_new);
        if let NewExpiry::Set(Some(at)) = new_expiry {
            scope.notify(Classes::GENERIC, "expire", &key);
            if at <= now {
                // it was over at once
                scope.notify(Classes::EXPIRED, "expired", &key);
            }
        }
    }
    match answer {
        SetAnswer::Ok if outcome.done => Reply::OK.into(),
        SetAnswer::Ok => Reply::Null.into(),
        SetAnswer::Count => Reply::Integer(outcome.done.into()).into(),
        SetAnswer::OldValue => {
            let counter = match outcome.previous {
                Lookup::Missing => &scope.context.stats.misses,
                Lookup::Here(_) | Lookup::There(_) => &scope.context.stats.hits,
            };
            Stats::count(counter);
            Outcome::Lookup(outcome.previous)
        }
    }
}

/// The value, if the session sent it to nodes while it arrived.
fn uploaded(client: &mut Client, value: &Value) -> Option<Result<Written, WriteError>> {
    let Value::Uploaded { number, .. } = value else {
        return None;
    };
    let number = *number as usize;
    let slot = client.uploads.get_mut(number);
    let upload = match slot {
        // stays, for when EXEC tries again
        Some(Some(Err(error))) => Err(error.clone()),
        slot => match slot.and_then(Option::take) {
            Some(upload) => upload,
            // its bytes are nowhere: never others in their place
            None => Err(WriteError::Stopping),
        },
    };
    Some(upload.map(|mut written| {
        written.upload = Some(number);
        written
    }))
}

async fn mset(
    scope: Scope<'_>,
    client: &mut Client,
    pairs: Vec<(bytes::Bytes, Value)>,
    if_none_exist: bool,
) -> Outcome {
    let (view, db) = (scope.view, scope.db);
    let now = clock::unix_ms();
    let exists = view.names(|names| {
        let mut keys = pairs.iter();
        if_none_exist && keys.any(|(k, _)| names.peek(key(db, k).as_ref(), now).is_some())
    });
    if exists {
        return Reply::Integer(0).into();
    }
    let write = |(k, value): (bytes::Bytes, Value)| {
        let key = key(db, &k);
        let upload = uploaded(client, &value);
        async move {
            let written = match upload {
                Some(upload) => upload,
                None => view.write_one_of_several(value).await,
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
    // only where somebody wants to know
    let keys: Vec<Key> = match scope.store().events().wants(Classes::STRING | Classes::NEW) {
        true => writes.iter().map(|(key, _)| key.clone()).collect(),
        false => Vec::new(),
    };
    let done = view.commit_all(writes, if_none_exist);
    for (key, is_new) in keys.iter().zip(done.iter().flatten()) {
        scope.notify_written(Classes::STRING, "set", key, *is_new);
    }
    if if_none_exist {
        Reply::Integer(done.is_some().into()).into()
    } else {
        Reply::OK.into()
    }
}
