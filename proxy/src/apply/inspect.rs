//! OBJECT, MEMORY, SLOWLOG, LASTSAVE.

use std::sync::atomic::Ordering;

use super::{Context, Outcome, Scope, key, server::bulk};
use crate::{
    clock,
    command::{CommandError, InspectCommand, describe},
    keyspace::{Found, Kind},
    resp::{Reply, number::parse_i64},
    slow_log::Entry,
    store::{Key, Lookup},
    value::Value,
};

/// The longest string that Redis keeps in one piece with its header.
const EMBSTR_BYTES: u64 = 44;
/// What a key takes in the index besides its bytes: a slot with the object that it names,
/// and its place in the table.
const ENTRY_BYTES: u64 = 128;

pub(super) async fn apply(scope: Scope<'_>, command: InspectCommand) -> Outcome {
    let context = scope.context;
    let found = |k: &bytes::Bytes| find(scope, &key(scope.db, k));
    let reply = match command {
        InspectCommand::Encoding { key: k } => return encoding(scope, key(scope.db, &k)).await,
        InspectCommand::Frequency { key } => match found(&key) {
            Some(_) => CommandError::NoFrequency.into(),
            None => Reply::Null,
        },
        // only the order of uses is known, not when they were
        InspectCommand::IdleTime { key } => found(&key).map_or(Reply::Null, |_| Reply::Integer(0)),
        InspectCommand::RefCount { key } => found(&key).map_or(Reply::Null, |_| Reply::Integer(1)),
        InspectCommand::MemoryUsage { key } => match found(&key) {
            Some(found) => {
                let bytes = found.object.size_bytes() + key.len() as u64 + ENTRY_BYTES;
                count(bytes)
            }
            None => Reply::Null,
        },
        InspectCommand::MemoryStats => memory_stats(context),
        InspectCommand::MemoryDoctor => {
            let text = "Values are in the memory of nodes: see INFO pool, and the metrics.\n";
            Reply::Verbatim(text.into())
        }
        InspectCommand::MallocStats => {
            Reply::Bulk("Stats not supported for the current allocator".into())
        }
        // the allocator gives back on its own
        InspectCommand::MemoryPurge => Reply::OK,
        InspectCommand::SlowLogGet { count } => {
            let entries = context.slow_log.newest(count).into_iter();
            entries.map(slow).collect::<Vec<_>>().into()
        }
        InspectCommand::SlowLogLen => count(context.slow_log.len() as u64),
        InspectCommand::SlowLogReset => {
            context.slow_log.reset();
            Reply::OK
        }
        InspectCommand::LastSave => {
            let journal = context.store.journal();
            let synced = journal.and_then(|journal| journal.synced_unix_ms());
            count(synced.unwrap_or(context.started_unix_ms) / 1000)
        }
        InspectCommand::Help(of) => describe::help(of),
    };
    reply.into()
}

fn find(scope: Scope<'_>, key: &Key) -> Option<Found> {
    let now = clock::unix_ms();
    scope.view.names(|names| names.peek(key.as_ref(), now))
}

fn count(n: u64) -> Reply {
    Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

/// As Redis would keep it that was just SET. What commands have changed in place it
/// keeps `raw`, which is not known here.
async fn encoding(scope: Scope<'_>, key: Key) -> Outcome {
    let Some(found) = find(scope, &key) else {
        return Reply::Null.into();
    };
    let name = match (found.object.kind(), found.object.size_bytes()) {
        (Kind::Hash, _) => "listpack",
        (Kind::String, EMBSTR_BYTES..) if found.object.size_bytes() > EMBSTR_BYTES => "raw",
        (Kind::String, _) => {
            let value = match scope.view.look_up(key) {
                Lookup::Missing => return Reply::Null.into(),
                Lookup::Here(value) => Ok(value),
                Lookup::There(pinned) => scope.store().read_whole(pinned).await,
            };
            match value.map(Value::into_contiguous) {
                Ok(digits) if parse_i64(&digits).is_some() => "int",
                Ok(_) => "embstr",
                Err(error) => return Reply::from(error).into(),
            }
        }
    };
    Reply::Bulk(name.into()).into()
}

fn slow(entry: Entry) -> Reply {
    let arguments = entry.arguments.into_iter();
    let argument = |bytes| Reply::Bulk(Value::from(bytes));
    let took = u64::try_from(entry.took.as_micros()).unwrap_or(u64::MAX);
    Reply::Array(vec![
        count(entry.id),
        count(entry.unix_s),
        count(took),
        Reply::Array(arguments.map(argument).collect()),
        bulk(entry.peer),
        Reply::Bulk(Value::from(entry.name)),
    ])
}

fn memory_stats(context: &Context) -> Reply {
    let (keys, dataset) = {
        let index = context.store.index();
        let databases = 0..crate::keyspace::DATABASES as u8;
        let keys: u64 = databases.map(|db| index.len(db)).sum();
        (keys, index.bytes())
    };
    let field = |name: &'static str, value: u64| (Reply::Bulk(name.into()), count(value));
    Reply::Map(vec![
        field("keys.count", keys),
        field("keys.bytes-per-key", dataset.checked_div(keys).unwrap_or(0)),
        field("dataset.bytes", dataset),
        field("overhead.hashtable.main", keys * ENTRY_BYTES),
        field("hot-tier.bytes", context.store.hot_bytes()),
        field("dirty.values", context.store.dirty_values() as u64),
        field(
            "commands.processed",
            context.stats.commands.load(Ordering::Relaxed),
        ),
    ])
}
