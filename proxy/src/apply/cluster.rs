//! What a cluster's clients ask about it, and whether a request is for this proxy.

use std::fmt::Write;

use bytes::Bytes;

use super::{Context, Outcome, Scope};
use crate::{
    clients::Client,
    clock,
    cluster::{Member, SLOTS, Topology, slot_of},
    command::{ClusterCommand, CommandError, CommandSpec, describe},
    resp::{Reply, number::parse_i64},
    value::Value,
};

/// Slots of the index that are looked at under one hold of its lock.
const BATCH: usize = 4096;

/// Whether as much of a request as is there is for this proxy, where that was found of
/// the arguments before `checked`.
pub(super) fn check_from(
    context: &Context,
    client: &Client,
    spec: &'static CommandSpec,
    args_so_far: &[Value],
    checked: usize,
) -> Result<(), CommandError> {
    let Some(cluster) = &context.config.cluster else {
        return Ok(());
    };
    cluster.check_from([(spec, args_so_far)].into_iter(), checked, client.by_tls)
}

/// Whether a request is for this proxy; and EXEC with all that is queued.
pub(super) fn check(
    context: &Context,
    client: &Client,
    spec: &'static CommandSpec,
    request: &[Value],
) -> Result<(), CommandError> {
    let Some(cluster) = &context.config.cluster else {
        return Ok(());
    };
    match &client.queue {
        Some(queue) if spec.name == "exec" => {
            let queued = queue.requests.iter();
            let known = queued.filter_map(|r| Some((CommandSpec::of(r).ok()?, &r[..])));
            cluster.check(known, client.by_tls)
        }
        _ => cluster.check([(spec, request)].into_iter(), client.by_tls),
    }
}

pub(super) async fn apply(scope: Scope<'_>, client: &Client, command: ClusterCommand) -> Outcome {
    if command == ClusterCommand::Help {
        return describe::help("cluster").into();
    }
    let Some(cluster) = &scope.context.config.cluster else {
        return CommandError::NoCluster.into();
    };
    let tls = client.by_tls;
    let reply = match command {
        ClusterCommand::Info => Reply::Verbatim(info(cluster).into()),
        ClusterCommand::MyId => text(&cluster.me().id),
        ClusterCommand::Nodes => Reply::Verbatim(nodes(cluster, tls).into()),
        ClusterCommand::Slots => slots(cluster, tls),
        ClusterCommand::Shards => Reply::Array(cluster.members().iter().map(shard).collect()),
        ClusterCommand::Links => Reply::Array(Vec::new()),
        ClusterCommand::KeySlot { key } => Reply::Integer(slot_of(&key).into()),
        ClusterCommand::CountKeys { slot } => match number(&slot).map(valid) {
            Ok(Some(slot)) => {
                let mut count = 0;
                walk(scope, slot, |_| {
                    count += 1;
                    true
                })
                .await;
                Reply::Integer(count)
            }
            Ok(None) => Reply::Error("ERR Invalid slot".into()),
            Err(error) => error.into(),
        },
        ClusterCommand::GetKeys { slot, count } => match both(&slot, &count) {
            Ok(Some((slot, count))) => {
                let mut keys = Vec::new();
                if count > 0 {
                    walk(scope, slot, |key| {
                        keys.push(Reply::Bulk(Bytes::copy_from_slice(key).into()));
                        keys.len() < count
                    })
                    .await;
                }
                Reply::Array(keys)
            }
            Ok(None) => Reply::Error("ERR Invalid slot or number of keys".into()),
            Err(error) => error.into(),
        },
        ClusterCommand::Replicas { id } => of_member(cluster, &id, Reply::Array(Vec::new())),
        ClusterCommand::FailureReports { id } => of_member(cluster, &id, Reply::Integer(0)),
        ClusterCommand::Mode => Reply::OK,
        ClusterCommand::Unchangeable => {
            let text = "ERR who owns which slots comes from the configuration (cluster) and does not change while the proxy runs";
            Reply::Error(text.into())
        }
        ClusterCommand::Help => describe::help("cluster"),
    };
    reply.into()
}

fn number(digits: &[u8]) -> Result<i64, CommandError> {
    parse_i64(digits).ok_or(CommandError::NotAnInteger)
}

fn both(slot: &[u8], count: &[u8]) -> Result<Option<(u16, usize)>, CommandError> {
    let (slot, count) = (number(slot)?, number(count)?);
    Ok(valid(slot).zip(usize::try_from(count).ok()))
}

fn valid(slot: i64) -> Option<u16> {
    u16::try_from(slot).ok().filter(|slot| *slot < SLOTS)
}

/// Visits the keys of a slot until told to stop.
async fn walk(scope: Scope<'_>, slot: u16, mut visit: impl FnMut(&[u8]) -> bool) {
    let (mut cursor, mut goes_on) = (0, true);
    loop {
        let now = clock::unix_ms();
        cursor = scope.view.names(|names| {
            names.scan(0, cursor, BATCH, now, &mut |key, _| {
                if goes_on && slot_of(key) == slot {
                    goes_on = visit(key);
                }
            })
        });
        if cursor == 0 || !goes_on {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn text(text: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()).into())
}

fn of_member(cluster: &Topology, id: &[u8], reply: Reply) -> Reply {
    match cluster.members().iter().any(|m| m.id.as_bytes() == id) {
        true => reply,
        false => {
            let id = String::from_utf8_lossy(id);
            Reply::Error(format!("ERR Unknown node {id}").into())
        }
    }
}

fn info(cluster: &Topology) -> String {
    let members = cluster.members().len();
    let owners = cluster.members().iter().filter(|m| !m.slots.is_empty());
    let fields = [
        ("cluster_slots_assigned", usize::from(SLOTS)),
        ("cluster_slots_ok", usize::from(SLOTS)),
        ("cluster_slots_pfail", 0),
        ("cluster_slots_fail", 0),
        ("cluster_known_nodes", members),
        ("cluster_size", owners.count()),
        ("cluster_current_epoch", members),
        ("cluster_my_epoch", epoch(cluster, cluster.me())),
        ("cluster_stats_messages_sent", 0),
        ("cluster_stats_messages_received", 0),
        ("total_cluster_links_buffer_limit_exceeded", 0),
    ];
    let lines = fields.map(|(name, value)| format!("{name}:{value}\r\n"));
    format!("cluster_state:ok\r\n{}", lines.concat())
}

/// As if each had got its slots in turn: clients take the higher one for newer.
fn epoch(cluster: &Topology, member: &Member) -> usize {
    let place = cluster.members().iter().position(|m| m == member);
    place.unwrap_or(0) + 1
}

fn nodes(cluster: &Topology, tls: bool) -> String {
    let mut lines = String::new();
    for member in cluster.members() {
        let flags = match member == cluster.me() {
            true => "myself,master",
            false => "master",
        };
        let (id, host, port) = (&member.id, &member.address.host, member.port(tls));
        let epoch = epoch(cluster, member);
        // writing to a string cannot fail; no port among themselves
        let _ = write!(
            lines,
            "{id} {host}:{port}@0 {flags} - 0 0 {epoch} connected"
        );
        for slots in &member.slots {
            let _ = match slots.start() == slots.end() {
                true => write!(lines, " {}", slots.start()),
                false => write!(lines, " {}-{}", slots.start(), slots.end()),
            };
        }
        lines.push('\n');
    }
    lines
}

fn slots(cluster: &Topology, tls: bool) -> Reply {
    let mut ranges: Vec<_> = cluster
        .members()
        .iter()
        .flat_map(|member| member.slots.iter().map(move |range| (range, member)))
        .collect();
    ranges.sort_unstable_by_key(|(range, _)| *range.start());
    let range = |(range, member): (&std::ops::RangeInclusive<u16>, &Member)| {
        let owner = vec![
            text(&member.address.host),
            Reply::Integer(member.port(tls).into()),
            text(&member.id),
            Reply::Array(Vec::new()),
        ];
        Reply::Array(vec![
            Reply::Integer((*range.start()).into()),
            Reply::Integer((*range.end()).into()),
            Reply::Array(owner),
        ])
    };
    Reply::Array(ranges.into_iter().map(range).collect())
}

fn shard(member: &Member) -> Reply {
    let ends = |range: &std::ops::RangeInclusive<u16>| [*range.start(), *range.end()];
    let slots = member.slots.iter().flat_map(ends);
    let slots = slots.map(|slot| Reply::Integer(slot.into())).collect();
    let name = |name: &'static str| Reply::Bulk(Value::from(name));
    let mut node = vec![
        (name("id"), text(&member.id)),
        (name("port"), Reply::Integer(member.address.port.into())),
    ];
    if let Some(port) = member.tls_port {
        node.push((name("tls-port"), Reply::Integer(port.into())));
    }
    node.extend([
        (name("ip"), text(&member.address.host)),
        (name("endpoint"), text(&member.address.host)),
        (name("role"), name("master")),
        (name("replication-offset"), Reply::Integer(0)),
        (name("health"), name("online")),
    ]);
    Reply::Map(vec![
        (name("slots"), Reply::Array(slots)),
        (name("nodes"), Reply::Array(vec![Reply::Map(node)])),
    ])
}
