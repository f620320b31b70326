//! Values that are changed as a whole: read, changed in memory, written anew under
//! another write id, and named if the key still means what was read.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{Outcome, Scope, WHOLES_KIB, forget_if_lost, pieces};
use crate::{
    command::CommandError,
    keyspace::{Condition, Kind, NewExpiry},
    pubsub::Classes,
    resp::Reply,
    store::{Key, Looked, Lookup, ReadError},
    value::Value,
};

/// Longest wait for room for a large value: others may wait for who waits.
const WAIT: Duration = Duration::from_secs(5);

/// The value before.
#[derive(Clone, Debug)]
pub(super) enum Old {
    /// No such key.
    None,
    /// These bytes, and the room that they take, if they are many.
    Whole(Bytes, Option<Arc<OwnedSemaphorePermit>>),
    /// More bytes than are read for this.
    TooLong,
}

/// What becomes of the value.
#[allow(dead_code, reason = "for the families of commands that come next")]
#[derive(Clone, Debug)]
pub(super) enum New {
    /// It stays as it is.
    Same,
    /// It is these bytes; the expiry stays.
    Bytes(Bytes),
    /// The key is removed.
    Gone,
}

/// What a change comes to.
pub(super) struct Changed {
    pub(super) new: New,
    pub(super) reply: Reply,
    /// Redis's name of what happened; none: nothing did.
    pub(super) event: Option<&'static str>,
}

/// Changes the value of a key, which must be of this kind if there is one. `change`
/// is called again when somebody else was faster.
pub(super) async fn update(
    scope: Scope<'_>,
    key: Key,
    kind: Kind,
    max_bytes: u64,
    mut change: impl FnMut(&Old) -> Result<Changed, CommandError>,
) -> Outcome {
    // one after the other: the loser would have to write its value again
    let _turn = scope.view.edit_turn(&key).await;
    loop {
        let looked = scope.view.look_up_named(key.clone());
        let named = looked.as_ref().map(|looked| looked.write_id);
        let old = match old(scope, looked, kind, max_bytes).await {
            Ok(old) => old,
            Err(Unread::Again) => {
                tokio::task::yield_now().await;
                continue;
            }
            Err(Unread::Refused(reply)) => return reply.into(),
        };
        let Changed { new, reply, event } = match change(&old) {
            Ok(changed) => changed,
            Err(error) => return error.into(),
        };
        let (is_gone, mut is_new) = (matches!(new, New::Gone), false);
        let done = match new {
            New::Same => {
                if event.is_some() {
                    // Redis takes that for a change
                    scope.view.touch(&key);
                }
                true
            }
            New::Gone => named.is_none_or(|id| scope.view.remove_if(&key, id)),
            New::Bytes(bytes) => {
                let written = match scope.view.write(Value::from(bytes)).await {
                    Ok(written) => written.of_kind(kind),
                    Err(error) => return Reply::from(error).into(),
                };
                let (unchanged, keep) = (Condition::Names(named), NewExpiry::Keep);
                let view = scope.view;
                let outcome = view.commit(key.clone(), written, unchanged, keep, false);
                is_new = outcome.is_new;
                outcome.done
            }
        };
        if done {
            if let Some(event) = event {
                scope.notify_written(class_of(kind), event, &key, is_new);
            }
            if is_gone && named.is_some() {
                scope.notify(Classes::GENERIC, "del", &key);
            }
            return reply.into();
        }
        tokio::task::yield_now().await;
    }
}

fn class_of(kind: Kind) -> Classes {
    match kind {
        Kind::String => Classes::STRING,
        Kind::Hash => Classes::HASH,
    }
}

/// The bytes of a value, which must be of this kind if there is one; for commands
/// that only read it.
#[allow(dead_code, reason = "for the families of commands that come next")]
pub(super) async fn whole(
    scope: Scope<'_>,
    key: Key,
    kind: Kind,
    max_bytes: u64,
) -> Result<Old, Reply> {
    loop {
        let looked = scope.view.look_up_named(key.clone());
        if looked.is_none() {
            scope.missed(&key);
        }
        match old(scope, looked, kind, max_bytes).await {
            Ok(old) => return Ok(old),
            Err(Unread::Refused(reply)) => return Err(reply),
            Err(Unread::Again) => tokio::task::yield_now().await,
        }
    }
}

enum Unread {
    /// It was lost: the key means something else now, or nothing.
    Again,
    Refused(Reply),
}

async fn old(
    scope: Scope<'_>,
    looked: Option<Looked>,
    kind: Kind,
    max_bytes: u64,
) -> Result<Old, Unread> {
    let Some(looked) = looked else {
        return Ok(Old::None);
    };
    if looked.kind != kind {
        return Err(Unread::Refused(CommandError::WrongType.into()));
    }
    if looked.lookup.len() > max_bytes {
        return Ok(Old::TooLong);
    }
    let room = room(scope, &looked.lookup).await?;
    match looked.lookup {
        Lookup::Missing => Ok(Old::None),
        Lookup::Here(value) => Ok(Old::Whole(value.into_contiguous(), room)),
        Lookup::There(pinned) => {
            let store = scope.store();
            let (again, key) = (store.again(&pinned), pinned.key().clone());
            match store.read_whole(pinned).await {
                Ok(value) => Ok(Old::Whole(value.into_contiguous(), room)),
                Err(error @ ReadError::Lost { .. }) => {
                    forget_if_lost(store, &again, &error);
                    let now = scope.view.look_up_named(key).map(|l| l.write_id);
                    if now == Some(looked.write_id) {
                        // an absent instance may have it yet
                        let text = format!("UNAVAILABLE {error}; try again");
                        return Err(Unread::Refused(Reply::Error(text.into())));
                    }
                    Err(Unread::Again)
                }
                Err(error) => Err(Unread::Refused(error.into())),
            }
        }
    }
}

/// Room for a value that the hot tier would not keep, when there is some. Whoever has
/// it waits for no other such room.
async fn room(
    scope: Scope<'_>,
    lookup: &Lookup,
) -> Result<Option<Arc<OwnedSemaphorePermit>>, Unread> {
    let Some(pinned) = pieces::pin_of(lookup) else {
        return Ok(None);
    };
    if scope.store().is_small(pinned.object()) {
        return Ok(None);
    }
    let kib = pinned.object().size_bytes().div_ceil(1024);
    let kib = u32::try_from(kib).unwrap_or(u32::MAX).min(WHOLES_KIB);
    let wholes = scope.context.wholes.clone();
    match timeout(WAIT, wholes.acquire_many_owned(kib)).await {
        // never closed
        Ok(room) => Ok(room.ok().map(Arc::new)),
        Err(_) => {
            let text = "UNAVAILABLE too many large values are in memory; try again";
            Err(Unread::Refused(Reply::Error(text.into())))
        }
    }
}
