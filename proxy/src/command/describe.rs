//! COMMAND and its subcommands: the command table, told to the client.

use bytes::Bytes;

use super::table::{CommandSpec, Group, Keys, commands, flags, lookup, lookup_full};
use super::{CommandError, glob};
use crate::resp::Reply;
use crate::value::Value;

/// COMMAND, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandQuery {
    /// COMMAND alone: like INFO of all.
    All,
    /// COUNT.
    Count,
    /// INFO: of these names (also `command|subcommand`); none: of all.
    Info(Vec<Bytes>),
    /// DOCS: likewise.
    Docs(Vec<Bytes>),
    /// LIST.
    List(ListFilter),
    /// GETKEYS: of this request.
    GetKeys(Vec<Value>),
    /// GETKEYSANDFLAGS: and what is done with each.
    GetKeysAndFlags(Vec<Value>),
    /// HELP.
    Help,
}

/// What COMMAND LIST lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFilter {
    /// Everything.
    None,
    /// What a module brought: nothing, for there are none.
    Module,
    /// What belongs to a category of ACLs, named without its `@`.
    AclCategory(String),
    /// What matches a glob in lower case.
    Pattern(Vec<u8>),
}

/// Names that one request may ask for; there are fewer commands.
pub const MAX_NAMES: usize = 1024;

impl CommandQuery {
    /// The reply.
    pub fn answer(&self) -> Result<Reply, CommandError> {
        Ok(match self {
            Self::All => all().map(info).collect::<Vec<_>>().into(),
            Self::Info(names) if names.is_empty() => return Self::All.answer(),
            Self::Info(names) | Self::Docs(names) if names.len() > MAX_NAMES => {
                return Err(CommandError::TooManyNames);
            }
            Self::Info(names) => {
                let info_of = |name: &Bytes| lookup_full(name).map_or(Reply::NullArray, info);
                names.iter().map(info_of).collect::<Vec<_>>().into()
            }
            Self::Count => Reply::Integer(i64::try_from(commands().len()).unwrap_or(i64::MAX)),
            Self::Docs(names) if names.is_empty() => Reply::Map(all().map(docs).collect()),
            Self::Docs(names) => Reply::Map(
                names
                    .iter()
                    .filter_map(|name| lookup_full(name))
                    .map(docs)
                    .collect(),
            ),
            Self::List(filter) => list(filter),
            Self::GetKeys(request) => get_keys(request, false)?,
            Self::GetKeysAndFlags(request) => get_keys(request, true)?,
            Self::Help => help("command"),
        })
    }
}

fn all() -> impl Iterator<Item = &'static CommandSpec> {
    commands().iter().copied()
}

fn text(text: &'static str) -> Reply {
    Reply::Bulk(text.into())
}

fn statuses(names: impl IntoIterator<Item = &'static str>) -> Vec<Reply> {
    names
        .into_iter()
        .map(|name| Reply::Simple(name.into()))
        .collect()
}

fn number(n: isize) -> Reply {
    Reply::Integer(n as i64)
}

/// Name, arity, flags, first key, last key, step, categories, tips, key
/// specifications, subcommands.
fn info(spec: &'static CommandSpec) -> Reply {
    let keys = &spec.keys;
    Reply::Array(vec![
        text(spec.name),
        number(spec.arity),
        Reply::Set(statuses(flag_names(spec))),
        number(keys.first.cast_signed()),
        number(keys.last),
        number(keys.step.cast_signed()),
        Reply::Set(statuses(categories(spec))),
        spec.tips
            .iter()
            .map(|tip| text(tip))
            .collect::<Vec<_>>()
            .into(),
        key_specs(spec),
        spec.subcommands.iter().map(info).collect::<Vec<_>>().into(),
    ])
}

fn flag_names(spec: &CommandSpec) -> impl Iterator<Item = &'static str> + use<> {
    let set = spec.flags;
    flags::NAMES
        .into_iter()
        .enumerate()
        .filter(move |(bit, _)| set >> bit & 1 == 1)
        .map(|(_, n)| n)
}

/// All categories of ACLs, in Redis's order.
pub(crate) const CATEGORIES: [&str; 21] = [
    "@keyspace",
    "@read",
    "@write",
    "@set",
    "@sortedset",
    "@list",
    "@hash",
    "@string",
    "@bitmap",
    "@hyperloglog",
    "@geo",
    "@stream",
    "@pubsub",
    "@admin",
    "@fast",
    "@slow",
    "@blocking",
    "@dangerous",
    "@connection",
    "@transaction",
    "@scripting",
];

/// The names of a category's commands.
pub fn of_category(category: &str) -> Reply {
    list(&ListFilter::AclCategory(category.to_owned()))
}

/// Categories for ACLs follow from flags and group, but for a few.
pub(crate) fn categories(spec: &CommandSpec) -> impl Iterator<Item = &'static str> {
    let group = match spec.group {
        Group::Generic if spec.flags != 0 => "@keyspace",
        Group::String => "@string",
        Group::Hash => "@hash",
        Group::Bitmap => "@bitmap",
        Group::Connection if spec.flags != 0 => "@connection",
        Group::Transactions => "@transaction",
        Group::PubSub if spec.flags & flags::PUBSUB != 0 => "@pubsub",
        Group::PubSub => "",
        Group::Generic | Group::Connection | Group::Cluster | Group::Server | Group::Scripting => {
            ""
        }
    };
    let has = |name| spec.acl.contains(&name) || group == name;
    let admin = spec.is(flags::ADMIN);
    let fast = spec.is(flags::FAST);
    [
        ("@keyspace", has("@keyspace")),
        ("@read", spec.is(flags::READONLY) && spec.keys.count == 0),
        ("@write", spec.is(flags::WRITE)),
        ("@hash", has("@hash")),
        ("@string", has("@string")),
        ("@bitmap", has("@bitmap")),
        ("@pubsub", has("@pubsub")),
        ("@admin", admin || has("@admin")),
        ("@fast", fast),
        ("@slow", !fast),
        ("@dangerous", admin || has("@dangerous")),
        ("@connection", has("@connection")),
        ("@transaction", has("@transaction")),
        ("@scripting", has("@scripting")),
    ]
    .into_iter()
    .filter_map(|(name, belongs)| belongs.then_some(name))
}

/// The keys once more, in the words of Redis 7.
fn key_specs(spec: &CommandSpec) -> Reply {
    let keys = &spec.keys;
    if keys.count > 0 {
        return Reply::Array(vec![key_spec(spec, keys.count, 0, keys.access)]);
    }
    if keys.first == 0 {
        return Reply::Array(Vec::new());
    }
    // from the first one of the specification; negative: from the end
    let last = |first: usize| match keys.last {
        ..0 => keys.last,
        last => last - first.cast_signed(),
    };
    let (first, second) = (keys.first, keys.first + 1);
    if keys.second_access.is_empty() {
        return vec![key_spec(spec, first, last(first), keys.access)].into();
    }
    vec![
        key_spec(spec, first, 0, keys.access),
        key_spec(spec, second, last(second), keys.second_access),
    ]
    .into()
}

fn key_spec(
    spec: &CommandSpec,
    first: usize,
    last: isize,
    access: &'static [&'static str],
) -> Reply {
    let keys = &spec.keys;
    let part = |kind, spec| {
        Reply::Map(vec![
            (text("type"), text(kind)),
            (text("spec"), Reply::Map(spec)),
        ])
    };
    let index = vec![(text("index"), number(first.cast_signed()))];
    let range = vec![
        (text("lastkey"), number(last)),
        (text("keystep"), number(keys.step.cast_signed())),
        (text("limit"), number(0)),
    ];
    let find = match keys.count {
        0 => part("range", range),
        _ => part(
            "keynum",
            vec![
                (text("keynumidx"), number(0)),
                (text("firstkey"), number(1)),
                (text("keystep"), number(1)),
            ],
        ),
    };
    let mut fields = vec![
        (text("flags"), Reply::Set(statuses(access.iter().copied()))),
        (text("begin_search"), part("index", index)),
        (text("find_keys"), find),
    ];
    if !spec.keys_note.is_empty() {
        fields.insert(0, (text("notes"), text(spec.keys_note)));
    }
    Reply::Map(fields)
}

fn docs(spec: &'static CommandSpec) -> (Reply, Reply) {
    let group = match spec.group {
        Group::Generic => "generic",
        Group::String => "string",
        Group::Hash => "hash",
        Group::Bitmap => "bitmap",
        Group::Connection => "connection",
        Group::Cluster => "cluster",
        Group::Server => "server",
        Group::Transactions => "transactions",
        Group::PubSub => "pubsub",
        Group::Scripting => "scripting",
    };
    let mut fields = vec![
        (text("summary"), text(spec.summary)),
        (text("since"), text(spec.since)),
        (text("group"), text(group)),
    ];
    if !spec.subcommands.is_empty() {
        let subcommands = spec.subcommands.iter().map(docs).collect();
        fields.push((text("subcommands"), Reply::Map(subcommands)));
    }
    (text(spec.name), Reply::Map(fields))
}

fn list(filter: &ListFilter) -> Reply {
    let fits = |spec: &&CommandSpec| match filter {
        ListFilter::None => true,
        ListFilter::Module => false,
        ListFilter::AclCategory(category) => {
            categories(spec).any(|c| c.strip_prefix('@') == Some(category))
        }
        ListFilter::Pattern(pattern) => glob::matches(pattern, spec.name.as_bytes()),
    };
    let with_subcommands = all().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
    with_subcommands
        .filter(fits)
        .map(|spec| text(spec.name))
        .collect::<Vec<_>>()
        .into()
}

fn get_keys(request: &[Value], with_flags: bool) -> Result<Reply, CommandError> {
    let spec = CommandSpec::named(request).map_err(|_| CommandError::GetKeysCommand)?;
    // channels are said to be where keys would be
    if spec.keys == Keys::NONE || spec.keys.access.contains(&"not_key") {
        return Err(CommandError::GetKeysNone);
    }
    if !spec.accepts(request.len()) {
        return Err(CommandError::GetKeysArity);
    }
    let shown = |(number, place): (usize, usize)| {
        let key = Reply::Bulk(request.get(place)?.clone());
        let access = spec.access_in(request, number).iter().copied();
        // what it says depends on the arguments, which are here
        let flags = access.filter(|flag| *flag != "variable_flags");
        Some(match with_flags {
            true => vec![key, Reply::Set(statuses(flags))].into(),
            false => key,
        })
    };
    // of keys that are announced and not there, none counts
    let places = spec.keys.places(request).enumerate();
    let keys = match spec.keys.are_there(request) {
        true => places.filter_map(shown).collect(),
        false => Vec::new(),
    };
    Ok(Reply::Array(keys))
}

/// The reply to HELP of a command that has subcommands.
pub fn help(command: &'static str) -> Reply {
    let Some(spec) = lookup(command.as_bytes()) else {
        return Reply::Array(Vec::new());
    };
    let head = format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        command.to_uppercase()
    );
    let lines = spec.subcommands.iter().flat_map(|sub| {
        [
            sub.short_name().to_uppercase(),
            format!("    {}", sub.summary),
        ]
    });
    let lines = std::iter::once(head).chain(lines);
    Reply::Array(lines.map(|line| Reply::Simple(line.into())).collect())
}
