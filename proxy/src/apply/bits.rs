//! Bits of strings. What is large is read in part or piece by piece, and written
//! anew in bounded memory.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    Outcome, Scope, key, moves,
    pieces::{Pieces, again, pin_of, unread},
    strings::look_up,
};
use crate::{
    command::{BitCommand, CommandError, bits::Fields},
    keyspace::{Condition, Kind, NewExpiry},
    pubsub::Classes,
    resp::Reply,
    store::{Broken, Key, Lookup, Patch, ReadError, Store},
    strings::{
        bitfield::{self, Step},
        bits::{BitRange, Window},
    },
    value::Value,
};

/// Parts of a value that are closer are read as one.
const NEAR_BYTES: u64 = 64 << 10;

pub(super) async fn apply(scope: Scope<'_>, command: BitCommand) -> Outcome {
    match command {
        BitCommand::Fields(fields) => on_fields(scope, &fields).await,
        BitCommand::Count { key: k, range } => {
            let key = key(scope.db, &k);
            look_through(scope, &key, range, Search::Count).await
        }
        BitCommand::Position { key: k, bit, range } => {
            let key = key(scope.db, &k);
            look_through(scope, &key, range, Search::First(bit)).await
        }
        BitCommand::Combine {
            operation,
            to,
            from,
        } => moves::bitop(scope, operation, &to, &from).await,
    }
}

fn number(n: u64) -> Outcome {
    Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX)).into()
}

/// What is looked for in a value.
#[derive(Clone, Copy)]
enum Search {
    /// How many bits are set.
    Count,
    /// The first that is so.
    First(bool),
}

async fn look_through(
    scope: Scope<'_>,
    key: &Key,
    range: Result<BitRange, CommandError>,
    search: Search,
) -> Outcome {
    loop {
        let looked = match look_up(scope, key.clone()) {
            Ok(looked) => looked,
            Err(error) => return error.into(),
        };
        let Some(looked) = looked else {
            return match search {
                Search::First(true) => Reply::Integer(-1).into(),
                Search::Count | Search::First(false) => Reply::Integer(0).into(),
            };
        };
        let range = match &range {
            Ok(range) => *range,
            Err(error) => return error.clone().into(),
        };
        let retry = again(scope.store(), &looked.lookup);
        match search_in(scope.store(), looked.lookup, range, search).await {
            Ok(outcome) => return outcome,
            Err(error) => {
                if let Some(outcome) = unread(scope, key, pin_of(&retry), error) {
                    return outcome;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn search_in(
    store: &Arc<Store>,
    lookup: Lookup,
    range: BitRange,
    search: Search,
) -> Result<Outcome, ReadError> {
    let window = range.of(lookup.len());
    let nothing = match search {
        Search::Count => Reply::Integer(0),
        // behind the end of a value that has no end given are clear bits
        Search::First(false) if range.end.is_none() && !window.is_empty() => {
            Reply::Integer(i64::try_from(window.end()).unwrap_or(i64::MAX))
        }
        Search::First(_) => Reply::Integer(-1),
    };
    if window.is_empty() {
        return Ok(nothing.into());
    }
    let (mut at, mut count) = (window.bytes().start, 0);
    let mut pieces = Pieces::of(store, lookup, window.bytes()).await?;
    while let Some(next) = pieces.next().await? {
        for piece in next {
            match search {
                Search::Count => count += window.count(at, &piece),
                Search::First(bit) => {
                    if let Some(place) = found(&window, bit, at, &piece) {
                        return Ok(place);
                    }
                }
            }
            at += piece.len() as u64;
        }
    }
    Ok(match search {
        Search::Count => number(count),
        Search::First(_) => nothing.into(),
    })
}

fn found(window: &Window, bit: bool, at: u64, piece: &[u8]) -> Option<Outcome> {
    window.find(bit, at, piece).map(number)
}

async fn on_fields(scope: Scope<'_>, fields: &Fields) -> Outcome {
    let key = key(scope.db, &fields.key);
    let longest = scope.context.config.proto_max_bulk_bytes;
    if fields.steps.iter().any(|step| step.offset / 8 >= longest) {
        return CommandError::BitOffset.into();
    }
    // one after the other: the loser would have to write its value again
    let _turn = match fields.steps.iter().any(Step::writes) {
        true => scope.view.edit_turn(&key).await,
        false => None,
    };
    loop {
        match try_fields(scope, &key, fields).await {
            Some(outcome) => return outcome,
            None => tokio::task::yield_now().await,
        }
    }
}

/// `None` if the key came to mean something else meanwhile.
async fn try_fields(scope: Scope<'_>, key: &Key, fields: &Fields) -> Option<Outcome> {
    let (store, view) = (scope.store(), scope.view);
    let (named, old) = match view.look_up_named(key.clone()) {
        Some(looked) if looked.kind != Kind::String => return Some(CommandError::WrongType.into()),
        Some(looked) => (Some(looked.write_id), looked.lookup),
        None => (None, Lookup::Missing),
    };
    if named.is_none() && !fields.steps.iter().any(Step::writes) {
        scope.missed(key);
    }
    let retry = again(store, &old);
    let read = async {
        let old = match old {
            // read once, for looking and for writing
            Lookup::There(pinned) if store.is_small(pinned.object()) => {
                Lookup::Here(store.read_whole(pinned).await?)
            }
            other => other,
        };
        let bytes = Sparse::load(store, &old, &fields.steps).await?;
        Ok((old, bytes))
    };
    let (old, mut bytes) = match read.await {
        Ok(read) => read,
        Err(error) => return unread(scope, key, pin_of(&retry), error),
    };
    let (answers, changed) = bitfield::run(&fields.steps, &mut bytes);
    let answer = || {
        let reply = |n: &Option<i64>| n.map_or(Reply::Null, Reply::Integer);
        match (&answers[..], fields.is_single) {
            ([answer], true) => reply(answer),
            (answers, _) => Reply::Array(answers.iter().map(reply).collect()),
        }
    };
    let writing = fields.steps.iter().filter(|step| step.writes());
    let end = writing.map(|step| step.bytes().end).max().unwrap_or(0);
    if !changed && end <= old.len() {
        return Some(answer().into());
    }
    let patches = bytes.into_patches();
    let written = match store.write_patched(view, old, &patches, end).await {
        Ok(written) => written,
        Err(Broken::Body(error)) => return unread(scope, key, pin_of(&retry), error),
        Err(Broken::Write(error)) => return Some(Reply::from(error).into()),
    };
    let unchanged = Condition::Names(named);
    let outcome = view.commit(key.clone(), written, unchanged, NewExpiry::Keep, false);
    if !outcome.done {
        return None;
    }
    if outcome.is_new {
        scope.notify(Classes::NEW, "new", key);
    }
    // one that is longer now, though nothing could be written to it, is not told
    let mut answered = fields.steps.iter().zip(&answers);
    if changed || answered.any(|(step, answer)| step.writes() && answer.is_some()) {
        scope.notify(Classes::STRING, "setbit", key);
    }
    Some(answer().into())
}

/// Those bytes of a value that are needed, by their places.
#[derive(Default)]
struct Sparse {
    bytes: BTreeMap<u64, u8>,
    changed: BTreeMap<u64, u8>,
}

impl Sparse {
    async fn load(store: &Arc<Store>, value: &Lookup, steps: &[Step]) -> Result<Self, ReadError> {
        let mut sparse = Self::default();
        let len = value.len();
        for step in steps {
            let places = step.bytes();
            let places = places.start..places.end.min(len);
            sparse.bytes.extend(places.map(|at| (at, 0)));
        }
        for part in sparse.parts() {
            let mut at = part.start;
            let mut pieces = Pieces::of(store, again(store, value), part).await?;
            while let Some(next) = pieces.next().await? {
                for piece in next {
                    let end = at + piece.len() as u64;
                    for (place, byte) in sparse.bytes.range_mut(at..end) {
                        *byte = piece[(place - at) as usize];
                    }
                    at = end;
                }
            }
        }
        Ok(sparse)
    }

    /// The parts in which all of them are.
    fn parts(&self) -> Vec<Range<u64>> {
        let mut parts: Vec<Range<u64>> = Vec::new();
        for at in self.bytes.keys().copied() {
            match parts.last_mut() {
                Some(last) if at - last.end < NEAR_BYTES => last.end = at + 1,
                _ => parts.push(at..at + 1),
            }
        }
        parts
    }

    fn into_patches(self) -> Vec<Patch> {
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for (at, byte) in self.changed {
            match runs.last_mut() {
                Some((start, run)) if *start + run.len() as u64 == at => run.push(byte),
                _ => runs.push((at, vec![byte])),
            }
        }
        let patch = |(at, run): (u64, Vec<u8>)| {
            let bytes = Value::from(bytes::Bytes::from(run));
            Patch { at, bytes }
        };
        runs.into_iter().map(patch).collect()
    }
}

impl bitfield::Bytes for Sparse {
    fn byte(&self, at: u64) -> u8 {
        let byte = self.changed.get(&at).or_else(|| self.bytes.get(&at));
        byte.copied().unwrap_or(0)
    }

    fn set_byte(&mut self, at: u64, byte: u8) {
        self.changed.insert(at, byte);
    }
}
