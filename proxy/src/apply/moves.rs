//! RENAME and COPY. A renamed value stays where it is on nodes; a copied one is
//! written anew, in bounded memory.

use bytes::Bytes;

use super::{Outcome, Scope, forget_if_lost, key};
use crate::{
    clock,
    command::CommandError,
    keyspace::{Condition, NewExpiry},
    resp::Reply,
    store::{Broken, Key, Looked, Lookup, ReadError, Transaction, Uncommitted, View},
};

pub(super) async fn rename(scope: Scope<'_>, from: &Bytes, to: &Bytes, if_absent: bool) -> Outcome {
    let (from, to) = (key(scope.db, from), key(scope.db, to));
    if scope.view.transaction().is_some() {
        return rename_in(scope, &from, &to, if_absent).await;
    }
    let store = scope.store();
    let _turns = store.edit_turns([&from, &to].into_iter()).await;
    loop {
        let transaction = Transaction::default();
        let within = Scope {
            view: View::within(store, &transaction),
            ..scope
        };
        let outcome = rename_in(within, &from, &to, if_absent).await;
        match transaction.commit(store).await {
            Ok(_) => return outcome,
            Err(Uncommitted::Write(error)) => return Reply::from(error).into(),
            Err(Uncommitted::Conflict(_)) => tokio::task::yield_now().await,
        }
    }
}

async fn rename_in(scope: Scope<'_>, from: &Key, to: &Key, if_absent: bool) -> Outcome {
    let (view, now) = (scope.view, clock::unix_ms());
    let (found, taken) = view.names(|names| {
        let found = names.peek(from.as_ref(), now);
        (found, names.peek(to.as_ref(), now).is_some())
    });
    let done = || match if_absent {
        true => Reply::Integer(1).into(),
        false => Reply::OK.into(),
    };
    let Some(found) = found else {
        return CommandError::NoSuchKey.into();
    };
    if if_absent && taken {
        return Reply::Integer(0).into();
    }
    if from == to {
        return done();
    }
    // who writes it to nodes will look for it under its key
    if view.is_dirty(found.object.write_id) {
        return match copy_to(scope, from, to, true).await {
            Ok(_) => {
                view.names(|names| names.remove(from.as_ref(), now));
                done()
            }
            Err(refusal) => refusal.into(),
        };
    }
    view.names(|names| names.rename(from.as_ref(), to.as_ref(), now));
    done()
}

pub(super) async fn copy(
    scope: Scope<'_>,
    from: &Bytes,
    to: &Bytes,
    db: Option<u8>,
    replace: bool,
) -> Outcome {
    let (from, to) = (key(scope.db, from), key(db.unwrap_or(scope.db), to));
    if from == to {
        return CommandError::SameObject.into();
    }
    match copy_to(scope, &from, &to, replace).await {
        Ok(done) => Reply::Integer(done.into()).into(),
        Err(refusal) => refusal.into(),
    }
}

/// Whether it was copied; not if there is nothing to copy, or the other key is
/// there and stays.
async fn copy_to(scope: Scope<'_>, from: &Key, to: &Key, replace: bool) -> Result<bool, Reply> {
    let view = scope.view;
    loop {
        let Some(looked) = view.look_up_named(from.clone()) else {
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
