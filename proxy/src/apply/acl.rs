//! Who may do what: asked before anything is done, and told by ACL.

use bytes::Bytes;
use rand::Rng;

use super::{Context, Outcome, Stats};
use crate::{
    acl::{Denied, Request, User},
    clients::Client,
    command::{
        AclCommand, CommandError, CommandSpec,
        describe::{self, CATEGORIES},
        table::flags,
    },
    resp::Reply,
    value::Value,
};

/// Whether the connection may have this carried out.
pub(super) fn check(
    context: &Context,
    client: &Client,
    spec: &'static CommandSpec,
    request: &[Value],
) -> Result<(), CommandError> {
    let Some(user) = &client.user else {
        return match spec.is(flags::NO_AUTH) {
            true => Ok(()),
            false => Err(CommandError::NoAuth),
        };
    };
    if user.is_unrestricted() || spec.is(flags::NO_AUTH) {
        return Ok(());
    }
    let Err(denied) = check_user(user, spec, request) else {
        return Ok(());
    };
    Stats::count(&context.stats.denied);
    Err(match denied {
        Denied::Command => CommandError::NoCommandPermission(spec.name),
        Denied::Key(_) => CommandError::NoKeyPermission,
        Denied::Channel(_) => CommandError::NoChannelPermission,
    })
}

fn check_user(user: &User, spec: &'static CommandSpec, request: &[Value]) -> Result<(), Denied> {
    let arguments: Vec<Bytes> = request
        .iter()
        .cloned()
        .map(Value::into_contiguous)
        .collect();
    let at = |place: usize| arguments.get(place).map(|b| &b[..]);
    let keys = spec.keys.places(request).filter_map(at).collect();
    let channels = match spec.name {
        "publish" | "spublish" => at(1).into_iter().collect(),
        "subscribe" | "ssubscribe" | "psubscribe" => {
            arguments.iter().skip(1).map(|b| &b[..]).collect()
        }
        _ => Vec::new(),
    };
    user.check(&Request {
        spec,
        keys,
        channels,
        are_patterns: spec.name == "psubscribe",
    })
}

pub(super) fn apply(context: &Context, client: &Client, command: AclCommand) -> Outcome {
    let acl = &context.config.acl;
    let reply = match command {
        AclCommand::WhoAmI => match &client.user {
            Some(user) => text(user.name.clone()),
            None => Reply::Null,
        },
        AclCommand::List => Reply::Array(acl.users().map(|u| text(u.to_string())).collect()),
        AclCommand::Users => Reply::Array(acl.users().map(|u| text(u.name.clone())).collect()),
        AclCommand::GetUser { name } => acl.user(&name).map_or(Reply::Null, |user| describe(user)),
        AclCommand::Cat { category: None } => {
            Reply::Array(CATEGORIES.iter().map(|c| text(c[1..].to_owned())).collect())
        }
        AclCommand::Cat {
            category: Some(category),
        } => {
            let name = String::from_utf8_lossy(&category).to_lowercase();
            if !CATEGORIES.iter().any(|c| c[1..] == name) {
                let quoted = String::from_utf8_lossy(&category).into_owned();
                return CommandError::UnknownCategory(quoted).into();
            }
            describe::of_category(&name)
        }
        AclCommand::GenPass { bits } => {
            let digits = usize::from(bits).div_ceil(4);
            let mut rng = scatterhoard_node::random::rng();
            let digit = |_| char::from_digit(rng.random_range(0..16), 16).unwrap_or('0');
            text((0..digits).map(digit).collect())
        }
        AclCommand::DryRun { name, request } => dry_run(context, &name, &request),
        AclCommand::Unchangeable => {
            let text = "ERR users come from the configuration (requirepass, acl_file) and do not change while the server runs";
            Reply::Error(text.into())
        }
        AclCommand::Log => Reply::Array(Vec::new()),
        AclCommand::Help => describe::help("acl"),
    };
    reply.into()
}

fn dry_run(context: &Context, name: &Bytes, request: &[Value]) -> Reply {
    let Some(user) = context.config.acl.user(name) else {
        let name = String::from_utf8_lossy(name);
        return Reply::Error(format!("ERR User '{name}' not found").into());
    };
    let spec = match CommandSpec::of(request) {
        Ok(spec) => spec,
        Err(CommandError::UnknownCommand { name, .. }) => {
            return Reply::Error(format!("ERR Command '{name}' not found").into());
        }
        Err(error) => return error.into(),
    };
    let quoted = |places: &mut dyn Iterator<Item = usize>, number: usize| {
        let place = places.nth(number);
        let argument = place.and_then(|place| request.get(place).cloned());
        let argument = argument.unwrap_or_default().into_contiguous();
        String::from_utf8_lossy(&argument).into_owned()
    };
    match check_user(user, spec, request) {
        Ok(()) => Reply::OK,
        Err(Denied::Command) => text(format!(
            "This user has no permissions to run the '{}' command",
            spec.name
        )),
        Err(Denied::Key(number)) => text(format!(
            "This user has no permissions to access the '{}' key",
            quoted(&mut spec.keys.places(request), number)
        )),
        Err(Denied::Channel(number)) => text(format!(
            "This user has no permissions to access the '{}' channel",
            quoted(&mut (1..request.len()), number)
        )),
    }
}

fn describe(user: &User) -> Reply {
    let flags = user.flags().into_iter().map(|f| text(f.to_owned()));
    let hashes = user.hashes().into_iter().map(text);
    let field = |name: &'static str, value| (Reply::Bulk(name.into()), value);
    Reply::Map(vec![
        field("flags", Reply::Set(flags.collect())),
        field("passwords", Reply::Array(hashes.collect())),
        field("commands", text(user.command_rules())),
        field("keys", text(user.key_rules())),
        field("channels", text(user.channel_rules())),
        field("selectors", Reply::Array(Vec::new())),
    ])
}

fn text(text: String) -> Reply {
    Reply::Bulk(Value::from(Bytes::from(text)))
}
