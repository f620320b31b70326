//! A value that is looked at piece by piece, wherever it is.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::{Outcome, Scope, forget_if_lost};
use crate::{
    resp::Reply,
    store::{Key, Lookup, ObjectReader, Pinned, ReadError, Store},
    value::Value,
};

/// Bytes of a value, in order.
pub(super) enum Pieces {
    Here(Vec<Bytes>),
    There(Box<ObjectReader>),
}

impl Pieces {
    /// These bytes of it, which lie within it.
    pub(super) async fn of(
        store: &Arc<Store>,
        lookup: Lookup,
        bytes: Range<u64>,
    ) -> Result<Self, ReadError> {
        let here = |value: Value| Self::Here(value.slice(bytes.clone()).segments().to_vec());
        Ok(match lookup {
            Lookup::Missing => Self::Here(Vec::new()),
            Lookup::Here(value) => here(value),
            Lookup::There(pinned) if store.is_small(pinned.object()) => {
                here(store.read_whole(pinned).await?)
            }
            Lookup::There(pinned) => Self::There(Box::new(ObjectReader::range(pinned, bytes))),
        })
    }

    /// The next ones; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Bytes>>, ReadError> {
        match self {
            Self::Here(pieces) if pieces.is_empty() => Ok(None),
            Self::Here(pieces) => Ok(Some(std::mem::take(pieces))),
            Self::There(reader) => reader.next_cells().await,
        }
    }
}

/// A lookup once more, for after the first one.
pub(super) fn again(store: &Arc<Store>, lookup: &Lookup) -> Lookup {
    match lookup {
        Lookup::Missing => Lookup::Missing,
        Lookup::Here(value) => Lookup::Here(value.clone()),
        Lookup::There(pinned) => Lookup::There(store.again(pinned)),
    }
}

/// What a client is told when the value could not be read that the key named;
/// `None` if it names something else by now: then that is to be tried.
pub(super) fn unread(
    scope: Scope<'_>,
    key: &Key,
    pinned: Option<&Pinned>,
    error: ReadError,
) -> Option<Outcome> {
    let (ReadError::Lost { .. }, Some(pinned)) = (&error, pinned) else {
        return Some(Reply::from(error).into());
    };
    forget_if_lost(scope.store(), pinned, &error);
    let named = pinned.object().write_id;
    let now = scope.view.look_up_named(key.clone());
    if now.is_none_or(|now| now.write_id != named) {
        return None;
    }
    // an absent instance may have it yet
    let text = format!("UNAVAILABLE {error}; try again");
    Some(Reply::Error(text.into()).into())
}

/// The pin of a lookup, if it has one.
pub(super) fn pin_of(lookup: &Lookup) -> Option<&Pinned> {
    match lookup {
        Lookup::There(pinned) => Some(pinned),
        Lookup::Missing | Lookup::Here(_) => None,
    }
}
