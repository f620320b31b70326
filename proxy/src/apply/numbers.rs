//! INCR and its relatives.

use bytes::Bytes;

use super::{
    Outcome, Scope, key,
    update::{Changed, New, Old, update},
};
use crate::{
    command::CommandError,
    keyspace::Kind,
    resp::{Reply, number::parse_i64},
    strings::extended::Extended,
    value::Value,
};

/// Redis reads no longer numbers.
const MAX_FLOAT_BYTES: u64 = 5 * 1024 - 1;
/// A number has no more digits, its sign included.
const MAX_DIGITS: u64 = 20;

/// Adds to a number; there is none is zero.
pub(super) async fn add(scope: Scope<'_>, k: &Bytes, increment: i64) -> Outcome {
    let change = |old: &Old| {
        let old = match old {
            Old::None => 0,
            Old::Whole(digits, _) => parse_i64(digits).ok_or(CommandError::NotAnInteger)?,
            Old::TooLong => return Err(CommandError::NotAnInteger),
        };
        let sum = old.checked_add(increment).ok_or(CommandError::Overflow)?;
        Ok(Changed {
            new: New::Bytes(sum.to_string().into()),
            reply: Reply::Integer(sum),
            event: Some("incrby"),
        })
    };
    update(scope, key(scope.db, k), Kind::String, MAX_DIGITS, change).await
}

/// Adds to a number that need not be whole; there is none is zero.
pub(super) async fn add_float(
    scope: Scope<'_>,
    k: &Bytes,
    increment: Result<Extended, CommandError>,
) -> Outcome {
    let change = |old: &Old| {
        let old = match old {
            Old::None => b"0",
            Old::Whole(digits, _) => &digits[..],
            Old::TooLong => return Err(CommandError::NotAFloat),
        };
        let old = Extended::parse(old).ok_or(CommandError::NotAFloat)?;
        let sum = old.plus(increment.clone()?);
        let text = sum.ok_or(CommandError::NotFinite)?.to_string();
        let text = Bytes::from(text);
        let reply = Reply::Bulk(Value::from(text.clone()));
        Ok(Changed {
            new: New::Bytes(text),
            reply,
            event: Some("incrbyfloat"),
        })
    };
    let key = key(scope.db, k);
    update(scope, key, Kind::String, MAX_FLOAT_BYTES, change).await
}
