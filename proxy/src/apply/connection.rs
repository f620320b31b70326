//! Commands about the connection.

use std::time::Duration;

use bytes::Bytes;

use super::{Context, Outcome, tracking};
use crate::{
    clients::{Client, Filter, Silence},
    command::{
        CommandError, ConnectionCommand,
        connection::{ClientAttribute, ClientCommand, Credentials, Hello, ReplyMode},
        describe,
    },
    keyspace::DATABASES,
    resp::{Protocol, Reply},
    value::Value,
};

fn text(bytes: impl Into<bytes::Bytes>) -> Reply {
    Reply::Bulk(Value::from(bytes.into()))
}

/// Longer pauses are cut to this: 100 years.
const LONGEST_PAUSE: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(super) fn apply(context: &Context, client: &mut Client, command: ConnectionCommand) -> Outcome {
    let reply = match command {
        ConnectionCommand::Ping { message }
            if client.protocol == Protocol::Resp2 && client.subscriptions.any() =>
        {
            let pong = Reply::Bulk("pong".into());
            Reply::Array(vec![pong, Reply::Bulk(message.unwrap_or_default())])
        }
        ConnectionCommand::Ping { message: None } => Reply::Simple("PONG".into()),
        ConnectionCommand::Ping {
            message: Some(message),
        } => Reply::Bulk(message),
        ConnectionCommand::Echo { message } => Reply::Bulk(message),
        ConnectionCommand::Hello(hello) => return hello_reply(context, client, hello).into(),
        ConnectionCommand::Quit => return Outcome::Close(Reply::OK),
        ConnectionCommand::Reset => {
            client.reset();
            client.is_now(context.config.acl.anybody());
            Reply::Simple("RESET".into())
        }
        ConnectionCommand::Select { db } if db != 0 && context.config.cluster.is_some() => {
            CommandError::NotInCluster("SELECT").into()
        }
        ConnectionCommand::Select { db } => match u8::try_from(db) {
            Ok(db) if usize::from(db) < DATABASES => {
                client.db = db;
                client.entry.update(|c| c.db = db);
                Reply::OK
            }
            _ => CommandError::DbIndex.into(),
        },
        ConnectionCommand::Auth(credentials) => match log_in(context, client, &credentials) {
            Ok(()) => Reply::OK,
            Err(error) => error.into(),
        },
        ConnectionCommand::Client(command) => return client_command(context, client, command),
    };
    reply.into()
}

fn log_in(
    context: &Context,
    client: &mut Client,
    credentials: &Credentials,
) -> Result<(), CommandError> {
    let acl = &context.config.acl;
    if credentials.user.is_none() && !acl.default_has_password() {
        return Err(CommandError::NoPasswordConfigured);
    }
    let name = credentials.user.as_deref().unwrap_or(b"default");
    match acl.log_in(name, &credentials.password) {
        Some(user) => {
            client.is_now(Some(user));
            Ok(())
        }
        None => {
            let error = CommandError::WrongPass;
            Err(super::acl::refuse(context, client, "password", error))
        }
    }
}

fn hello_reply(context: &Context, client: &mut Client, hello: Hello) -> Reply {
    if let Some(credentials) = &hello.auth
        && let Err(error) = log_in(context, client, credentials)
    {
        return error.into();
    }
    if client.user.is_none() {
        return CommandError::HelloNoAuth.into();
    }
    if let Some(protocol) = hello.protocol {
        client.protocol = protocol;
        client
            .entry
            .update(|c| c.resp = if protocol == Protocol::Resp3 { 3 } else { 2 });
    }
    if let Some(name) = hello.name {
        client
            .entry
            .update(|c| c.name = Bytes::copy_from_slice(&name));
    }
    let field = |name: &'static str| Reply::Bulk(name.into());
    let proto = if client.protocol == Protocol::Resp3 {
        3
    } else {
        2
    };
    Reply::Map(vec![
        (field("server"), field("redis")),
        (field("version"), field(super::info::REDIS_VERSION)),
        (field("proto"), Reply::Integer(proto)),
        (field("id"), Reply::Integer(client.entry.id().cast_signed())),
        (field("mode"), field(super::info::mode(context))),
        (field("role"), field("master")),
        (field("modules"), Reply::Array(Vec::new())),
    ])
}

fn client_command(context: &Context, client: &mut Client, command: ClientCommand) -> Outcome {
    let reply = match command {
        ClientCommand::Id => Reply::Integer(client.entry.id().cast_signed()),
        ClientCommand::Info => {
            client.show();
            Reply::Verbatim(client.entry.line().into())
        }
        ClientCommand::List { kind, ids } => {
            client.show();
            Reply::Verbatim(context.clients.lines(ids, kind).into())
        }
        ClientCommand::Kill { filter, old_form } => return kill(context, client, filter, old_form),
        ClientCommand::Pause { what, timeout_ms } => {
            // longer ones mean for ever, and must not overflow a clock
            let lasts = Duration::from_millis(timeout_ms).min(LONGEST_PAUSE);
            context.clients.pause.begin(what, lasts);
            Reply::OK
        }
        ClientCommand::Unpause => {
            context.clients.pause.end();
            Reply::OK
        }
        // nothing blocks; who waits for the end of CLIENT PAUSE goes on waiting, as in
        // later versions of Redis (7.0.15 ends with an assertion)
        ClientCommand::Unblock => Reply::Integer(0),
        ClientCommand::GetRedir => {
            let redirect = client.tracking.as_ref().map(|t| t.redirect.cast_signed());
            Reply::Integer(redirect.unwrap_or(-1))
        }
        ClientCommand::Tracking(None) => {
            client.tracking = None;
            client.show();
            Reply::OK
        }
        ClientCommand::Tracking(Some(options)) => {
            let reply = tracking::on(context, client, options).unwrap_or_else(Reply::from);
            client.show();
            reply
        }
        ClientCommand::Caching(yes) => tracking::caching(client, yes),
        ClientCommand::TrackingInfo => tracking::info(context, client),
        ClientCommand::GetName => match client.entry.name() {
            name if name.is_empty() => Reply::Null,
            name => text(name),
        },
        ClientCommand::SetName { name } => {
            client
                .entry
                .update(|c| c.name = Bytes::copy_from_slice(&name));
            Reply::OK
        }
        ClientCommand::SetInfo { attribute, value } => {
            client.entry.update(|c| match attribute {
                ClientAttribute::LibName => c.lib_name = Bytes::copy_from_slice(&value),
                ClientAttribute::LibVer => c.lib_ver = Bytes::copy_from_slice(&value),
            });
            Reply::OK
        }
        // nothing is ever dropped for want of client memory
        ClientCommand::NoEvict(is_on) => {
            client.entry.update(|c| c.is_kept = is_on);
            Reply::OK
        }
        // every read counts as a use: accepted, as clients send it at once
        ClientCommand::NoTouch(_) => Reply::OK,
        ClientCommand::Reply(mode) => {
            client.silence = match (mode, client.silence) {
                (ReplyMode::On, _) => Silence::None,
                (ReplyMode::Off, _) | (ReplyMode::Skip, Silence::Always) => Silence::Always,
                (ReplyMode::Skip, _) => Silence::ThisAndNext,
            };
            Reply::OK
        }
        ClientCommand::Help => describe::help("client"),
    };
    reply.into()
}

fn kill(context: &Context, client: &Client, filter: Filter, old_form: bool) -> Outcome {
    if let Some(name) = &filter.user
        && context.config.acl.user(name).is_none()
    {
        let name = String::from_utf8_lossy(name).into_owned();
        return CommandError::NoSuchUser(name).into();
    }
    client.show();
    let (count, me_too) = context.clients.kill(&filter, client.entry.id());
    let reply = match (old_form, count) {
        (false, _) => Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX)),
        (true, 0) => CommandError::NoSuchClient.into(),
        (true, _) => Reply::OK,
    };
    match me_too {
        true => Outcome::Close(reply),
        false => Outcome::Reply(reply),
    }
}
