//! LCS. Its table is bounded as Redis bounds it, but takes a 32nd of the memory:
//! one at a time, so that it is a bound for all.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Outcome, Scope, key,
    pieces::{again, pin_of, unread},
};
use crate::{
    command::{
        CommandError,
        lcs::{Lcs, LcsAnswer},
    },
    keyspace::Kind,
    resp::Reply,
    store::{Looked, Lookup, ReadError, Store},
    strings::lcs::{Match, Table, cells},
    value::Value,
};

/// What Redis takes for each cell of its table.
const CELL_BYTES: u64 = 4;
/// Its table is no larger than the longest value by default; ours never is.
const MOST_TABLE_BYTES: u64 = 512 << 20;
/// The longer value.
const MOST_BYTES: u64 = 8 << 20;
/// Cells that are filled before others have their turn.
const CELLS_AT_ONCE: usize = 1 << 20;

pub(super) async fn lcs(scope: Scope<'_>, command: &Lcs) -> Outcome {
    // never closed
    let _turn = scope.context.tables.acquire().await;
    loop {
        match try_lcs(scope, command).await {
            Some(outcome) => return outcome,
            None => tokio::task::yield_now().await,
        }
    }
}

/// `None` if a key came to mean something else meanwhile.
async fn try_lcs(scope: Scope<'_>, command: &Lcs) -> Option<Outcome> {
    let keys = command.keys.each_ref().map(|k| key(scope.db, k));
    let looked = scope.view.look_up_all(keys.to_vec());
    let missed = keys.iter().zip(&looked).filter(|(_, l)| l.is_none());
    missed.for_each(|(key, _)| scope.missed(key));
    let is_other = |looked: &Option<Looked>| {
        let kind = looked.as_ref().map(|looked| looked.kind);
        kind.is_some_and(|kind| kind != Kind::String)
    };
    if looked.iter().any(is_other) {
        return Some(CommandError::LcsKind.into());
    }
    let answer = match &command.answer {
        Ok(answer) => *answer,
        Err(error) => return Some(error.clone().into()),
    };
    let lookup = |looked: Option<Looked>| looked.map_or(Lookup::Missing, |l| l.lookup);
    let lookups: Vec<Lookup> = looked.into_iter().map(lookup).collect();
    let [a, b] = [0, 1].map(|i| lookups.get(i).map_or(0, Lookup::len));
    let most = scope
        .context
        .config
        .proto_max_bulk_bytes
        .min(MOST_TABLE_BYTES);
    if cells(a, b).saturating_mul(CELL_BYTES) > most || a.max(b) > MOST_BYTES {
        return Some(CommandError::LcsTooLong.into());
    }
    let mut values = Vec::new();
    for (key, lookup) in keys.iter().zip(lookups) {
        let retry = again(scope.store(), &lookup);
        match read(scope.store(), lookup).await {
            Ok(value) => values.push(value),
            Err(error) => return unread(scope, key, pin_of(&retry), error),
        }
    }
    let [a, b] = [0, 1].map(|i| values.get(i).cloned().unwrap_or_default());
    let rows = CELLS_AT_ONCE / b.len().max(1) + 1;
    let mut table = Table::new(a, b, answer != LcsAnswer::Length);
    while table.fill(rows) {
        tokio::task::yield_now().await;
    }
    Some(reply(&table, answer).into())
}

async fn read(store: &Arc<Store>, lookup: Lookup) -> Result<Bytes, ReadError> {
    Ok(match lookup {
        Lookup::Missing => Bytes::new(),
        Lookup::Here(value) => value.into_contiguous(),
        Lookup::There(pinned) => store.read_whole(pinned).await?.into_contiguous(),
    })
}

fn count(n: usize) -> Reply {
    Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

fn reply(table: &Table, answer: LcsAnswer) -> Reply {
    let (least, with_lengths) = match answer {
        LcsAnswer::Length => return count(table.len()),
        LcsAnswer::Bytes => return Reply::Bulk(Value::from(Bytes::from(table.subsequence()))),
        LcsAnswer::Matches {
            least,
            with_lengths,
        } => (least, with_lengths),
    };
    let describe = |m: &Match| {
        let place = |start: usize| Reply::Array(vec![count(start), count(start + m.len - 1)]);
        let mut parts: Vec<Reply> = m.start.map(place).into();
        parts.extend(with_lengths.then(|| count(m.len)));
        Reply::Array(parts)
    };
    let matches = table.matches();
    let long = matches.iter().filter(|m| m.len as u64 >= least);
    Reply::Map(vec![
        (
            Reply::Bulk("matches".into()),
            Reply::Array(long.map(describe).collect()),
        ),
        (Reply::Bulk("len".into()), count(table.len())),
    ])
}
