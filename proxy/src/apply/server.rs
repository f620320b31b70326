//! Commands about the server.

use super::{Context, Outcome, Scope, info};
use crate::{
    clock,
    command::{ServerCommand, describe, glob, server::ConfigCommand},
    resp::Reply,
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

fn config(context: &Context, command: ConfigCommand) -> Reply {
    match command {
        ConfigCommand::Get { patterns } => {
            let wanted = |name: &str| patterns.iter().any(|p| glob::matches(p, name.as_bytes()));
            let settings = context.config.redis_settings();
            let shown = settings.into_iter().filter(|(name, _)| wanted(name));
            Reply::Map(
                shown
                    .map(|(name, value)| (bulk(name.to_owned()), bulk(value)))
                    .collect(),
            )
        }
        ConfigCommand::Set { pairs } => {
            let known = context.config.redis_settings();
            let name = pairs
                .first()
                .map(|(name, _)| name.as_str())
                .unwrap_or_default();
            let text = if known.iter().any(|(known, _)| *known == name) {
                format!(
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config"
                )
            } else {
                format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            };
            Reply::Error(text.into())
        }
        ConfigCommand::ResetStat => {
            context.stats.reset();
            Reply::OK
        }
        ConfigCommand::Help => describe::help("config"),
    }
}

fn bulk(text: String) -> Reply {
    Reply::Bulk(Value::from(bytes::Bytes::from(text)))
}
