//! Commands about the server.

use super::{Context, Outcome, Scope, info};
use crate::{
    clock,
    command::{CommandError, ServerCommand, describe, glob, server::ConfigCommand},
    keyspace::DATABASES,
    pubsub::Classes,
    resp::{Reply, number::parse_i64},
    slow_log,
    value::Value,
};

pub(super) fn apply(scope: Scope<'_>, command: ServerCommand) -> Outcome {
    let context = scope.context;
    let reply = match command {
        ServerCommand::Command(query) => query.answer().unwrap_or_else(Reply::from),
        ServerCommand::Info { sections } => Reply::Verbatim(info::text(context, &sections).into()),
        ServerCommand::Config(command) => config(context, command),
        ServerCommand::DbSize => {
            let now = clock::unix_ms();
            let keys = scope.view.names(|names| names.len(scope.db, now));
            Reply::Integer(i64::try_from(keys).unwrap_or(i64::MAX))
        }
        // both modes answer at once: nodes free their memory when next invoked
        ServerCommand::Flush { all, mode: _ } => {
            scope.view.flush((!all).then_some(scope.db));
            Reply::OK
        }
        // of all databases, or of the connection: carried out elsewhere
        ServerCommand::SwapDb(_) | ServerCommand::Monitor => Reply::Null,
        ServerCommand::Time => {
            let now = clock::since_1970();
            let text = |n: String| Reply::Bulk(Value::from(bytes::Bytes::from(n)));
            let (seconds, micros) = (now.as_secs(), now.subsec_micros());
            Reply::Array(vec![text(seconds.to_string()), text(micros.to_string())])
        }
        ServerCommand::LolWut => {
            Reply::Verbatim(format!("Scatterhoard {}\n", env!("CARGO_PKG_VERSION")).into())
        }
    };
    reply.into()
}

/// SWAPDB.
pub(super) fn swap(scope: Scope<'_>, pair: [i32; 2]) -> Reply {
    if scope.context.config.cluster.is_some() {
        return CommandError::SwapInCluster.into();
    }
    if scope.view.transaction().is_some() {
        return CommandError::SwapInTransaction.into();
    }
    let db = |n: i32| {
        u8::try_from(n)
            .ok()
            .filter(|db| usize::from(*db) < DATABASES)
    };
    let [Some(a), Some(b)] = pair.map(db) else {
        return CommandError::DbIndex.into();
    };
    scope.store().swap(a, b);
    Reply::OK
}

fn config(context: &Context, command: ConfigCommand) -> Reply {
    match command {
        ConfigCommand::Get { patterns } => {
            let wanted = |name: &str| patterns.iter().any(|p| glob::matches(p, name.as_bytes()));
            let fixed = context.config.redis_settings().into_iter();
            let mut settings: Vec<_> = fixed.chain(changeable(context)).collect();
            settings.sort_unstable();
            let shown = settings.into_iter().filter(|(name, _)| wanted(name));
            Reply::Map(
                shown
                    .map(|(name, value)| (bulk(name.to_owned()), bulk(value)))
                    .collect(),
            )
        }
        ConfigCommand::Set { pairs } => match config_set(context, &pairs) {
            Ok(()) => Reply::OK,
            Err(error) => error.into(),
        },
        ConfigCommand::ResetStat => {
            context.stats.reset();
            Reply::OK
        }
        // nor does Redis write one that it was not started with
        ConfigCommand::Rewrite => {
            Reply::Error("ERR The server is running without a config file".into())
        }
        ConfigCommand::Help => describe::help("config"),
    }
}

pub(super) fn bulk(text: String) -> Reply {
    Reply::Bulk(Value::from(bytes::Bytes::from(text)))
}

const SLOWER_THAN: &str = "slowlog-log-slower-than";
const MAX_LEN: &str = "slowlog-max-len";
const TRACKED: &str = "tracking-table-max-keys";
/// Keys that are remembered for CLIENT TRACKING, whatever is asked for.
pub const MAX_TRACKED: usize = 10_000_000;
const KEY_EVENTS: &str = "notify-keyspace-events";

/// Settings that CONFIG SET changes, by Redis's names.
fn changeable(context: &Context) -> impl Iterator<Item = (&'static str, String)> {
    let slow_log = context.slow_log.settings();
    let of_slow_log = [
        (SLOWER_THAN, slow_log.slower_than_us.to_string()),
        (MAX_LEN, slow_log.max_len.to_string()),
    ];
    let of_clients = context.limits.settings().shown();
    let key_events = context.store.events().classes().to_string();
    let tracked = context.store.tracking().most_keys().to_string();
    let of_keys = [(KEY_EVENTS, key_events), (TRACKED, tracked)];
    of_slow_log.into_iter().chain(of_keys).chain(of_clients)
}

/// All of them, or none.
fn config_set(context: &Context, pairs: &[(String, bytes::Bytes)]) -> Result<(), CommandError> {
    let fixed = context.config.redis_settings();
    let is_fixed = |name: &str| fixed.iter().any(|(known, _)| *known == name);
    let changeable: Vec<_> = changeable(context).map(|(name, _)| name).collect();
    let is_known = |name: &str| is_fixed(name) || changeable.contains(&name);
    let failed = |name: &str, why: &'static str| {
        let name = name.to_owned();
        Err(CommandError::ConfigSet { name, why })
    };
    // among so few names one is soon repeated: no quadratic work
    for (place, (name, _)) in pairs.iter().enumerate() {
        if !is_known(name) {
            return Err(CommandError::UnknownSetting(name.clone()));
        }
        if is_fixed(name) {
            return failed(name, "can't set immutable config");
        }
        if pairs[..place].iter().any(|(earlier, _)| earlier == name) {
            return failed(name, "duplicate parameter");
        }
    }
    let mut slow_log = context.slow_log.settings();
    let mut limits = context.limits.settings();
    let (mut key_events, mut tracked) = (None, None);
    for (name, value) in pairs {
        let set = match name.as_str() {
            SLOWER_THAN | MAX_LEN => set_slow_log(&mut slow_log, name, value),
            TRACKED => parse_i64(value)
                .and_then(|most| usize::try_from(most).ok())
                .filter(|most| (1..=MAX_TRACKED).contains(most))
                .map(|most| tracked = Some(most))
                .ok_or("argument must be between 1 and 10000000 inclusive"),
            KEY_EVENTS => Classes::parse(value)
                .map(|classes| key_events = Some(classes))
                .ok_or(Classes::UNKNOWN),
            name => limits.set(name, &String::from_utf8_lossy(value)),
        };
        if let Err(why) = set {
            return failed(name, why);
        }
    }
    context.slow_log.set(slow_log);
    context.limits.set(limits);
    if let Some(most) = tracked {
        context.store.tracking().set_most_keys(most);
    }
    if let Some(classes) = key_events {
        context.store.notify(classes);
    }
    Ok(())
}

fn set_slow_log(
    slow_log: &mut slow_log::Settings,
    name: &str,
    value: &[u8],
) -> Result<(), &'static str> {
    let number = parse_i64(value).ok_or("argument couldn't be parsed into an integer")?;
    match (name, u64::try_from(number)) {
        (MAX_LEN, Ok(len)) => slow_log.max_len = len,
        (MAX_LEN, Err(_)) => {
            return Err("argument must be between 0 and 9223372036854775807 inclusive");
        }
        _ if number < -1 => {
            return Err("argument must be between -1 and 9223372036854775807 inclusive");
        }
        _ => slow_log.slower_than_us = number,
    }
    Ok(())
}
