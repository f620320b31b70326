//! GETRANGE, SETRANGE and APPEND. The first touches only the cells that it
//! needs; the others write the value anew, in bounded memory.

use std::{ops::Range, sync::Arc};

use super::{Memory, Outcome, Scope, ValueReply, key, stream};
use crate::{
    command::{
        CommandError,
        strings::{Edit, Place},
    },
    keyspace::{Condition, Kind, NewExpiry},
    pubsub::Classes,
    resp::Reply,
    store::{Broken, Key, Lookup, Patch, Pinned, ReadError, Store},
    value::Value,
};

/// The bytes that GETRANGE means, of a value of `len` bytes; as Redis counts.
fn bytes_of(start: i64, end: i64, len: u64) -> Range<u64> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let absolute = |place: i64| {
        if place < 0 {
            (len + place).max(0)
        } else {
            place
        }
    };
    let (start, end) = (absolute(start), absolute(end).min(len - 1));
    if start > end || len == 0 {
        return 0..0;
    }
    // neither is negative
    start as u64..end as u64 + 1
}

pub(super) async fn get_range(scope: Scope<'_>, lookup: Lookup, start: i64, end: i64) -> Outcome {
    let store = scope.store();
    let value = match lookup {
        Lookup::Missing => Value::Empty,
        Lookup::Here(value) => value,
        Lookup::There(pinned) if store.is_small(pinned.object()) => {
            let again = store.again(&pinned);
            match store.read_whole(pinned).await {
                Ok(value) => value,
                Err(error) => {
                    super::forget_if_lost(store, &again, &error);
                    return nothing_or(error).into();
                }
            }
        }
        Lookup::There(pinned) => {
            let bytes = bytes_of(start, end, pinned.object().size_bytes());
            if bytes.is_empty() {
                return Reply::Bulk(Value::Empty).into();
            }
            return Outcome::Range(pinned, bytes);
        }
    };
    let bytes = bytes_of(start, end, value.len());
    Reply::Bulk(value.slice(bytes)).into()
}

/// Makes these bytes of a value ready to be sent.
pub(super) async fn range_in(
    store: &Arc<Store>,
    pinned: Pinned,
    bytes: Range<u64>,
    memory: Memory,
) -> ValueReply {
    match stream(store, pinned, bytes, memory).await {
        Ok(value) => value,
        Err(error) => ValueReply::Whole(nothing_or(error)),
    }
}

/// Of a value that is lost there are no bytes.
fn nothing_or(error: ReadError) -> Reply {
    match error {
        ReadError::Lost { .. } => Reply::Bulk(Value::Empty),
        error => error.into(),
    }
}

pub(super) async fn edit(scope: Scope<'_>, command: Edit) -> Outcome {
    let Edit {
        key: k,
        place,
        value,
    } = command;
    let key = key(scope.db, &k);
    // one after the other: the loser would have to write its value again
    let _turn = scope.view.edit_turn(&key).await;
    loop {
        match try_edit(scope, &key, place, &value).await {
            Some(outcome) => return outcome,
            None => tokio::task::yield_now().await,
        }
    }
}

/// `None` if the key came to mean something else meanwhile.
async fn try_edit(scope: Scope<'_>, key: &Key, place: Place, value: &Value) -> Option<Outcome> {
    let (store, view) = (scope.store(), scope.view);
    let integer = |n: u64| Some(Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX)).into());
    let (named, old) = match view.look_up_named(key.clone()) {
        Some(looked) if looked.kind != Kind::String => return Some(CommandError::WrongType.into()),
        Some(looked) => (Some(looked.write_id), looked.lookup),
        None => (None, Lookup::Missing),
    };
    let old_bytes = old.len();
    if value.is_empty() && (named.is_some() || place != Place::End) {
        if place == Place::End {
            // Redis takes that for a change
            view.touch(key);
            scope.notify(Classes::STRING, "append", key);
        }
        return integer(old_bytes);
    }
    let at = match place {
        Place::End => old_bytes,
        Place::At(at) => at,
    };
    let patch = Patch {
        at,
        bytes: value.clone(),
    };
    let new_bytes = old_bytes.max(patch.end());
    if new_bytes > scope.context.config.proto_max_bulk_bytes {
        let text = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        return Some(Reply::Error(text.into()).into());
    }
    let again = match &old {
        Lookup::There(pinned) => Some(store.again(pinned)),
        Lookup::Missing | Lookup::Here(_) => None,
    };
    let written = store.write_patched(view, old, &[patch], 0).await;
    let written = match (written, again) {
        (Ok(written), _) => written,
        (Err(Broken::Body(error @ ReadError::Lost { .. })), Some(pinned)) => {
            super::forget_if_lost(store, &pinned, &error);
            let text = format!("UNAVAILABLE {error}; try again");
            // if the key went with it, it is edited like one that never was
            let gone = view.look_up_named(key.clone()).map(|l| l.write_id) != named;
            return (!gone).then(|| Reply::Error(text.into()).into());
        }
        (Err(Broken::Body(error)), _) => return Some(Reply::from(error).into()),
        (Err(Broken::Write(error)), _) => return Some(Reply::from(error).into()),
    };
    let unchanged = Condition::Names(named);
    let outcome = view.commit(key.clone(), written, unchanged, NewExpiry::Keep, false);
    if outcome.done {
        let event = match place {
            Place::End => "append",
            Place::At(_) => "setrange",
        };
        scope.notify_written(Classes::STRING, event, key, outcome.is_new);
        return integer(new_bytes);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::bytes_of;

    #[test]
    fn places_count_from_either_end() {
        assert_eq!(bytes_of(0, -1, 10), 0..10);
        assert_eq!(bytes_of(-3, -1, 10), 7..10);
        assert_eq!(bytes_of(2, 4, 10), 2..5);
        assert_eq!(bytes_of(-100, 2, 10), 0..3);
        assert_eq!(bytes_of(5, 100, 10), 5..10);
        for (start, end) in [(5, 4), (-1, -3), (10, 20), (i64::MAX, i64::MAX)] {
            assert!(bytes_of(start, end, 10).is_empty(), "{start} {end}");
        }
        // as Redis: what lies before the start means the first byte
        assert_eq!(bytes_of(-100, -50, 10), 0..1);
        assert_eq!(bytes_of(i64::MIN, i64::MIN, 10), 0..1);
        assert!(bytes_of(0, -1, 0).is_empty());
    }
}
