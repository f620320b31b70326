//! RENAME, COPY and BITOP. A renamed value stays where it is on nodes; what is copied
//! or combined is written anew, in bounded memory.

use bytes::Bytes;

use super::{Outcome, Scope, attempts::Attempts, forget_if_lost, key, pieces};
use crate::{
    clock,
    command::CommandError,
    keyspace::{Condition, Kind, NewExpiry},
    pubsub::Classes,
    resp::Reply,
    store::{Broken, BrokenSource, Key, Looked, Lookup, ReadError, Transaction, Uncommitted, View},
    strings::bits::Operation,
};

/// What is read from some keys and written to another, all at one moment.
enum Move<'a> {
    Rename {
        from: &'a Key,
        to: &'a Key,
        if_absent: bool,
    },
    Copy {
        from: &'a Key,
        to: &'a Key,
        replace: bool,
    },
    Combine {
        operation: Operation,
        to: &'a Key,
        from: &'a [Key],
    },
}

impl<'a> Move<'a> {
    fn keys(&self) -> Vec<&'a Key> {
        match *self {
            Self::Rename { from, to, .. } => vec![from, to],
            Self::Copy { from, to, .. } => vec![from, to],
            Self::Combine { to, from, .. } => from.iter().chain([to]).collect(),
        }
    }

    async fn carry_out(&self, scope: Scope<'_>) -> Outcome {
        match *self {
            Self::Rename {
                from,
                to,
                if_absent,
            } => rename_in(scope, from, to, if_absent),
            Self::Copy { from, to, replace } => match copy_to(scope, from, to, replace).await {
                Ok(done) => {
                    if done {
                        scope.notify_written(Classes::GENERIC, "copy_to", to, true);
                    }
                    Reply::Integer(done.into()).into()
                }
                Err(refusal) => refusal.into(),
            },
            Self::Combine {
                operation,
                to,
                from,
            } => combine(scope, operation, to, from).await,
        }
    }

    /// In a transaction of its own, if it is in none.
    async fn as_one(&self, scope: Scope<'_>) -> Outcome {
        if scope.view.transaction().is_some() {
            return self.carry_out(scope).await;
        }
        let store = scope.store();
        let _turns = store.edit_turns(self.keys().into_iter()).await;
        let mut attempts = Attempts::new(store);
        loop {
            if let Err(refusal) = attempts.next().await {
                return refusal.into();
            }
            let transaction = Transaction::default();
            let view = View::within(store, &transaction);
            let outcome = self.carry_out(Scope { view, ..scope }).await;
            let announce = |messages| super::multi::send(scope.context, messages);
            match transaction.commit(store, [].iter(), announce).await {
                Ok(_) => return outcome,
                Err(Uncommitted::Write(error)) => return Reply::from(error).into(),
                Err(Uncommitted::Conflict(_) | Uncommitted::Watched) => {}
            }
        }
    }
}

pub(super) async fn rename(scope: Scope<'_>, from: &Bytes, to: &Bytes, if_absent: bool) -> Outcome {
    let (from, to) = (&key(scope.db, from), &key(scope.db, to));
    let rename = Move::Rename {
        from,
        to,
        if_absent,
    };
    rename.as_one(scope).await
}

pub(super) async fn bitop(
    scope: Scope<'_>,
    operation: Operation,
    to: &Bytes,
    from: &[Bytes],
) -> Outcome {
    let to = &key(scope.db, to);
    let from: Vec<Key> = from.iter().map(|k| key(scope.db, k)).collect();
    let from = &from;
    let combine = Move::Combine {
        operation,
        to,
        from,
    };
    combine.as_one(scope).await
}

/// The reply is the length of what is stored.
async fn combine(scope: Scope<'_>, operation: Operation, to: &Key, from: &[Key]) -> Outcome {
    let (store, view) = (scope.store(), scope.view);
    loop {
        let looked = view.look_up_all(from.to_vec());
        for (key, looked) in from.iter().zip(&looked) {
            match looked {
                None => scope.missed(key),
                Some(looked) if looked.kind != Kind::String => break,
                Some(_) => {}
            }
        }
        let mut kinds = looked.iter().flatten().map(|looked| looked.kind);
        if kinds.any(|kind| kind != Kind::String) {
            return CommandError::WrongType.into();
        }
        let lookup = |looked: Option<Looked>| looked.map_or(Lookup::Missing, |l| l.lookup);
        let values: Vec<Lookup> = looked.into_iter().map(lookup).collect();
        let longest = values.iter().map(Lookup::len).max().unwrap_or(0);
        if longest == 0 {
            if view.names(|names| names.remove(to.as_ref(), clock::unix_ms())) {
                scope.notify(Classes::GENERIC, "del", to);
            }
            return Reply::Integer(0).into();
        }
        let retry: Vec<Lookup> = values.iter().map(|v| pieces::again(store, v)).collect();
        let written = match store.write_combined(view, operation, values).await {
            Ok(written) => written,
            Err(Broken::Write(error)) => return Reply::from(error).into(),
            Err(Broken::Body(BrokenSource { source, error })) => {
                let (Some(key), Some(value)) = (from.get(source), retry.get(source)) else {
                    return Reply::from(error).into();
                };
                match pieces::unread(scope, key, pieces::pin_of(value), error) {
                    Some(outcome) => return outcome,
                    None => continue,
                }
            }
        };
        let (always, never) = (Condition::Always, NewExpiry::Set(None));
        let done = view.commit(to.clone(), written, always, never, false);
        scope.notify_written(Classes::STRING, "set", to, done.is_new);
        return Reply::Integer(i64::try_from(longest).unwrap_or(i64::MAX)).into();
    }
}

fn rename_in(scope: Scope<'_>, from: &Key, to: &Key, if_absent: bool) -> Outcome {
    let now = clock::unix_ms();
    let found = scope.view.names(|names| {
        if names.peek(from.as_ref(), now).is_none() {
            return Found::Nothing;
        }
        if if_absent && names.peek(to.as_ref(), now).is_some() {
            return Found::Taken;
        }
        if from != to {
            names.rename(from.as_ref(), to.as_ref(), now);
        }
        Found::Value
    });
    match found {
        Found::Nothing => return CommandError::NoSuchKey.into(),
        Found::Taken => return Reply::Integer(0).into(),
        Found::Value => {}
    }
    if from != to {
        // what had the name before is gone without a word
        scope.notify(Classes::NEW, "new", to);
        scope.notify(Classes::GENERIC, "rename_from", from);
        scope.notify(Classes::GENERIC, "rename_to", to);
    }
    match if_absent {
        true => Reply::Integer(1).into(),
        false => Reply::OK.into(),
    }
}

/// What is in the way of a RENAME.
enum Found {
    /// There is no such key.
    Nothing,
    /// The new name must be free, and is not.
    Taken,
    /// Nothing.
    Value,
}

pub(super) async fn copy(
    scope: Scope<'_>,
    from: &Bytes,
    to: &Bytes,
    db: Option<u8>,
    replace: bool,
) -> Outcome {
    let (from, to) = (&key(scope.db, from), &key(db.unwrap_or(scope.db), to));
    if from == to {
        return CommandError::SameObject.into();
    }
    Move::Copy { from, to, replace }.as_one(scope).await
}

/// Whether it was copied; not if there is nothing to copy, or the other key is
/// there and stays.
async fn copy_to(scope: Scope<'_>, from: &Key, to: &Key, replace: bool) -> Result<bool, Reply> {
    let view = scope.view;
    loop {
        let Some(looked) = view.look_up_named(from.clone()) else {
            scope.missed(from);
            return Ok(false);
        };
        let now = clock::unix_ms();
        if !replace && view.names(|names| names.peek(to.as_ref(), now).is_some()) {
            return Ok(false);
        }
        let Looked {
            kind,
            expires_unix_ms,
            lookup,
            write_id,
        } = looked;
        let again = match &lookup {
            Lookup::There(pinned) => Some(view.again(pinned)),
            Lookup::Missing | Lookup::Here(_) => None,
        };
        let written = match view.write_again(lookup).await {
            Ok(written) => written.of_kind(kind),
            Err(Broken::Write(error)) => return Err(error.into()),
            Err(Broken::Body(error)) => {
                if let (ReadError::Lost { .. }, Some(pinned)) = (&error, again) {
                    forget_if_lost(scope.store(), &pinned, &error);
                    let now = view.look_up_named(from.clone());
                    // written anew meanwhile, or gone: that is copied
                    if now.is_none_or(|now| now.write_id != write_id) {
                        continue;
                    }
                    let text = format!("UNAVAILABLE {error}; try again");
                    return Err(Reply::Error(text.into()));
                }
                return Err(error.into());
            }
        };
        let condition = match replace {
            true => Condition::Always,
            false => Condition::Absent,
        };
        let expiry = NewExpiry::Set(expires_unix_ms);
        let done = view.commit(to.clone(), written, condition, expiry, false);
        return Ok(done.done);
    }
}
