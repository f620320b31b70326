//! Commands about keys. Those here touch no node; see `moves`.

use super::{Outcome, Scope, key, moves};
use crate::{
    clock,
    command::{
        CommandError, KeyCommand, glob,
        keys::{Scan, TtlQuery},
    },
    keyspace::{Found, Names, Object},
    pubsub::{Classes, KeyEvents},
    resp::Reply,
    store::Key,
    value::Value,
};

/// Most slots that one SCAN looks at, however many it is asked for: the index is
/// locked meanwhile.
const MAX_COUNT: u64 = 100_000;

pub(super) async fn apply(scope: Scope<'_>, command: KeyCommand) -> Outcome {
    let now = clock::unix_ms();
    match command {
        KeyCommand::Rename {
            from,
            to,
            if_absent,
        } => moves::rename(scope, &from, &to, if_absent).await,
        KeyCommand::Copy { db: Some(db), .. }
            if db != 0 && scope.context.config.cluster.is_some() =>
        {
            CommandError::NotInCluster("Copying to another database").into()
        }
        KeyCommand::Copy {
            from,
            to,
            db,
            replace,
        } => moves::copy(scope, &from, &to, db, replace).await,
        command => {
            let mut events = Events {
                wanted: scope.store().events(),
                all: Vec::new(),
            };
            let on_names =
                |names: &mut dyn Names| on_names(names, scope.db, now, command, &mut events);
            let reply = scope.view.names(on_names);
            for (class, name, key) in events.all {
                scope.notify(class, name, &key);
            }
            reply.into()
        }
    }
}

/// What happened to keys, to be told when the index is unlocked.
struct Events<'a> {
    wanted: &'a KeyEvents,
    all: Vec<(Classes, &'static str, Key)>,
}

impl Events<'_> {
    fn note(&mut self, class: Classes, name: &'static str, key: &Key) {
        if self.wanted.wants(class) {
            self.all.push((class, name, key.clone()));
        }
    }

    /// Whether a key that was read is there.
    fn read(&mut self, found: Option<&Found>, key: &Key) -> bool {
        if found.is_none() {
            self.note(Classes::MISSED, "keymiss", key);
        }
        found.is_some()
    }
}

/// Redis's name of what happens to a key that gets another expiry.
pub(super) fn expiry_event(at_ms: Option<u64>, now_ms: u64) -> &'static str {
    match at_ms {
        None => "persist",
        Some(at) if at <= now_ms => "del",
        Some(_) => "expire",
    }
}

fn count(n: usize) -> Reply {
    Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

fn on_names(
    index: &mut dyn Names,
    db: u8,
    now: u64,
    command: KeyCommand,
    events: &mut Events<'_>,
) -> Reply {
    match command {
        KeyCommand::Del { keys } => count(
            keys.iter()
                .map(|k| key(db, k))
                .filter(|k| {
                    let was = index.remove(k.as_ref(), now);
                    if was {
                        events.note(Classes::GENERIC, "del", k);
                    }
                    was
                })
                .count(),
        ),
        KeyCommand::Exists { keys } => count(
            keys.iter()
                .map(|k| key(db, k))
                .filter(|k| events.read(index.peek(k.as_ref(), now).as_ref(), k))
                .count(),
        ),
        KeyCommand::Touch { keys } => count(
            keys.iter()
                .map(|k| key(db, k))
                .filter(|k| events.read(index.get(k.as_ref(), now).as_ref(), k))
                .count(),
        ),
        KeyCommand::Type { key: k } => {
            let k = key(db, &k);
            let found = index.peek(k.as_ref(), now);
            events.read(found.as_ref(), &k);
            Reply::Simple(found.map_or("none", |f| f.object.kind().name()).into())
        }
        KeyCommand::Expire {
            key: k,
            expiry,
            condition,
        } => {
            let k = key(db, &k);
            let Some(Found {
                expires_unix_ms, ..
            }) = index.peek(k.as_ref(), now)
            else {
                return Reply::Integer(0);
            };
            let at = expiry.deadline(now, expires_unix_ms);
            let allowed = at.is_none_or(|at| condition.allows(expires_unix_ms, at));
            let done = allowed && index.set_expiry(k.as_ref(), at, now);
            if done {
                events.note(Classes::GENERIC, expiry_event(at, now), &k);
            }
            Reply::Integer(done.into())
        }
        KeyCommand::Ttl { key: k, query } => {
            let k = key(db, &k);
            let found = index.peek(k.as_ref(), now);
            events.read(found.as_ref(), &k);
            Reply::Integer(match found {
                None => TtlQuery::NO_KEY,
                Some(found) => query.answer(found.expires_unix_ms, now),
            })
        }
        KeyCommand::Persist { key: k } => {
            let k = key(db, &k);
            let had = index
                .peek(k.as_ref(), now)
                .is_some_and(|f| f.expires_unix_ms.is_some());
            let done = had && index.set_expiry(k.as_ref(), None, now);
            if done {
                events.note(Classes::GENERIC, "persist", &k);
            }
            Reply::Integer(done.into())
        }
        KeyCommand::Scan(step) => scan(index, db, now, &step),
        KeyCommand::Keys { pattern } => {
            let mut found = Vec::new();
            index.scan(db, 0, usize::MAX, now, &mut |k, _| {
                if glob::matches(&pattern, k) {
                    found.push(bulk(k));
                }
            });
            Reply::Array(found)
        }
        // they wait
        KeyCommand::Rename { .. } | KeyCommand::Copy { .. } => Reply::Null,
        KeyCommand::RandomKey => index.random_key(db, now).map_or(Reply::Null, |k| bulk(&k)),
    }
}

fn bulk(key: &[u8]) -> Reply {
    Reply::Bulk(Value::from(bytes::Bytes::copy_from_slice(key)))
}

fn scan(index: &mut dyn Names, db: u8, now: u64, step: &Scan) -> Reply {
    let wanted = step.count.clamp(1, MAX_COUNT) as usize;
    let mut found = Vec::new();
    let kind = step.kind.as_ref();
    let mut visit = |k: &[u8], object: &Object| {
        let name = object.kind().name().as_bytes();
        let is_of_kind = kind.is_none_or(|kind| kind.eq_ignore_ascii_case(name));
        let fits = step
            .pattern
            .as_ref()
            .is_none_or(|pattern| glob::matches(pattern, k));
        if is_of_kind && fits {
            found.push(bulk(k));
        }
    };
    let cursor = index.scan(db, step.cursor, wanted, now, &mut visit);
    let cursor = Reply::Bulk(Value::from(bytes::Bytes::from(cursor.to_string())));
    Reply::Array(vec![cursor, Reply::Array(found)])
}
