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
    log_rate::LogRate,
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
    check_from(context, client, spec, request, 0)
}

/// The same, of a request whose arguments before `from` have been checked.
pub(super) fn check_from(
    context: &Context,
    client: &Client,
    spec: &'static CommandSpec,
    request: &[Value],
    from: usize,
) -> Result<(), CommandError> {
    let Some(user) = &client.user else {
        return match spec.is(flags::NO_AUTH) {
            true => Ok(()),
            false => Err(refuse(context, client, "auth", CommandError::NoAuth)),
        };
    };
    if user.is_unrestricted() || spec.is(flags::NO_AUTH) {
        return Ok(());
    }
    check_user(user, spec, request, from).map_err(|denied| {
        let (reason, error) = match denied {
            Denied::Command => ("command", CommandError::NoCommandPermission(spec.name)),
            Denied::Key(_) => ("key", CommandError::NoKeyPermission),
            Denied::Channel(_) => ("channel", CommandError::NoChannelPermission),
        };
        refuse(context, client, reason, error)
    })
}

/// Counts what was denied, and says so in the log.
pub(super) fn refuse(
    context: &Context,
    client: &Client,
    reason: &'static str,
    error: CommandError,
) -> CommandError {
    static LINES: LogRate = LogRate::new(5);
    Stats::count(&context.stats.denied);
    metrics::counter!("scatterhoard_denied_total", "reason" => reason).increment(1);
    if let Some(left_out) = LINES.admits() {
        let user = client.user.as_ref().map_or("", |user| &user.name[..]);
        let peer = client.entry.peer();
        tracing::info!(%peer, user, reason, %error, left_out, "denied");
    }
    error
}

/// Only of keys and channels anything is copied, and only of what is behind `from`.
fn check_user(
    user: &User,
    spec: &'static CommandSpec,
    request: &[Value],
    from: usize,
) -> Result<(), Denied> {
    let at = |place: usize| request.get(place).cloned().map(Value::into_contiguous);
    let (first, places) = spec.keys.places_from(request, from);
    let key = |(number, place)| Some((at(place)?, spec.access_in(request, number)));
    let channels = match spec.name {
        "publish" | "spublish" => from.max(1)..2,
        "subscribe" | "ssubscribe" | "psubscribe" => from.max(1)..request.len(),
        _ => 0..0,
    };
    user.check(&Request {
        spec,
        keys: (first..).zip(places).filter_map(key).collect(),
        channels: channels.filter_map(at).collect(),
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
    match check_user(user, spec, request, 0) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn user(rules: &str) -> User {
        let mut user = User::new("al");
        for rule in rules.split_whitespace() {
            user.apply(rule).unwrap();
        }
        user
    }

    fn check(user: &User, request: &str, from: usize) -> Result<(), Denied> {
        let word = |word: &str| Value::from(Bytes::copy_from_slice(word.as_bytes()));
        let request: Vec<Value> = request.split_whitespace().map(word).collect();
        check_user(user, CommandSpec::of(&request).unwrap(), &request, from)
    }

    /// As ACL DRYRUN of redis-server 7.0.15 says.
    #[test]
    fn options_say_whether_a_key_is_read() {
        let user = user("%R~r %W~w %RW~b +@all");
        let (yes, no) = (Ok(()), Err(Denied::Key(0)));
        for (request, expected) in [
            ("SET w v", yes),
            ("SET r v", no),
            ("SET w v GET", no),
            ("SET w v EX 10 get", no),
            ("SET b v GET", yes),
            ("SET r v GET", no),
            ("BITFIELD r GET u8 0", yes),
            ("BITFIELD r OVERFLOW SAT GET u8 0", yes),
            ("BITFIELD w GET u8 0", no),
            ("BITFIELD w SET u8 0 1", no),
            ("BITFIELD r SET u8 0 1", no),
            ("BITFIELD b INCRBY u8 0 1", yes),
            ("BITFIELD r GET u8", no),
            ("EXISTS w", yes),
            ("TYPE w", yes),
            ("STRLEN w", yes),
            ("HLEN w", yes),
            ("TTL w", no),
            ("GET w", no),
            ("GETDEL w", no),
            ("DEL w", yes),
            ("DEL r", no),
            ("COPY r w", yes),
            ("COPY w r", no),
            ("BITOP AND w r r", yes),
            ("BITOP AND w r w", Err(Denied::Key(2))),
            ("TOUCH w", yes),
            ("EXPIRE r 1", no),
        ] {
            assert_eq!(check(&user, request, 0), expected, "{request}");
        }
    }

    #[test]
    fn only_what_is_new_is_looked_at() {
        let user = user("~a* +mset +del");
        assert_eq!(check(&user, "MSET b 1 a 2 a 3", 0), Err(Denied::Key(0)));
        assert_eq!(check(&user, "MSET b 1 a 2 a 3", 2), Ok(()));
        assert_eq!(check(&user, "MSET a 1 a 2 b 3", 2), Err(Denied::Key(1)));
        assert_eq!(check(&user, "DEL a b", 3), Ok(()));
    }
}
